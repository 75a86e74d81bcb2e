# SPDX-License-Identifier: MIT
"""The watch over an applied repair (pure): keep watching, verified, or take it back and why.

Times are monotonic seconds. Events come from the supervisor as plain data; one that is not understood
changes nothing. While an operator keeps the app stopped the window stands still: a stopped app
proves nothing, neither way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from wolverined.model import AppState, IncidentKind

HEALTH_MISSES = 3
"""Failed health probes in a row that end a probation."""

_SERVES = {AppState.READY.value, AppState.DEGRADED.value, AppState.HEALING.value}
_OVER = {AppState.CRASH_LOOP.value, AppState.FAILED.value}


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Where a probation stands.

    `left_s` is set while the window stands still: what is left of it. `ready_by` is set while the app
    has not been ready yet.
    """

    fingerprint: str
    ends_at: float
    ready: bool = True
    ready_by: float | None = None
    misses: int = 0
    left_s: float | None = None


class Judgement(msgspec.Struct, frozen=True):
    """The end of a probation."""

    worse: bool
    why: str


def begin(
    *, fingerprint: str, probation_s: float, now: float, ready: bool = True, startup_s: float | None = None
) -> Watch:
    """Start to watch.

    Args:
        fingerprint: Of the incident that the repair is for.
        probation_s: The window.
        now: Monotonic seconds.
        ready: Whether the app is ready already.
        startup_s: Within how many seconds it must be, when it is not.
    """
    ready_by = None if ready or startup_s is None else now + startup_s
    return Watch(fingerprint=fingerprint, ends_at=now + probation_s, ready=ready, ready_by=ready_by)


def observe(watch: Watch, event: Mapping[str, Any], *, now: float) -> tuple[Watch, Judgement | None]:
    """Take one event into account.

    Args:
        watch: As it stands.
        event: `what` is "tick", "state" (`state`), "exit" (`asked`, `fingerprint`, `own`), "incident"
            (`fingerprint`, `own`), "probe" (`kind`) or "health" (`ok`).
        now: Monotonic seconds.

    Returns:
        How the watch stands now, and the judgement when it is over.
    """
    watch, judgement = _take(watch, event, now)
    if judgement is None:
        watch, judgement = _time(watch, now)
    return watch, judgement


def _take(watch: Watch, event: Mapping[str, Any], now: float) -> tuple[Watch, Judgement | None]:
    match event.get("what"):
        case "state":
            return _state(watch, str(event.get("state")), now)
        case "exit":
            if event.get("asked") is True:
                return msgspec.structs.replace(watch, ready=False), None
            return watch, _trouble(watch, event) or Judgement(worse=True, why="the app ended")
        case "incident":
            return watch, _trouble(watch, event)
        case "probe":
            kind = event.get("kind")
            hung = kind == IncidentKind.HANG.value
            return watch, Judgement(worse=True, why="it hung" if hung else "it was not ready in time")
        case "health":
            misses = 0 if event.get("ok") is True else watch.misses + 1
            over = Judgement(worse=True, why=f"{misses} health probes failed") if misses >= HEALTH_MISSES else None
            return msgspec.structs.replace(watch, misses=misses), over
        case _:
            return watch, None


def _trouble(watch: Watch, event: Mapping[str, Any]) -> Judgement | None:
    seen = event.get("fingerprint")
    if seen and seen == watch.fingerprint:
        return Judgement(worse=True, why="the same trouble came again")
    if event.get("own") is True:
        return Judgement(worse=True, why="a new error in the app's own code")
    return None


def _state(watch: Watch, state: str, now: float) -> tuple[Watch, Judgement | None]:
    if state in _OVER:
        return watch, Judgement(worse=True, why=f"the app is in state {state}")
    if state == AppState.STOPPED.value:
        left_s = max(0.0, watch.ends_at - now) if watch.left_s is None else watch.left_s
        return msgspec.structs.replace(watch, ready=False, left_s=left_s), None
    if state in _SERVES:
        ends_at = watch.ends_at if watch.left_s is None else now + watch.left_s
        return msgspec.structs.replace(watch, ready=True, ready_by=None, left_s=None, ends_at=ends_at), None
    return msgspec.structs.replace(watch, ready=False), None


def _time(watch: Watch, now: float) -> tuple[Watch, Judgement | None]:
    if watch.left_s is not None:
        # Callers wait until `ends_at`: it moves along, so that they look again and no sooner.
        return msgspec.structs.replace(watch, ends_at=now + max(watch.left_s, 1.0)), None
    if watch.ready_by is not None and now >= watch.ready_by:
        return watch, Judgement(worse=True, why="it was not ready in time")
    if now < watch.ends_at:
        return watch, None
    if watch.ready:
        return watch, Judgement(worse=False, why="it stood its probation")
    return watch, Judgement(worse=True, why="it was not ready at the end of its probation")
