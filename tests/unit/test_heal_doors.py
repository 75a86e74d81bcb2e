# SPDX-License-Identifier: MIT
"""The doors to roles that PID 1 keeps: where they are, and what is said when one is shut."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from wolverined.errors import SandboxUnavailable, Unreachable, UsageError
from wolverined.heal import dispatch
from wolverined.heal.doors import SOCKETS, Door


def _listen(path: Path, *, waiting: int = 8) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(waiting)
    return listener


def test_each_role_has_a_socket_of_its_own() -> None:
    """The paths and units are those of the unit files."""
    adviser, trial = Door(role="adviser", name="a-b"), Door(role="trial", name="a-b")
    assert adviser.path() == SOCKETS / "adviser-a-b.sock"
    assert adviser.unit() == "wolverine-adviser@a-b.socket"
    assert trial.path("baseline") == SOCKETS / "trial-a-b:baseline.sock"
    assert trial.unit("candidate") == "wolverine-trial@a-b:candidate.socket"


def test_a_connection_is_had_before_anybody_accepts_it(tmp_path: Path) -> None:
    """PID 1 may take its time to start the role: the supervisor does not wait for it."""
    door = Door(role="adviser", name="a", sockets=tmp_path)
    with _listen(door.path()) as listener, door.connect() as ours:
        assert not ours.getblocking()
        assert not ours.get_inheritable()
        ours.send(b"hello")
        theirs, _ = listener.accept()
        with theirs:
            assert theirs.recv(5) == b"hello"


@pytest.mark.parametrize("role", ["adviser", "trial"])
def test_a_missing_socket_is_a_failure_that_says_where_to_look(tmp_path: Path, role: str) -> None:
    """The hint is the command that shows the socket's unit."""
    door = Door(role=role, name="shop", sockets=tmp_path)
    with pytest.raises(SandboxUnavailable if role == "trial" else Unreachable) as caught:
        door.connect("baseline")
    assert str(door.path("baseline")) in caught.value.message
    assert caught.value.hint == f"systemctl status {door.unit('baseline')}"


def test_a_socket_that_nobody_listens_at_is_a_failure(tmp_path: Path) -> None:
    """A file left by a socket that is gone refuses."""
    door = Door(role="adviser", name="a", sockets=tmp_path)
    _listen(door.path()).close()
    with pytest.raises(Unreachable, match="refused"):
        door.connect()


def test_a_queue_that_is_full_is_a_failure_and_no_wait(tmp_path: Path) -> None:
    """Connecting never blocks the supervisor's loop."""
    door = Door(role="adviser", name="a", sockets=tmp_path)
    with _listen(door.path(), waiting=0), door.connect(), pytest.raises(Unreachable, match="too many"):
        door.connect()


def test_a_path_that_is_far_too_long_is_a_failure(tmp_path: Path) -> None:
    """Nothing but an error of ours comes out."""
    with pytest.raises(Unreachable):
        Door(role="adviser", name="a" * 200, sockets=tmp_path).connect()


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"role": "trial"}, ("trial", "candidate")),
        ({"role": "trial", "side": "baseline"}, ("trial", "baseline")),
        ({"role": "adviser", "side": "candidate"}, ("adviser", "candidate")),
    ],
)
def test_a_request_names_role_and_side(request_: dict[str, str], wanted: tuple[str, str]) -> None:
    """Without a side the candidate's is meant."""
    assert dispatch._asked(json.dumps(request_).encode()) == wanted


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"1", b"{}", b'{"role": 1}', b'{"role": []}', b'{"role": "heal"}', b'{"role": "../x"}']
    + [b'{"role": "trial", "side": %s}' % side for side in (b"null", b"1", b'["baseline"]', b'"../../x"', b'""')],
)
def test_a_request_that_makes_no_sense_is_refused(data: bytes) -> None:
    """Whatever a heal that was taken over writes, no path is made of it."""
    with pytest.raises(UsageError):
        dispatch._asked(data)
