# SPDX-License-Identifier: MIT
"""What a service manager keeps for a successor: handed out, taken over, refused when it is something else."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.control_server import system_access
from support.fake_instance import FakeInstance
from support.places import public_tmp

from wolverined.control.listener import adopt, listen
from wolverined.control.server import Server
from wolverined.daemon.service import Service
from wolverined.errors import Conflict
from wolverined.linux.notify import SystemdNotifier, kept_for_us


class Manager:
    """Takes the place of a service manager: hears words, and what comes with them."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.kept: dict[str, int] = {}
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Everything heard; what is to be kept is kept, what is to be forgotten closed."""
        while True:
            try:
                data, rights, _, _ = self._socket.recvmsg(4096, 1024)
            except BlockingIOError:
                return self.heard
            words = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.heard.append(data.decode())
            fds = array.array("i", b"".join(each[2] for each in rights))
            if "FDSTORE" in words:
                self.kept[words["FDNAME"]] = fds[0]
            if "FDSTOREREMOVE" in words and (fd := self.kept.pop(words["FDNAME"], None)) is not None:
                os.close(fd)

    def close(self) -> None:
        """Give everything back; the second time nothing is left to give."""
        if self._socket.fileno() < 0:
            return
        self.listen()
        for fd in self.kept.values():
            os.close(fd)
        self._socket.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path."""
    with public_tmp() as path:
        yield path


@pytest.fixture
def manager(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that this process speaks to."""
    path = place / "notify"
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    try:
        yield manager
    finally:
        manager.close()


def queue(path: Path) -> socket.socket:
    """A client that has connected and waits."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def test_a_listener_that_is_kept_lets_clients_wait_for_a_successor(manager: Manager, place: Path) -> None:
    """While nobody serves, connecting succeeds; the successor finds who waits."""
    path = place / "control.sock"
    notifier = SystemdNotifier(watchdog_s=None)
    with listen(path) as sock:
        Service(notifier).keep_control(sock.fileno())
        manager.listen()
    with queue(path), queue(path):
        successor = adopt(os.dup(manager.kept["control"]), path)
        assert successor is not None
        with successor:
            assert successor.getblocking() is False
            for _ in range(2):
                successor.accept()[0].close()
    notifier.close()


def test_a_new_listener_takes_the_place_of_the_kept_one(manager: Manager, place: Path) -> None:
    """The directory was removed and made anew: the manager must not hand out the socket that nobody finds."""
    path = place / "control.sock"
    notifier = SystemdNotifier(watchdog_s=None)
    for _ in range(2):
        with listen(path, claimed=True) as sock:
            Service(notifier).keep_control(sock.fileno())
            manager.listen()
    assert [words.split("=")[0] for words in manager.heard] == ["FDSTOREREMOVE", "FDSTORE"] * 2
    notifier.close()


def test_what_nobody_knows_is_given_up_and_removed(manager: Manager) -> None:
    """A later version may have left it; a name twice is one too many."""
    notifier = SystemdNotifier(watchdog_s=None)
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
    kept = list(zip(("other", "control", "control", ""), fds, strict=True))
    assert Service(notifier).kept_control(kept) == fds[1]
    os.close(fds[1])
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert manager.listen() == ["FDSTOREREMOVE=1\nFDNAME=other"]
    notifier.close()


def test_a_manager_that_is_gone_keeps_nothing_and_stops_nobody(manager: Manager, place: Path) -> None:
    """Its socket has been closed: the successor will make a listener of its own."""
    notifier = SystemdNotifier(watchdog_s=None)
    manager.close()
    with listen(place / "control.sock") as sock:
        notifier.keep("control", sock.fileno())
    notifier.close()


@pytest.mark.parametrize("kind", ["stream", "datagram", "elsewhere", "gone", "no socket", "closed"])
def test_what_is_no_listener_of_ours_is_closed(place: Path, kind: str) -> None:
    """Whatever else comes under that name; a socket whose name is gone, too."""
    path = place / "control.sock"
    if kind in {"elsewhere", "gone"}:
        sock = listen(place / "other.sock" if kind == "elsewhere" else path)
        fd = sock.detach()
        if kind == "gone":
            path.unlink()
    elif kind in {"stream", "datagram"}:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
        sock.bind(str(path))
        fd = sock.detach()
    else:
        fd = os.open("/dev/null", os.O_RDONLY)
    if kind == "closed":
        os.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            adopt(fd, path)
        return
    assert adopt(fd, path) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_place_that_is_ours_for_sure_is_taken_though_something_answers(place: Path) -> None:
    """The manager still holds a predecessor's socket there; who is not sure is refused."""
    path = place / "control.sock"
    with listen(path):
        with pytest.raises(Conflict, match="another wolverined answers"):
            listen(path)
        with listen(path, claimed=True) as mine, queue(path):
            mine.accept()[0].close()


def test_a_server_that_is_kept_leaves_its_socket_to_a_successor(place: Path) -> None:
    """Closing does not remove the name; a server that nobody keeps removes it."""
    kept: list[int] = []

    async def life(path: Path, *, keep: bool) -> None:
        server = Server(FakeInstance(), path, system_access(), kept=kept.append if keep else None)
        await server.start()
        await server.close()

    for name, keep in (("a", True), ("b", False)):
        asyncio.run(life(place / name, keep=keep))
    assert [path.name for path in place.iterdir()] == ["a"]
    assert len(kept) == 1


CHILD = """
import json, os, sys
from wolverined.linux.notify import kept_for_us
os.environ["LISTEN_PID"] = sys.argv[1] or str(os.getpid())
kept = kept_for_us()
left = [name for name in os.environ if name.startswith("LISTEN")]
print(json.dumps([kept, left, [os.get_inheritable(fd) for _, fd in kept]]))
"""


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "control:other"}, [["control", 3], ["other", 4]]),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "control"}, [["control", 3], ["", 4]]),
        ({"LISTEN_FDS": "3", "LISTEN_FDNAMES": "control:a:b"}, [["control", 3], ["a", 4]]),  # the third is closed
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "con\x1btrol"}, [["", 3]]),
        ({"LISTEN_FDS": "-1"}, []),
        ({"LISTEN_FDS": "many"}, []),
        ({}, []),
    ],
)
def test_what_was_kept_is_taken_with_its_names(variables: dict[str, str], kept: list[object]) -> None:
    """By the manager's protocol, and its variables are gone, so that nobody takes other descriptors for these."""
    argv = ["/bin/sh", "-c", 'exec 3<&0 4<&0 && exec "$@"', "sh", sys.executable, "-P", "-c", CHILD, ""]
    out = subprocess.check_output(argv, env={**os.environ, **variables}, stdin=subprocess.DEVNULL)
    assert json.loads(out) == [kept, [], [False] * len(kept)]


def test_what_was_kept_for_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that inherits the variables must not take its parent's numbers."""
    for name, value in (("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "control")):
        monkeypatch.setenv(name, value)
    assert kept_for_us() == []
    assert "LISTEN_FDS" not in os.environ
