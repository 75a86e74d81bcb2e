# SPDX-License-Identifier: MIT
"""What a number of the configuration may be: one bound for each key, units in mind (pure).

A number out of bounds is nearly always a slip of units, so the message says the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from wolverined.config.problems import Problems

_YEAR_S = 366 * 86400.0
_DAY_MS = 86_400_000
_MANY = 1_000_000_000
_HINTS = {
    "_s": "`_s` means seconds",
    "_ms": "`_ms` means milliseconds",
    "_mb": "`_mb` means megabytes",
    "_days": "`_days` means days",
}


class Bound(msgspec.Struct, frozen=True):
    """From `least` (with `above`: more than it) to `most`."""

    least: float
    most: float
    above: bool = False

    def broken_by(self, value: float) -> str:
        """Say what is wrong with a value; "" when nothing is. NaN is always wrong."""
        if not (value > self.least if self.above else value >= self.least):
            return f"must be {'more than' if self.above else 'at least'} {self.least:g}"
        return "" if value <= self.most else f"must be at most {self.most:g}"


_TIME = Bound(0, _YEAR_S, above=True)
_TIME_OR_NONE = Bound(0, _YEAR_S)
_COUNT = Bound(1, _MANY)
_COUNT_OR_NONE = Bound(0, _MANY)
_MONEY = Bound(0, _MANY)

BOUNDS: dict[str, Bound] = {
    "stop.timeout_s": _TIME,
    "stop.abort_s": _TIME_OR_NONE,
    "restart.initial_s": _TIME,
    "restart.factor": Bound(1, 1000),
    "restart.max_s": _TIME,
    "restart.jitter": Bound(0, 1),
    "restart.reset_s": _TIME,
    "restart.crash_loop_s": _TIME,
    "probe.interval_s": _TIME,
    "probe.timeout_s": _TIME,
    "probe.failures": _COUNT,
    "probe.startup_s": _TIME,
    "routes.interval_s": _TIME,
    "routes.slow_ms": Bound(0, _DAY_MS),
    "resources.sample_s": _TIME,
    "resources.memory_max_mb": _COUNT_OR_NONE,
    "resources.leak_window_s": _TIME,
    "errors.threshold": _COUNT,
    "errors.window_s": _TIME,
    "errors.cooldown_s": _TIME_OR_NONE,
    "cluster.workers": Bound(0, 10_000),
    "heal.max_attempts": Bound(1, 1000),
    "heal.timeout_s": _TIME,
    "heal.probation_s": _TIME,
    "heal.settle_s": _TIME_OR_NONE,
    "heal.approval_s": _TIME,
    "heal.max_files": _COUNT,
    "heal.max_lines": _COUNT,
    "ai.budget.usd_per_incident": _MONEY,
    "ai.budget.usd_per_day": _MONEY,
    "ai.budget.tokens_per_hour": _COUNT_OR_NONE,
    "alerts.digest_s": _TIME_OR_NONE,
    "platform.heartbeat_s": _TIME,
    "retention.backups_days": Bound(0, 36_600),
    "retention.stable_per_day": _COUNT_OR_NONE,
    "retention.evidence_days": Bound(0, 36_600),
    "retention.state_max_mb": _COUNT_OR_NONE,
}
"""Every number but `app.port`, whose bounds have reasons of their own. Prices are looked at by model."""


def check(tables: Mapping[str, msgspec.Struct], *, problems: Problems) -> None:
    """Add a problem for each number of `tables` that is out of its bounds."""
    for key, bound in BOUNDS.items():
        _look(key, value_of(tables, key), bound, problems)
    for model, price in (value_of(tables, "ai.prices") or {}).items():
        for side in ("input", "output"):
            _look(f"ai.prices.{model}.{side}", getattr(price, side), _MONEY, problems)
    first, last = value_of(tables, "restart.initial_s"), value_of(tables, "restart.max_s")
    if first > last and not (problems.has("restart.initial_s") or problems.has("restart.max_s")):
        what = f"restart.max_s ({last:g}) is less than restart.initial_s ({first:g})"
        problems.add("restart.max_s", what, "the pauses grow from initial_s to max_s")


def value_of(tables: Mapping[str, msgspec.Struct], key: str) -> Any:
    """The value at a dotted path; None where the table was not made."""
    table, *names = key.split(".")
    value: Any = tables.get(table)
    for name in names:
        value = getattr(value, name, None)
    return value


def _look(key: str, value: float | None, bound: Bound, problems: Problems) -> None:
    if value is None or not (wrong := bound.broken_by(value)):
        return
    unit = next((words for end, words in _HINTS.items() if key.endswith(end)), "US dollars" if "usd" in key else "")
    hint = f"write a number from {bound.least:g} to {bound.most:g}" + (f"; {unit}" if unit else "")
    problems.add(key, f"{key} {wrong}, not {value:g}", hint)
