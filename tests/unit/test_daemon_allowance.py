# SPDX-License-Identifier: MIT
"""The measure for the app's lines: never more than journald takes, in any span, and a reserve for events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.daemon.allowance import SLOTS, Allowance, Spent, admit, allowance
from wolverined.linux.journald import RateLimit


def admitted(times: list[float], allowed: Allowance) -> list[float]:
    """The times at which a line passed."""
    spent, passed = Spent(), []
    for now in times:
        spent, yes = admit(spent, now, allowed)
        if yes:
            passed.append(now)
    return passed


@pytest.mark.parametrize(
    ("limit", "lines"),
    [
        (RateLimit(), 9000),
        (RateLimit(30.0, 1000), 500),
        (RateLimit(30.0, 100_000), 90_000),
        (RateLimit(30.0, 2), 1),
        (RateLimit(30.0, 1), 0),
        (RateLimit(30.0, 0), None),
        (RateLimit(0.0, 10_000), None),
    ],
)
def test_a_part_of_the_burst_is_kept_for_events(limit: RateLimit, lines: int | None) -> None:
    """A tenth of it, at least half of a small one, nothing where journald limits nothing."""
    assert allowance(limit) == Allowance(lines=lines, span_s=30.0 if lines is not None else 0.0)


@given(
    st.lists(st.floats(min_value=0, max_value=40, allow_nan=False), max_size=300).map(sorted),
    st.integers(0, 20),
    st.sampled_from([0.5, 3.0, 30.0]),
)
def test_no_span_has_more_than_the_measure(times: list[float], lines: int, span_s: float) -> None:
    """Wherever a span begins: journald's begin when they like."""
    passed = admitted(times, Allowance(lines=lines, span_s=span_s))
    for start in passed:
        assert sum(start <= one < start + span_s for one in passed) <= lines


@given(st.integers(1, 50))
def test_who_stays_below_the_measure_loses_nothing(lines: int) -> None:
    """A span and one part of it is what a line is remembered for."""
    allowed = Allowance(lines=lines, span_s=30.0)
    step = 30.0 * (SLOTS + 2) / SLOTS / lines
    times = [number * step for number in range(200)]
    assert admitted(times, allowed) == times


def test_a_flood_passes_again_when_the_span_is_over() -> None:
    """Also after an hour of silence, and with the whole measure."""
    allowed = Allowance(lines=5, span_s=30.0)
    passed = admitted([0.0] * 9 + [31.1] * 9 + [4000.0] * 9, allowed)
    assert passed == [0.0] * 5 + [31.1] * 5 + [4000.0] * 5


@pytest.mark.parametrize(("allowed", "passes"), [(Allowance(None, 0.0), 20), (Allowance(0, 30.0), 0)])
def test_no_limit_and_nothing_at_all(allowed: Allowance, passes: int) -> None:
    """Where journald takes everything, everything goes; a measure of nothing lets nothing pass."""
    assert len(admitted([1.0] * 20, allowed)) == passes


def test_a_span_without_end_never_gives_back() -> None:
    """`RateLimitIntervalSec=infinity` is a limit for ever."""
    assert len(admitted([0.0, 1e6, 1e9], Allowance(lines=2, span_s=math.inf))) == 2
