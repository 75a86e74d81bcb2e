# SPDX-License-Identifier: MIT
"""The empty tree in a trial's unit, filled with what heal sends: by descriptors, never through a link.

Used before the candidate runs. What is bound into the tree is read-only and stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from typing import Self

from wolverined.errors import EditRejected, SandboxUnavailable, UsageError
from wolverined.heal.whole import Entry, Kind
from wolverined.linux.sandboxtree import Change

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PARTS = 128
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Bed:
    """An open tree. A context manager.

    Args:
        directory: The app's own, where PID 1 has put an empty file system.
    """

    def __init__(self, directory: str) -> None:
        # Not O_NOFOLLOW: the path itself is the configuration's and may be a link.
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        """Give the tree itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        os.close(self._fd)

    def load(self, entries: Sequence[Entry], contents: Sequence[bytes]) -> None:
        """Make what the entries say; a file's content is the next of `contents`.

        Raises:
            UsageError: The entries make no sense.
            SandboxUnavailable: They do not fit.
        """
        if sum(entry.kind is Kind.FILE for entry in entries) != len(contents):
            raise UsageError("load: the blobs do not fit the files")
        left = iter(contents)
        for entry in entries:
            data = next(left) if entry.kind is Kind.FILE else b""
            try:
                self._make(entry, data)
            except OSError as error:
                hint = "keep big files outside, or name them in heal.trial.read_only" if error.errno in _FULL else ""
                words = f"{entry.path!r:.200} cannot be written into the trial's tree: {error.strerror}"
                raise SandboxUnavailable(words, hint=hint) from error

    def change(self, changes: Sequence[Change]) -> None:
        """Lay the changes of a patch over the tree.

        Raises:
            EditRejected: One goes through a link or a file, or into what is bound.
        """
        for path, data, mode in changes:
            try:
                with self._parent(path, make=data is not None) as (parent, name):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=parent)
                    if data is not None:
                        _write(parent, name, data, mode)
            except FileNotFoundError:
                continue  # removed already, with its directory
            except OSError as error:
                raise EditRejected(f"{path!r:.200} cannot be changed in a trial: {error.strerror}") from error

    def _make(self, entry: Entry, data: bytes) -> None:
        with self._parent(entry.path, make=True) as (parent, name):
            if entry.kind is Kind.LINK:
                os.symlink(entry.target, name, dir_fd=parent)
            elif entry.kind is Kind.FILE:
                _write(parent, name, data, entry.mode)
            else:
                _directory(parent, name, entry.mode)

    @contextlib.contextmanager
    def _parent(self, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        *above, name = _parts(path)
        fd = os.dup(self._fd)
        try:
            for part in above:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=fd)
                below = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd, name
        finally:
            os.close(fd)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if "\0" in path or len(parts) > _MAX_PARTS or any(part in {"", ".", ".."} for part in parts):
        raise UsageError(f"no path of a source file: {path!r:.200}")
    return parts


def _write(parent: int, name: str, data: bytes, mode: int) -> None:
    fd = os.open(name, _NEW, 0o600, dir_fd=parent)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fchmod(fd, mode & 0o777)


def _directory(parent: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        # PID 1's, on the way to something that is bound into the tree: everybody may write there.
        return
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchmod(fd, mode & 0o777 | 0o700)
    finally:
        os.close(fd)
