# SPDX-License-Identifier: MIT
"""Looks for what a trial is given read-only: directories of dependencies, interpreters, and who may read them.

To be called with the eyes of the app's user (`eyes.as_user`): whoever wrote the tree gets nobody's rights
but that user's. The walk is bounded and goes by descriptors, so that no link leads out of the directory.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from wolverined.heal.whole import is_dependency, is_left

MAX_DIRECTORIES = 20_000
MAX_ENTRIES = 200_000
MAX_DEPTH = 12
MAX_FOUND = 64
"""So many are bound; each is a mount, and a mount more for each directory on the way to it."""
SAMPLE = 400
"""So many entries of a directory are looked at, to know who may read what is in it."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER = stat.S_IROTH | stat.S_IXOTH


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was found below a directory. `cut` says that the search ended before the tree did."""

    paths: tuple[str, ...] = ()
    cut: bool = False


class Readers(msgspec.Struct, frozen=True, kw_only=True):
    """Who may read a place: strangers who are in all of `groups`, but for what is `closed` to everybody else."""

    groups: frozenset[int] = frozenset()
    closed: bool = False


def find(directory: Path) -> Found:
    """The directories of dependencies below `directory`, as relative paths, shallow ones first."""
    walk = _Walk(directory)
    paths = tuple(walk.paths())
    return Found(paths=paths[:MAX_FOUND], cut=walk.cut or len(paths) > MAX_FOUND)


class _Walk:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries = 0
        self.cut = False

    def paths(self) -> Iterator[str]:
        waiting: deque[tuple[str, int]] = deque([("", 0)])
        found = 0
        directories = 0
        while waiting and found <= MAX_FOUND:
            path, depth = waiting.popleft()
            directories += 1
            if directories > MAX_DIRECTORIES or self._entries > MAX_ENTRIES:
                self.cut = True
                return
            listed = self._listed(path)
            if listed is None:
                continue
            names, below = listed
            if path and is_dependency(path.rsplit("/", 1)[-1], names):
                found += 1
                yield path
            elif depth < MAX_DEPTH:
                waiting.extend((f"{path}/{name}" if path else name, depth + 1) for name in below)

    def _listed(self, path: str) -> tuple[list[str], list[str]] | None:
        """All names in a directory, and those of the directories in it that may be entered."""
        try:
            fd = _opened(self._directory, path)
        except OSError:
            return None  # gone, or not for the app's user, who can then have no dependency there
        try:
            names, below = [], []
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._entries += 1
                    if self._entries > MAX_ENTRIES:
                        break
                    names.append(entry.name)
                    if entry.is_dir(follow_symlinks=False) and not is_left(entry.name):
                        below.append(entry.name)
            return names, sorted(below)
        finally:
            os.close(fd)


def readers(path: Path, *, top: Path | None = None) -> Readers:
    """Who may read a directory and what lies directly in it, or a file.

    Args:
        path: Absolute, or below `top` and then gone to without following a link.
        top: A directory whose tree may be an enemy's.
    """
    try:
        fd = _opened(top, str(path)) if top is not None else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Readers(closed=True)
    try:
        return _together(_seen(fd))
    except OSError:
        return Readers(closed=True)
    finally:
        os.close(fd)


def _seen(fd: int) -> Iterator[os.stat_result]:
    own = os.fstat(fd)
    yield own
    if not stat.S_ISDIR(own.st_mode):
        return
    with os.scandir(fd) as entries:
        for _, entry in zip(range(SAMPLE), entries, strict=False):
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
                yield info


def _together(seen: Iterator[os.stat_result]) -> Readers:
    groups: set[int] = set()
    closed = False
    for info in seen:
        wanted = _ENTER if stat.S_ISDIR(info.st_mode) else stat.S_IROTH
        if info.st_mode & wanted == wanted:
            continue
        if info.st_mode & (wanted << 3) == wanted << 3:
            groups.add(info.st_gid)
        else:
            closed = True
    return Readers(groups=frozenset(groups), closed=closed)


def _opened(top: Path, path: str) -> int:
    """Open a directory below `top` name by name; `top` itself may be a link, which the configuration wrote."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in path.split("/") if path else ():
        try:
            below = os.open(part, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def on_the_way(paths: Collection[str]) -> tuple[str, ...]:
    """The directories between a tree's top and the paths in it, without those that lie inside another path (pure)."""
    above = {"/".join(parts[:depth]) for path in paths for parts in [path.split("/")] for depth in range(1, len(parts))}
    return tuple(sorted(above - set(paths)))
