# SPDX-License-Identifier: MIT
"""Which events deserve a human, and how often."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wolverined
from wolverined.alerts import rules
from wolverined.alerts.rules import (
    PER_HOUR,
    REPEAT_S,
    SEVERITIES,
    Alert,
    Told,
    alert_of,
    decide,
    rank,
    undelivered,
)
from wolverined.model import Event


def event(name: str, **about: object) -> Event:
    """An event as the store gives it."""
    return Event(cursor=1, at=1000.0, name=name, message="words", **about)  # type: ignore[arg-type]


def alert(number: int = 0, severity: str = "error") -> Alert:
    """An alert about one of many incidents."""
    return Alert(
        type="heal_failed", severity=severity, event="heal.failed", message="words", at=0.0, incident=f"i{number}"
    )


@pytest.mark.parametrize("name", ["app.exit", "app.ready", "incident.opened", "audit.denied", "", "heal.failed.too"])
def test_what_happens_every_day_is_no_alert(name: str) -> None:
    """Only events of the table become alerts."""
    assert alert_of(event(name)) is None


@pytest.mark.parametrize("name", rules.TYPES)
def test_an_alert_carries_the_events_words(name: str) -> None:
    """Type by the table; message, incident and repair as the event has them."""
    found = alert_of(event(name, incident="i3", repair="r4"))
    assert found is not None
    assert (found.type, found.event, found.message, found.incident, found.repair) == (
        rules.TYPES[name],
        name,
        "words",
        "i3",
        "r4",
    )


def test_an_alert_is_at_least_as_grave_as_its_event() -> None:
    """A table may raise a severity and never lowers one."""
    assert all(
        rank(found.severity) >= rank(severity)
        for name in rules.TYPES
        for severity in SEVERITIES
        if (found := alert_of(event(name, severity=severity)))
    )


def test_every_event_of_the_table_is_one_that_somebody_tells() -> None:
    """A renamed event would silence its alert: each name stands somewhere in the code."""
    root = Path(wolverined.__file__).parent
    texts = {
        node.value
        for path in root.rglob("*.py")
        if "alerts" not in path.parts
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    rooms = {text for text in texts if text.endswith(".")}
    built = {f"{room}{word}" for room in rooms for word in texts if word.isidentifier()}
    assert {name for name in rules.TYPES if name not in texts and name not in built} == set()


@pytest.mark.parametrize(
    ("severity", "least", "sent"), [("warn", "warn", True), ("info", "warn", False), ("error", "critical", False)]
)
def test_below_the_configured_severity_nothing_is_sent(severity: str, least: str, sent: bool) -> None:
    """`alerts.min_severity` is the floor."""
    assert decide(Told(), alert(severity=severity), min_severity=least, now=0.0)[1] is sent


def test_the_same_trouble_is_told_once_in_a_while() -> None:
    """Again only after REPEAT_S; another incident at once."""
    told, first = decide(Told(), alert(), min_severity="warn", now=0.0)
    told, again = decide(told, alert(), min_severity="warn", now=REPEAT_S - 1)
    told, other = decide(told, alert(1), min_severity="warn", now=REPEAT_S - 1)
    _, later = decide(told, alert(), min_severity="warn", now=REPEAT_S)
    assert (first, again, other, later) == (True, False, True, True)


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(0, 60)), max_size=200))
def test_never_more_letters_an_hour_than_agreed(steps: list[tuple[int, float]]) -> None:
    """Whatever happens, PER_HOUR holds, and what was withheld for it is counted until the next letter."""
    told, now, sent, withheld = Told(), 0.0, [], 0
    for number, step in steps:
        now += step
        before = told
        told, send = decide(told, alert(number), min_severity="warn", now=now)
        if send:
            sent.append(now)
            assert before.withheld == withheld
            withheld = 0
        withheld += told.withheld - before.withheld if told.withheld else 0
        assert told.withheld == withheld
    assert all(sum(now - 3600 < at <= now for at in sent) <= PER_HOUR for now in sent)


def test_without_room_for_a_letter_its_trouble_is_withheld_and_told_later() -> None:
    """Not as if somebody had heard of it."""
    told, dropped = decide(Told(), alert(), min_severity="warn", now=0.0, room=False)
    assert (dropped, told.withheld, dict(told.last), told.sent) == (False, 1, {}, ())
    assert decide(told, alert(), min_severity="warn", now=1.0)[1] is True


def test_a_letter_that_reached_nobody_leaves_its_trouble_to_be_told() -> None:
    """It counts as withheld, with what it would have told of; others that were told stay told."""
    told, _ = decide(Told(withheld=2), alert(), min_severity="warn", now=0.0)
    told, _ = decide(told, alert(1), min_severity="warn", now=1.0)
    told = undelivered(told, alert(), withheld=2)
    assert told.withheld == 3
    assert decide(told, alert(), min_severity="warn", now=2.0)[1] is True
    assert decide(told, alert(1), min_severity="warn", now=2.0)[1] is False


def test_a_notifier_that_takes_nothing_is_not_asked_more_often_than_a_human_would_be() -> None:
    """Each try is a process and up to twenty connections."""
    told, asked = Told(), 0
    for second in range(3600):
        told, send = decide(told, alert(), min_severity="warn", now=float(second))
        if send:
            asked += 1
            told = undelivered(told, alert(), withheld=0)
    assert asked == PER_HOUR
