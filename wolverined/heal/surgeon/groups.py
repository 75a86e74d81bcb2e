# SPDX-License-Identifier: MIT
"""The group of a file that is replaced: kept where the kernel lets us, else only given up when it means nothing.

An owner may give a file to groups of its own alone (chown(2)). A file of another group whose members may
do exactly what everybody may loses nothing with it; any other is refused while the app still runs.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

from wolverined.errors import SurgeryAborted
from wolverined.linux import proc

_CAP_CHOWN = 0


def check(directory: int, path: str, found: os.stat_result) -> None:
    """See whether a new file in the open directory can stand in for `found`.

    Raises:
        SurgeryAborted: Its group means something and cannot be given.
    """
    if matters(found.st_mode) and not _may_give(directory, found.st_gid):
        raise _refusal(path, found.st_gid)


def give(fd: int, path: str, like: os.stat_result) -> None:
    """Give a new file the group of the one that it replaces.

    Raises:
        SurgeryAborted: As `check`.
    """
    if os.fstat(fd).st_gid == like.st_gid:
        return
    try:
        os.fchown(fd, -1, like.st_gid)
    except PermissionError:
        if matters(like.st_mode):
            raise _refusal(path, like.st_gid) from None


def matters(mode: int) -> bool:
    """Whether a mode gives the group anything else than it gives everybody."""
    return bool((mode >> 3 ^ mode) & 0o7)


def _may_give(directory: int, gid: int) -> bool:
    above = os.fstat(directory)
    if above.st_mode & stat.S_ISGID and above.st_gid == gid:
        return True  # a new file is born with it
    return gid in {os.getegid(), *os.getgroups()} or bool(proc.effective_capabilities() >> _CAP_CHOWN & 1)


def _refusal(path: str, gid: int) -> SurgeryAborted:
    group, user, own = _group(gid), _user(os.geteuid()), _group(os.getegid())
    return SurgeryAborted(
        f"{path} belongs to the group {group}, which {user} is not in: the new file could not keep it",
        hint=f"chgrp {own} {path}, or make {user} a member: usermod -aG {group} {user}",
    )


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
