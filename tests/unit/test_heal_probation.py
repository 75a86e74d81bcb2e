# SPDX-License-Identifier: MIT
"""Probation: what keeps a repair, what takes it back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.probation import Judgement, Watch, begin, observe
from wolverined.model import AppState

TICK = {"what": "tick"}


def run(watch: Watch, *events: tuple[float, dict[str, Any]]) -> Judgement | None:
    """The judgement after events at their times, None when it is still watched."""
    for now, event in events:
        watch, judgement = observe(watch, event, now=now)
        if judgement is not None:
            return judgement
    return None


def fresh(**fields: Any) -> Watch:
    """A watch of 60 s that begins at 0."""
    return begin(fingerprint="f", probation_s=60, now=0.0, **fields)


def test_an_app_that_stays_ready_is_verified_at_the_end() -> None:
    """Not a moment earlier."""
    assert run(fresh(), (59.9, TICK)) is None
    assert run(fresh(), (60.0, TICK)) == Judgement(worse=False, why="it stood its probation")


@pytest.mark.parametrize(
    ("event", "word"),
    [
        ({"what": "exit", "asked": False, "fingerprint": "f", "own": True}, "same trouble"),
        ({"what": "exit", "asked": False, "fingerprint": "g", "own": True}, "own code"),
        ({"what": "exit", "asked": False, "fingerprint": "g", "own": False}, "ended"),
        ({"what": "exit"}, "ended"),
        ({"what": "incident", "fingerprint": "f", "own": False}, "same trouble"),
        ({"what": "incident", "fingerprint": "g", "own": True}, "own code"),
        ({"what": "probe", "kind": "hang"}, "hung"),
        ({"what": "probe", "kind": "unready"}, "not ready in time"),
        ({"what": "state", "state": "crash-loop"}, "crash-loop"),
        ({"what": "state", "state": "failed"}, "failed"),
    ],
)
def test_what_takes_a_repair_back(event: dict[str, Any], word: str) -> None:
    """Each of these ends the probation at once, with the reason in words."""
    judgement = run(fresh(), (1.0, event))
    assert judgement is not None
    assert judgement.worse
    assert word in judgement.why


@pytest.mark.parametrize(
    "event",
    [
        {"what": "incident", "fingerprint": "g", "own": False},
        {"what": "exit", "asked": True, "fingerprint": "f", "own": True},
        {"what": "state", "state": "starting"},
        {"what": "state", "state": ["no", "state"]},
        {"what": "weather"},
        {},
    ],
)
def test_what_does_not(event: dict[str, Any]) -> None:
    """Trouble outside of the app's code, our own stops and nonsense are no verdict."""
    assert run(fresh(), (1.0, event)) is None


def test_an_empty_fingerprint_is_never_the_same_trouble() -> None:
    """A watch for a report without fingerprint does not take every nameless event for its own."""
    watch = begin(fingerprint="", probation_s=60, now=0.0)
    assert run(watch, (1.0, {"what": "incident", "fingerprint": "", "own": False})) is None


def test_three_health_misses_in_a_row_take_it_back() -> None:
    """A good answer between them begins the count anew."""
    miss, good = {"what": "health", "ok": False}, {"what": "health", "ok": True}
    assert run(fresh(), (1, miss), (2, miss), (3, good), (4, miss), (5, miss)) is None
    judgement = run(fresh(), (1, miss), (2, miss), (3, miss))
    assert judgement is not None
    assert judgement.worse


def test_an_app_that_is_not_ready_in_time_is_taken_back() -> None:
    """The startup grace counts from the beginning of the watch."""
    judgement = run(fresh(ready=False, startup_s=10), (9.9, TICK), (10.0, TICK))
    assert judgement is not None
    assert judgement.worse
    ready = {"what": "state", "state": "ready"}
    assert run(fresh(ready=False, startup_s=10), (9.9, ready), (11.0, TICK)) is None


def test_an_app_that_is_not_ready_at_the_end_is_taken_back() -> None:
    """Ending in the middle of a restart is no success."""
    judgement = run(fresh(), (59.0, {"what": "state", "state": "starting"}), (60.0, TICK))
    assert judgement is not None
    assert judgement.worse


def test_the_window_stands_still_while_an_operator_keeps_the_app_stopped() -> None:
    """What is left of it is watched after the start."""
    stopped, ready = {"what": "state", "state": "stopped"}, {"what": "state", "state": "ready"}
    assert run(fresh(), (20.0, stopped), (500.0, TICK), (1000.0, ready), (1039.0, TICK)) is None
    judgement = run(fresh(), (20.0, stopped), (1000.0, ready), (1040.0, TICK))
    assert judgement == Judgement(worse=False, why="it stood its probation")


def test_a_caller_that_waits_until_the_end_never_spins_while_the_app_is_stopped() -> None:
    """`ends_at` moves along with the time."""
    watch, _ = observe(fresh(), {"what": "state", "state": "stopped"}, now=60.0)
    for now in (61.0, 100.0):
        watch, _ = observe(watch, TICK, now=now)
        assert watch.ends_at >= now + 1.0


EVENTS = st.fixed_dictionaries(
    {"what": st.sampled_from(["tick", "state", "exit", "incident", "probe", "health", ""])},
    optional={
        "state": st.one_of(st.sampled_from([state.value for state in AppState]), st.integers()),
        "asked": st.one_of(st.booleans(), st.none()),
        "own": st.one_of(st.booleans(), st.text(max_size=3)),
        "ok": st.booleans(),
        "fingerprint": st.sampled_from(["f", "g", "", 7]),
        "kind": st.sampled_from(["hang", "unready", None]),
    },
)


@given(st.lists(st.tuples(st.floats(0, 10), EVENTS), max_size=30))
def test_good_is_only_ever_said_after_the_whole_window(steps: list[tuple[float, dict[str, Any]]]) -> None:
    """Whatever happens, nothing is verified before 60 s, and nothing raises."""
    watch, now = fresh(), 0.0
    for wait, event in steps:
        now += wait
        watch, judgement = observe(watch, event, now=now)
        if judgement is not None:
            assert judgement.why
            assert judgement.worse or (now >= 60 and watch.ready)
            return
