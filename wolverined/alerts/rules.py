# SPDX-License-Identifier: MIT
"""Which events deserve a human, and how often (pure: time comes as an argument)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from wolverined.model import Event

SEVERITIES = ("info", "warn", "error", "critical")
REPEAT_S = 1800.0
"""The same trouble is told again after this time at the earliest."""
PER_HOUR = 30
"""More letters than that within an hour would be read by nobody: the next ones are counted instead."""

TYPES: Mapping[str, str] = {
    "app.crash_loop": "crash_loop",
    "app.failed": "human_needed",
    "app.stuck": "human_needed",
    "daemon.fault": "human_needed",
    "heal.approval": "awaiting_approval",
    "heal.broken": "heal_failed",
    "heal.failed": "heal_failed",
    "heal.mixed": "human_needed",
    "heal.nothing": "heal_failed",
    "incident.quarantined": "quarantine",
    "repair.applied": "repair_applied",
    "repair.lost": "repair_lost",
    "repair.rollback_failed": "human_needed",
    "repair.rolled_back": "repair_rolled_back",
    "store.lost": "human_needed",
}
"""Event -> type of alert; an event that is not here concerns nobody at night."""

_AT_LEAST: Mapping[str, str] = {
    "app.crash_loop": "error",
    "app.failed": "error",
    "heal.approval": "warn",
    "heal.broken": "warn",
    "heal.failed": "warn",
    "heal.mixed": "critical",
    "heal.nothing": "warn",
    "incident.quarantined": "error",
    "repair.lost": "warn",
    "repair.rollback_failed": "critical",
    "repair.rolled_back": "error",
    "store.lost": "error",
}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a human should hear of (DESIGN 4)."""

    type: str
    severity: str
    event: str
    message: str
    at: float
    incident: str = ""
    repair: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was told lately: (type, what it was about) -> when, when letters went out, how many did not."""

    last: Mapping[tuple[str, str], float] = {}
    sent: tuple[float, ...] = ()
    withheld: int = 0


def alert_of(event: Event) -> Alert | None:
    """The alert that an event means; None for what concerns nobody."""
    kind = TYPES.get(event.name)
    if kind is None:
        return None
    return Alert(
        type=kind,
        severity=max(event.severity, _AT_LEAST.get(event.name, "info"), key=rank),
        event=event.name,
        message=event.message,
        at=event.at,
        incident=event.incident,
        repair=event.repair,
    )


def rank(severity: str) -> int:
    """How grave a severity is; a word that is none counts as the gravest."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def decide(told: Told, alert: Alert, *, min_severity: str, now: float, room: bool = True) -> tuple[Told, bool]:
    """Whether to send a letter now, and what is remembered of it.

    Args:
        told: What was told lately.
        alert: The alert.
        min_severity: Below it nothing is sent.
        now: Monotonic seconds.
        room: Whether a letter can be sent at all; else the alert counts as withheld, and may be told later.
    """
    if rank(alert.severity) < rank(min_severity):
        return told, False
    last = {key: at for key, at in told.last.items() if now - at < REPEAT_S}
    sent = tuple(at for at in told.sent if now - at < 3600.0)  # noqa: PLR2004  an hour
    about = _about(alert)
    if about in last:
        return Told(last=last, sent=sent, withheld=told.withheld), False
    if not room or len(sent) >= PER_HOUR:
        return Told(last=last, sent=sent, withheld=told.withheld + 1), False
    return Told(last={**last, about: now}, sent=(*sent, now), withheld=0), True


def undelivered(told: Told, alert: Alert, *, withheld: int) -> Told:
    """What is remembered when a letter reached nobody: the same trouble may be told at once again.

    Args:
        told: What was remembered since.
        alert: The alert of the letter, which is withheld like one that was never sent.
        withheld: How many the letter would have told of, which nobody has heard of either.
    """
    last = {key: at for key, at in told.last.items() if key != _about(alert)}
    return Told(last=last, sent=told.sent, withheld=told.withheld + withheld + 1)


def _about(alert: Alert) -> tuple[str, str]:
    return alert.type, alert.repair or alert.incident or alert.message
