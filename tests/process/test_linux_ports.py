# SPDX-License-Identifier: MIT
"""Who holds a port: a stranger is named, one of ours is known, a client is not mistaken for a server."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leaves import cgroup_hierarchy, group_hierarchy, python, start
from support.places import IS_ROOT, eventually_async, public_tmp

from wolverined.linux import ports
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.ports import Holder, who_listens

# Listens on a free port of ADDRESS and writes its number.
SERVER = """
import os, socket, sys, time
place, address = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
s.bind((address, 0))
s.listen()
open(place + "/port.new", "w").write(str(s.getsockname()[1]))
os.rename(place + "/port.new", place + "/port")
time.sleep(60)
"""


@pytest.fixture(params=["cgroup", "group"])
def hierarchy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hierarchy]:
    """Each kind of hierarchy in turn."""
    kind = cgroup_hierarchy if request.param == "cgroup" else group_hierarchy
    with kind(tmp_path) as made:
        yield made


def ask(port: int, hierarchy: Hierarchy) -> Holder | None:
    """Who listens on `port`."""
    return asyncio.run(who_listens(port, hierarchy=hierarchy))


def test_a_stranger_is_named(hierarchy: Hierarchy) -> None:
    """The test itself listens: its user, pid and command are told, and it is not ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        holder = ask(port, hierarchy)
        assert holder
        assert (holder.port, holder.uid, holder.pid, holder.ours) == (port, os.geteuid(), os.getpid(), False)
        assert "pytest" in holder.command
        assert holder.address == "127.0.0.1"
        assert holder.user


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::1"])
def test_one_of_ours_is_known(hierarchy: Hierarchy, address: str) -> None:
    """A process of an old generation that still listens is ours, on IPv4 and IPv6."""

    async def scenario() -> None:
        with public_tmp(mode=0o777) as place:
            leaf = hierarchy.leaf("app-1")
            with start(python(SERVER, place, address), leaf) as child:
                await eventually_async((place / "port").exists)
                holder = await who_listens(int((place / "port").read_text()), hierarchy=hierarchy)
                assert holder
                assert holder.ours
                assert holder.pid == child.pid

    asyncio.run(scenario())


@pytest.mark.skipif(not IS_ROOT, reason="needs root to change the user")
def test_another_user_is_named(hierarchy: Hierarchy, tmp_path: Path) -> None:
    """A server of another user is told with its name, and with its process since we are root."""

    async def scenario() -> None:
        leaf = hierarchy.leaf("app-1")
        with public_tmp(mode=0o777) as place, start(python(SERVER, place, "127.0.0.1"), leaf, user="nobody") as child:
            await eventually_async((place / "port").exists)
            holder = await who_listens(int((place / "port").read_text()), hierarchy=hierarchy)
            assert holder
            assert (holder.user, holder.pid) == ("nobody", child.pid)

    asyncio.run(scenario())


def test_a_client_of_that_number_holds_nothing(hierarchy: Hierarchy) -> None:
    """A connection whose own port is the number, and a free port, are nobody's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        port = client.getsockname()[1]
        assert ask(port, hierarchy) is None
    assert ask(1, hierarchy) is None


def test_the_question_leaves_nothing_behind(hierarchy: Hierarchy) -> None:
    """The child's leaf is given back, and no file descriptor stays open."""
    ask(1, hierarchy)
    before = len(list(Path("/proc/self/fd").iterdir()))
    ask(1, hierarchy)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert hierarchy.stale() == []


def test_a_child_that_takes_too_long_is_no_answer(hierarchy: Hierarchy) -> None:
    """After the timeout the child is killed and the answer is None."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(who_listens(port, hierarchy=hierarchy, timeout_s=0.001)) is None


@pytest.mark.parametrize("code", ["print('[{')", "print('{}')", "raise SystemExit(3)", 'print(\'[{"uid": "x"}]\')', ""])
def test_a_child_that_talks_nonsense_is_no_answer(
    hierarchy: Hierarchy, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half an answer, another shape or none at all is treated as not known."""
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{code}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert ask(1, hierarchy) is None


def test_without_sock_diag_the_old_table_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that refuses the question still tells user and inode in /proc/net/tcp."""

    def refuse(_: int) -> list[ports.Row]:
        raise OSError(2, "no sock_diag")

    monkeypatch.setattr(ports, "listening_rows", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ports.main(["ports", str(server.getsockname()[1])]) == 0
        inode = os.fstat(server.fileno()).st_ino
        assert f'"inode":{inode}' in capsys.readouterr().out
