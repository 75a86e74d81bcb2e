# SPDX-License-Identifier: MIT
"""When to start again after a failure: pure arithmetic over `[restart]`.

A ready generation that dies with a clear record is started again at once. Every further failure waits
longer, up to `max_s`; one more failure after a wait at that cap is a crash loop, retried every
`crash_loop_s` for ever. Only `reset_s` of being ready (or an operator) clears the record, so that a
program which lives just long enough to look well cannot spin.
"""

from __future__ import annotations

import msgspec

from wolverined.config.schema import RestartTable


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of failures.

    Attributes:
        failures: Failures since the record was last clear.
        waits: How many waits have been handed out; the exponent of the next one.
        capped: The last wait was `max_s`: the next failure is a crash loop.
    """

    failures: int = 0
    waits: int = 0
    capped: bool = False


CLEAR = Backoff()
"""A clear record."""


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before the next start; `loop` says that this is a crash loop."""

    delay_s: float
    loop: bool = False


def failed(record: Backoff, *, ready: bool, chance: float, table: RestartTable) -> tuple[Backoff, Wait]:
    """Count one failure and say how long to wait.

    Args:
        record: What is remembered so far.
        ready: Whether the generation that failed had ever been ready.
        chance: A random number in [0, 1) that picks the place within the jitter.
        table: The configured schedule.

    Returns:
        The new record, and the wait before the next start.
    """
    failures = record.failures + 1
    if ready and record.failures == 0:
        return Backoff(failures=failures), Wait(delay_s=0.0)
    if record.capped:
        delay_s = _jittered(table.crash_loop_s, chance=chance, jitter=table.jitter)
        return Backoff(failures=failures, waits=record.waits, capped=True), Wait(delay_s=delay_s, loop=True)
    base_s = _base(record.waits, table)
    capped = base_s >= table.max_s
    wait = Wait(delay_s=_jittered(base_s, chance=chance, jitter=table.jitter))
    return Backoff(failures=failures, waits=record.waits + 1, capped=capped), wait


def _base(waits: int, table: RestartTable) -> float:
    try:
        base_s = table.initial_s * table.factor**waits
    except OverflowError:  # a factor just above 1 needs very many waits to come here, but it can
        return table.max_s
    return min(base_s, table.max_s)


def _jittered(base_s: float, *, chance: float, jitter: float) -> float:
    # Symmetric, so that the mean is what the operator wrote; many instances on one host drift apart.
    return max(0.0, base_s * (1.0 + jitter * (2.0 * chance - 1.0)))
