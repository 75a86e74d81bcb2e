# SPDX-License-Identifier: MIT
"""Who decides what a path leads to: every directory and link on the way to it, looked at by descriptors.

A path is only as trustworthy as whoever may change the names along it. Nothing is opened here (O_PATH), so a
device, a pipe or a file server at the end of a stranger's link is looked at and not touched.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections import deque
from pathlib import Path

import msgspec

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel has it: path_resolution(7)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """The way to a file that exists.

    Attributes:
        target: Where it leads, without links.
        uid: To whom that belongs.
        gid: To which group.
        mode: Its type and permissions.
        deciders: Who, besides root, may make the path lead elsewhere.
        shared: A directory on the way in which a group or everybody may do so; "" when there is none.
    """

    target: Path
    uid: int
    gid: int
    mode: int
    deciders: frozenset[int]
    shared: str

    def only_of(self, *uids: int) -> bool:
        """Whether nobody but root and `uids` decides what this path leads to."""
        return not self.shared and self.deciders <= {0, *uids}

    @property
    def is_roots(self) -> bool:
        """Whether root alone decides where it leads, and what it holds."""
        return self.only_of() and self.uid == 0 and not self.mode & (stat.S_IWGRP | stat.S_IWOTH)


def way_to(path: Path) -> Way:
    """Walk to `path`, which must be absolute, through its links.

    Raises:
        OSError: It does not exist, or its links go in circles.
    """
    with contextlib.closing(_Walk()) as walk:
        parts, links = deque(_parts(str(path))), 0
        while parts:
            link = walk.step(parts.popleft())
            if link:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                if link.startswith("/"):
                    walk.start_again()
                parts.extendleft(reversed(_parts(link)))
        return walk.arrived()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


class _Walk:
    """The directories from the root to where we are, open, and what was learnt on the way."""

    def __init__(self) -> None:
        self._held = [os.open("/", _LOOK | os.O_DIRECTORY)]
        self._names: list[str] = []
        self._deciders: set[int] = set()
        self._shared = ""

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)

    def start_again(self) -> None:
        """Go back to the root; what was learnt stays."""
        while len(self._held) > 1:
            self._back()

    def step(self, name: str) -> str:
        """Go on to `name`; when it is a link, stay and give what it says."""
        if name == "..":
            if len(self._held) > 1:
                self._back()
            return ""
        above = os.fstat(self._held[-1])
        found = os.open(name, _LOOK, dir_fd=self._held[-1])
        self._held.append(found)
        self._names.append(name)
        entry = os.fstat(found)
        self._deciders |= _deciders(above, entry)
        if not self._shared and _is_shared(above):
            self._shared = "/" + "/".join(self._names[:-1])
        if not stat.S_ISLNK(entry.st_mode):
            return ""
        link = os.readlink("", dir_fd=found)  # of the link that was looked at: readlinkat(2) with an empty path
        self._back()
        return link

    def _back(self) -> None:
        os.close(self._held.pop())
        self._names.pop()

    def arrived(self) -> Way:
        end = os.fstat(self._held[-1])
        return Way(
            target=Path("/", *self._names),
            uid=end.st_uid,
            gid=end.st_gid,
            mode=end.st_mode,
            deciders=frozenset(self._deciders),
            shared=self._shared,
        )


def _deciders(above: os.stat_result, entry: os.stat_result) -> set[int]:
    """Who may replace `entry` in the directory `above`, besides its group and everybody."""
    who = {above.st_uid} - {0}
    if above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and above.st_mode & stat.S_ISVTX:
        who |= {entry.st_uid} - {0}  # in a sticky directory everybody rules over what is his: unlink(2)
    return who


def _is_shared(above: os.stat_result) -> bool:
    if above.st_mode & stat.S_ISVTX:
        return False
    return bool(above.st_mode & stat.S_IWOTH) or (bool(above.st_mode & stat.S_IWGRP) and not _is_private(above))


def _is_private(above: os.stat_result) -> bool:
    """Whether the group is root's, or the one that has the owner alone in it, as each user of Debian has one."""
    if above.st_gid == 0:
        return True
    try:
        owner, group = pwd.getpwuid(above.st_uid), grp.getgrgid(above.st_gid)
    except KeyError:
        return False
    return owner.pw_gid == group.gr_gid and set(group.gr_mem) <= {owner.pw_name}
