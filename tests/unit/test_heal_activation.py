# SPDX-License-Identifier: MIT
"""A role that PID 1 started takes one connection and leaves the socket to the next process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wolverined.errors import StreamError
from wolverined.heal import activation
from wolverined.heal.activation import accepted, activated


def test_only_what_is_said_to_this_process_counts() -> None:
    """The variables of a parent, or of another protocol, are not for us."""
    own = str(os.getpid())
    assert activated({"LISTEN_PID": own, "LISTEN_FDS": "1"})
    assert not activated({"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert not activated({"LISTEN_PID": own, "LISTEN_FDS": "2"})
    assert not activated({})


def test_the_connection_is_given_and_the_socket_let_go(tmp_path: Path) -> None:
    """What is written by the client arrives; nobody after us finds the variables or the descriptor."""
    path = str(tmp_path / "s")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "PATH": "/bin"}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"hello")
        fd = listening.detach()
        with accepted(environ, fd=fd) as stream:
            assert stream.recv(10) == b"hello"
            assert not stream.get_inheritable()
    assert environ == {"PATH": "/bin"}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start by hand has no client; what is no socket has none either."""
    monkeypatch.setattr(activation, "WAIT_S", 0.01)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    with pytest.raises(StreamError):
        accepted({}, fd=listening.detach())
    with pytest.raises(StreamError):
        accepted({}, fd=os.open("/dev/null", os.O_RDONLY))
