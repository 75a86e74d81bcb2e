# SPDX-License-Identifier: MIT
"""Which caught errors make an incident (pure): per route and fingerprint, threshold, window, cooldown.

Only the server's own failures get here; who answers 4xx has told a client that it was wrong. An error
that makes no incident yet waits for more of its kind, until the window or successes of its route take
it back. One that made an incident is quiet for the cooldown: more of it is counted on that incident.
Nothing is dropped unseen: what is neither told nor waiting stands in `State.forgotten`. Times are monotonic seconds.
"""

from __future__ import annotations

import msgspec

MAX_KINDS = 256
"""Routes times fingerprints that are kept in mind; the one that was silent longest makes room."""

MAX_TIMES = 1000
"""A threshold above it is taken as this many."""

OPENS = 30
"""How many incidents may be opened within OPENS_S: an app whose every message is new must not fill the store."""

OPENS_S = 60.0


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """`[errors]` of the configuration."""

    threshold: int = 1
    window_s: float = 30.0
    cooldown_s: float = 60.0


class Kind(msgspec.Struct, frozen=True):
    """What is counted together: one fault on one route."""

    route: str
    fingerprint: str


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of error.

    Attributes:
        times: When the newest came, oldest first, within the window; as many as the threshold asks for.
        waiting: How many errors nobody has been told of yet.
        quiet_until: End of the cooldown.
        last_at: When the newest came.
    """

    times: tuple[float, ...] = ()
    waiting: int = 0
    quiet_until: float = 0.0
    last_at: float = 0.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor has in mind.

    Attributes:
        tallies: The one that was silent longest first.
        opens: When the newest incidents were opened.
        forgotten: Errors that nobody was told of: too few in the window, taken back by successes, or crowded out.
    """

    tallies: dict[Kind, Tally] = {}
    opens: tuple[float, ...] = ()
    forgotten: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An error was caught and answered with a 5xx."""

    kind: Kind
    count: int = 1


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """A second went by in which a route was asked and did not fail."""

    route: str


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """The incident of a fingerprint is closed: the next error is news again."""

    fingerprint: str


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """Open an incident, or count on the open one and see to it again; it stands for `count` errors."""

    kind: Kind
    count: int


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Count on the incident, if it is still open, and do nothing else."""

    kind: Kind
    count: int


Event = Seen | Succeeded | Over
Action = Open | Count


def observe(state: State, event: Event, *, rules: Rules, now: float) -> tuple[State, Action | None]:
    """Take one event into account.

    Args:
        state: As it stands.
        event: What happened.
        rules: In force now; they may change from one event to the next.
        now: Monotonic seconds.

    Returns:
        How it stands now, and what is to be done.
    """
    match event:
        case Seen():
            return _seen(state, event, rules, now)
        case Succeeded():
            return _succeeded(state, event.route, rules, now), None
        case Over():
            return _over(state, event.fingerprint), None


def _seen(state: State, event: Seen, rules: Rules, now: float) -> tuple[State, Action | None]:
    known = state.tallies.get(event.kind, Tally())
    tally, forgotten = _within(known, rules, now)
    waiting = tally.waiting + event.count
    state = msgspec.structs.replace(state, forgotten=state.forgotten + forgotten)
    if now < tally.quiet_until:
        quiet = msgspec.structs.replace(tally, times=(), waiting=0, last_at=now)
        return _keep(state, event.kind, quiet), Count(kind=event.kind, count=waiting)
    threshold = min(rules.threshold, MAX_TIMES)
    times = (*tally.times, *(now,) * min(event.count, threshold))[-threshold:]
    opens = tuple(at for at in state.opens if now - at < OPENS_S)
    if len(times) < threshold or len(opens) >= OPENS:
        more = msgspec.structs.replace(tally, times=times, waiting=waiting, last_at=now)
        return _keep(state, event.kind, more), None
    state = msgspec.structs.replace(state, opens=(*opens, now))
    told = Tally(quiet_until=now + rules.cooldown_s, last_at=now)
    return _keep(state, event.kind, told), Open(kind=event.kind, count=waiting)


def _succeeded(state: State, route: str, rules: Rules, now: float) -> State:
    """Each second without a failure takes the oldest error of its route back, if it has not been told."""
    tallies, forgotten = dict(state.tallies), state.forgotten
    for kind, known in state.tallies.items():
        if kind.route != route or not known.times:
            continue
        tally, gone = _within(known, rules, now)
        left = tally.times[1:]
        waiting = min(tally.waiting, len(left))
        forgotten += gone + tally.waiting - waiting
        tallies[kind] = msgspec.structs.replace(tally, times=left, waiting=waiting)
    return msgspec.structs.replace(state, tallies=tallies, forgotten=forgotten)


def _over(state: State, fingerprint: str) -> State:
    tallies = {
        kind: msgspec.structs.replace(tally, quiet_until=0.0) if kind.fingerprint == fingerprint else tally
        for kind, tally in state.tallies.items()
    }
    return msgspec.structs.replace(state, tallies=tallies)


def _within(tally: Tally, rules: Rules, now: float) -> tuple[Tally, int]:
    """The tally without what the window has left behind, and how many errors that were."""
    times = tuple(at for at in tally.times if now - at < rules.window_s)
    if len(times) == len(tally.times):
        return tally, 0
    waiting = min(tally.waiting, len(times))
    return msgspec.structs.replace(tally, times=times, waiting=waiting), tally.waiting - waiting


def _keep(state: State, kind: Kind, tally: Tally) -> State:
    """The state with this tally as its newest."""
    tallies = {other: kept for other, kept in state.tallies.items() if other != kind}
    forgotten = state.forgotten
    if len(tallies) >= MAX_KINDS:
        forgotten += tallies.pop(next(iter(tallies))).waiting
    tallies[kind] = tally
    return msgspec.structs.replace(state, tallies=tallies, forgotten=forgotten)
