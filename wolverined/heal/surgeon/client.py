# SPDX-License-Identifier: MIT
"""The surgeon as heal sees it: typed calls over a role stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from wolverined.errors import StreamError
from wolverined.heal import whole
from wolverined.heal.frames import Message
from wolverined.heal.source import tree_hash
from wolverined.heal.surgeon.steps import (
    Look,
    LookResult,
    OpenArgs,
    OpenResult,
    PackArgs,
    Packed,
    PathsArgs,
    SnapshotArgs,
    SnapshotResult,
    Step,
    SurgeryArgs,
    UndoResult,
)
from wolverined.heal.whole import Entry, Kind, Whole
from wolverined.model import Snapshot, SourceFile

T = TypeVar("T")

MAX_FILE = 1024 * 1024
MAX_TOTAL = 60 * 1024 * 1024
"""Bytes of all source together: what one message of the stream can carry, and some room."""
CALL_S = 60.0


class Caller(Protocol):
    """What is needed of `stream.Channel`."""

    async def call(
        self,
        name: str,
        args: Mapping[str, Any] | None = None,
        *,
        blobs: Sequence[bytes] = (),
        timeout_s: float | None = None,
    ) -> Message:
        """Ask and wait for the answer."""
        ...


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot, the newest mtime of its files (wall), and examples of what was skipped."""

    snapshot: Snapshot
    newest_mtime: float
    examples: tuple[str, ...] = ()


class SurgeonClient:
    """One surgeon, over a channel that has been started.

    Every call raises `SurgeryAborted` with the reason when the surgeon refuses, and `StreamError` when
    it is gone or answers nonsense.

    Args:
        channel: The stream to it.
        root: The source root as configured; opened by the first call that needs it.

    Attributes:
        root: Where the open root really lies, links resolved; empty as long as none is open.
    """

    def __init__(self, channel: Caller, *, root: Path | str) -> None:
        self._channel = channel
        self._configured = str(root)
        self.root = ""

    async def open(self, root: str = "") -> str:
        """Open the configured root, or another, in place of the one that is open; returns where it really lies.

        Raises:
            NotFound: There is no such directory.
        """
        self.root = ""
        result = await self._ask("open", OpenArgs(root=root or self._configured), OpenResult)
        self.root = result.root
        return result.root

    async def snapshot(
        self, *, allow: Sequence[str], deny: Sequence[str], max_file: int = MAX_FILE, max_total: int = MAX_TOTAL
    ) -> Taken:
        """Read every editable file."""
        args = SnapshotArgs(allow=tuple(allow), deny=tuple(deny), max_file=max_file, max_total=max_total)
        message = await self._call("snapshot", args)
        result = _convert(message.body, SnapshotResult)
        if len(result.files) != len(message.blobs):
            raise StreamError("the surgeon's snapshot is not whole")
        files = {
            found.path: SourceFile(data=data, mode=found.mode)
            for found, data in zip(result.files, message.blobs, strict=True)
        }
        snapshot = Snapshot(root=self.root, files=files, tree_hash=tree_hash(files), skipped=result.skipped)
        return Taken(snapshot=snapshot, newest_mtime=result.newest_mtime, examples=result.examples)

    async def hash(self, paths: Sequence[str]) -> dict[str, str]:
        """The sha256 of each path's content; "" for no file, "strange" for what cannot be hashed."""
        message = await self._call("hash", PathsArgs(paths=tuple(paths)))
        hashes = _convert(message.body, _Hashes).hashes
        if len(hashes) != len(paths):
            raise StreamError("the surgeon's answer is not whole")
        return dict(zip(paths, hashes, strict=True))

    async def look(self, paths: Sequence[str]) -> tuple[Look, ...]:
        """What stands at each path; raises for one that no surgery may touch."""
        result = await self._ask("look", PathsArgs(paths=tuple(paths)), LookResult)
        if tuple(look.path for look in result.looks) != tuple(paths):
            raise StreamError("the surgeon's answer is not whole")
        return result.looks

    async def read(self, path: str) -> bytes:
        """One file's content."""
        return (await self.read_dated(path))[0]

    async def read_dated(self, path: str) -> tuple[bytes, float]:
        """One file's content, and when it was last written (wall time)."""
        message = await self._call("read", PathsArgs(paths=(path,)))
        if len(message.blobs) != 1:
            raise StreamError("the surgeon's answer is not whole")
        return message.blobs[0], _convert(message.body, _Read).mtime

    async def pack(self, *, without: Sequence[str], fakes: Sequence[str] = (), reader: str = "") -> Whole:
        """Read the whole open directory for a trial that cannot see it (`heal.whole`).

        Args:
            without: Paths that do not travel: what the trial has by other means, or must not have.
            fakes: Files that hold secrets beside those called like settings.
            reader: A user without whose right to read nothing travels; "" for that of the surgeon alone.

        Raises:
            SurgeryAborted: It is more than a trial can be given.
        """
        entries: list[Entry] = []
        contents: list[bytes] = []
        start, size = 0, 0
        while True:
            args = PackArgs(start=start, without=tuple(without), fakes=tuple(fakes), reader=reader)
            message = await self._call("pack", args)
            packed = _convert(message.body, Packed)
            if sum(entry.kind is Kind.FILE for entry in packed.entries) != len(message.blobs):
                raise StreamError("the surgeon's answer is not whole")
            entries += packed.entries
            contents += message.blobs
            size += sum(map(len, message.blobs))
            # A file may have grown since it was measured, so there is room for one more batch.
            if size > 2 * whole.MAX_TOTAL or len(entries) > whole.MAX_ENTRIES or -1 < packed.following <= start:
                raise StreamError("the surgeon's answers have no end")
            if packed.following < 0:
                return Whole(entries=tuple(entries), contents=tuple(contents), absent=packed.absent)
            start = packed.following

    async def stage(self, steps: Sequence[Step], *, make_dirs: Sequence[str], contents: Mapping[int, bytes]) -> None:
        """Write the new contents (by step number) beside their targets."""
        args = SurgeryArgs(steps=tuple(steps), make_dirs=tuple(make_dirs), blobs=tuple(contents))
        await self._call("stage", args, blobs=tuple(contents.values()))

    async def swap(self, steps: Sequence[Step]) -> None:
        """Put the staged files in their places."""
        await self._call("swap", SurgeryArgs(steps=tuple(steps)))

    async def unstage(self, steps: Sequence[Step], *, drop_dirs: Sequence[str]) -> None:
        """Remove what a committed surgery left over."""
        await self._call("unstage", SurgeryArgs(steps=tuple(steps), drop_dirs=tuple(drop_dirs)))

    async def undo(
        self, steps: Sequence[Step], *, make_dirs: Sequence[str], contents: Mapping[int, bytes]
    ) -> tuple[str, ...]:
        """Make everything as it was; returns the paths that somebody else changed and that were left alone."""
        args = SurgeryArgs(steps=tuple(steps), make_dirs=tuple(make_dirs), blobs=tuple(contents))
        message = await self._call("undo", args, blobs=tuple(contents.values()))
        return _convert(message.body, UndoResult).conflicts

    async def _ask(self, name: str, args: msgspec.Struct, kind: type[T]) -> T:
        return _convert((await self._call(name, args)).body, kind)

    async def _call(self, name: str, args: msgspec.Struct, *, blobs: Sequence[bytes] = ()) -> Message:
        if not self.root and name != "open":
            await self.open()
        return await self._channel.call(name, msgspec.to_builtins(args), blobs=blobs, timeout_s=CALL_S)


class _Hashes(msgspec.Struct, frozen=True):
    hashes: tuple[str, ...]


class _Read(msgspec.Struct, frozen=True):
    mtime: float


def _convert(body: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise StreamError(f"the surgeon answers nonsense: {error}") from error
