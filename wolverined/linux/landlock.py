# SPDX-License-Identifier: MIT
"""Landlock: a process gives up every file and port but those that it names; for good, and without root.

What the kernel does not know yet it does not forbid, so `abi` is asked and `restrict` takes what there
is; 0 means no Landlock at all, which whoever starts us says aloud. It does not forbid chmod(2), chown(2)
and the like: `seccomp` does. Source: Documentation/userspace-api/landlock.rst, ABI 1 to 7.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator

from wolverined.linux.mounts import check, libc

ACCESS_FS_EXECUTE = 1 << 0
ACCESS_FS_IOCTL_DEV = 1 << 15  # since ABI 5
ACCESS_FS_MAKE_DIR = 1 << 7
ACCESS_FS_MAKE_REG = 1 << 8
ACCESS_FS_READ_DIR = 1 << 3
ACCESS_FS_READ_FILE = 1 << 2
ACCESS_FS_REFER = 1 << 13  # since ABI 2; before, no file is moved to another directory
ACCESS_FS_REMOVE_DIR = 1 << 4
ACCESS_FS_REMOVE_FILE = 1 << 5
ACCESS_FS_TRUNCATE = 1 << 14  # since ABI 3
ACCESS_FS_WRITE_FILE = 1 << 1
ACCESS_NET_CONNECT_TCP = 1 << 1
CREATE_RULESET_VERSION = 1 << 0
PR_SET_NO_NEW_PRIVS = 38
RULE_NET_PORT = 2
RULE_PATH_BENEATH = 1
SYS_ADD_RULE = 445  # these three have one number on every machine
SYS_CREATE_RULESET = 444
SYS_RESTRICT_SELF = 446

ALL_FS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every right to files that an ABI knows, by the first ABI that knows it."""
ALL_NET = {4: 0b11}
"""Binding and connecting TCP ports."""
ALL_SCOPES = {6: 0b11}
"""Abstract Unix sockets, and signals to processes that are not restricted alike."""

READ = ACCESS_FS_READ_FILE | ACCESS_FS_READ_DIR
CHANGE = (
    ACCESS_FS_WRITE_FILE
    | ACCESS_FS_TRUNCATE
    | ACCESS_FS_MAKE_REG
    | ACCESS_FS_MAKE_DIR
    | ACCESS_FS_REMOVE_FILE
    | ACCESS_FS_REMOVE_DIR
    | ACCESS_FS_REFER
)
OF_FILES = ACCESS_FS_EXECUTE | ACCESS_FS_WRITE_FILE | ACCESS_FS_READ_FILE | ACCESS_FS_TRUNCATE | ACCESS_FS_IOCTL_DEV
"""What may be allowed for something that is no directory."""


def abi() -> int:
    """The version that this kernel speaks; 0 where it has no Landlock, or hides it from us."""
    version = libc.syscall(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION)
    return max(int(version), 0)


def restrict(*, readable: Iterable[str], writable: Iterable[str] = (), ports: Iterable[int] = ()) -> None:
    """Leave this process, and all that it will start, these files and TCP ports alone; nothing is executed.

    Does nothing where there is no Landlock. To be called before the first thread is started.

    Args:
        readable: Files and directories; those that are missing are left out.
        writable: Directories in which files may be made, changed and removed as well.
        ports: TCP ports that may be connected to (since ABI 4; before, all may).

    Raises:
        OSError: The kernel has Landlock and refuses.
    """
    version = abi()
    if version == 0:
        return
    handled = rights(version)
    attributes = struct.pack("=QQQ", *handled)[: 8 if version < 4 else 16 if version < 6 else 24]  # noqa: PLR2004  ABIs
    size = ctypes.c_size_t(len(attributes))
    ruleset = check(libc.syscall(SYS_CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")
    try:
        for paths, access in ((readable, READ), (writable, READ | CHANGE)):
            for path in paths:
                _allow_path(ruleset, path, access & handled[0])
        for port in ports if handled[1] else ():
            rule = struct.pack("=QQ", ACCESS_NET_CONNECT_TCP, port)
            check(libc.syscall(SYS_ADD_RULE, ruleset, RULE_NET_PORT, rule, 0), f"landlock_add_rule port {port}")
        zero, one = ctypes.c_ulong(0), ctypes.c_ulong(1)
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, one, zero, zero, zero), "prctl PR_SET_NO_NEW_PRIVS")
        check(libc.syscall(SYS_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def rights(version: int) -> tuple[int, int, int]:
    """What an ABI can forbid: rights to files, to ports, and scopes."""
    return _of(ALL_FS, version), _of(ALL_NET, version), _of(ALL_SCOPES, version)


def _of(table: dict[int, int], version: int) -> int:
    return max((bits for since, bits in table.items() if since <= version), default=0)


def _allow_path(ruleset: int, path: str, access: int) -> None:
    with _opened(path) as fd:
        if fd is None:
            return
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= OF_FILES
        rule = struct.pack("=Qi", access, fd)  # packed in the kernel's header too
        check(libc.syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int | None]:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        yield None  # what is not there, or not for us, needs no permission
        return
    try:
        yield fd
    finally:
        os.close(fd)
