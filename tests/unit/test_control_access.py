# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.control.access import Access, GroupIds, Level, Standing, machine_groups
from wolverined.control.routes import ROUTES
from wolverined.linux.peer import Peer

APP, OWN, STRANGER, ADMIN, VIEW = 1001, 990, 1500, 800, 801


def nobody(_pid: int) -> bool:
    """No process is ours."""
    return False


def everybody(_pid: int) -> bool:
    """Every process is ours."""
    return True


def access(
    *,
    app: int = APP,
    own: int = OWN,
    as_user: bool = False,
    tree: Callable[[int], bool] = nobody,
    admin: int | None = ADMIN,
    view: int | None = VIEW,
) -> Access:
    """The rules of one kind of instance."""
    groups = GroupIds(admin=admin, view=view)
    return Access(app_uid=app, own_uid=own, run_as_user=as_user, in_app_tree=tree, groups=groups)


def peer(uid: int, *, gid: int | None = None, groups: tuple[int, ...] = (), pid: int = 77) -> Peer:
    """Someone who connects."""
    return Peer(pid=pid, uid=uid, gid=uid if gid is None else gid, groups=groups)


SYSTEM = access()
ROOT_TERMINAL = access(own=0)
ROOT_APP = access(app=0, own=0)
PLAIN = access(app=OWN, own=OWN, as_user=True)


@pytest.mark.parametrize(
    ("rules", "who", "level"),
    [
        pytest.param(SYSTEM, peer(0), Level.ACT, id="root acts"),
        pytest.param(SYSTEM, peer(APP), None, id="the app is refused"),
        pytest.param(SYSTEM, peer(OWN), None, id="the daemon's own user is refused"),
        pytest.param(SYSTEM, peer(STRANGER), None, id="a stranger is refused"),
        pytest.param(SYSTEM, peer(STRANGER, groups=(ADMIN,)), Level.ACT, id="the admin group acts"),
        pytest.param(SYSTEM, peer(STRANGER, gid=ADMIN), Level.ACT, id="also as primary group"),
        pytest.param(SYSTEM, peer(STRANGER, groups=(4, VIEW)), Level.VIEW, id="the view group reads"),
        pytest.param(SYSTEM, peer(STRANGER, groups=(VIEW, ADMIN)), Level.ACT, id="both groups act"),
        pytest.param(SYSTEM, peer(APP, groups=(ADMIN,)), None, id="an app in the admin group is refused"),
        pytest.param(SYSTEM, peer(OWN, groups=(ADMIN,)), None, id="the daemon in the admin group is refused"),
        pytest.param(SYSTEM, peer(STRANGER, gid=OWN, groups=(APP,)), None, id="groups of app and daemon give nothing"),
        pytest.param(access(admin=None, view=None), peer(STRANGER, groups=(0,)), None, id="no groups on the machine"),
        pytest.param(ROOT_TERMINAL, peer(0), Level.ACT, id="root in root's terminal acts"),
        pytest.param(access(own=0, tree=everybody), peer(0), None, id="root's own children are refused"),
        pytest.param(ROOT_TERMINAL, peer(0, pid=0), None, id="a root of another pid namespace is refused"),
        pytest.param(ROOT_TERMINAL, peer(APP), None, id="the app of root's terminal is refused"),
        pytest.param(ROOT_APP, peer(0), Level.ACT, id="root acts although the app is root"),
        pytest.param(access(app=0, tree=everybody), peer(0), None, id="an app that is root is refused"),
        pytest.param(PLAIN, peer(OWN), Level.ACT, id="a plain user acts on what it started"),
        pytest.param(PLAIN, peer(0), Level.ACT, id="root acts on a plain user's"),
        pytest.param(PLAIN, peer(STRANGER), None, id="another user does not"),
        pytest.param(access(app=OWN, as_user=True, tree=everybody), peer(OWN), None, id="the app of a plain user"),
        pytest.param(PLAIN, peer(OWN, pid=0), None, id="a pid that cannot be seen is refused"),
        pytest.param(
            access(app=OWN, as_user=True, tree=everybody), peer(0), Level.ACT, id="root is no plain user's child"
        ),
    ],
)
def test_who_may_do_what(rules: Access, who: Peer, level: Level | None) -> None:
    """Each kind of peer has exactly the level of the design, and a refusal has a reason."""
    standing = rules.standing(who)
    assert standing.level is level
    assert bool(standing.reason) == (level is None)


def test_hints_name_the_group_and_the_command() -> None:
    """Who lacks a group is told which one, and how to join it."""
    refused = SYSTEM.standing(peer(STRANGER)).hint
    assert "wolverine-view" in refused
    assert "wolverine-admin" in refused
    assert 'usermod -aG wolverine-view "$USER"' in refused
    assert 'usermod -aG wolverine-admin "$USER"' in SYSTEM.standing(peer(STRANGER, gid=VIEW)).hint
    assert access(admin=None, view=None).standing(peer(STRANGER)).hint == "run it with sudo"
    assert str(OWN) in PLAIN.standing(peer(STRANGER)).hint


def test_levels_contain_each_other() -> None:
    """Acting includes reading, reading does not include acting, nothing includes nothing."""
    act, view, none = (Standing(level=level) for level in (Level.ACT, Level.VIEW, None))
    assert act.allows(Level.VIEW)
    assert act.allows(Level.ACT)
    assert view.allows(Level.VIEW)
    assert not view.allows(Level.ACT)
    assert not none.allows(Level.VIEW)
    assert not none.allows(Level.ACT)


@given(uid=st.integers(1, 70000), gid=st.integers(0, 70000), groups=st.lists(st.integers(0, 70000), max_size=5))
def test_only_groups_open_the_socket_to_others(uid: int, gid: int, groups: list[int]) -> None:
    """Whoever is not root, and in neither group, gets nothing; the app and the daemon never get anything."""
    standing = SYSTEM.standing(peer(uid, gid=gid, groups=tuple(groups)))
    belongs = {gid, *groups}
    if uid in {APP, OWN} or not belongs & {ADMIN, VIEW}:
        assert standing.level is None
    else:
        assert standing.level is (Level.ACT if ADMIN in belongs else Level.VIEW)


def test_every_change_needs_to_act() -> None:
    """The whole surface: what only reads is open to readers, everything else to who may act."""
    reads = {route.pattern for route in ROUTES if route.method == "GET"}
    acts = {route.pattern for route in ROUTES if route.method == "POST"}
    assert {route.method for route in ROUTES} == {"GET", "POST"}
    assert all(route.level is (Level.VIEW if route.method == "GET" else Level.ACT) for route in ROUTES)
    assert reads == {
        "/v1/status",
        "/v1/config",
        "/v1/usage",
        "/v1/incidents",
        "/v1/incidents/ID",
        "/v1/repairs",
        "/v1/repairs/ID",
        "/v1/repairs/ID/patch",
        "/v1/backups",
        "/v1/logs",
        "/v1/events",
        "/v1/changes/ID",
        "/v1/changes/ID/wait",
    }
    assert acts == {
        *(f"/v1/{action}" for action in ("start", "stop", "restart", "reload", "reexec", "heal", "hold")),
        *(f"/v1/repairs/ID/{action}" for action in ("approve", "reject", "rollback")),
        "/v1/backups/ID/restore",
    }


def test_machine_groups_of_a_machine_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that does not exist is None, never a number."""

    def unknown(name: str) -> object:
        raise KeyError(name)

    monkeypatch.setattr("grp.getgrnam", unknown)
    assert machine_groups() == GroupIds(admin=None, view=None)
