# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket

import pytest
from support.clocks import HandClock
from support.control_server import (
    ADMIN_GID,
    APP_UID,
    OWN_UID,
    STRANGER_UID,
    VIEW_GID,
    operator_access,
    parse,
    read_all,
    request,
    serving,
    speak_as,
    system_access,
)

from wolverined.control.access import Access
from wolverined.control.routes import ROUTES

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
needs_plain_user = pytest.mark.skipif(os.getuid() == 0, reason="shows what a plain user may do")

BODIES = {"/v1/hold": {"for_s": 1.0}}
IDS = {"incidents": "i1", "repairs": "r1", "backups": "b1", "changes": "c1"}


def every_request() -> list[tuple[str, bytes]]:
    """One good request for each endpoint, the changing ones first so that c1 exists."""
    found = []
    for route in sorted(ROUTES, key=lambda route: route.method, reverse=True):
        path = route.pattern.replace("ID", IDS.get(route.pattern.split("/")[2], ""))
        found.append((route.method, request(route.method, path, BODIES.get(route.pattern))))
    return found


@needs_root
@pytest.mark.parametrize(
    ("uid", "gid", "groups", "reads", "acts"),
    [
        pytest.param(0, 0, (), True, True, id="root"),
        pytest.param(STRANGER_UID, None, (ADMIN_GID,), True, True, id="admin group"),
        pytest.param(STRANGER_UID, ADMIN_GID, (), True, True, id="admin as primary group"),
        pytest.param(STRANGER_UID, None, (VIEW_GID,), True, False, id="view group"),
        pytest.param(STRANGER_UID, None, (4, 20), False, False, id="stranger"),
        pytest.param(APP_UID, None, (), False, False, id="app"),
        pytest.param(APP_UID, None, (ADMIN_GID,), False, False, id="app in the admin group"),
        pytest.param(OWN_UID, None, (), False, False, id="daemon's own user"),
    ],
)
def test_every_peer_at_every_endpoint(
    uid: int, gid: int | None, groups: tuple[int, ...], *, reads: bool, acts: bool
) -> None:
    """Over real sockets with real credentials: each peer gets exactly its level at each endpoint."""
    requests = every_request()
    with serving(access=system_access()) as served:
        # So that reading c1 works for those who may not make it.
        assert served.ask("POST", "/v1/start", {})[0] == 202
        before = served.do(lambda: len(served.instance.submitted))
        answers = speak_as(served.path, [data for _, data in requests], uid=uid, gid=gid, groups=groups)
        submitted = served.do(lambda: len(served.instance.submitted)) - before
    for (method, data), (status, text) in zip(requests, answers, strict=True):
        good = 200 if method == "GET" else 202
        wanted = good if (reads if method == "GET" else acts) else 403
        assert status == wanted, (data, text)
    assert submitted == (sum(method == "POST" for method, _ in requests) if acts else 0)


@needs_root
def test_refused_before_a_byte_is_read() -> None:
    """A peer without access is answered and closed although it has not said a word."""
    with serving(access=system_access()) as served:
        (status, text), *_ = speak_as(served.path, [b""], uid=STRANGER_UID)
        assert status == 403
        assert "usermod -aG wolverine-view" in text
        assert served.connections() == 0


@needs_root
def test_denials_are_recorded_once_a_minute_and_uid() -> None:
    """A stranger that knocks for hours does not fill the audit; what was left out is counted."""
    clock = HandClock()
    with serving(access=system_access(), clock=clock) as served:
        speak_as(served.path, [b""] * 5, uid=STRANGER_UID)
        speak_as(served.path, [b""] * 2, uid=APP_UID)
        clock.advance(61)
        speak_as(served.path, [b""], uid=STRANGER_UID)
        denied = [
            fields for name, _, fields in served.do(lambda: list(served.instance.audits)) if name == "audit.denied"
        ]
    assert [(fields["uid"], fields["more"]) for fields in denied] == [
        (STRANGER_UID, 0),
        (APP_UID, 0),
        (STRANGER_UID, 4),
    ]


@needs_root
def test_a_reader_that_tries_to_act_is_recorded() -> None:
    """A denial by level is an audit event too, and says what was tried and what would help."""
    with serving(access=system_access()) as served:
        ((status, text),) = speak_as(
            served.path, [request("POST", "/v1/stop", {})], uid=STRANGER_UID, groups=(VIEW_GID,)
        )
        audits = served.do(lambda: list(served.instance.audits))
    assert status == 403
    assert "usermod -aG wolverine-admin" in text
    assert [(name, fields["what"]) for name, _, fields in audits] == [("audit.denied", "POST /v1/stop")]


@needs_root
def test_readers_cannot_lock_out_who_acts() -> None:
    """When readers hold all that they may hold, an administrator is still served."""
    from wolverined.control.http import Limits

    limits = Limits(connections=4, view_connections=2)
    script_requests = [b""] * 2
    with serving(access=Access(**{**_fields(system_access()), "own_uid": OWN_UID}), limits=limits) as served:
        holders = [_connect_as_viewer(served.path) for _ in range(2)]
        try:
            served.until(lambda: len(served.server._served) == 2)
            ((status, _),) = speak_as(served.path, script_requests[:1], uid=STRANGER_UID, groups=(VIEW_GID,))
            assert status == 503
            assert served.ask("GET", "/v1/status")[0] == 200
        finally:
            for holder in holders:
                holder.close()


def test_mutations_are_recorded() -> None:
    """Who changed something, and what, is an audit event; an operator's prose is not copied into it."""
    with serving() as served:
        served.ask("POST", "/v1/heal", {"report": "x" * 1000})
        audits = served.do(lambda: list(served.instance.audits))
    assert [name for name, _, _ in audits] == ["audit.change"]
    assert audits[0][2]["uid"] == os.getuid()
    assert audits[0][2]["change"] == "c1"
    assert "report" not in audits[0][2]


def test_a_child_of_the_daemon_is_refused() -> None:
    """Where uids cannot tell them apart, the pid does: what wolverined started may not steer it."""
    rules = Access(**{**_fields(operator_access()), "in_app_tree": lambda pid: pid == os.getpid()})
    with serving(access=rules) as served, served.connect() as sock:
        status, envelope = parse(read_all(sock))
    assert status == 403
    assert envelope["result"]["kind"] == "access-denied"


@needs_plain_user
def test_a_plain_user_acts_on_its_own() -> None:
    """Who runs wolverined as itself may read and act."""
    with serving() as served:
        assert served.ask("GET", "/v1/status")[0] == 200
        assert served.ask("POST", "/v1/stop", {})[0] == 202


def _fields(access: Access) -> dict[str, object]:
    return {name: getattr(access, name) for name in Access.__struct_fields__}


def _connect_as_viewer(path: object) -> socket.socket:
    """A connection whose credentials are those of a member of the view group: the kernel notes them at connect."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pid = os.fork()
    if pid == 0:  # only async-signal-safe work follows: become someone, connect, hand the socket over
        try:
            os.setgroups([VIEW_GID])
            os.setgid(STRANGER_UID)
            os.setuid(STRANGER_UID)
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            socket.send_fds(theirs, [b"x"], [sock.fileno()])
        finally:
            os._exit(0)
    theirs.close()
    try:
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    return socket.socket(fileno=fd)
