# SPDX-License-Identifier: MIT
"""How many of the app's lines may go to the journal, so that journald never has to drop an event of ours (pure).

journald counts the entries of a unit, and ours and the app's are of one unit: whoever is over the measure
silences both. So lines end below it, in *any* span of its length and not only in spans that begin together.
"""

from __future__ import annotations

import math

import msgspec

from wolverined.linux.journald import RateLimit

SLOTS = 30
"""Into so many parts the span is cut; a line is forgotten when the whole span and one part more have gone by."""

_RESERVE = 1000
"""Entries of a span that are kept for events, where the measure is big enough."""


class Allowance(msgspec.Struct, frozen=True):
    """At most `lines` in any `span_s`; None: as many as there are."""

    lines: int | None
    span_s: float


class Spent(msgspec.Struct, frozen=True):
    """What was admitted in the newest slots (`counts`, oldest first, the last is of number `slot`)."""

    slot: int = 0
    counts: tuple[int, ...] = (0,) * (SLOTS + 1)
    total: int = 0


def allowance(limit: RateLimit) -> Allowance:
    """What journald's limit leaves for the lines of one stream.

    journald counts each class of priorities by itself (stdout and stderr are of two), which no page
    promises: so events get their reserve in each, and either stream has the whole rest.
    """
    if limit.unlimited:
        return Allowance(lines=None, span_s=0.0)
    reserve = max(limit.burst // 10, min(_RESERVE, (limit.burst + 1) // 2))
    return Allowance(lines=limit.burst - reserve, span_s=limit.interval_s)


def admit(spent: Spent, now: float, allowed: Allowance) -> tuple[Spent, bool]:
    """Whether a line may go to the journal at this time (monotonic seconds), and what is spent then."""
    if allowed.lines is None:
        return spent, True
    slot = math.floor(now * SLOTS / allowed.span_s) if math.isfinite(allowed.span_s) else 0
    if slot > spent.slot:
        spent = _slide(spent, slot)
    if spent.total >= allowed.lines:
        return spent, False
    counts = (*spent.counts[:-1], spent.counts[-1] + 1)
    return Spent(slot=spent.slot, counts=counts, total=spent.total + 1), True


def _slide(spent: Spent, slot: int) -> Spent:
    """Forget what is older than the span, now that this slot has begun."""
    gone = min(slot - spent.slot, SLOTS + 1)
    counts = (*spent.counts[gone:], *(0 for _ in range(gone)))
    return Spent(slot=slot, counts=counts, total=sum(counts))
