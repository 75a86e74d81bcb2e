# SPDX-License-Identifier: MIT
"""What set an incident off, as something that a trial can do again (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from wolverined.model import Evidence, Exit, IncidentKind, Request, Trace
from wolverined.traces import fingerprint, parse, template

WATCH_MAX_S = 10.0
"""Longest that a trial waits for a crash that comes by itself."""


class TriggerKind(StrEnum):
    """How the trouble is brought about again."""

    BOOT = "boot"  # start it
    REQUEST = "request"  # send the request that it failed at
    ALONE = "alone"  # start it and wait: it ended by itself soon after
    NONE = "none"  # nobody knows


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """The way to bring the trouble about, and how to know it when it comes.

    `known_statuses` are answers seen for this route when all was well. `guessed`: the request was found
    by trying the routes of the source, not recorded.
    """

    kind: TriggerKind
    incident: IncidentKind
    fingerprint: str
    app_root: str
    trace: Trace | None = None
    exit: Exit | None = None
    request: Request | None = None
    watch_s: float = 0.0
    known_statuses: tuple[int, ...] = ()
    guessed: bool = False


_AT_START = frozenset({IncidentKind.BOOT, IncidentKind.UNREADY})
_ENDED = frozenset({IncidentKind.CRASH, IncidentKind.EXIT, IncidentKind.OOM})


def trigger_of(evidence: Evidence, *, app_root: str, has_port: bool, known_statuses: Sequence[int] = ()) -> Trigger:
    """Say what a trial has to do to see this trouble."""
    incident = evidence.incident
    request = evidence.request or incident.request
    trigger = Trigger(
        kind=TriggerKind.NONE,
        incident=incident.kind,
        fingerprint=incident.fingerprint,
        app_root=app_root,
        trace=incident.trace or (evidence.traces[-1] if evidence.traces else None),
        exit=incident.exit,
        request=request,
        known_statuses=tuple(known_statuses),
    )
    if incident.kind in _AT_START:
        return msgspec.structs.replace(trigger, kind=TriggerKind.BOOT)
    if request is not None and has_port:
        return msgspec.structs.replace(trigger, kind=TriggerKind.REQUEST)
    ended = incident.exit
    if incident.kind in _ENDED and ended is not None:
        # Half as long again as it lived, since the sandbox may be slower.
        watch_s = ended.uptime_s * 1.5 + 1.0
        if watch_s <= WATCH_MAX_S:
            return msgspec.structs.replace(trigger, kind=TriggerKind.ALONE, watch_s=watch_s)
    return trigger


def with_request(trigger: Trigger, request: Request) -> Trigger:
    """The trigger, now that a guessed request has brought the trouble about."""
    return msgspec.structs.replace(trigger, kind=TriggerKind.REQUEST, request=request, guessed=True)


def shows(trigger: Trigger, tail: Sequence[str]) -> bool | None:
    """Whether an output prints the trigger's error; None when there is no error in it that could be compared."""
    traces = parse(tail, app_root=trigger.app_root)
    if not traces or (trigger.trace is None and not trigger.fingerprint):
        return None
    if any(fingerprint(trigger.incident, trace, None) == trigger.fingerprint for trace in traces):
        return True
    if trigger.trace is None:
        return None
    wanted = _looks(trigger.trace)
    return any(_looks(trace) == wanted for trace in traces)


def exactly(trigger: Trigger, tail: Sequence[str]) -> bool:
    """Whether an output prints the trigger's error word for word, values included.

    A fingerprint leaves values out, so two faults of one function may share it: reading 'price' of nothing
    is another fault than reading 'toFixed' of nothing. For requests that were not recorded that matters.
    """
    if trigger.trace is None:
        return False
    wanted = _looks(trigger.trace, template=str)
    return any(_looks(trace, template=str) == wanted for trace in parse(tail, app_root=trigger.app_root))


def _looks(trace: Trace, *, template: Callable[[str], str] = template) -> tuple[str, str, str, str]:
    """An error that was caught and printed has other outer frames than one that ended the process."""
    root = trace.errors[0] if trace.errors else None
    own = next((frame for frame in trace.frames if frame.own), None)
    return (
        root.type if root else "",
        template(root.message) if root else "",
        own.path if own else "",
        own.function if own else "",
    )
