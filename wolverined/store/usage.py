# SPDX-License-Identifier: MIT
"""The ledger of model calls: the worst case is reserved before a call, and settled with what it used.

A reservation that nobody settles (the heal was killed in the middle of the call) stays at its worst
case: money that may have been spent counts as spent. Written by the heal alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wolverined.clock import Clock
from wolverined.config.schema import BudgetTable
from wolverined.errors import NotFound, OverBudget
from wolverined.model import Usage
from wolverined.store.database import Database

HOUR_S = 3600.0
DAY_S = 86400.0

_INSERT = """
    INSERT INTO usage
        (at, incident, category, mode, model, settled, calls, input_tokens, output_tokens, cost_usd, estimated)
    VALUES (?, ?, ?, ?, ?, 0, 1, ?, ?, ?, 1)
"""
_SETTLE = """
    UPDATE usage SET settled = 1, calls = ?, input_tokens = ?, output_tokens = ?, cost_usd = ?, estimated = ?,
        model = CASE WHEN ? = '' THEN model ELSE ? END
    WHERE n = ? AND settled = 0
"""
_SPENT = """
    SELECT
        coalesce(sum(CASE WHEN incident = :incident THEN cost_usd END), 0),
        coalesce(sum(CASE WHEN at > :day THEN cost_usd END), 0),
        coalesce(sum(CASE WHEN at > :hour THEN input_tokens + output_tokens END), 0)
    FROM usage WHERE at > :day OR incident = :incident
"""
_TOTALS = """
    SELECT category, model, mode, sum(calls), sum(input_tokens), sum(output_tokens), sum(cost_usd),
        sum(cost_usd IS NULL)
    FROM usage WHERE at >= ? AND ? IN ('', incident) GROUP BY category, model, mode
"""


class Reservation(msgspec.Struct, frozen=True):
    """What a call may cost at most, held until it is settled."""

    number: int


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, money and calls of one group. `unpriced` counts the calls whose price is unknown."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0


class UsageTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger summed up, as a whole and by group."""

    total: Sum = Sum()
    by_category: dict[str, Sum] = {}
    by_model: dict[str, Sum] = {}
    by_mode: dict[str, Sum] = {}


class UsageLedger:
    """The usage of one instance."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def reserve(
        self,
        *,
        incident: str,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cost_usd: float | None,
        budget: BudgetTable,
        category: str = "heal",
        mode: str = "fast",
    ) -> Reservation:
        """Hold the worst case of a call against every budget.

        Args:
            incident: Whose budget it is, beside the day's and the hour's.
            model: As the endpoint names it.
            input_tokens: As counted or estimated.
            output_tokens: The most that the call allows.
            cost_usd: The worst case by list price; None: unknown, so only tokens are limited.
            budget: The limits.
            category: heal, chat, classify or develop.
            mode: fast, agent or sub-agents.

        Raises:
            OverBudget: It does not fit; nothing is held.
        """
        now = self._clock.wall()
        with self._database.write() as connection:
            spent = connection.execute(
                _SPENT, {"incident": incident, "day": now - DAY_S, "hour": now - HOUR_S}
            ).fetchone()
            _check(spent, tokens=input_tokens + output_tokens, cost_usd=cost_usd or 0.0, budget=budget)
            values = (now, incident, category, mode, model, max(0, input_tokens), max(0, output_tokens), cost_usd)
            return Reservation(connection.execute(_INSERT, values).lastrowid or 0)

    def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Replace a reservation by what the call used; `Usage(calls=0)` when it was never sent.

        Raises:
            NotFound: There is no such reservation, or it is settled already.
        """
        cost = None if usage.cost_usd is None else max(0.0, usage.cost_usd)
        values = (
            max(0, usage.calls),
            max(0, usage.input_tokens),
            max(0, usage.output_tokens),
            cost,
            int(usage.estimated),
            usage.model,
            usage.model,
            reservation.number,
        )
        with self._database.write() as connection:
            if connection.execute(_SETTLE, values).rowcount != 1:
                raise NotFound(f"there is no open reservation {reservation.number}")

    def totals(self, *, since: float = 0.0, incident: str = "") -> UsageTotals:
        """Sums since a time (wall), of one incident when that is given; reservations count at their worst."""
        groups: tuple[dict[str, Sum], ...] = ({}, {}, {})
        total = Sum()
        for *names, calls, into, out, cost, unpriced in self._database.rows(_TOTALS, (since, incident)):
            part = Sum(calls=calls, input_tokens=into, output_tokens=out, cost_usd=cost or 0.0, unpriced=unpriced)
            total = _plus(total, part)
            for group, name in zip(groups, names, strict=True):
                group[name] = _plus(group.get(name, Sum()), part)
        return UsageTotals(total=total, by_category=groups[0], by_model=groups[1], by_mode=groups[2])


def _check(spent: Sequence[float], *, tokens: int, cost_usd: float, budget: BudgetTable) -> None:
    of_incident, of_day, of_hour = spent
    hint = "raise it under [ai.budget], or wait"
    if of_incident + cost_usd > budget.usd_per_incident:
        raise OverBudget(f"the incident's budget of ${budget.usd_per_incident:g} is used up", hint=hint)
    if of_day + cost_usd > budget.usd_per_day:
        raise OverBudget(f"the day's budget of ${budget.usd_per_day:g} is used up", hint=hint)
    if of_hour + tokens > budget.tokens_per_hour:
        raise OverBudget(f"the hour's budget of {budget.tokens_per_hour} tokens is used up", hint=hint)


def _plus(one: Sum, other: Sum) -> Sum:
    return Sum(
        calls=one.calls + other.calls,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost_usd=one.cost_usd + other.cost_usd,
        unpriced=one.unpriced + other.unpriced,
    )
