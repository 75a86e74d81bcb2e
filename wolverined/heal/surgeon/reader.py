# SPDX-License-Identifier: MIT
"""For whom a directory is packed: the app's user, who may be able to read less than the owner of its source.

A trial is another user still, and what is sent to it is that user's to read; so what the app itself cannot
read must not be sent. Decided by modes: where an access control list gives more, the file is left out.
"""

from __future__ import annotations

import os
import stat

import msgspec

from wolverined.errors import SpawnError, SurgeryAborted
from wolverined.linux.credentials import Credentials


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A user, and all groups that programs of his have."""

    name: str
    uid: int
    groups: frozenset[int]

    def lacks(self, found: os.stat_result) -> bool:
        """Whether the mode keeps this user out: from a file's content, from what is in a directory (pure)."""
        if self.uid == 0:
            return False
        wanted = stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
        if found.st_uid == self.uid:
            wanted <<= 6
        elif found.st_gid in self.groups:
            wanted <<= 3
        return not found.st_mode & wanted


def reader_of(name: str) -> Reader | None:
    """That user; None when it is nobody else than ourselves, whom the kernel asks.

    Raises:
        SurgeryAborted: There is no such user.
    """
    if not name:
        return None
    try:
        who = Credentials.of_user(name)
    except SpawnError as error:
        raise SurgeryAborted(error.message, hint=error.hint) from error
    return None if who.uid == os.geteuid() else Reader(name=who.name, uid=who.uid, groups=who.groups())
