# SPDX-License-Identifier: MIT
"""What supervision tells becomes events and incidents: names, severities, no secret in what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from wolverined.daemon.listener import Listener
from wolverined.errors import SpawnError
from wolverined.linux.leaf import LeafStats, Stuck
from wolverined.linux.ports import Holder
from wolverined.model import AppState, Exit, IncidentKind, LogLine, NewIncident
from wolverined.redact import Redactor
from wolverined.sense.crash import CrashLine

SECRET = "a-secret-of-the-app-41"
TRACE = (
    "Traceback (most recent call last):",
    '  File "/srv/app/app.py", line 3, in <module>',
    f"    raise ValueError('{SECRET}')",
    f"ValueError: {SECRET}",
)


class Narrator:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.lines: list[LogLine] = []

    def tell(self, name: str, message: str, **about: Any) -> None:
        """Keep one event."""
        self.told.append((name, message, about))

    def line(self, line: LogLine) -> None:
        """Keep one line."""
        self.lines.append(line)


class Desk:
    """Keeps the incidents it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[NewIncident, tuple[str, ...]]] = []
        self.ready = 0
        self.deploys = 0
        self.fault: Exception | None = None

    def take(self, new: NewIncident, *, tail: tuple[str, ...] = ()) -> None:
        """Keep one incident, or fail as the test wants."""
        if self.fault is not None:
            raise self.fault
        self.taken.append((new, tail))

    def app_ready(self) -> None:
        """Count it."""
        self.ready += 1

    def source_may_have_changed(self) -> None:
        """Count it."""
        self.deploys += 1


class Heal:
    """Keeps what a running heal is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def tell(self, what: str, fields: dict[str, Any]) -> None:
        """Keep it."""
        self.told.append((what, fields))


class Heard:
    """A listener between fakes."""

    def __init__(self) -> None:
        self.narrator, self.desk, self.heal = Narrator(), Desk(), Heal()
        self.listener = Listener(
            app_root=lambda: "/srv/app",
            narrator=self.narrator,  # type: ignore[arg-type]
            redactor=lambda: Redactor({"TOKEN": SECRET}),
        )
        self.listener.desk = self.desk  # type: ignore[assignment]
        self.listener.dispatcher = self.heal  # type: ignore[assignment]

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """Name, message and severity of what was told."""
        return [(name, message, about.get("severity", "info")) for name, message, about in self.narrator.told]

    @property
    def incident(self) -> NewIncident:
        """The only incident."""
        ((new, _),) = self.desk.taken
        return new


def heard(act: Callable[[Listener], object], *, passes: int = 3) -> Heard:
    """Do something to a listener in a loop, and let what it began end."""

    async def scenario() -> Heard:
        found = Heard()
        act(found.listener)
        for _ in range(passes):
            await asyncio.sleep(0)
        return found

    return asyncio.run(scenario())


def crash(generation: int, *, name: str = "E", message: str = "", path: str = "/x") -> CrashLine:
    """What a dying process of that generation wrote."""
    told = {"type": "crash", "name": name, "message": message, "requests": [{"method": "GET", "path": path}]}
    return CrashLine(line=msgspec.json.encode(told), generation=generation, received_at=1000.0)


def ended(**fields: Any) -> Exit:
    """An exit of generation 4 after 2.5 s."""
    return Exit(**{"generation": 4, "code": 1, "uptime_s": 2.5, "ready": True, "at": 1000.0, **fields})


@pytest.mark.parametrize(
    ("exit_", "told", "severity"),
    [
        (ended(), "generation 4 ended: exit 1, after 2.5 s", "error"),
        (ended(asked=True, code=None, signal=15), "generation 4 ended: SIGTERM, after 2.5 s", "info"),
        (ended(ready=False, uptime_s=0.0421), "generation 4 ended: exit 1, after 42 ms, before it was ready", "error"),
        (ended(code=None, signal=9, oom=True), "generation 4 ended: SIGKILL (out of memory), after 2.5 s", "error"),
    ],
)
def test_an_exit_is_told_in_words(exit_: Exit, told: str, severity: str) -> None:
    """How, after how long, whether it had been ready; an error unless it was asked for."""
    found = heard(lambda listener: listener.exited(exit_))
    assert found.events[0] == ("app.exit", told, severity)


def test_only_an_exit_that_nobody_asked_for_is_an_incident() -> None:
    """A stop is none; a heal on probation is told of both."""
    found = heard(lambda listener: listener.exited(ended(asked=True)))
    assert found.desk.taken == []
    assert found.heal.told == [("exit", {"asked": True, "fingerprint": "", "own": False})]
    found = heard(lambda listener: listener.exited(ended()))
    assert found.incident.kind is IncidentKind.CRASH
    assert found.heal.told[0][1]["asked"] is False


def test_an_exit_for_want_of_memory_tells_limit_and_peak() -> None:
    """In its words, for programs, and in the incident."""
    found = heard(
        lambda listener: listener.exited(
            ended(code=None, signal=9, oom=True, memory_max_bytes=64 << 20, memory_peak_bytes=63 << 20)
        )
    )
    name, words, about = found.narrator.told[0]
    assert (name, "limit 64 MiB, peak 63 MiB" in words) == ("app.exit", True)
    assert (about["fields"]["oom"], about["fields"]["max_bytes"]) == (True, 64 << 20)
    assert (found.incident.kind, found.incident.message) == (IncidentKind.OOM, "limit 64 MiB, peak 63 MiB")


def test_a_part_that_died_for_want_of_memory_is_told_and_is_no_exit() -> None:
    """The kernel killed a worker; the rest serves on."""
    stats = LeafStats(memory_max_bytes=None, memory_peak_bytes=900 << 20)
    found = heard(lambda listener: listener.memory_death(3, 1, stats))
    words = "a process of generation 3 died for want of memory (no limit of its own, peak 900 MiB); the rest goes on"
    assert found.events == [("app.oom", words, "error")]
    assert found.desk.taken == []


def test_a_stop_that_was_asked_for_may_be_a_deploy() -> None:
    """The desk looks whether repairs are still there; a crash is none of it."""
    assert heard(lambda listener: listener.exited(ended(asked=True))).desk.deploys == 1
    assert heard(lambda listener: listener.exited(ended())).desk.deploys == 0


def test_what_is_kept_of_a_crash_holds_no_secret() -> None:
    """Tail, trace, message and request are redacted before anybody keeps them; the exit keeps no tail."""
    report = crash(4, name="ValueError", message=SECRET, path=f"/x?token={SECRET}")

    def act(listener: Listener) -> None:
        listener.crash_report(report)
        listener.exited(ended(tail=TRACE))

    found = heard(act)
    ((new, tail),) = found.desk.taken
    assert new.error == "ValueError"
    assert new.request is not None
    assert new.request.path.startswith("/x?token=")
    assert new.trace is not None
    assert new.exit is not None
    assert new.exit.tail == ()
    assert len(tail) == len(TRACE)
    assert SECRET not in repr(new) + repr(tail) + repr(found.events)


def test_a_report_belongs_to_its_generation() -> None:
    """What generation 3 told says nothing of the end of generation 4; few generations are remembered."""

    def act(listener: Listener) -> None:
        for generation in (*range(100, 130), 3):
            listener.crash_report(crash(generation))
        assert len(listener._reports) < 20
        listener.exited(ended())

    assert heard(act).incident.request is None


def test_ready_is_told_once_a_generation_with_how_long_it_took() -> None:
    """Also when a heal makes the state another word; not again when that heal ends."""

    def act(listener: Listener) -> None:
        listener.generation_started(7, 123)
        listener.state_changed(AppState.STARTING, AppState.HEALING, why="ready")
        listener.state_changed(AppState.HEALING, AppState.READY, why="ready")

    found = heard(act)
    assert [name for name, _, _ in found.events] == ["app.started", "app.ready"]
    assert found.events[0][1] == "generation 7, pid 123"
    assert found.events[1][1].startswith("generation 7 is ready, after ")
    assert found.desk.ready == 1


def test_an_app_held_down_before_it_was_spawned_is_not_called_ready() -> None:
    """STARTING to HEALING for a repair is no readiness."""
    found = heard(lambda listener: listener.state_changed(AppState.STARTING, AppState.HEALING, why="repair r1"))
    assert found.events == []


@pytest.mark.parametrize(
    ("new", "event"),
    [
        (AppState.FAILED, ("app.failed", "why", "error")),
        (AppState.DEGRADED, ("app.degraded", "why", "warn")),
        (AppState.STOPPED, ("app.stopped", "why", "info")),
        (AppState.BACKOFF, None),
        (AppState.CRASH_LOOP, None),
        (AppState.STOPPING, None),
    ],
)
def test_states_that_nothing_else_tells_are_told(new: AppState, event: tuple[str, str, str] | None) -> None:
    """The others are told by what leads to them; a running heal hears of every one."""
    found = heard(lambda listener: listener.state_changed(AppState.READY, new, why="why"))
    assert found.events == ([event] if event else [])
    assert found.heal.told == [("state", {"state": new.value})]


@pytest.mark.parametrize(
    ("delay_s", "loop", "event"),
    [
        (0.1, False, None),
        (4.2, False, ("app.backoff", "port taken; the next start is in 4.2 s", "warn")),
        (300.0, True, ("app.crash_loop", "port taken again and again; it is tried every 300 s, for ever", "error")),
    ],
)
def test_a_wait_that_a_person_would_notice_is_told(
    delay_s: float, loop: bool, event: tuple[str, str, str] | None
) -> None:
    """With its length and its reason."""
    found = heard(lambda listener: listener.waits(delay_s, why="port taken", loop=loop))
    assert found.events == ([event] if event else [])


def test_a_wait_after_an_exit_does_not_say_the_exit_again() -> None:
    """It has just been told."""

    def act(listener: Listener) -> None:
        listener.exited(ended(code=7))
        listener.waits(2.0, why="exit 7", loop=False)

    assert heard(act).events[1] == ("app.backoff", "the next start is in 2.0 s", "warn")


@pytest.mark.parametrize(
    ("act", "kind", "error", "message"),
    [
        (
            lambda listener: listener.probe_failed(IncidentKind.HANG, f"GET /?t={SECRET}: no answer"),
            IncidentKind.HANG,
            "hang",
            "GET /?t=",
        ),
        (
            lambda listener: listener.probe_failed(IncidentKind.UNREADY, "not ready"),
            IncidentKind.UNREADY,
            "unready",
            "not ready",
        ),
        (
            lambda listener: listener.port_taken(
                Holder(
                    port=80, uid=0, user="root", cgroup="/x.service", pid=9, command=f"nc --key {SECRET}", ours=False
                )
            ),
            IncidentKind.PORT_TAKEN,
            "port taken",
            "port 80 is held by pid 9 (nc --key ",
        ),
        (
            lambda listener: listener.cannot_start(SpawnError(f"no {SECRET}", hint=f"see {SECRET}")),
            IncidentKind.BOOT,
            "cannot start",
            "no ",
        ),
    ],
)
def test_other_trouble_is_an_incident_without_secrets(
    act: Callable[[Listener], object], kind: IncidentKind, error: str, message: str
) -> None:
    """Its kind, what it is called, and the generation that runs; whatever was in its words is redacted."""

    def both(listener: Listener) -> None:
        listener.generation_started(5, 1)
        act(listener)

    new = heard(both).incident
    assert (new.kind, new.error, new.generation) == (kind, error, 5)
    assert new.message.startswith(message)
    assert SECRET not in repr(new)


def test_a_stranger_without_a_name_is_told_all_the_same() -> None:
    """Another user's process may hide its pid: then its user is named."""
    holder = Holder(port=80, uid=7, user="games", cgroup="", pid=None, command="", ours=False)
    new = heard(lambda listener: listener.port_taken(holder)).incident
    assert new.message == "port 80 is held by a process of user games, in no known unit"


def test_what_cannot_be_killed_is_named() -> None:
    """Each process with where in the kernel it waits."""
    found = heard(lambda listener: listener.stuck((Stuck(pid=7, name="reader", wchan="nfs_wait"),)))
    assert found.events == [("app.stuck", "cannot be killed yet: reader (7) in nfs_wait", "critical")]


def test_an_end_that_is_looked_into_after_the_next_start_was_ready_closes_its_incident() -> None:
    """A quick app may be ready first: then the desk is told of it once more."""

    def act(listener: Listener) -> None:
        listener.exited(ended(code=None, signal=9))
        listener.state_changed(AppState.STARTING, AppState.READY, why="ready")

    found = heard(act)
    assert len(found.desk.taken) == 1
    assert found.desk.ready == 2


def test_a_fault_of_the_desk_is_told_to_the_loop() -> None:
    """It ends the examination of that exit, and nothing else."""

    async def scenario() -> list[Any]:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        found = Heard()
        found.desk.fault = RuntimeError("disk on fire")
        found.listener.exited(ended())
        for _ in range(4):
            await asyncio.sleep(0)
        return faults

    assert [str(fault) for fault in asyncio.run(scenario())] == ["disk on fire"]


def test_without_a_desk_nothing_breaks() -> None:
    """While the daemon is being built there is nobody to take an incident."""

    async def scenario() -> None:
        listener = Listener(app_root=lambda: "/", narrator=Narrator(), redactor=lambda: Redactor({}))  # type: ignore[arg-type]
        listener.generation_started(1, 2)
        listener.state_changed(AppState.STARTING, AppState.READY, why="ready")
        listener.probe_failed(IncidentKind.HANG, "x")
        listener.exited(ended())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_every_start_is_told_to_who_wants_to_know() -> None:
    """The daemon learns the secrets of the environment anew with each start."""
    starts: list[int] = []

    def act(listener: Listener) -> None:
        listener.on_start = lambda: starts.append(1)
        listener.generation_started(1, 2)

    heard(act)
    assert starts == [1]
