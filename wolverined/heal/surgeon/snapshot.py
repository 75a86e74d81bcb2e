# SPDX-License-Identifier: MIT
"""Reading the source: allow minus deny minus data, regular files only, within limits."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from wolverined.errors import SurgeryAborted
from wolverined.heal.source import Selection
from wolverined.heal.surgeon.steps import Found, SnapshotArgs, SnapshotResult
from wolverined.heal.surgeon.tree import Held, Tree, is_utf8, read

MAX_FILES = 20_000
MAX_ENTRIES = 500_000
MAX_DEPTH = 64
EXAMPLES = 20
_SNIFF = 8192

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def snapshot(tree: Tree, args: SnapshotArgs) -> tuple[SnapshotResult, list[bytes]]:
    """Read every editable file.

    Raises:
        SurgeryAborted: The source is bigger than the limits.
    """
    reader = _Reader(tree, args)
    reader.run()
    files = sorted(zip(reader.files, reader.blobs, strict=True), key=lambda pair: pair[0].path)
    result = SnapshotResult(
        files=tuple(found for found, _ in files),
        newest_mtime=reader.newest,
        skipped=reader.skipped,
        examples=tuple(reader.examples),
    )
    return result, [data for _, data in files]


class _Reader:
    """One walk over the tree; what it gathers stands in its attributes."""

    def __init__(self, tree: Tree, args: SnapshotArgs) -> None:
        self._tree = tree
        self._args = args
        self._selection = Selection(allow=args.allow, deny=args.deny)
        self._total = 0
        self._entries = 0
        self.files: list[Found] = []
        self.blobs: list[bytes] = []
        self.newest = 0.0
        self.skipped = 0
        self.examples: list[str] = []

    def run(self) -> None:
        for directory, path, name in self._walk(os.dup(self._tree.fd), "", 0):
            self._take(Held(directory, name), path)

    def _walk(self, fd: int, prefix: str, depth: int) -> Iterator[tuple[int, str, str]]:
        """Every file that the selection takes, as (open directory, path, name); owns `fd`."""
        try:
            with os.scandir(fd) as entries:
                listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            if prefix and any(name == "pyvenv.cfg" for name, _ in listed):
                return  # a virtual environment, whatever it is called
            for name, is_directory in listed:
                self._entries += 1
                if self._entries > MAX_ENTRIES:
                    raise SurgeryAborted(f"the source has more than {MAX_ENTRIES} entries", hint="narrow heal.source")
                path = prefix + name
                if not is_utf8(name):
                    self._skip(ascii(path))
                elif not is_directory:
                    if self._selection.takes(path):
                        yield fd, path, name
                elif depth < MAX_DEPTH and self._selection.enters(path):
                    yield from self._below(fd, path, name, depth)
        finally:
            os.close(fd)

    def _below(self, fd: int, path: str, name: str, depth: int) -> Iterator[tuple[int, str, str]]:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=fd)
        except OSError:
            # Removed or replaced since it was listed, or not for us to read: no source of this app's owner.
            self._skip(path)
            return
        yield from self._walk(below, path + "/", depth + 1)

    def _take(self, held: Held, path: str) -> None:
        try:
            found = os.stat(held.name, dir_fd=held.directory, follow_symlinks=False)
            # A second hard link means that writing here would change, or leave behind, another name.
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > self._args.max_file:
                return self._skip(path)
            data, after = read(held, limit=self._args.max_file)
        except (OSError, SurgeryAborted):
            # Unreadable, or written while we read: what the app writes beside its code is no source.
            return self._skip(path)
        if b"\0" in data[:_SNIFF]:
            return self._skip(path)
        self._total += len(data)
        if self._total > self._args.max_total or len(self.files) >= MAX_FILES:
            raise SurgeryAborted(
                f"the source is bigger than {self._args.max_total} bytes or {MAX_FILES} files",
                hint="narrow heal.source or heal.allow to the code",
            )
        self.newest = max(self.newest, after.st_mtime)
        self.files.append(Found(path=path, mode=stat.S_IMODE(after.st_mode)))
        self.blobs.append(data)
        return None

    def _skip(self, path: str) -> None:
        self.skipped += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(path)
