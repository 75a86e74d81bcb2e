# SPDX-License-Identifier: MIT
"""The supervisor over real processes: starts, ends, restarts, holds, and never two copies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.leaves import FOREST, RUNAWAY, cgroup_hierarchy, group_hierarchy, python, start
from support.places import eventually_async, public_tmp
from support.supervision import (
    SERVER,
    SLEEPER,
    Recorder,
    WrappedHierarchy,
    best_hierarchy,
    configured,
    free_port,
    listening_stranger,
    supervised,
)

from wolverined.config.schema import ProbeTable, ResourcesTable, RestartTable, StopScope, StopTable
from wolverined.errors import AccessDenied, Conflict, SpawnError, TimedOut
from wolverined.linux.group import MARK
from wolverined.linux.leaf import Hierarchy, LeafStats
from wolverined.model import AppState, Exit, LogLine
from wolverined.sense import probes
from wolverined.supervise import memory, output, stopping
from wolverined.supervise import port as ports
from wolverined.supervise.supervisor import Supervisor


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Run one scenario with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(limited())


@pytest.fixture(params=["cgroup", "group"])
def hierarchy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hierarchy]:
    """A hierarchy of each kind in turn."""
    kind = cgroup_hierarchy if request.param == "cgroup" else group_hierarchy
    with kind(tmp_path) as made:
        yield made


@pytest.fixture
def any_hierarchy(tmp_path: Path) -> Iterator[Hierarchy]:
    """A hierarchy of the best kind that there is, for tests in which the kind does not matter."""
    with best_hierarchy(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that nobody can ask is ready sooner than in life."""
    monkeypatch.setattr(probes, "ALIVE_S", 0.15)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which the app may write."""
    with public_tmp(mode=0o777) as path:
        yield path


def alive(pid: int) -> bool:
    """Whether a process lives (zombies do not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def open_files() -> int:
    """How many file descriptors we have open."""
    return len(list(Path("/proc/self/fd").iterdir()))


# --- start and stop


def test_start_returns_when_it_is_ready_and_stop_when_nothing_lives(hierarchy: Hierarchy, place: Path) -> None:
    """The whole way up and down, with what is told on it."""

    async def scenario() -> None:
        config = configured(python(SERVER), place, port=free_port())
        async with supervised(config, hierarchy) as run:
            await run.supervisor.start()
            status = run.supervisor.status()
            assert status["state"] == "ready"
            assert status["tree"] == [run.pid]
            assert status["restarts"] == 0
            assert isinstance(status["ready_since"], float)
            pid = run.pid
            await run.supervisor.stop()
            assert not alive(pid)
            assert run.told.states == [AppState.STARTING, AppState.READY, AppState.STOPPING, AppState.STOPPED]
            (ended,) = run.told.exits
            assert ended.asked
            assert ended.ready
            assert ended.signal == signal.SIGTERM
            assert run.supervisor.status()["pid"] is None

    play(scenario())


def test_start_and_stop_are_idempotent(any_hierarchy: Hierarchy, place: Path) -> None:
    """A second start and a second stop change nothing."""

    async def scenario() -> None:
        async with supervised(configured(python(SERVER), place, port=free_port()), any_hierarchy) as run:
            await asyncio.gather(run.supervisor.start(), run.supervisor.start())
            await run.supervisor.start()
            assert run.generation == 1
            await asyncio.gather(run.supervisor.stop(), run.supervisor.stop())
            await run.supervisor.stop()
            assert len(run.told.exits) == 1

    play(scenario())


def test_without_port_and_probe_it_is_ready_once_it_has_lived_a_moment(any_hierarchy: Hierarchy, place: Path) -> None:
    """A worker that nobody can ask is ready after ALIVE_S of life."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place), any_hierarchy) as run:
            await run.supervisor.start()
            uptime = run.supervisor.status()["uptime_s"]
            assert isinstance(uptime, float)
            assert 0.15 <= uptime < 3.0

    play(scenario())


def test_sigterm_ignored_is_followed_by_the_kill(hierarchy: Hierarchy, place: Path) -> None:
    """A program that does not want to end is ended after the timeout."""

    async def scenario() -> None:
        deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
        config = configured(python(deaf), place, stop=StopTable(timeout_s=0.2))
        async with supervised(config, hierarchy) as run:
            await run.supervisor.start()
            await run.supervisor.stop()
            (ended,) = run.told.exits
            assert ended.signal == signal.SIGKILL
            assert ended.asked

    play(scenario())


def test_a_stopped_process_still_ends_politely(any_hierarchy: Hierarchy, place: Path) -> None:
    """SIGSTOP does not make a stop wait for its timeout."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place), any_hierarchy) as run:
            await run.supervisor.start()
            os.kill(run.pid, signal.SIGSTOP)
            await run.supervisor.stop()
            assert run.told.exits[0].signal == signal.SIGTERM

    play(scenario())


WITH_CHILD = """
import os, signal, sys, time
place = sys.argv[1]
if os.fork() == 0:
    def bye(*_):
        open(place + "/bye", "w").close()
        os._exit(0)
    signal.signal(signal.SIGTERM, bye)
    open(place + "/child", "w").close()
    time.sleep(300)
time.sleep(300)
"""


@pytest.mark.parametrize(("scope", "heard"), [(StopScope.TREE, True), (StopScope.MAIN, False)])
def test_the_scope_decides_who_is_asked(any_hierarchy: Hierarchy, place: Path, scope: StopScope, heard: bool) -> None:
    """`tree` asks every process; `main` asks the main process and kills the rest with it."""

    async def scenario() -> None:
        config = configured(python(WITH_CHILD, place), place, stop=StopTable(scope=scope))
        async with supervised(config, any_hierarchy) as run:
            await run.supervisor.start()
            await run.until((place / "child").exists)
            await run.supervisor.stop()
            assert (place / "bye").exists() is heard
            assert run.told.exits[0].signal == signal.SIGTERM

    play(scenario())


def test_every_descendant_dies_on_stop(hierarchy: Hierarchy, place: Path) -> None:
    """Plain, setsid'd and double-forked descendants are gone when stop returns."""

    async def scenario() -> None:
        async with supervised(configured(python(FOREST, place), place), hierarchy) as run:
            await run.supervisor.start()
            await run.until((place / "ready").exists)
            pids = [int((place / name).read_text()) for name in ("plain", "setsid", "daemon")]
            assert all(map(alive, pids))
            await run.supervisor.stop()
            assert not any(map(alive, pids))

    play(scenario())


def test_every_descendant_of_a_dead_main_process_dies_before_the_next_start(hierarchy: Hierarchy, place: Path) -> None:
    """What a crashed generation leaves is removed first: no second copy beside it."""
    program = f"import os, sys\nif os.path.exists({str(place / 'ready')!r}):\n    {SLEEPER}\n{FOREST}"

    async def scenario() -> None:
        async with supervised(configured(python(program, place, 3), place), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: run.told.exits)
            pids = [int((place / name).read_text()) for name in ("plain", "setsid", "daemon")]
            await run.until(lambda: run.generation == 2)
            assert not any(map(alive, pids))
            await starting
            assert run.told.exits[0].code == 3

    play(scenario())


def test_a_fork_bomb_ends(any_hierarchy: Hierarchy, place: Path) -> None:
    """Processes that fork, leave their session and end again and again do not outrun a stop."""

    async def scenario() -> None:
        config = configured(python(RUNAWAY, place, 30), place, stop=StopTable(timeout_s=0.1))
        async with supervised(config, any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until((place / "ready").exists)
            await run.supervisor.stop()
            assert run.supervisor.state is AppState.STOPPED
            await asyncio.gather(starting, return_exceptions=True)

    play(scenario())


def test_stop_wins_over_a_start_under_way(any_hierarchy: Hierarchy, place: Path) -> None:
    """A start that waits for ready is told of the stop, and nothing runs."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place, port=free_port()), any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until_state(AppState.STARTING)
            await run.supervisor.stop()
            with pytest.raises(Conflict):
                await starting
            assert run.supervisor.state is AppState.STOPPED

    play(scenario())


def test_a_restart_is_a_new_generation(hierarchy: Hierarchy, place: Path) -> None:
    """Restart ends the old one, waits for it, and returns when the new one is ready."""

    async def scenario() -> None:
        async with supervised(configured(python(SERVER), place, port=free_port()), hierarchy) as run:
            await run.supervisor.start()
            old = run.pid
            await run.supervisor.restart()
            assert not alive(old)
            assert run.generation == 2
            assert run.supervisor.status()["restarts"] == 1
            assert run.told.exits[0].asked

    play(scenario())


# --- crashes


def test_a_killed_app_is_back_at_once(hierarchy: Hierarchy, place: Path) -> None:
    """SIGKILL of a ready app: told as it was, restarted without a wait, ready again."""

    async def scenario() -> None:
        table = RestartTable(initial_s=30, max_s=30)
        async with supervised(configured(python(SERVER), place, port=free_port(), restart=table), hierarchy) as run:
            await run.supervisor.start()
            os.kill(run.pid, signal.SIGKILL)
            await run.until(lambda: run.told.exits)
            await run.until_state(AppState.READY)
            assert run.generation == 2
            (ended,) = run.told.exits
            assert (ended.signal, ended.code, ended.asked, ended.ready, ended.oom) == (9, None, False, True, False)
            assert run.told.order.index("exited 1") < run.told.order.index("started 2")

    play(scenario())


def test_a_restart_does_not_wait_for_who_is_told_of_the_exit(any_hierarchy: Hierarchy, place: Path) -> None:
    """When a listener hears of an end, the next generation runs already; it is told of that one afterwards."""

    class Slow(Recorder):
        """Looks at what runs while it is told of an end."""

        running: tuple[object, object] = (None, None)
        supervisor: Supervisor

        def exited(self, exit: Exit) -> None:  # noqa: A002 - the vocabulary's word
            """Keep it, and what runs now."""
            status = self.supervisor.status()
            self.running = (status["generation"], status["pid"])
            assert "started 2" not in self.order
            super().exited(exit)

    async def scenario() -> None:
        slow = Slow()
        config = configured(python(SERVER), place, port=free_port())
        async with supervised(config, any_hierarchy, listener=slow) as run:
            slow.supervisor = run.supervisor
            await run.supervisor.start()
            os.kill(run.pid, signal.SIGKILL)
            await run.until_state(AppState.READY)
            await run.until(lambda: len(slow.starts) == 2)
            assert slow.running == slow.starts[1]
            assert slow.order.index("exited 1") < slow.order.index("started 2")

    play(scenario())


def test_a_listener_with_a_fault_keeps_nobody_from_hearing_the_rest(any_hierarchy: Hierarchy, place: Path) -> None:
    """The fault is told, the next words are told, and the app is back."""

    class Faulty(Recorder):
        """Breaks at every end."""

        def exited(self, exit: Exit) -> None:  # noqa: A002, ARG002 - as the protocol names it
            """Break."""
            raise RuntimeError("no ears")

    async def scenario() -> None:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        config = configured(python(SERVER), place, port=free_port())
        async with supervised(config, any_hierarchy, listener=Faulty()) as run:
            await run.supervisor.start()
            os.kill(run.pid, signal.SIGKILL)
            await run.until(lambda: len(run.told.starts) == 2)
            assert str(faults[0]["exception"]) == "no ears"

    play(scenario())


def test_exit_0_of_a_server_is_an_exit_and_restarts(any_hierarchy: Hierarchy, place: Path) -> None:
    """A server has no reason to end; code 0 is told and followed by a restart like any other."""

    async def scenario() -> None:
        async with supervised(configured(["sh", "-c", "exit 0"], place), any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: len(run.told.exits) > 2)
            assert {ended.code for ended in run.told.exits} == {0}
            assert not any(ended.asked for ended in run.told.exits)
            starting.cancel()

    play(scenario())


def test_an_app_that_never_boots_ends_in_a_crash_loop_and_is_tried_for_ever(
    any_hierarchy: Hierarchy, place: Path
) -> None:
    """starting, backoff, …, crash-loop; start says so; a later try that works ends it."""
    program = f"import os, sys\nif os.path.exists({str(place / 'fixed')!r}):\n    {SLEEPER}\nsys.exit(7)"

    async def scenario() -> None:
        async with supervised(configured(python(program), place), any_hierarchy) as run:
            with pytest.raises(Conflict, match="again and again"):
                await run.supervisor.start()
            assert run.supervisor.state is AppState.CRASH_LOOP
            status = run.supervisor.status()
            assert isinstance(status["backoff_until"], float)
            assert status["last_exit"] == "exit 7"
            count = len(run.told.exits)
            await run.until(lambda: len(run.told.exits) > count + 1)
            (place / "fixed").touch()
            await run.until_state(AppState.READY)

    play(scenario())


def test_stop_during_backoff_ends_it(any_hierarchy: Hierarchy, place: Path) -> None:
    """A stop in a wait is obeyed, and no timer brings the app back."""

    async def scenario() -> None:
        table = RestartTable(initial_s=0.05, max_s=0.05, crash_loop_s=0.05)
        async with supervised(configured(["false"], place, restart=table), any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until_state(AppState.BACKOFF)
            await run.supervisor.stop()
            generation = run.generation
            await asyncio.gather(starting, return_exceptions=True)
            await asyncio.sleep(0.2)  # four times the wait that was cut short: the absence of an event
            assert run.generation == generation
            assert run.supervisor.state is AppState.STOPPED

    play(scenario())


def test_the_last_words_go_with_the_exit(hierarchy: Hierarchy, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback that a dying process writes is in its exit, though most of its output is unread by then."""
    monkeypatch.setattr(output, "_SLICE_S", 0.0)
    monkeypatch.setattr(output, "_DRAIN_S", 10.0)
    program = "import sys\nsys.stderr.write('noise\\n' * 5000)\nraise RuntimeError('boom')"

    async def scenario() -> None:
        async with supervised(configured(python(program), place), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: run.told.exits)
            tail = run.told.exits[0].tail
            assert tail[-1] == "RuntimeError: boom"
            assert len(tail) == 200
            await run.until(lambda: len(run.told.exits) > 1)
            assert run.told.exits[1].tail.count("RuntimeError: boom") == 1
            starting.cancel()

    play(scenario())


def test_a_kill_for_want_of_memory_is_told_apart(any_hierarchy: Hierarchy, place: Path) -> None:
    """When the leaf's counter has grown, the exit says OOM."""

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        async with supervised(configured(python(SERVER), place, port=free_port()), wrapped) as run:  # type: ignore[arg-type]
            await run.supervisor.start()
            leaf = wrapped.leaves["app-1"]
            leaf.ooms = 1
            leaf.used = LeafStats(memory_bytes=1, memory_max_bytes=64 << 20, memory_peak_bytes=63 << 20)
            os.kill(run.pid, signal.SIGKILL)
            await run.until(lambda: run.told.exits)
            ended = run.told.exits[0]
            assert (ended.oom, ended.memory_max_bytes, ended.memory_peak_bytes) == (True, 64 << 20, 63 << 20)
            words = "SIGKILL (out of memory: limit 64 MiB, peak 63 MiB)"
            assert run.supervisor.status()["last_exit"] == words
            assert run.told.memory_deaths == []

    play(scenario())


def test_the_leaf_is_held_to_the_configurations_limit(any_hierarchy: Hierarchy, place: Path) -> None:
    """Before anything runs in it; `status` says what holds, not what was wished."""

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        config = configured(python(SERVER), place, port=free_port(), resources=ResourcesTable(memory_max_mb=512))
        async with supervised(config, wrapped) as run:  # type: ignore[arg-type]
            await run.supervisor.start()
            leaf = wrapped.leaves["app-1"]
            assert [one.memory_bytes for one in leaf.held] == [512 << 20]
            missing = leaf.limit(leaf.held[0])
            held = None if "memory" in missing else 512 << 20
            assert run.supervisor.status()["memory_max_bytes"] == held

    play(scenario())


def test_a_worker_that_dies_for_want_of_memory_is_told_while_the_rest_goes_on(
    any_hierarchy: Hierarchy, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no exit, and explains none that comes much later."""
    monkeypatch.setattr(memory, "_SURVIVED_S", 0.01)
    monkeypatch.setattr(memory, "_EXPLAINS_S", 0.0)

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        async with supervised(configured(python(SERVER), place, port=free_port()), wrapped) as run:  # type: ignore[arg-type]
            await run.supervisor.start()
            leaf = wrapped.leaves["app-1"]
            leaf.ooms = 2
            leaf.memory_changed()
            await run.until(lambda: run.told.memory_deaths)
            assert [(generation, died) for generation, died, _ in run.told.memory_deaths] == [(1, 2)]
            assert run.told.exits == []
            os.kill(run.pid, signal.SIGKILL)
            await run.until(lambda: run.told.exits)
            assert not run.told.exits[0].oom

    play(scenario())


# --- what cannot be started


def test_a_missing_command_is_failed_until_the_configuration_changes(any_hierarchy: Hierarchy, place: Path) -> None:
    """Start raises with a hint; the state is failed; a reload with a good command starts it."""

    async def scenario() -> None:
        bad = configured(["/nowhere/server"], place)
        async with supervised(bad, any_hierarchy) as run:
            with pytest.raises(SpawnError) as caught:
                await run.supervisor.start()
            assert caught.value.hint
            assert run.supervisor.state is AppState.FAILED
            assert len(run.told.errors) == 1
            assert run.told.starts == []
            run.supervisor.reconfigure(configured(python(SLEEPER), place))
            await run.until_state(AppState.READY)

    play(scenario())


@pytest.mark.parametrize("broken", ["directory", "environment_file", "user"])
def test_whatever_is_missing_for_a_start_is_said(any_hierarchy: Hierarchy, place: Path, broken: str) -> None:
    """A missing directory, environment file or user is failed, with a hint."""

    async def scenario() -> None:
        wrong: dict[str, Any] = {broken: place / "missing" if broken != "user" else "no-such-user-here"}
        directory = wrong.pop("directory", place)
        async with supervised(configured(python(SLEEPER), directory, **wrong), any_hierarchy) as run:
            with pytest.raises(SpawnError) as caught:
                await run.supervisor.start()
            assert caught.value.hint
            assert run.supervisor.state is AppState.FAILED

    play(scenario())


def test_a_failed_start_leaves_nothing(any_hierarchy: Hierarchy, place: Path) -> None:
    """Neither a leaf nor a file descriptor stays behind."""

    async def scenario() -> None:
        async with supervised(configured(["/nowhere/server"], place), any_hierarchy) as run:
            await asyncio.gather(run.supervisor.start(), return_exceptions=True)
            before = open_files()
            for _ in range(20):
                await asyncio.gather(run.supervisor.start(), return_exceptions=True)
            assert open_files() == before
        any_hierarchy.leaf("app-1").remove()  # the name is free

    play(scenario())


def test_what_is_lacking_for_a_moment_is_waited_for(any_hierarchy: Hierarchy, place: Path) -> None:
    """No file descriptors left is no fault of the configuration: backoff, then a start."""

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        real, refusals = wrapped.leaf, [OSError(24, "Too many open files")]

        def leaf(name: str) -> Any:
            if refusals:
                raise refusals.pop()
            return real(name)

        wrapped.leaf = leaf  # type: ignore[method-assign]
        async with supervised(configured(python(SLEEPER), place), wrapped) as run:  # type: ignore[arg-type]
            await run.supervisor.start()
            assert AppState.BACKOFF in run.told.states
            assert AppState.FAILED not in run.told.states

    play(scenario())


# --- trees that do not go


def test_a_tree_that_does_not_go_is_named_and_nothing_starts(
    any_hierarchy: Hierarchy, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in the kernel's hands: told by name, restart waits, and goes on once it is gone."""
    monkeypatch.setattr("wolverined.supervise.supervisor._STUCK_S", 0.1)

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        config = configured(python(SERVER), place, port=free_port(), stop=StopTable(timeout_s=0.05, abort_s=0.05))
        async with supervised(config, wrapped) as run:  # type: ignore[arg-type]
            await run.supervisor.start()
            leaf = wrapped.leaves["app-1"]
            leaf.clings = True
            os.kill(run.pid, signal.SIGKILL)
            await run.until(lambda: len(run.told.stuck_told) > 2)
            assert run.told.stuck_told[0][0].name == "reader"
            assert len(run.told.starts) == 1
            with pytest.raises(TimedOut, match=r"reader \(pid 4242\) in nfs_wait"):
                await run.supervisor.hold_down("repair r1")
            leaf.clings = False
            await run.until_state(AppState.HEALING)
            assert await run.supervisor.release(timeout_s=10)
            assert len(run.told.starts) == 2

    play(scenario())


def test_what_a_predecessor_left_is_removed_before_the_first_start(any_hierarchy: Hierarchy, place: Path) -> None:
    """A start waits until the old tree is empty."""

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        old = wrapped.leaf("app-old")
        with start(python(SLEEPER), old) as child:  # type: ignore[arg-type]
            old.clings = True
            wrapped.left = [old]
            async with supervised(configured(python(SLEEPER), place), wrapped) as run:  # type: ignore[arg-type]
                starting = asyncio.create_task(run.supervisor.start())
                assert (await child.wait()).signal == signal.SIGKILL
                await run.until(lambda: run.told.stuck_told)
                assert run.told.starts == []
                old.clings = False
                await starting
                assert len(run.told.starts) == 1

    play(scenario())


def test_a_leftover_that_cannot_be_ended_is_said(
    any_hierarchy: Hierarchy, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start does not wait for ever for what a predecessor left; it names what is in the way."""
    monkeypatch.setattr("wolverined.supervise.supervisor._STUCK_S", 0.2)

    async def scenario() -> None:
        wrapped = WrappedHierarchy(any_hierarchy)
        old = wrapped.leaf("app-old")
        old.clings = True
        wrapped.left = [old]
        async with supervised(configured(python(SLEEPER), place), wrapped) as run:  # type: ignore[arg-type]
            with pytest.raises(TimedOut, match=r"reader \(pid 4242\)"):
                await run.supervisor.start()
            assert run.told.starts == []
            old.clings = False

    play(scenario())


# --- the port


def test_a_stranger_on_the_port_is_named_never_killed(any_hierarchy: Hierarchy, place: Path) -> None:
    """Nothing is started beside it; when it goes, the app starts."""

    async def scenario() -> None:
        with listening_stranger() as (stranger, port):
            async with supervised(configured(python(SERVER), place, port=port), any_hierarchy) as run:
                starting = asyncio.create_task(run.supervisor.start())
                await run.until(lambda: run.told.ports)
                (holder, *_) = run.told.ports
                assert holder.port == port
                assert holder.pid == os.getpid()
                assert run.told.starts == []
                assert str(port) in run.told.whys[-1]
                stranger.close()
                await asyncio.wait({starting})
                assert starting.exception() is None or run.supervisor.state is AppState.CRASH_LOOP
                await run.until_state(AppState.READY)

    play(scenario())


def test_our_own_leftover_on_the_port_is_killed(any_hierarchy: Hierarchy, place: Path) -> None:
    """An old generation that still listens makes way."""

    async def scenario() -> None:
        port = free_port()
        leaf = any_hierarchy.leaf("app-77")
        env = {"PATH": os.environ["PATH"], "PORT": str(port)}
        with start(python(SERVER), leaf, env=env) as child:
            await eventually_async(lambda: not ports.is_free(port))
            async with supervised(configured(python(SERVER), place, port=port), any_hierarchy) as run:
                stranger = await ports.clear(port, who_listens=run.supervisor._who_listens, leaves=lambda: [leaf])
                assert stranger is None
                assert (await child.wait()).signal == signal.SIGKILL

    play(scenario())


def test_an_unknown_holder_is_still_a_stranger(place: Path) -> None:
    """When nobody can say who listens, the port is still taken."""

    async def scenario() -> None:
        async def nobody_knows(_: int) -> None:
            raise OSError(1, "not permitted")

        with listening_stranger() as (_, port):
            holder = await ports.clear(port, who_listens=nobody_knows, leaves=list)
            assert holder is not None
            assert (holder.port, holder.pid, holder.ours) == (port, None, False)
            assert ports.named(holder) == f"port {port} is taken by another program"

    play(scenario())


def test_a_stop_while_the_port_is_looked_at_starts_nothing(any_hierarchy: Hierarchy, place: Path) -> None:
    """The answer comes too late and is ignored."""

    async def scenario() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def slowly(_: int) -> None:
            asked.set()
            await answer.wait()

        with listening_stranger() as (stranger, port):
            config = configured(python(SERVER), place, port=port)
            async with supervised(config, any_hierarchy, who_listens=slowly) as run:
                starting = asyncio.create_task(run.supervisor.start())
                await asked.wait()
                await run.supervisor.stop()
                stranger.close()
                answer.set()
                await asyncio.gather(starting, return_exceptions=True)
                await asyncio.sleep(0.05)
                assert run.told.starts == []
                assert run.told.ports == []

    play(scenario())


# --- hangs and slow starts

HANGS = """
import faulthandler, os, socket, time
faulthandler.enable()
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=100)
def never_answer():
    time.sleep(300)
while True:
    client, _ = server.accept()
    if os.path.exists("hang"):
        never_answer()
    client.recv(65536)
    client.sendall(b"HTTP/1.1 204 X\\r\\n\\r\\n")
    client.close()
"""


def test_a_hang_is_dumped_killed_and_restarted(any_hierarchy: Hierarchy, place: Path) -> None:
    """Liveness fails in a row: told once, the stack is in the output, a new generation answers."""

    async def scenario() -> None:
        probe = ProbeTable(http="/health", interval_s=0.1, timeout_s=0.3, failures=3)
        async with supervised(configured(python(HANGS), place, port=free_port(), probe=probe), any_hierarchy) as run:
            await run.supervisor.start()
            (place / "hang").touch()
            await run.until(lambda: run.told.probes)
            (place / "hang").unlink()
            await run.until(lambda: run.generation == 2)
            await run.until_state(AppState.READY)
            assert run.told.probes == [
                ("hang", "GET /health: no answer within 0.3 s (3 times in a row)"),
            ]
            (ended,) = run.told.exits
            assert (ended.signal, ended.asked) == (signal.SIGABRT, True)
            assert any("never_answer" in line for line in ended.tail)
            assert ended.tail[0].startswith("Fatal Python error: Aborted")

    play(scenario())


def test_a_slow_start_is_told_once_and_left_alone(any_hierarchy: Hierarchy, place: Path) -> None:
    """The grace is over: one incident, no kill; and when it is ready at last, it is ready."""
    late = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n" + SERVER

    async def scenario() -> None:
        probe = ProbeTable(interval_s=0.05, timeout_s=0.5, failures=2, startup_s=0.2)
        async with supervised(configured(python(late), place, port=free_port(), probe=probe), any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: run.told.probes)
            await asyncio.sleep(0.3)  # several probes more: the absence of a second report
            assert [kind for kind, _ in run.told.probes] == ["unready"]
            assert "connection refused" in run.told.probes[0][1]
            assert run.told.exits == []
            (place / "go").touch()
            await run.until_state(AppState.READY)
            await starting
            assert run.generation == 1

    play(scenario())


def test_a_start_that_takes_too_long_is_said_but_goes_on(any_hierarchy: Hierarchy, place: Path) -> None:
    """`start` gives up waiting; the app does not give up starting."""

    async def scenario() -> None:
        stop = StopTable(timeout_s=0.1)
        config = configured(python(SLEEPER), place, port=free_port(), stop=stop, probe=ProbeTable(startup_s=0.1))
        async with supervised(config, any_hierarchy) as run:
            with pytest.raises(TimedOut):
                await run.supervisor.start()
            assert run.supervisor.state is AppState.STARTING

    play(scenario())


def test_new_probes_hold_at_once(any_hierarchy: Hierarchy, place: Path) -> None:
    """After a reload the running app is probed in the new way; its process stays."""

    async def scenario() -> None:
        config = configured(python(SERVER, "503"), place, port=free_port())
        async with supervised(config, any_hierarchy) as run:
            await run.supervisor.start()
            pid = run.pid
            probe = ProbeTable(http="/", interval_s=0.05, timeout_s=0.5, failures=2)
            run.supervisor.reconfigure(msgspec.structs.replace(config, probe=probe))
            assert run.pid == pid
            await run.until(lambda: run.told.probes)
            assert "answered 503" in run.told.probes[0][1]

    play(scenario())


# --- repairs


def test_held_down_nothing_starts_it_but_the_release(hierarchy: Hierarchy, place: Path) -> None:
    """Down and healing until the repair lets go; then ready, as a new generation."""

    async def scenario() -> None:
        async with supervised(configured(python(SERVER), place, port=free_port()), hierarchy) as run:
            await run.supervisor.start()
            pid = run.pid
            await run.supervisor.hold_down("repair r1")
            assert not alive(pid)
            assert run.supervisor.state is AppState.HEALING
            with pytest.raises(Conflict):
                await run.supervisor.start()
            with pytest.raises(Conflict):
                await run.supervisor.restart()
            assert len(run.told.starts) == 1
            assert await run.supervisor.release(timeout_s=10)
            assert run.supervisor.state is AppState.READY
            assert run.generation == 2

    play(scenario())


def test_a_release_says_at_once_that_the_patched_app_crashes(any_hierarchy: Hierarchy, place: Path) -> None:
    """False comes with the first crash, long before the timeout."""
    program = f"import os, sys\nif os.path.exists({str(place / 'broken')!r}):\n    sys.exit(1)\n{SLEEPER}"

    async def scenario() -> None:
        table = RestartTable(initial_s=30, max_s=60)
        async with supervised(configured(python(program), place, restart=table), any_hierarchy) as run:
            await run.supervisor.start()
            await run.supervisor.hold_down("repair r1")
            (place / "broken").touch()
            async with asyncio.timeout(10):
                assert not await run.supervisor.release(timeout_s=600)
            assert run.supervisor.state is AppState.BACKOFF
            await run.supervisor.hold_down("rollback of r1")
            (place / "broken").unlink()
            assert await run.supervisor.release(timeout_s=20)

    play(scenario())


def test_a_release_that_is_not_ready_in_time_is_false(any_hierarchy: Hierarchy, place: Path) -> None:
    """It goes on starting; the answer is what was asked."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place, port=free_port()), any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until_state(AppState.STARTING)
            await run.supervisor.hold_down("repair r1")
            await asyncio.gather(starting, return_exceptions=True)
            assert not await run.supervisor.release(timeout_s=0.1)
            assert run.supervisor.state is AppState.STARTING

    play(scenario())


def test_the_operators_stop_outlives_a_repair(any_hierarchy: Hierarchy, place: Path) -> None:
    """Stopped during the repair: the release starts nothing, and says why it knows nothing."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place), any_hierarchy) as run:
            await run.supervisor.start()
            await run.supervisor.hold_down("repair r1")
            await run.supervisor.stop()
            with pytest.raises(Conflict, match="stopped during the repair"):
                await run.supervisor.release(timeout_s=5)
            assert run.supervisor.state is AppState.STOPPED

    play(scenario())


def test_a_repair_ends_a_crash_loop(any_hierarchy: Hierarchy, place: Path) -> None:
    """Held in the middle of a wait; the release starts at once with a clear record."""
    program = f"import os, sys\nif not os.path.exists({str(place / 'fixed')!r}):\n    sys.exit(1)\n{SLEEPER}"

    async def scenario() -> None:
        table = RestartTable(initial_s=60, max_s=60, crash_loop_s=600)
        async with supervised(configured(python(program), place, restart=table), any_hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until_state(AppState.BACKOFF)
            await run.supervisor.hold_down("repair r1")
            await asyncio.gather(starting, return_exceptions=True)
            (place / "fixed").touch()
            assert await run.supervisor.release(timeout_s=20)
            assert run.supervisor.status()["failures"] == 0

    play(scenario())


def test_the_overlays_are_seen(any_hierarchy: Hierarchy, place: Path) -> None:
    """healing() and degrade() show while it is served."""

    async def scenario() -> None:
        async with supervised(configured(python(SERVER), place, port=free_port()), any_hierarchy) as run:
            await run.supervisor.start()
            run.supervisor.degrade("route / answers slowly")
            assert run.supervisor.state is AppState.DEGRADED
            assert run.supervisor.status()["degraded"] == "route / answers slowly"
            run.supervisor.healing(True)
            assert run.supervisor.state is AppState.HEALING
            run.supervisor.healing(False)
            run.supervisor.degrade(None)
            assert run.supervisor.state is AppState.READY

    play(scenario())


# --- the house


def test_a_listener_with_a_fault_does_not_stop_supervision(any_hierarchy: Hierarchy, place: Path) -> None:
    """Whatever the listener raises is reported to the loop, and the app is restarted all the same."""

    class Faulty(Recorder):
        def exited(self, exit: Any) -> None:  # noqa: A002
            super().exited(exit)
            raise RuntimeError("a fault in the listener")

        def line(self, line: LogLine) -> None:  # noqa: ARG002
            raise RuntimeError("another")

    async def scenario() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        listener = Faulty()
        config = configured(python(SERVER), place, port=free_port())
        async with supervised(config, any_hierarchy, listener=listener) as run:
            await run.supervisor.start()
            os.kill(run.pid, signal.SIGKILL)
            await run.until(lambda: run.generation == 2)
            await run.until_state(AppState.READY)
        assert "a fault in the listener" in {str(fault) for fault in faults}

    play(scenario())


def test_many_restarts_leave_no_file_descriptor(any_hierarchy: Hierarchy, place: Path) -> None:
    """Pipes, pidfds and sockets of old generations are all given back."""

    async def scenario() -> None:
        async with supervised(configured(python(SERVER), place, port=free_port()), any_hierarchy) as run:
            await run.supervisor.start()
            await run.supervisor.restart()
            before = open_files()
            for _ in range(10):
                await run.supervisor.restart()
            await run.until(lambda: open_files() <= before)
            assert len(run.supervisor._tasks) <= 2

    play(scenario())


def test_close_stops_whatever_is_under_way(hierarchy: Hierarchy, place: Path) -> None:
    """Closing in the middle of a start leaves neither process nor waiter."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place, port=free_port()), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until_state(AppState.STARTING)
            pid = run.pid
        assert not alive(pid)
        with pytest.raises(Conflict):
            await starting

    play(scenario())


def test_the_environment_is_the_documented_one(any_hierarchy: Hierarchy, place: Path) -> None:
    """What a real app sees holds nothing of ours but what is documented."""
    program = "import os; print(' '.join(sorted(os.environ)), flush=True);" + SLEEPER

    async def scenario() -> None:
        config = configured(python(program), place, environment={"MINE": "1"})
        async with supervised(config, any_hierarchy) as run:
            await run.supervisor.start()
            # Python's own locale coercion, and the mark by which a leaf without a cgroup finds its own.
            seen = set(run.told.texts()[0].split()) - {"LC_CTYPE", MARK}
            assert seen == {
                "HOME", "LANG", "LOGNAME", "MINE", "PATH", "SHELL", "USER",
                "WOLVERINE_MANAGED", "WOLVERINE_RECOMMENDED_WORKERS", "WOLVERINE_REPORT_SOCKET",
            }  # fmt: skip

    play(scenario())


def test_a_kill_that_is_not_permitted_is_waited_out() -> None:
    """A leaf that refuses our kill is named until it is empty by itself."""

    class Foreign:
        """A leaf of somebody else that ends at the third look."""

        looks = 0

        def kill(self) -> None:
            raise AccessDenied("not ours")

        async def wait_empty(self, *, timeout_s: float) -> bool:  # noqa: ARG002
            self.looks += 1
            return self.looks == 3

        def stuck(self) -> list[Any]:
            return []

    async def scenario() -> None:
        told: list[Any] = []
        await stopping.kill(Foreign(), stuck=told.append)  # type: ignore[arg-type]
        assert told == [(), ()]

    play(scenario())
