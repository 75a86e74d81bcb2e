# SPDX-License-Identifier: MIT
"""The surgeon's process: `python -I -m wolverined.heal.surgeon FD`, FD being its stream to heal."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from wolverined.errors import StreamError, SurgeryAborted, UsageError
from wolverined.heal.surgeon import surgery
from wolverined.heal.surgeon.pack import Pack
from wolverined.heal.surgeon.snapshot import snapshot
from wolverined.heal.surgeon.steps import (
    LookResult,
    OpenArgs,
    OpenResult,
    PackArgs,
    PathsArgs,
    SnapshotArgs,
    SurgeryArgs,
    UndoResult,
)
from wolverined.heal.surgeon.surgery import Faults, no_faults
from wolverined.heal.surgeon.tree import Tree, read
from wolverined.heal.syncstream import SyncChannel, SyncHandler, inherited

T = TypeVar("T")

DEADLINE_S = 86400.0  # heal says a sooner one in its hello; that one counts

Answer = tuple[dict[str, Any], list[bytes]]


class Surgeon:
    """The calls that heal may make. One tree, opened by the first call."""

    def __init__(self, *, faults: Faults = no_faults) -> None:
        self._faults = faults
        self._tree: Tree | None = None
        self._pack: Pack | None = None

    def handlers(self) -> dict[str, Any]:
        """Call name -> handler, for `SyncChannel.serve`."""
        calls = {
            "open": self._open,
            "snapshot": self._snapshot,
            "hash": self._hash,
            "look": self._look,
            "read": self._read,
            "pack": self._packed,
            "stage": self._stage,
            "swap": self._swap,
            "unstage": self._unstage,
            "undo": self._undo,
        }
        return {name: _in_words(call) for name, call in calls.items()}

    def close(self) -> None:
        """Let go of the tree."""
        tree, self._tree, self._pack = self._tree, None, None
        if tree is not None:
            tree.close()

    def _open(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        self.close()
        self._tree = Tree(_read_args(args, OpenArgs).root)
        return _said(OpenResult(root=self._tree.root, uid=os.geteuid()))

    def _snapshot(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        result, blobs = snapshot(self._opened(), _read_args(args, SnapshotArgs))
        return _said(result, blobs)

    def _hash(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        tree, wanted = self._opened(), _read_args(args, PathsArgs)
        return {"hashes": [surgery.hash_of(tree, path) for path in wanted.paths]}, []

    def _look(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        tree, wanted = self._opened(), _read_args(args, PathsArgs)
        return _said(LookResult(looks=tuple(surgery.look(tree, path) for path in wanted.paths)))

    def _read(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        (path,) = _read_args(args, PathsArgs).paths
        with self._opened().parent(path) as held:
            data, found = read(held)
        return {"mtime": found.st_mtime}, [data]

    def _packed(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        tree, wanted = self._opened(), _read_args(args, PackArgs)
        if wanted.start == 0:
            self._pack = Pack(tree, wanted)
        if self._pack is None:
            raise UsageError("a pack begins with its first entry")
        return _said(*self._pack.batch(wanted.start))

    def _stage(self, args: dict[str, Any], blobs: tuple[bytes, ...]) -> Answer:
        tree, plan = self._locked(), _read_args(args, SurgeryArgs)
        contents = _contents(plan, blobs)
        surgery.stage(tree, plan.steps, make_dirs=plan.make_dirs, contents=contents, faults=self._faults)
        return {}, []

    def _swap(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        surgery.swap(self._locked(), _read_args(args, SurgeryArgs).steps, faults=self._faults)
        return {}, []

    def _unstage(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        tree, plan = self._locked(), _read_args(args, SurgeryArgs)
        surgery.unstage(tree, plan.steps, drop_dirs=plan.drop_dirs, faults=self._faults)
        return {}, []

    def _undo(self, args: dict[str, Any], blobs: tuple[bytes, ...]) -> Answer:
        tree, plan = self._locked(), _read_args(args, SurgeryArgs)
        contents = _contents(plan, blobs)
        conflicts = surgery.undo(tree, plan.steps, make_dirs=plan.make_dirs, contents=contents, faults=self._faults)
        return _said(UndoResult(conflicts=conflicts))

    def _opened(self) -> Tree:
        if self._tree is None:
            raise UsageError("the source root is not open")
        return self._tree

    def _locked(self) -> Tree:
        tree = self._opened()
        tree.lock()
        return tree


def serve(sock: socket.socket, *, faults: Faults = no_faults) -> int:
    """Answer heal's calls until it goes. Returns the exit code."""
    surgeon = Surgeon(faults=faults)
    try:
        with SyncChannel(sock, role="surgeon", deadline_s=DEADLINE_S, peer_role="heal") as channel:
            channel.start()
            channel.serve(surgeon.handlers())
    except StreamError as error:
        sys.stderr.write(f"surgeon: {error}\n")
        return 1
    finally:
        surgeon.close()
    return 0


def main() -> int:
    """The process; nobody of the same uid, such as the app, may look into its memory (`__main__`)."""
    os.umask(0o077)
    if len(sys.argv) != 2:  # noqa: PLR2004  the program and the stream
        sys.stderr.write("surgeon: started by wolverined alone\n")
        return 2
    try:
        sock = inherited(sys.argv[1])
    except StreamError as error:
        sys.stderr.write(f"surgeon: {error}\n")
        return 2
    return serve(sock)


def _in_words(call: SyncHandler) -> SyncHandler:
    """The same call, with the kernel's refusals as errors that heal understands."""

    def answer(args: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        try:
            return call(args, blobs)
        except FileNotFoundError as error:
            raise SurgeryAborted(f"{error.filename} does not exist") from error
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            hint = "free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
            raise SurgeryAborted(f"the source cannot be changed: {what}", hint=hint) from error

    return answer


def _read_args(args: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(args, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"the call makes no sense: {error}") from error


def _contents(plan: SurgeryArgs, blobs: tuple[bytes, ...]) -> dict[int, bytes]:
    if len(plan.blobs) != len(blobs):
        raise UsageError("the blobs do not fit the call")
    return dict(zip(plan.blobs, blobs, strict=True))


def _said(result: msgspec.Struct, blobs: Sequence[bytes] = ()) -> Answer:
    return msgspec.to_builtins(result), list(blobs)
