# SPDX-License-Identifier: MIT
"""Mount calls that Python does not have, by descriptor where the kernel offers it, and prctl.

Nothing here decides anything; `sandbox` and `sandboxtree` do. Raises OSError with what was tried.
"""

from __future__ import annotations

import ctypes
import os
import struct

AT_EMPTY_PATH = 0x1000
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_RDONLY = 0x1
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_NOSUID = 0x2
MS_PRIVATE = 0x40000
MS_RDONLY = 0x1
MS_REC = 0x4000
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
OPEN_TREE_CLONE = 0x1
SYS_MOUNT_SETATTR = 442  # these three have one number on every machine
SYS_MOVE_MOUNT = 429
SYS_OPEN_TREE = 428

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Give what a C function answered, or raise the OSError that it means."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set something of this process; the unused arguments are 0 in full width, as the kernel checks."""
    check(libc.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0))), f"prctl {option}")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount something, or change how the mount at `target` behaves."""
    words = (source and os.fsencode(source), os.fsencode(target), kind and os.fsencode(kind))
    done = libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None)
    check(done, f"mount {kind or 'flags'} on {target}")


def clone_tree(directory: int, name: str) -> int:
    """A descriptor of a detached copy of what is at `name`, its submounts included.

    Recursive always: the kernel refuses a copy without the mounts below that we may not uncover.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW
    return check(libc.syscall(SYS_OPEN_TREE, directory, os.fsencode(name), flags), f"open_tree {name}")


def attach(tree: int, target: str) -> None:
    """Mount a detached tree at `target`."""
    done = libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
    check(done, f"move_mount {target}")


def set_attributes(path: str, attributes: int, *, recursive: bool) -> None:
    """Add mount attributes such as MOUNT_ATTR_RDONLY to the mount at `path`, or to all below it as well."""
    described = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    size = ctypes.c_size_t(len(described))
    done = libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, described, size)
    check(done, f"mount_setattr {path}")
