# SPDX-License-Identifier: MIT
"""Whose a process is: user, group, home, shell, as the user database says."""

from __future__ import annotations

import grp
import os
import pwd

import msgspec

from wolverined.errors import SpawnError
from wolverined.linux import proc

CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 6, 7, 8


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A user that a program is started as. `known` is false for a bare uid that no database names."""

    uid: int
    gid: int
    name: str
    home: str
    shell: str
    known: bool = True

    @classmethod
    def of_user(cls, user: str | int) -> Credentials:
        """Look a user up by name or uid; a uid that nobody names gets itself as group and `/` as home.

        Raises:
            SpawnError: No such user.
        """
        text = str(user)
        try:
            entry = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
        except (KeyError, OverflowError) as error:
            if text.isdecimal() and int(text) < 2**32 - 1:
                return cls(uid=int(text), gid=int(text), name=text, home="/", shell="/bin/sh", known=False)  # noqa: S604 - a field
            raise SpawnError(
                f"there is no user {text!r}", hint=f"make it (adduser --system {text}) or set app.user"
            ) from error
        return cls(
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            name=entry.pw_name,
            home=entry.pw_dir or "/",
            shell=entry.pw_shell or "/bin/sh",
        )

    @classmethod
    def own(cls) -> Credentials:
        """The user that we run as."""
        return cls.of_user(os.geteuid())

    def groups(self) -> frozenset[int]:
        """The primary group and the supplementary ones that the database gives this user."""
        if not self.known:
            return frozenset({self.gid})
        return frozenset(os.getgrouplist(self.name, self.gid))


def group_id(name: str) -> int | None:
    """The gid of a group; None when there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def may_change_user(power: int | None = None) -> bool:
    """Whether we may start programs as other users: a question of capabilities, not of being root.

    Args:
        power: Our effective capabilities, where they are known already.
    """
    power = proc.effective_capabilities() if power is None else power
    return bool(power >> CAP_SETUID & 1 and power >> CAP_SETGID & 1)
