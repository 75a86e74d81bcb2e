# SPDX-License-Identifier: MIT
"""Looking with the eyes of somebody else: root asks the kernel what another user may see, as that user.

Opening a path that a stranger laid out with root's rights hands the stranger root's rights to files; opening it
as the stranger hands him what he has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wolverined.linux.credentials import Credentials
from wolverined.prepare.ways import Way

_OF_WHAT_LIES_THERE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EILSEQ),
    }
)
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def passes(error: OSError) -> bool:
    """Whether that is a trouble of the machine (memory, a disk, a file server) and says nothing of what lies there."""
    return error.errno not in _OF_WHAT_LIES_THERE


@contextlib.contextmanager
def as_user(who: Credentials) -> Iterator[None]:
    """Have every system call in here judged by that user's rights: effective ids and groups, without capabilities.

    The real and saved ids stay root's, so that no process of that user may signal or trace this one meanwhile.
    """
    if os.geteuid() != 0 or who.uid == 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups(sorted(who.groups()))
    os.setegid(who.gid)
    os.seteuid(who.uid)  # last, since it takes the capabilities away: capabilities(7)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def read_of_root(way: Way, *, most: int) -> bytes:
    """The bytes of a file that root alone decides about, at most one more than `most`.

    Raises:
        OSError: It cannot be opened, is no regular file, or others decide too.
    """
    if not way.is_roots:
        raise PermissionError(errno.EPERM, "others than root can change it", str(way.target))
    return _read(way.target, most)


def read_bounded(way: Way, path: Path, *, most: int, who: Credentials) -> bytes:
    """The bytes of a file, at most one more than `most`: with root's rights where root alone decides, else as `who`.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    if way.is_roots:
        return read_of_root(way, most=most)
    with as_user(who):
        return _read(path, most)


def _read(path: Path, most: int) -> bytes:
    fd = os.open(path, _READ)
    with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        data = b""
        while len(data) <= most and (part := file.read(most + 1 - len(data))):
            data += part
        return data
