# SPDX-License-Identifier: MIT
"""The app's directory by descriptors: every step down is O_NOFOLLOW, so no symbolic link leads astray.

A path of the other side is never given to the kernel as a whole: it is split, each part checked and
opened relative to the one before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from wolverined.errors import NotFound, SurgeryAborted

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file that is read whole; source is far smaller."""
LOCK_S = 10.0
"""How long a predecessor that was killed in the middle may take to end."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO for reading must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_NAME = 255
_MAX_PATH = 4000


class Held(NamedTuple):
    """A directory of the tree, open, and a name in it."""

    directory: int
    name: str


class Tree:
    """An open source root. A context manager.

    Raises:
        NotFound: There is no such directory.
        SurgeryAborted: It cannot be read.
    """

    def __init__(self, root: str) -> None:
        if not root.startswith("/") or "\0" in root:
            raise SurgeryAborted("the source root is no absolute path")
        try:
            # The root itself comes from the configuration and may be a link ("current" of a deploy tool).
            self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"there is no source root {root}", hint="see app.directory and heal.source") from error
        except OSError as error:
            hint = "does heal.apply_as own it?"
            raise SurgeryAborted(f"the source root {root} cannot be opened: {error.strerror}", hint=hint) from error
        self.root = str(Path(f"/proc/self/fd/{self.fd}").readlink())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the root and of its lock."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self, *, within_s: float = LOCK_S) -> None:
        """Be the only surgeon of this tree until `close`.

        Raises:
            SurgeryAborted: Another one is still at work.
        """
        deadline = time.monotonic() + within_s
        while True:
            try:
                return fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SurgeryAborted("another process keeps the source locked (flock)") from None
                time.sleep(0.01)

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[Held]:
        """The directory of a path, open, and the last name.

        Raises:
            SurgeryAborted: The path is not a plain relative one, or a part of it is no directory.
            FileNotFoundError: A directory on the way does not exist.
        """
        *above, name = split(path)
        fd = os.dup(self.fd)
        try:
            for part in above:
                below = _enter(fd, part, path)
                os.close(fd)
                fd = below
            yield Held(fd, name)
        finally:
            os.close(fd)

    def missing(self, path: str) -> tuple[str, ...]:
        """The directories that a path lacks, outermost first."""
        parts = split(path)[:-1]
        fd = os.dup(self.fd)
        try:
            for index, part in enumerate(parts):
                try:
                    below = _enter(fd, part, path)
                except FileNotFoundError:
                    return tuple("/".join(parts[: end + 1]) for end in range(index, len(parts)))
                os.close(fd)
                fd = below
        finally:
            os.close(fd)
        return ()


def split(path: str) -> list[str]:
    """The parts of a plain relative path.

    Raises:
        SurgeryAborted: It is empty, absolute, climbs, or no file system could hold it.
    """
    parts = path.split("/")
    if len(path) > _MAX_PATH or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise SurgeryAborted(f"{path[:80]!r} is no path inside the source")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        raise SurgeryAborted(f"{path[:80]!r} is no UTF-8 path") from None
    if longest > _MAX_NAME:
        raise SurgeryAborted(f"{path[:80]!r} has a name that is too long")
    return parts


def is_utf8(name: str) -> bool:
    """Whether a name, as the kernel has it, can be told in JSON."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def status(held: Held) -> os.stat_result | None:
    """The file's own status, None when there is none; never that of a link's target."""
    try:
        return os.stat(held.name, dir_fd=held.directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def read(held: Held, *, limit: int = MAX_FILE) -> tuple[bytes, os.stat_result]:
    """The content of a regular file, read while it stood still.

    Raises:
        SurgeryAborted: It is no regular file, is too big, or changes while it is read.
        OSError: It cannot be read.
    """
    fd = os.open(held.name, _FILE, dir_fd=held.directory)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise SurgeryAborted(f"{held.name} is no regular file")
        if before.st_size > limit:
            raise SurgeryAborted(f"{held.name} is bigger than {limit} bytes")
        parts: list[bytes] = []
        while data := os.read(fd, min(before.st_size + 1, 1 << 20)):
            parts.append(data)
            if sum(map(len, parts)) > limit:
                break
        after = os.fstat(fd)
    finally:
        os.close(fd)
    whole = b"".join(parts)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(whole) != after.st_size:
        raise SurgeryAborted(f"{held.name} changes while it is read", hint="a deploy? it is tried again later")
    return whole, after


def content(held: Held) -> str | None:
    """The sha256 of a file's content; None when there is no file; "strange" when it is no regular file."""
    found = status(held)
    if found is None:
        return None
    if not stat.S_ISREG(found.st_mode):
        return "strange"
    try:
        data, _ = read(held)
    except FileNotFoundError:
        return None
    return hashlib.sha256(data).hexdigest()


def unlink(held: Held) -> None:
    """Remove a name; fine when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(held.name, dir_fd=held.directory)


def _enter(fd: int, part: str, path: str) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=fd)
    except (NotADirectoryError, PermissionError) as error:
        raise SurgeryAborted(f"{path}: {part} cannot be entered: {error.strerror}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise SurgeryAborted(f"{path}: {part} is no directory that may be entered: {error.strerror}") from error
