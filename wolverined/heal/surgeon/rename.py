# SPDX-License-Identifier: MIT
"""renameat2(2): exchange two names, or rename without replacing; both atomic.

A plain rename destroys whatever stands at the target. With these two a file that somebody else put
there in the last microsecond is still in our hands, so that it can be put back.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

RENAME_NOREPLACE = 1  # include/uapi/linux/fs.h
RENAME_EXCHANGE = 2

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(directory: int, one: str, other: str) -> None:
    """Exchange two names of one directory.

    On a file system without it (some network ones) `one` replaces `other` and is gone: what stood
    there is then only in the backup.

    Raises:
        OSError: As rename(2).
    """
    _renameat2(directory, one, other, RENAME_EXCHANGE, lambda: _replace(directory, one, other))


def move(directory: int, source: str, target: str) -> None:
    """Rename within one directory; never replaces.

    Raises:
        FileExistsError: Something stands at the target.
        OSError: As rename(2).
    """
    _renameat2(directory, source, target, RENAME_NOREPLACE, lambda: _link(directory, source, target))


def _renameat2(directory: int, source: str, target: str, flags: int, otherwise: Callable[[], None]) -> None:
    try:
        call = _libc.renameat2
    except AttributeError:  # a C library older than glibc 2.28
        return otherwise()
    if call(directory, os.fsencode(source), directory, os.fsencode(target), ctypes.c_uint(flags)) == 0:
        return None
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return otherwise()
    raise OSError(number, os.strerror(number), target)


def _replace(directory: int, source: str, target: str) -> None:
    os.rename(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def _link(directory: int, source: str, target: str) -> None:
    os.link(source, target, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    os.unlink(source, dir_fd=directory)
