# SPDX-License-Identifier: MIT
"""Who may do what on the control socket: a pure decision over the peer's kernel-given identity.

Default deny. uid 0 and the group `wolverine-admin` act, the group `wolverine-view` reads. The app's
uid and wolverined's own are refused: an app that reaches this socket could approve its own repair.
Under `run` as a plain user those uids are one, so the peer's pid decides (DESIGN 7.2).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from wolverined.linux.credentials import group_id
from wolverined.linux.peer import Peer

ADMIN_GROUP = "wolverine-admin"
VIEW_GROUP = "wolverine-view"


class Level(StrEnum):
    """What a request needs, or what a peer may do at most."""

    VIEW = "view"
    ACT = "act"


class GroupIds(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of the two groups; None where this machine has no such group."""

    admin: int | None = None
    view: int | None = None


def machine_groups() -> GroupIds:
    """The two groups as this machine knows them now: the one look outside of this module."""
    return GroupIds(admin=group_id(ADMIN_GROUP), view=group_id(VIEW_GROUP))


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one peer may do: `level` None means nothing. `reason` and `hint` are for the refused."""

    level: Level | None
    reason: str = ""
    hint: str = ""

    def allows(self, level: Level) -> bool:
        """Whether a request that needs `level` may pass."""
        return self.level is Level.ACT or self.level is level


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one instance.

    Args:
        app_uid: The uid that the app runs as.
        own_uid: The uid of wolverined.
        run_as_user: `wolverined run` by a plain user: one uid for the daemon, its operator and the app.
        groups: The machine's wolverine groups.
        in_app_tree: Whether a pid belongs to a process that wolverined started (the app's tree and
            every role). Must answer True when it cannot tell, for instance because the pid is gone.
    """

    app_uid: int
    own_uid: int
    run_as_user: bool
    in_app_tree: Callable[[int], bool]
    groups: GroupIds = GroupIds()

    def standing(self, peer: Peer) -> Standing:
        """Decide once, at accept, what `peer` may do for as long as it stays connected."""
        return decide(
            peer,
            app_uid=self.app_uid,
            own_uid=self.own_uid,
            run_as_user=self.run_as_user,
            in_app_tree=self.in_app_tree,
            groups=self.groups,
        )


def decide(
    peer: Peer,
    *,
    app_uid: int,
    own_uid: int,
    run_as_user: bool,
    in_app_tree: Callable[[int], bool],
    groups: GroupIds,
) -> Standing:
    """What `peer` may do; see `Access` for the arguments."""
    if run_as_user and peer.uid == own_uid:
        if _of_our_tree(peer, in_app_tree):
            return Standing(level=None, reason="a process started by wolverined may not use its control socket")
        return Standing(level=Level.ACT)
    if peer.uid == 0:
        # The daemon in root's terminal shares its uid with its operator, and so does an app that was
        # allowed to be root: then, as for a plain user, the pid has to tell them apart.
        if 0 in (app_uid, own_uid) and _of_our_tree(peer, in_app_tree):
            return Standing(level=None, reason="a process started by wolverined may not use its control socket")
        return Standing(level=Level.ACT)
    if peer.uid == app_uid:
        return Standing(level=None, reason="the application's own user may not use its supervisor's control socket")
    if peer.uid == own_uid:
        return Standing(level=None, reason="wolverined's own user may not use the control socket")
    belongs = {peer.gid, *peer.groups}
    if groups.admin is not None and groups.admin in belongs:
        return Standing(level=Level.ACT)
    if groups.view is not None and groups.view in belongs:
        return Standing(level=Level.VIEW, hint=_join(ADMIN_GROUP, groups.admin))
    return Standing(
        level=None,
        reason=f"uid {peer.uid} may not use this control socket",
        hint=f"run it as uid {own_uid}, who started wolverined" if run_as_user else _join(VIEW_GROUP, groups.view),
    )


def _of_our_tree(peer: Peer, in_app_tree: Callable[[int], bool]) -> bool:
    # pid 0: the peer lives in a pid namespace that we cannot see into, as our own trials do.
    return peer.pid <= 0 or in_app_tree(peer.pid)


def _join(group: str, gid: int | None) -> str:
    if gid is None:
        return "run it with sudo"
    what = "act" if group == ADMIN_GROUP else "read"
    other = f" ({ADMIN_GROUP} to act)" if group == VIEW_GROUP else ""
    return f'group {group} may {what}{other}: sudo usermod -aG {group} "$USER", then log in again'
