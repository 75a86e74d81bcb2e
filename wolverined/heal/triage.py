# SPDX-License-Identifier: MIT
"""What becomes of an incident: restart only, heal, wait, quarantine, or nothing (pure).

The supervisor asks this for every incident; it restarts the app in any case. Times are wall-clock
seconds, because a rest must outlive the daemon; a clock that is set back ends a rest, never stretches it.
"""

from __future__ import annotations

import signal
from enum import StrEnum

import msgspec

from wolverined.config.schema import Policy
from wolverined.model import Incident, IncidentKind, IncidentState
from wolverined.store.quarantine import Quarantine

BACKOFF_S = (60.0, 300.0, 1800.0, 21600.0)
"""Rest after the first, second, … failed heal of one fingerprint; after the last, quarantine."""

CLOCK_SLACK_S = 2.0
"""A file may be this much younger than now (clocks of network file systems) and still count as just changed."""

_STRANGERS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
_NOT_CODE = {
    IncidentKind.PORT_TAKEN: "another program holds the port",
    IncidentKind.OOM: "the kernel ended it for want of memory, which no small patch mends",
    IncidentKind.LEAK: "a leak is met by a restart",
}
_NEEDS_TRACE = {
    IncidentKind.EXIT: "it ended with 0 and left no trace",
    IncidentKind.HANG: "it hung and left no trace",
    IncidentKind.UNREADY: "it was not ready in time and left no trace",
    IncidentKind.HTTP5XX: "it answered with an error, and nothing tells of which",
}


class Action(StrEnum):
    """What is done about an incident beside restarting the app."""

    RESTART = "restart"  # nothing: a restart is the whole answer
    HEAL = "heal"
    WAIT = "wait"  # ask again at `not_before`, or when what is named in `why` is over
    QUARANTINED = "quarantined"  # a human is told
    OFF = "off"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An action and its reason. `not_before` (wall) is set when a time ends the wait."""

    action: Action
    why: str
    not_before: float | None = None


def triage(
    incident: Incident,
    *,
    policy: Policy,
    now: float,
    held_until: float = 0.0,
    source_changed_at: float | None = None,
    settle_s: float = 0.0,
    quarantine: Quarantine | None = None,
    heal_running: bool = False,
    trace_present: bool | None = None,
    asked: bool = False,
) -> Decision:
    """Decide about one incident.

    Args:
        incident: As the store has it.
        policy: `heal.policy`.
        now: Wall-clock seconds.
        held_until: End of `wolverinectl hold`, 0 for none.
        source_changed_at: The newest mtime of the source, None when not known.
        settle_s: `heal.settle_s`.
        quarantine: The fingerprint's rest.
        heal_running: Whether a heal of this app is under way.
        trace_present: Whether there is a stack trace; None: as the incident says.
        asked: An operator asks for this heal: rest, hold and settling do not stand in the way.
    """
    traced = incident.trace is not None if trace_present is None else trace_present
    if policy is Policy.OFF:
        return Decision(action=Action.OFF, why="heal.policy is off")
    if incident.state is IncidentState.CLOSED and not asked:
        return Decision(action=Action.RESTART, why="the incident is closed")
    if incident.state is IncidentState.APPROVAL:
        return Decision(action=Action.WAIT, why="a repair waits for approval")
    reason = "" if asked else _restart_only(incident, traced=traced)
    if reason:
        return Decision(action=Action.RESTART, why=reason)
    rest = None if asked or quarantine is None else _resting(quarantine, now=now)
    if rest is not None:
        return rest
    if not asked and (pause := _paused(now, held_until, source_changed_at, settle_s)) is not None:
        return pause
    if heal_running:
        return Decision(action=Action.WAIT, why="another heal of this app is under way")
    return Decision(action=Action.HEAL, why="an operator asks for it" if asked else "nothing stands in the way")


def after_failure(rest: Quarantine, *, now: float, why: str = "") -> Quarantine:
    """The rest after one more heal that did not stand."""
    level = min(rest.level + 1, len(BACKOFF_S) + 1)
    until = now + BACKOFF_S[level - 1] if level <= len(BACKOFF_S) else None
    return msgspec.structs.replace(
        rest, level=level, since_wall=now, until_wall=until, attempts=rest.attempts + 1, lifted=False, why=why
    )


def lifted(rest: Quarantine) -> Quarantine:
    """The rest with one try granted by an operator."""
    return msgspec.structs.replace(rest, lifted=True)


def _restart_only(incident: Incident, *, traced: bool) -> str:
    """Why no patch could help; empty when one might."""
    if incident.kind in _NOT_CODE:
        return _NOT_CODE[incident.kind]
    if traced or incident.kind is IncidentKind.REPORT:
        return ""
    ended = incident.exit
    if ended is None and incident.kind is IncidentKind.BOOT:
        return "its program cannot be started at all, which no change of its source mends"
    if ended is not None and ended.signal is not None:
        if ended.signal in _STRANGERS:
            return f"someone ended it with {signal.Signals(ended.signal).name}"
        return f"it died of signal {ended.signal} and left no trace"
    return _NEEDS_TRACE.get(incident.kind, "")


def _resting(rest: Quarantine, *, now: float) -> Decision | None:
    if rest.lifted or rest.level <= 0:
        return None
    if rest.until_wall is None:
        why = f"{rest.attempts} heals of this fingerprint failed; wolverinectl heal tries once more"
        return Decision(action=Action.QUARANTINED, why=why)
    # Before the rest began means: the wall clock was set back. One early heal is better than a rest without end.
    if now < rest.since_wall - CLOCK_SLACK_S or now >= rest.until_wall:
        return None
    why = f"heal {rest.attempts} of this fingerprint failed"
    return Decision(action=Action.WAIT, why=why, not_before=rest.until_wall)


def _paused(now: float, held_until: float, source_changed_at: float | None, settle_s: float) -> Decision | None:
    if held_until > now:
        return Decision(action=Action.WAIT, why="an operator holds heals", not_before=held_until)
    if source_changed_at is None or source_changed_at > now + CLOCK_SLACK_S:
        return None  # unknown, or dated into the future: waiting for it might never end
    if now - source_changed_at < settle_s:
        until = min(source_changed_at, now) + settle_s
        return Decision(action=Action.WAIT, why="the source has just changed: a deploy?", not_before=until)
    return None
