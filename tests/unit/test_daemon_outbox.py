# SPDX-License-Identifier: MIT
"""What waits for the journal: order, bounds, measure, and that every loss is counted and told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clocks import HandClock
from support.places import eventually_async

from wolverined.daemon import outbox
from wolverined.daemon.allowance import Allowance
from wolverined.daemon.outbox import EVENTS_WAITING, LINES_WAITING, Left, Outbox

ALL = Allowance(lines=None, span_s=0.0)


class Journal:
    """Takes entries while it has room."""

    def __init__(self, room: int = sys.maxsize) -> None:
        self.room = room
        self.taken: list[bytes] = []
        self.asked = 0
        self.closed = False

    def offer(self, entry: bytes) -> bool:
        """Keep it, or not."""
        self.asked += 1
        if self.room <= 0:
            return False
        self.room -= 1
        self.taken.append(entry)
        return True

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Sent:
    """An outbox between a journal and a clock of the test."""

    def __init__(self, *, room: int = sys.maxsize, allowed: Allowance = ALL) -> None:
        self.journal, self.clock, self.told = Journal(room), HandClock(), list[Left]()
        self.outbox = Outbox(
            self.journal,  # type: ignore[arg-type]
            allowed=allowed,
            clock=self.clock,
            tell=self.told.append,
        )

    def event(self, number: int) -> None:
        """Put an event."""
        self.outbox.put(b"event %d" % number)

    def line(self, number: int, *, stream: str = "stdout") -> None:
        """Put a line as the narrator does."""
        if self.outbox.takes_line(stream):
            self.outbox.put(b"line %d" % number, stream=stream)


def in_loop(act: Callable[[Sent], object], sent: Sent, *, until: Callable[[], object]) -> None:
    """Do something inside a loop and go on until it is as wanted."""

    async def scenario() -> None:
        act(sent)
        await eventually_async(until, within_s=5)
        sent.outbox.close()

    asyncio.run(scenario())


def test_what_the_journal_takes_goes_at_once_and_in_order() -> None:
    """Nothing waits, nothing is told."""
    sent = Sent()
    sent.event(1)
    sent.line(2)
    sent.event(3)
    assert sent.journal.taken == [b"event 1", b"line 2", b"event 3"]
    sent.outbox.close()
    assert (sent.told, sent.journal.closed) == ([], True)


def test_a_journal_that_comes_back_gets_what_waited_in_order() -> None:
    """By itself: nothing else need happen."""
    sent = Sent(room=1)

    def act(sent: Sent) -> None:
        sent.event(1)
        sent.line(2)
        sent.event(3)
        assert sent.outbox.waiting == 2
        sent.journal.room = sys.maxsize

    in_loop(act, sent, until=lambda: not sent.outbox.waiting)
    assert sent.journal.taken == [b"event 1", b"line 2", b"event 3"]
    assert sent.told == []


def test_a_journal_that_is_away_is_asked_less_and_less() -> None:
    """Without waiting for it, and without a fault when there is no loop."""
    sent = Sent(room=0)
    for number in range(50):
        sent.event(number)
    assert (sent.outbox.waiting, sent.journal.asked) == (50, 1)
    sent.journal.room = sys.maxsize
    sent.outbox.close()
    assert len(sent.journal.taken) == 50


def test_lines_take_no_room_from_events() -> None:
    """Lines end at their bound; every event still finds a place, and none is told as lost."""
    sent = Sent(room=0)
    for number in range(LINES_WAITING + 500):
        sent.line(number)
    for number in range(EVENTS_WAITING):
        sent.event(number)
    assert sent.outbox.waiting == LINES_WAITING + EVENTS_WAITING
    sent.journal.room = sys.maxsize
    sent.outbox.close()
    assert [one for one in sent.journal.taken if one.startswith(b"event")] == [
        b"event %d" % number for number in range(EVENTS_WAITING)
    ]
    assert [(left.lines, left.events) for left in sent.told] == [({"stdout": 500}, 0)]


def test_big_lines_end_at_a_mebibyte() -> None:
    """A waiting room is measured in bytes, too."""
    sent = Sent(room=0)
    taken = 0
    while sent.outbox.takes_line("stderr"):
        sent.outbox.put(b"x" * 65_536, stream="stderr")
        taken += 1
    assert taken == 16


def test_more_events_than_fit_are_counted() -> None:
    """The newest are lost: the oldest tell how it began."""
    sent = Sent(room=0)
    for number in range(EVENTS_WAITING + 3):
        sent.event(number)
    sent.journal.room = sys.maxsize
    sent.outbox.close()
    assert sent.journal.taken[-1] == b"event %d" % (EVENTS_WAITING - 1)
    assert [(left.lines, left.events) for left in sent.told] == [({}, 3)]


def test_lines_above_the_measure_are_counted_by_stream_and_told_once_a_span() -> None:
    """Events pass all the while; a flood of stdout silences no line of stderr."""
    sent = Sent(allowed=Allowance(lines=5, span_s=0.05))

    def act(sent: Sent) -> None:
        for number in range(20):
            sent.line(number)
            sent.event(number)
        sent.line(99, stream="stderr")
        sent.clock.now += 0.05

    in_loop(act, sent, until=lambda: sent.told)
    assert sum(one.startswith(b"line") for one in sent.journal.taken) == 6
    assert sent.journal.taken[-1] == b"line 99"
    assert sum(one.startswith(b"event") for one in sent.journal.taken) == 20
    assert [(left.lines, left.events, round(left.seconds, 2)) for left in sent.told] == [({"stdout": 15}, 0, 0.05)]


def test_what_waited_is_measured_when_it_is_sent() -> None:
    """Lines that pile up while journald is away must not come as one flood above the measure."""
    sent = Sent(room=0, allowed=Allowance(lines=5, span_s=30.0))
    for number in range(20):
        sent.line(number)
    sent.journal.room = sys.maxsize
    sent.outbox.close()
    assert len(sent.journal.taken) == 5
    assert sent.told[0].lines == {"stdout": 15}


def test_a_loss_is_told_only_once_the_journal_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would hear of it before; it is one sum then."""
    monkeypatch.setattr(outbox, "_TOLD_EVERY_S", 0.02)
    monkeypatch.setattr(outbox, "LINES_WAITING", 1)
    sent = Sent(room=0)

    async def scenario() -> None:
        for number in range(10):
            sent.line(number)
        await eventually_async(lambda: sent.journal.asked > 2, within_s=5)
        assert sent.told == []
        for number in range(10):
            sent.line(number)
        sent.journal.room = sys.maxsize
        await eventually_async(lambda: sent.told, within_s=5)
        sent.outbox.close()

    asyncio.run(scenario())
    assert [(left.lines, left.events) for left in sent.told] == [({"stdout": 19}, 0)]


@given(st.lists(st.tuples(st.sampled_from(["event", "stdout", "stderr", "away", "back", "later"])), max_size=200))
def test_nothing_is_lost_uncounted_and_order_is_kept(steps: list[tuple[str]]) -> None:
    """Whatever happens in whatever order: sent, waiting and left out are all there is."""
    sent = Sent(allowed=Allowance(lines=7, span_s=30.0))
    put = {"event": 0, "line": 0}
    for number, (step,) in enumerate(steps):
        match step:
            case "event":
                sent.event(number)
                put["event"] += 1
            case "away":
                sent.journal.room = 0
            case "back":
                sent.journal.room = sys.maxsize
            case "later":
                sent.clock.now += 31.0
            case stream:
                sent.line(number, stream=stream)
                put["line"] += 1
    sent.journal.room = sys.maxsize
    sent.outbox.close()
    numbers = [int(one.split()[1]) for one in sent.journal.taken]
    assert numbers == sorted(numbers)
    left = sum(sum(one.lines.values()) for one in sent.told)
    assert sum(one.startswith(b"event") for one in sent.journal.taken) == put["event"]
    assert sum(one.startswith(b"line") for one in sent.journal.taken) + left == put["line"]
