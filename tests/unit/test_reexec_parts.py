# SPDX-License-Identifier: MIT
"""The small parts of a re-exec: what is inherited, signals in between, timers, half lines, operations, refusals."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.places import eventually_async

from wolverined.clock import SystemClock
from wolverined.control.changes import Changes
from wolverined.daemon.console import Console, HandedConsole
from wolverined.daemon.handover import Unusable
from wolverined.daemon.inheritance import (
    VARIABLE,
    Inherited,
    Secrets,
    as_memory,
    as_pairs,
    as_socket,
    inherit,
)
from wolverined.daemon.signals import Signals
from wolverined.daemon.takeover import check
from wolverined.daemon.waits import HandedWaits, Waits
from wolverined.errors import Conflict, SpawnError, StoreError
from wolverined.linux.handover import HandedChild
from wolverined.linux.process import Child
from wolverined.model import Change, ChangeState, LogLine
from wolverined.store import Store
from wolverined.supervise.handover import HandedPipe
from wolverined.supervise.output import Output, Ring


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it with a limit."""
    asyncio.run(asyncio.wait_for(scenario(), 20))


# --- what is inherited


@pytest.mark.parametrize("word", ["", "x", "exec", "exec:1:2:3", "check:", "check:x", "exec:a:b:c", "exec:1:2"])
def test_nothing_is_inherited_by_a_word_that_is_not_for_this_process(word: str) -> None:
    """A child that has it out of an environment is no successor; the word is taken away in any case."""
    environ = {VARIABLE: word} if word else {}
    assert inherit(environ, hide=False) is None
    assert VARIABLE not in environ


def test_a_state_that_is_not_sealed_is_refused() -> None:
    """What somebody could still change is not looked at."""
    fd = os.memfd_create("x")
    try:
        found = inherit({VARIABLE: f"check:{fd}"}, hide=False)
        assert found is not None
        assert (found.checking, found.handover) == (True, None)
        assert "sealed" in found.why
    finally:
        os.close(fd)


@pytest.mark.parametrize("fd", [0, 987_654])
def test_a_number_that_is_no_memory_file_is_refused(fd: int) -> None:
    """A terminal, or nothing at all."""
    found = inherit({VARIABLE: f"check:{fd}"}, hide=False)
    assert found is not None
    assert "cannot be read" in found.why


def test_a_memory_file_cannot_be_changed_any_more() -> None:
    """Neither what is in it nor its length."""
    fd = as_memory(b"state" * 100_000)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 3)
        assert os.pread(fd, 5, 0) == b"state"
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(fd)


def test_secrets_that_are_no_text_come_through_the_socket() -> None:
    """An environment holds bytes; a socket cannot be opened a second time through /proc, as a pipe can."""
    known = {"KEY": "\udcff value", "OTHER": "x" * 5000}
    with as_socket(Secrets(known=as_pairs(known))) as theirs:
        with pytest.raises(OSError, match="No such device"):
            os.open(f"/proc/self/fd/{theirs.fileno()}", os.O_RDONLY)
        assert theirs.recv(1 << 20).count(b"\xff value") == 1


def test_secrets_that_are_far_too_long_are_an_error_and_not_half_of_them() -> None:
    """Nothing was given up yet, and no descriptor is left: the re-exec is refused."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="too long"):
        as_socket(Secrets(known=((b"KEY", b"x" * (1 << 24)),)))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_whoever_is_handed_nothing_usable_refuses_in_its_words() -> None:
    """The check's word is that of the decoder."""
    nothing: Any = None
    with pytest.raises(Unusable, match="of form 7"):
        check(Inherited(checking=True, why="it is of form 7"), nothing, nothing)


def test_a_store_of_a_newer_version_is_seen_without_being_touched(tmp_path: Path) -> None:
    """Nor is a store that is not there made, nor one that is none moved aside."""
    Store.check(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "store.db").write_bytes(b"no database" * 100)
    Store.check(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]
    (tmp_path / "store.db").unlink()
    store = Store.open(tmp_path, clock=SystemClock())
    Store.check(tmp_path)
    store.close()
    import sqlite3

    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreError, match="newer wolverined"):
        Store.check(tmp_path)


# --- children


def test_only_the_very_child_is_taken_over() -> None:
    """Neither one of another start, nor somebody else's process, nor none."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        handed = HandedChild(pid=pid, start_ticks=int(stat[19]), name="x")
        for other in (
            HandedChild(pid=pid, start_ticks=handed.start_ticks + 1, name="x"),
            HandedChild(pid=1, start_ticks=0, name="init"),
            HandedChild(pid=1 << 22, start_ticks=1, name="none"),
        ):
            with pytest.raises(SpawnError, match="is not the child that it was"):
                Child.adopt(other)
        os.kill(pid, signal.SIGKILL)

        async def scenario() -> None:
            with Child.adopt(handed) as child:
                assert (await child.wait()).signal == signal.SIGKILL

        run(scenario)
    finally:
        os.kill(pid, signal.SIGKILL) if Path(f"/proc/{pid}").exists() else None


# --- signals


def test_signals_are_obeyed_before_known_during_and_kept_after() -> None:
    """None is lost: the handler, the note, or the kernel has it."""

    async def scenario() -> None:
        heard: list[str] = []
        signals = Signals({signal.SIGUSR1: lambda: heard.append("loop")})
        os.kill(os.getpid(), signal.SIGUSR1)
        await signals.write_down()
        assert heard == ["loop"], "what came before was obeyed"
        assert signals.keep_back()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.SIGUSR1 in signal.sigpending()
        signals.go_on()
        await eventually_async(lambda: heard == ["loop", "loop"])
        await signals.write_down()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not signals.keep_back(), "it has to be obeyed first"
        signals.go_on()
        await eventually_async(lambda: heard == ["loop"] * 3)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    run(scenario)


# --- timers, half lines, terminals


def test_timers_go_on_by_the_same_clock() -> None:
    """What was due while nobody was there comes at once, the rest at its time; a rest stays a rest."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        fired: list[str] = []
        before = Waits(fired.append)
        before.later("i1", 30.0)
        before.put_off("i2", 30.0)
        handed = before.hand_over()
        assert handed.due["i1"] - loop.time() == pytest.approx(30.0, abs=1.0)
        before.close()
        after = Waits(fired.append)
        after.adopt(HandedWaits(due={**handed.due, "i3": loop.time() - 5}, not_before=handed.not_before))
        assert after.left_s("i2") == pytest.approx(30.0, abs=1.0)
        assert after.left_s("i4") == 0.0
        await eventually_async(lambda: fired == ["i3"])
        assert ("i1" in after, "i3" in after) == (True, False)
        after.close()

    run(scenario)


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (b"whole\nha", b"lf\n", [("whole", False), ("half", False)]),
        (b"caf\xc3", b"\xa9\n", [("café", False)]),
        (b"x" * 70_000, b"y\nnext\n", [("x" * 65_536, True), ("next", False)]),
        (b"", b"after\n", [("after", False)]),
    ],
)
def test_half_a_line_is_ended_by_the_successor(first: bytes, second: bytes, lines: list[tuple[str, bool]]) -> None:
    """Also half a character, and a line of which only the rest was to be thrown away."""

    async def scenario() -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        told: list[LogLine] = []
        output = Output(clock=SystemClock(), sink=told.append, ring=Ring())
        old = output.pump(HandedPipe(stream="stdout", fd=read), generation=1, pid=7)
        fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(write, first)
        old.drain()
        handed = old.hand_over("stdout")
        assert handed is not None
        os.write(write, second)
        os.close(write)
        new = output.pump(handed, generation=1, pid=7)  # its reader takes the old one's place in the loop
        await asyncio.wait_for(new.ended.wait(), 10)
        assert [(line.text, line.truncated) for line in told] == lines
        assert new.dropped_bytes == max(0, len(first) - 65_536) + (1 if len(first) > 65_536 else 0)

    run(scenario)


def test_lines_that_are_kept_keep_their_cursors() -> None:
    """A successor's ring counts on, though the oldest lines were forgotten."""
    ring = Ring()
    lines = [LogLine(cursor=n, at=0.0, stream="stdout", text=str(n), generation=1) for n in range(8, 11)]
    ring.resume(lines, newest=10)
    assert [line.cursor for line in ring.after(0, 10)] == [8, 9, 10]
    empty = Ring()
    empty.resume([], newest=42)
    assert empty.newest == 42


def test_what_a_stopped_terminal_did_not_take_is_handed_on(tmp_path: Path) -> None:
    """Lines and the count of those that were left out; a broken character is no reason to fail."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 65_536)
        except BlockingIOError:
            break
    with os.fdopen(write, "w") as stream:
        console = Console(stream)
        console.put("one")
        console.put("two \udcff")
        handed = console.hand_over()
        told = b"".join(handed.lines)
        assert (b"two" in told) or handed.left_out >= 1
        os.close(read)
        console.close()
    after = tmp_path / "out"
    with after.open("w") as stream:
        successor = Console(stream)
        successor.adopt(HandedConsole(lines=(b"one", "zwei ü".encode()), left_out=2))
        successor.put("three")
        successor.close()
    assert after.read_text().splitlines() == [
        "one",
        "zwei ü",
        "(2 lines left out: the terminal did not take them)",
        "three",
    ]


# --- operations


def test_operations_and_their_keys_are_known_to_the_successor() -> None:
    """An ended one is as it was, one under way is concluded, a key replays, and ids count on."""

    async def scenario() -> None:
        async def work(_: str) -> dict[str, Any]:
            return {"said": "done"}

        async def endless(_: str) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        before = Changes(clock=SystemClock())
        first = before.submit("hold", work, uid=7, args={"for_s": 1}, idempotency_key="k")
        await before.wait(first.id, 5)
        before.submit("reexec", endless, uid=7)
        before.note("c2", {"said": "waits"})
        assert before.get("c2").result == {"said": "waits"}
        handed = before.hand_over()
        await before.close()

        def conclude(change: Change) -> Change:
            assert change.id == "c2"
            return Change(id="c2", action="reexec", state=ChangeState.DONE, started_at=change.started_at)

        after = Changes(clock=SystemClock())
        after.adopt(handed, conclude=conclude)
        assert after.get("c1").result == {"said": "done"}
        assert (await after.wait("c2", 0.0)).state is ChangeState.DONE
        assert after.submit("hold", work, uid=7, args={"for_s": 1}, idempotency_key="k").id == "c1"
        with pytest.raises(Conflict):
            after.submit("hold", work, uid=7, args={"for_s": 2}, idempotency_key="k")
        assert after.submit("hold", work, uid=8, args={}, idempotency_key="k").id == "c3"
        await after.close()

    run(scenario)


def test_who_waits_for_an_operation_is_answered_when_waits_are_cut_short() -> None:
    """With the operation as it stands: the client asks again, and reaches the successor."""

    async def scenario() -> None:
        async def endless(_: str) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        changes = Changes(clock=SystemClock())
        change = changes.submit("start", endless, uid=0)
        waiting = asyncio.ensure_future(changes.wait(change.id, 60))
        await asyncio.sleep(0)
        changes.cut_short(on=True)
        assert (await waiting).state is ChangeState.DOING
        assert (await changes.wait(change.id, 60)).state is ChangeState.DOING
        changes.cut_short(on=False)
        assert (await changes.wait(change.id, 0.01)).state is ChangeState.DOING
        await changes.close()

    run(scenario)
