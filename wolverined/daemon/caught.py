# SPDX-License-Identifier: MIT
"""Hears the errors that the living application catches, and makes incidents of them.

`sense.errors` decides; here stands what it decides over: an incident is opened at once, also while a heal
is under way (the store keeps it, the desk looks at it after that heal), and more of the same is counted once a
second. A heal that watches its repair is told of every new kind of error, so that it can take the repair back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from wolverined.config.schema import ErrorsTable
from wolverined.errors import StoreError
from wolverined.heal.job import Job
from wolverined.model import Incident, IncidentKind, NewIncident
from wolverined.redact import Redactor
from wolverined.sense import errors
from wolverined.sense.recognised import Recognised, Recogniser, Twins
from wolverined.sense.route_error import (
    SERVER_ERROR,
    Loop,
    Pending,
    RouteError,
    read_loop,
    read_pending,
    read_requests,
    read_route_error,
    redacted,
    trace_of,
)
from wolverined.sense.traffic import HandedTraffic, Traffic
from wolverined.store.incidents import Incidents

Told = TypeVar("Told")

FLUSH_S = 1.0
"""How long counts wait for more of their kind before they are written."""

TAIL = 200
_KNOWN = 256
_TELL_S = 1.0
_ALL_OPEN = 1000


class Counts(msgspec.Struct):
    """What became of what a living application told; nothing is dropped in silence."""

    errors: int = 0  # answered with a 5xx
    twice: int = 0  # told by the application and by a reporter in it
    unread: int = 0  # too many at once of kinds that are not known
    client: int = 0  # told, though a client was to blame
    malformed: int = 0
    lost: int = 0  # counts that the store did not take, and nobody remembers


class HandedCaught(msgspec.Struct, frozen=True, kw_only=True):
    """For a successor in this process.

    Attributes:
        tallies: The monitor's.
        opens: When incidents were opened (monotonic).
        forgotten: Errors that nobody was told of.
        known: Fingerprint -> the generation in which it was seen first.
        counts: What became of what was told.
        traffic: The application's requests.
    """

    tallies: tuple[tuple[errors.Kind, errors.Tally], ...] = ()
    opens: tuple[float, ...] = ()
    forgotten: int = 0
    known: dict[str, int] = {}
    counts: Counts = msgspec.field(default_factory=Counts)
    traffic: HandedTraffic = HandedTraffic()


class Take(Protocol):
    """Opens or counts an incident and sees to it; None when the store could not take it."""

    def __call__(self, new: NewIncident, tail: tuple[str, ...]) -> Incident | None:
        """Take one."""
        ...


class Caught:
    """Hears `route_error`, `requests`, `pending` and `loop`.

    Args:
        rules: Gives `[errors]` of the configuration in force.
        incidents: Counts are written here.
        take: Opens an incident and sees to it.
        tell_heal: Lets the running heal know.
        healing: Whether there is one.
        app_root: Gives where the app's own files lie.
        redactor: Gives what takes secrets out.
        tail: Gives the newest lines of the app's output, oldest first.
        generation: Gives the generation that runs.
        wall: The wall clock, for labels.
    """

    def __init__(
        self,
        *,
        rules: Callable[[], ErrorsTable],
        incidents: Callable[[], Incidents],
        take: Take,
        tell_heal: Callable[[str, dict[str, Any]], None],
        healing: Callable[[], bool],
        app_root: Callable[[], str],
        redactor: Callable[[], Redactor],
        tail: Callable[[int], tuple[str, ...]],
        generation: Callable[[], int],
        wall: Callable[[], float],
    ) -> None:
        self._wall = wall
        self._rules = rules
        self._incidents = incidents
        self._take = take
        self._tell_heal = tell_heal
        self._healing = healing
        self._app_root = app_root
        self._redactor = redactor
        self._tail = tail
        self._generation = generation
        self.counts = Counts()
        self.traffic = Traffic()
        self.pending: Pending | None = None
        self.loop: Loop | None = None
        self._state = errors.State()
        self._first: dict[str, int] = {}  # fingerprint -> the generation in which it was seen first
        self._told: dict[tuple[str, int], float] = {}  # fingerprint and generation -> when a heal was told of it
        self._recogniser = Recogniser(app_root=app_root)
        self._twins = Twins()
        self._more: dict[errors.Kind, tuple[int, RouteError]] = {}
        self._flushing: asyncio.TimerHandle | None = None

    def on_report(self, kind: str, line: bytes) -> None:
        """Hear one line of the report socket."""
        match kind:
            case "route_error":
                self._heard(read_route_error(line))
            case "requests":
                self._requests(line)
            case "pending":
                self.pending = self._sound(read_pending(line))
            case "loop":
                self.loop = self._sound(read_loop(line))

    def _sound(self, told: Told | None) -> Told | None:
        self.counts.malformed += told is None
        return told

    def _heard(self, error: RouteError | None) -> None:
        if error is None:
            self.counts.malformed += 1
        elif error.status < SERVER_ERROR:
            self.counts.client += 1
        else:
            self.take(error)

    def take(self, error: RouteError) -> None:
        """Take one error into account that was answered with a 5xx, whoever found it."""
        if self._twins.has(error, now=_now()):
            self.counts.twice += 1
            return
        self.counts.errors += 1
        known = self._recogniser.look(error, now=_now())
        if known is None:
            self.counts.unread += 1
            return
        self._tell(known)
        seen = errors.Seen(kind=errors.Kind(error.route, known.fingerprint))
        self._act(self._observe(seen), error)

    def _observe(self, event: errors.Event) -> errors.Action | None:
        table = self._rules()
        rules = errors.Rules(threshold=table.threshold, window_s=table.window_s, cooldown_s=table.cooldown_s)
        self._state, action = errors.observe(self._state, event, rules=rules, now=_now())
        return action

    def _act(self, action: errors.Action | None, error: RouteError) -> None:
        match action:
            case errors.Open():
                self._open(action, error)
            case errors.Count():
                self._count(action.kind, action.count, error)

    def _open(self, action: errors.Open, error: RouteError) -> None:
        tail = tuple(self._redactor().lines(self._tail(TAIL)))
        incident = self._take(self._incident(error, action.kind), tail)
        if incident is not None and action.count > 1:
            self._count(action.kind, action.count - 1, error)

    def _incident(self, error: RouteError, kind: errors.Kind) -> NewIncident:
        redactor = self._redactor()
        clean = redacted(error, redact=redactor.request, redact_text=redactor.text)
        trace = trace_of(clean, app_root=self._app_root())
        last = trace.errors[-1] if trace is not None else None
        return NewIncident(
            fingerprint=kind.fingerprint,
            kind=IncidentKind.HTTP5XX,
            error=(last.type if last is not None else "") or f"status {error.status}",
            message=last.message if last is not None else "",
            route=clean.route,
            generation=self._generation(),
            trace=trace,
            request=clean.request if clean.request.path else None,
        )

    def _tell(self, known: Recognised) -> None:
        """Let a heal know: the same trouble, or a new one of the app's own code since its repair went in."""
        generation, fingerprint = self._generation(), known.fingerprint
        if fingerprint not in self._first:
            self._first[fingerprint] = 0 if self._healing() and self._is_open(fingerprint) else generation
            _shorten(self._first)
        told = (fingerprint, generation)
        if not self._healing() or _now() - self._told.get(told, float("-inf")) < _TELL_S:
            return
        self._told[told] = _now()
        _shorten(self._told)
        new = known.own and self._first[fingerprint] == generation
        self._tell_heal("incident", {"fingerprint": fingerprint, "own": new})

    def _is_open(self, fingerprint: str) -> bool:
        try:
            return fingerprint in self._open_ones()
        except StoreError:
            return False  # it cannot be known now; a heal then takes it for new, and rather takes its repair back

    def _open_ones(self) -> dict[str, Incident]:
        return {one.fingerprint: one for one in self._incidents().list(limit=_ALL_OPEN, open_only=True)}

    def _count(self, kind: errors.Kind, count: int, error: RouteError) -> None:
        """Keep a count for a moment: a store that is written for each error of a storm does nothing else."""
        before, _ = self._more.get(kind, (0, error))
        self._more[kind] = (before + count, error)
        while len(self._more) > _KNOWN:
            self.counts.lost += self._more.pop(next(iter(self._more)))[0]
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self.flush()
        if self._more:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def flush(self) -> None:
        """Write what was counted; what belongs to an incident that was closed meanwhile is news."""
        more, self._more = self._more, {}
        if not more:
            return
        try:
            open_ones = self._open_ones()
        except StoreError:
            self._more = more
            return
        for kind, (count, error) in more.items():
            incident = open_ones.get(kind.fingerprint)
            if incident is None:
                self._observe(errors.Over(fingerprint=kind.fingerprint))
                self._act(self._observe(errors.Seen(kind=kind, count=count)), error)
            elif (counted := self._written(incident, count)) is not None:
                open_ones[kind.fingerprint] = counted
            else:
                self._more[kind] = (count, error)

    def _written(self, incident: Incident, count: int) -> Incident | None:
        try:
            return self._incidents().update(incident.id, count=incident.count + count, last_at=self._wall())
        except StoreError:
            return None  # it is kept, and written with what comes

    def _requests(self, line: bytes) -> None:
        told = read_requests(line)
        if told is None:
            self.counts.malformed += 1
            return
        self.traffic.take(told)
        waiting = {kind.route for kind, tally in self._state.tallies.items() if tally.times}
        for route, part in told.routes.items():
            if route in waiting and part.count and not part.errors:
                self._observe(errors.Succeeded(route=route))

    def equip(self, job: Job) -> Job:
        """The job with requests that went well, and with what the failing route answered when it did."""
        redact = self._redactor().request
        request = job.incident.request if job.incident is not None else None
        return msgspec.structs.replace(
            job,
            samples=tuple(redact(sample) for sample in self.traffic.samples()),
            known_statuses=self.traffic.statuses(request) if request is not None else (),
        )

    def told(self) -> dict[str, Any]:
        """For `status`: what the application told of itself."""
        counts = {"caught": self.counts.errors, "client_errors": self.counts.client, "malformed": self.counts.malformed}
        return {**self.traffic.told(), **counts, "forgotten": self._state.forgotten}

    def hand_over(self) -> HandedCaught:
        """What a successor in this process needs."""
        self.flush()
        state = self._state
        return HandedCaught(
            tallies=tuple(state.tallies.items()),
            opens=state.opens,
            forgotten=state.forgotten,
            known=dict(self._first),
            counts=self.counts,
            traffic=self.traffic.hand_over(),
        )

    def adopt(self, handed: HandedCaught) -> None:
        """Know what a predecessor in this process knew."""
        self._state = errors.State(tallies=dict(handed.tallies), opens=handed.opens, forgotten=handed.forgotten)
        self._first, self.counts = dict(handed.known), handed.counts
        self.traffic = Traffic(handed.traffic)

    def close(self) -> None:
        """Write what was counted, and hear no more."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self.flush()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _shorten(known: dict[Any, Any]) -> None:
    """Forget the oldest beyond what is kept."""
    while len(known) > _KNOWN:
        del known[next(iter(known))]
