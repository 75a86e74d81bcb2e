# SPDX-License-Identifier: MIT
"""The error monitor: when a caught error makes an incident, when it is counted, and that none is lost unseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.sense.errors import (
    MAX_KINDS,
    OPENS,
    OPENS_S,
    Action,
    Count,
    Event,
    Kind,
    Open,
    Over,
    Rules,
    Seen,
    State,
    Succeeded,
    observe,
)

A = Kind("GET /a", "aaaa")
B = Kind("GET /b", "bbbb")
A_OTHER = Kind("GET /a", "cccc")
ERROR, OTHER, SAME_ROUTE = Seen(kind=A), Seen(kind=B), Seen(kind=A_OTHER)
WELL = Succeeded(route="GET /a")
OVER = Over(fingerprint="aaaa")


def run(steps: list[tuple[float, Event]], rules: Rules = Rules()) -> tuple[State, list[Action | None]]:  # noqa: B008  frozen
    """Feed events at their times; give the state at the end and what was to be done each time."""
    state, actions = State(), []
    for now, event in steps:
        state, action = observe(state, event, rules=rules, now=now)
        actions.append(action)
    return state, actions


def opened(kind: Kind = A, count: int = 1) -> Open:
    """An incident that stands for so many errors."""
    return Open(kind=kind, count=count)


def counted(kind: Kind = A, count: int = 1) -> Count:
    """So many errors more on an incident."""
    return Count(kind=kind, count=count)


THREE = Rules(threshold=3, window_s=30.0, cooldown_s=60.0)

TABLE: dict[str, tuple[Rules, list[tuple[float, Event]], list[Action | None]]] = {
    "the first error opens at threshold 1": (Rules(), [(0, ERROR)], [opened()]),
    "more of it in the cooldown is counted only": (
        Rules(),
        [(0, ERROR), (1, ERROR), (59.9, ERROR)],
        [opened(), counted(), counted()],
    ),
    "after the cooldown it is seen to again": (Rules(), [(0, ERROR), (60, ERROR)], [opened(), opened()]),
    "without a cooldown each is seen to": (
        Rules(cooldown_s=0),
        [(0, ERROR), (0, ERROR)],
        [opened(), opened()],
    ),
    "another route is another matter": (Rules(), [(0, ERROR), (0, OTHER)], [opened(), opened(B)]),
    "another fault of the same route too": (Rules(), [(0, ERROR), (0, SAME_ROUTE)], [opened(), opened(A_OTHER)]),
    "three within the window": (
        THREE,
        [(0, ERROR), (10, ERROR), (29.9, ERROR)],
        [None, None, opened(count=3)],
    ),
    "three of two kinds are not three": (THREE, [(0, ERROR), (1, OTHER), (2, SAME_ROUTE)], [None] * 3),
    "the window slides": (
        THREE,
        [(0, ERROR), (20, ERROR), (31, ERROR), (40, ERROR)],
        [None, None, None, opened(count=3)],
    ),
    "several at once": (THREE, [(0, Seen(kind=A, count=5))], [opened(count=5)]),
    "a clean second takes one back": (
        THREE,
        [(0, ERROR), (1, ERROR), (2, WELL), (3, ERROR), (4, ERROR)],
        [None, None, None, None, opened(count=3)],
    ),
    "a clean second of another route takes none back": (
        THREE,
        [(0, ERROR), (1, ERROR), (2, Succeeded(route="GET /b")), (3, ERROR)],
        [None, None, None, opened(count=3)],
    ),
    "successes end no cooldown": (
        Rules(),
        [(0, ERROR), (1, WELL), (2, ERROR)],
        [opened(), None, counted()],
    ),
    "a closed incident is news": (Rules(), [(0, ERROR), (1, OVER), (2, ERROR)], [opened(), None, opened()]),
    "the end of another is not": (
        Rules(),
        [(0, ERROR), (1, Over(fingerprint="bbbb")), (2, ERROR)],
        [opened(), None, counted()],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_what_becomes_of_errors(name: str) -> None:
    """Each row of the table: rules, events at their times, what is to be done."""
    rules, steps, expected = TABLE[name]
    assert run(steps, rules)[1] == expected


def test_an_app_whose_every_error_is_new_opens_a_bounded_number_of_incidents_and_the_rest_waits() -> None:
    """OPENS of them in OPENS_S; a fault that was kept waiting is told of as soon as there is room."""
    flood: list[tuple[float, Event]] = [(0, Seen(kind=Kind("GET /", f"{n:04}"))) for n in range(OPENS)]
    late = Seen(kind=A)
    _, actions = run([*flood, (1, late), (2, late), (OPENS_S, late)], Rules(window_s=600.0))
    assert sum(isinstance(action, Open) for action in actions) == OPENS + 1
    assert actions[-3:] == [None, None, opened(count=3)]


def test_a_flood_of_kinds_keeps_the_newest_in_mind() -> None:
    """The memory is bounded, and what was crowded out is counted."""
    many: list[tuple[float, Event]] = [(n, Seen(kind=Kind("GET /", f"{n:04}"))) for n in range(MAX_KINDS + 10)]
    state, _ = run(many, Rules(threshold=2, window_s=1e6))
    assert len(state.tallies) == MAX_KINDS
    assert state.forgotten == 10
    assert Kind("GET /", f"{MAX_KINDS + 9:04}") in state.tallies


KINDS = st.sampled_from([A, B, A_OTHER])
EVENTS = st.one_of(
    st.builds(Seen, kind=KINDS, count=st.integers(1, 5)),
    st.builds(Succeeded, route=st.sampled_from(["GET /a", "GET /b", "GET /c"])),
    st.builds(Over, fingerprint=st.sampled_from(["aaaa", "bbbb", "dddd"])),
)
STEPS = st.lists(st.tuples(st.floats(0, 40), EVENTS), max_size=60)
RULES = st.builds(
    Rules,
    threshold=st.integers(1, 6),
    window_s=st.floats(0.5, 60),
    cooldown_s=st.floats(0, 90),
)


def timed(steps: list[tuple[float, Event]]) -> list[tuple[float, Event]]:
    """Turn pauses into times."""
    now, found = 1000.0, []
    for pause, event in steps:
        now += pause
        found.append((now, event))
    return found


@given(STEPS, RULES)
def test_every_error_is_told_waits_or_stands_in_the_count_of_the_forgotten(
    steps: list[tuple[float, Event]], rules: Rules
) -> None:
    """Errors in = opened for + counted + waiting + forgotten, whatever happens."""
    state, actions = run(timed(steps), rules)
    came = sum(event.count for _, event in steps if isinstance(event, Seen))
    told = sum(action.count for action in actions if action is not None)
    waiting = sum(tally.waiting for tally in state.tallies.values())
    assert came == told + waiting + state.forgotten


@given(STEPS, RULES)
def test_no_kind_is_seen_to_twice_within_its_cooldown_unless_its_incident_was_closed(
    steps: list[tuple[float, Event]], rules: Rules
) -> None:
    """Between two Opens of a kind lie the cooldown or an Over; and each Open stands for a threshold of errors."""
    state, last = State(), dict[Kind, float]()
    for now, event in timed(steps):
        if isinstance(event, Over):
            last = {kind: at for kind, at in last.items() if kind.fingerprint != event.fingerprint}
        state, action = observe(state, event, rules=rules, now=now)
        if isinstance(action, Open):
            assert action.count >= rules.threshold
            assert now - last.get(action.kind, float("-inf")) >= rules.cooldown_s - 1e-9
            last[action.kind] = now


@given(STEPS)
def test_at_threshold_one_no_error_ever_waits(steps: list[tuple[float, Event]]) -> None:
    """Each is told of at once, as a trigger or as a count."""
    state, actions = run(timed(steps))
    if sum(isinstance(action, Open) for action in actions) < OPENS:
        assert all(
            (action is not None) == isinstance(event, Seen) for (_, event), action in zip(steps, actions, strict=True)
        )
        assert state.forgotten == 0


@given(st.lists(KINDS, min_size=1, max_size=30), RULES)
def test_successes_alone_do_nothing(kinds: list[Kind], rules: Rules) -> None:
    """A route that only succeeds makes no incident and takes no memory."""
    state, actions = run([(n, Succeeded(route=kind.route)) for n, kind in enumerate(kinds)], rules)
    assert state == State()
    assert set(actions) == {None}
