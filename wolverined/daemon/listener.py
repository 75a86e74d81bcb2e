# SPDX-License-Identifier: MIT
"""Hears what supervision and the reporters say, and turns it into events and incidents.

Everything that came out of the app is redacted here, once, before it is kept anywhere but in the
ring of lines that `wolverinectl logs` shows to those who may read them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from wolverined.daemon.caught import Caught, HandedCaught
from wolverined.daemon.desk import Desk
from wolverined.daemon.hints import Hints
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.overheard import Overheard
from wolverined.daemon.service import Service
from wolverined.errors import SpawnError
from wolverined.heal.dispatch import Dispatcher
from wolverined.linux.leaf import LeafStats, Stuck
from wolverined.linux.limits import memory_words
from wolverined.linux.ports import Holder
from wolverined.model import AppState, Exit, Incident, IncidentKind, LogLine, NewIncident
from wolverined.redact import Redactor
from wolverined.sense.crash import CrashLine, CrashReport, read_crash
from wolverined.sense.incidents import from_exit
from wolverined.supervise.lifecycle import READY_WHY
from wolverined.supervise.status import exit_words
from wolverined.traces import fingerprint, parse

_EVENT_OF_STATE = {
    AppState.FAILED: ("app.failed", "error"),
    AppState.DEGRADED: ("app.degraded", "warn"),
    AppState.STOPPED: ("app.stopped", "info"),
}
"""The states that are told as such; the others are told by what leads to them (a start, an exit, a wait, a heal)."""

_SERVED = (AppState.READY, AppState.DEGRADED)


class HandedListener(msgspec.Struct, frozen=True, kw_only=True):
    """A listener for a successor in this process; `started_at` is monotonic."""

    state: AppState
    generation: int
    started_at: float
    exit: str
    reports: dict[int, tuple[CrashLine, ...]]
    caught: HandedCaught | None = None


class Listener:
    """Implements `supervise.supervisor.Listener` and takes crash reports.

    Args:
        app_root: Gives where the app's own files lie.
        narrator: Tells what happens.
        redactor: Takes secrets out of what the app said.
    """

    def __init__(self, *, app_root: Callable[[], str], narrator: Narrator, redactor: Callable[[], Redactor]) -> None:
        self._app_root = app_root
        self._narrator = narrator
        self._redactor = redactor
        self._reports: dict[int, list[CrashLine]] = {}
        self._examining: set[asyncio.Task[None]] = set()
        self._state = AppState.STOPPED
        self._generation = 0
        self._started_at = 0.0  # by the loop's clock
        self._exit = ""  # the newest, in words
        self.desk: Desk | None = None
        self.dispatcher: Dispatcher | None = None
        self.service: Service | None = None
        self.hints: Hints | None = None
        self.caught: Caught | None = None
        self.overheard: Overheard | None = None
        self.on_start: Callable[[], None] = _nothing
        self.hear_reports: Callable[[], None] = _nothing

    def busy(self) -> str:
        """What is under way that no successor in this process could take over; empty when nothing is."""
        return "an exit of the app is being looked into" if self._examining else ""

    def hand_over(self) -> HandedListener:
        """What a successor needs; call it when it is not `busy`."""
        reports = {generation: tuple(told) for generation, told in self._reports.items()}
        about: dict[str, Any] = {"state": self._state, "generation": self._generation, "exit": self._exit}
        about["caught"] = self.caught.hand_over() if self.caught is not None else None
        return HandedListener(started_at=self._started_at, reports=reports, **about)

    def adopt(self, handed: HandedListener) -> None:
        """Know what a predecessor knew."""
        self._state, self._generation, self._exit = handed.state, handed.generation, handed.exit
        self._started_at = handed.started_at
        self._reports = {generation: list(told) for generation, told in handed.reports.items()}
        if self.caught is not None and handed.caught is not None:
            self.caught.adopt(handed.caught)

    def state_changed(self, old: AppState, new: AppState, *, why: str) -> None:
        """Tell a change of state that matters to a person."""
        self._state = new
        fields = {"from": old.value, "to": new.value}
        if new is AppState.READY or why == READY_WHY:
            self._tell_ready(old, fields)
        elif new in _EVENT_OF_STATE:
            name, severity = _EVENT_OF_STATE[new]
            self._narrator.tell(name, why or new.value, severity=severity, fields=fields)
        if self.service is not None:
            self.service.state(new, self._redactor().text(why))
        self.tell_heal("state", {"state": new.value})
        if new is AppState.READY and self.desk is not None:
            self.desk.app_ready()

    def _tell_ready(self, old: AppState, fields: dict[str, Any]) -> None:
        """Tell it once a generation (also while a heal runs), and when the service has become as it should be again."""
        if old is AppState.STARTING:
            took_s = asyncio.get_running_loop().time() - self._started_at
            words = f"generation {self._generation} is ready, after {_seconds(took_s)}"
            self._narrator.tell("app.ready", words, generation=self._generation, fields=fields)
        elif old is AppState.DEGRADED:
            self._narrator.tell("app.ready", "it is as it should be again", generation=self._generation, fields=fields)

    def waits(self, delay_s: float, *, why: str, loop: bool) -> None:
        """Tell of a wait that a person would notice; a start at once tells of itself."""
        if loop:
            words = f"{why} again and again; it is tried every {delay_s:.0f} s, for ever"
            self._narrator.tell("app.crash_loop", words, severity="error", fields={"delay_s": round(delay_s, 3)})
        elif delay_s >= _NOTICED_S:
            reason = "" if why == self._exit else f"{why}; "  # an exit has just been told
            words = f"{reason}the next start is in {delay_s:.1f} s"
            self._narrator.tell("app.backoff", words, severity="warn", fields={"delay_s": round(delay_s, 3)})

    def generation_started(self, generation: int, pid: int) -> None:
        """Tell that a process was started."""
        self._generation = generation
        self._started_at = asyncio.get_running_loop().time()
        self._narrator.tell("app.started", f"generation {generation}, pid {pid}", generation=generation)
        self.on_start()

    def exited(self, exit: Exit) -> None:  # noqa: A002  the vocabulary's word
        """Tell an exit; one that nobody asked for becomes an incident."""
        self.hear_reports()  # before the next generation is told of: what has been written is of this one
        if self.overheard is not None:
            self.overheard.ended()
        words = self._exit = exit_words(exit)
        ready = "" if exit.ready or exit.asked else ", before it was ready"
        self._narrator.tell(
            "app.exit",
            f"generation {exit.generation} ended: {words}, after {_seconds(exit.uptime_s)}{ready}",
            severity="info" if exit.asked else "error",
            generation=exit.generation,
            # Telling may wait until the next generation is under way; this is when it was noticed.
            fields={"noticed_at": exit.at, "code": exit.code, "signal": exit.signal, **_memory_of(exit)},
        )
        if exit.asked:
            self._reports.pop(exit.generation, None)
            self.tell_heal("exit", {"asked": True, "fingerprint": "", "own": False})
            if self.desk is not None:
                self.desk.source_may_have_changed()
            return
        task = asyncio.get_running_loop().create_task(self._examine(exit))
        self._examining.add(task)
        task.add_done_callback(self._examined)

    def _examined(self, task: asyncio.Task[None]) -> None:
        self._examining.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "an exit could not be looked into", "exception": error}
            task.get_loop().call_exception_handler(context)

    async def _examine(self, exit: Exit) -> None:  # noqa: A002  the vocabulary's word
        """Make the incident, with what the dying process told of itself."""
        report = self._report_of(exit.generation)
        redactor = self._redactor()
        tail = tuple(redactor.lines(exit.tail))
        app_root = self._app_root()
        traces = parse(tail, app_root=app_root)
        kept = msgspec.structs.replace(exit, tail=())
        new = from_exit(kept, traces=traces, report=report, tail=tail, app_root=app_root)
        self.tell_heal("exit", {"asked": False, "fingerprint": new.fingerprint, "own": new.trace is not None})
        self.take(new, tail)
        if self._state in _SERVED and self.desk is not None:
            # A quick app is ready again before its predecessor's end has been looked into.
            self.desk.app_ready()

    def memory_death(self, generation: int, processes: int, stats: LeafStats) -> None:
        """Tell that part of the app died for want of memory; that the whole did is told as its exit."""
        who = "a process" if processes == 1 else f"{processes} processes"
        memory = memory_words(stats.memory_max_bytes, stats.memory_peak_bytes)
        words = f"{who} of generation {generation} died for want of memory ({memory}); the rest goes on"
        fields = {"processes": processes, "max_bytes": stats.memory_max_bytes, "peak_bytes": stats.memory_peak_bytes}
        self._narrator.tell("app.oom", words, severity="error", generation=generation, fields=fields)

    def line(self, line: LogLine) -> None:
        """Keep and tell one line of the app, and what it may mean for the operator."""
        self._narrator.line(line)
        if self.hints is not None:
            self.hints.heard(line.text, line.generation)
        if self.overheard is not None:
            self.overheard.line(line)

    def probe_failed(self, kind: IncidentKind, detail: str) -> None:
        """A hang, or a start that took longer than its grace, is an incident."""
        new = NewIncident(fingerprint=fingerprint(kind, None, None), kind=kind, error=kind.value, message=detail)
        self.tell_heal("probe", {"kind": kind.value})
        self.take(new, ())

    def port_taken(self, holder: Holder) -> None:
        """A stranger on the app's port is named, never killed."""
        who = f"pid {holder.pid} ({holder.command})" if holder.pid else f"a process of user {holder.user}"
        new = NewIncident(
            fingerprint=fingerprint(IncidentKind.PORT_TAKEN, None, None),
            kind=IncidentKind.PORT_TAKEN,
            error="port taken",
            message=f"port {holder.port} is held by {who}, in {holder.cgroup or 'no known unit'}",
            note="end that process, or give the app another port; it is a stranger, so it was not killed",
        )
        self.take(new, ())

    def cannot_start(self, error: SpawnError) -> None:
        """A program that cannot be started needs a person."""
        new = NewIncident(
            fingerprint=fingerprint(IncidentKind.BOOT, None, None),
            kind=IncidentKind.BOOT,
            error="cannot start",
            message=error.message,
            note=error.hint,
        )
        self.take(new, ())

    def stuck(self, processes: tuple[Stuck, ...]) -> None:
        """Name what even SIGKILL must wait for: no second copy starts beside it."""
        names = ", ".join(f"{one.name} ({one.pid}) in {one.wchan or 'the kernel'}" for one in processes)
        self._narrator.tell("app.stuck", f"cannot be killed yet: {names or 'unknown'}", severity="critical")

    @property
    def generation(self) -> int:
        """The newest generation that was told of: whoever reports now is of this one."""
        return self._generation

    def crash_report(self, told: CrashLine) -> None:
        """Keep what a dying process told of itself until its exit is noticed; it is read only then."""
        kept = self._reports.setdefault(told.generation, [])
        kept.append(told)
        del kept[:-_REPORTS_EACH]
        while len(self._reports) > _REPORTS_KEPT:
            self._reports.pop(next(iter(self._reports)))

    def report(self, kind: str, line: bytes) -> None:
        """Hand on what a living application tells of itself."""
        if self.caught is not None:
            self.caught.on_report(kind, line)
        if self.overheard is not None:
            self.overheard.report(kind, line)

    def _report_of(self, generation: int) -> CrashReport | None:
        """The newest report of a generation that can be read."""
        redactor = self._redactor()
        newest_first = reversed(self._reports.pop(generation, []))
        read = (read_crash(told, redact=redactor.request, redact_text=redactor.text) for told in newest_first)
        return next((report for report in read if report is not None), None)

    def take(self, new: NewIncident, tail: tuple[str, ...]) -> Incident | None:
        """Have the desk see to trouble."""
        if self.service is not None:
            self.service.ready()  # as ready as it can be for now: a heal takes its time
        if self.desk is None:
            return None
        clean = self._redactor().text  # a stranger's command line or an answer to a probe may hold a secret, too
        said = {"error": clean(new.error), "message": clean(new.message), "note": clean(new.note)}
        generation = new.generation or self._generation
        return self.desk.take(msgspec.structs.replace(new, **said, generation=generation), tail=tail)

    def tell_heal(self, what: str, fields: dict[str, Any]) -> None:
        """Let the running heal know what happened to the app."""
        if self.dispatcher is not None:
            self.dispatcher.tell(what, fields)


_REPORTS_KEPT = 4  # generations
_REPORTS_EACH = 3  # of up to 64 KiB each
_NOTICED_S = 0.5


def _memory_of(exit: Exit) -> dict[str, Any]:  # noqa: A002  the vocabulary's word
    """What an exit for want of memory tells besides."""
    known = {"oom": True, "max_bytes": exit.memory_max_bytes, "peak_bytes": exit.memory_peak_bytes}
    return known if exit.oom else {}


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _nothing() -> None:
    """Stand in while nobody wants to know of a start, or reports."""
