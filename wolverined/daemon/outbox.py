# SPDX-License-Identifier: MIT
"""What waits for the journal: nobody waits with it, little is lost, and what is lost is counted and told.

journald may be slow for a moment (a full queue), away for a second (a restart) or absent. Events of ours have
room that no line of the app can take; lines are measured (`allowance`) when they are sent, not when they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from wolverined.clock import Clock
from wolverined.daemon.allowance import Allowance, Spent, admit
from wolverined.linux.journal import Journal

EVENTS_WAITING = 1000
LINES_WAITING = 2000
_LINE_BYTES_WAITING = 1 << 20
_AT_ONCE = 100  # entries that one turn of the loop sends
_RETRY_S = 0.02
_LONGEST_RETRY_S = 1.0
_TOLD_EVERY_S = 30.0


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal did not get in so many seconds: lines of each stream, and events."""

    lines: Mapping[str, int]
    events: int
    seconds: float


class HandedOutbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal did not take yet: entries with their streams, what of the measure is spent, what was left out."""

    queue: tuple[tuple[bytes, str], ...]
    spent: dict[str, Spent]
    left: dict[str, int]
    lost_events: int
    since: float


class Outbox:
    """Entries on their way to the journal, in order.

    Args:
        journal: Takes them, or does not.
        allowed: The measure for the lines of each stream.
        clock: Monotonic time decides.
        tell: Told what was left out, soon after the journal takes entries again or the measure is over.
    """

    def __init__(self, journal: Journal, *, allowed: Allowance, clock: Clock, tell: Callable[[Left], None]) -> None:
        self._journal = journal
        self._allowed = allowed
        self._clock = clock
        self._tell = tell
        self._queue: deque[tuple[bytes, str]] = deque()  # an entry, and its stream when it is a line
        self._events = 0
        self._line_bytes = 0
        self._spent: dict[str, Spent] = {}
        self._left: dict[str, int] = {}
        self._lost_events = 0
        self._since = 0.0
        self._retry_s = _RETRY_S
        self._retry: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many entries wait."""
        return len(self._queue)

    def takes_line(self, stream: str) -> bool:
        """Whether a line would be taken now; counts it when not, so that nobody need make an entry of it."""
        waiting = len(self._queue) - self._events
        room = waiting < LINES_WAITING and self._line_bytes < _LINE_BYTES_WAITING
        if room and admit(self._spent_of(stream), self._clock.monotonic(), self._allowed)[1]:
            return True
        self._leave_out(stream)
        return False

    def put(self, entry: bytes, *, stream: str = "") -> None:
        """Send an entry, now or as soon as the journal takes it.

        Args:
            entry: In the native protocol.
            stream: "stdout" or "stderr" when it is a line of the app; empty for an event of ours.
        """
        if not self._queue and self._send(entry, stream):
            return
        if stream:
            self._line_bytes += len(entry)
        elif self._events >= EVENTS_WAITING:
            self._lost_events += 1
            self._note_loss()
            return
        else:
            self._events += 1
        self._queue.append((entry, stream))
        self._arm()

    def hand_over(self) -> HandedOutbox:
        """Send what can be sent now; the rest is for a successor in this process."""
        self._flush(len(self._queue))
        return HandedOutbox(
            queue=tuple(self._queue),
            spent=self._spent,
            left=self._left,
            lost_events=self._lost_events,
            since=self._since,
        )

    def adopt(self, handed: HandedOutbox) -> None:
        """Send what a predecessor could not, by the measure that is left of it."""
        slots = len(Spent().counts)  # a version that measures in other slots begins anew
        self._spent = {stream: spent for stream, spent in handed.spent.items() if len(spent.counts) == slots}
        self._left = handed.left
        self._lost_events, self._since = handed.lost_events, handed.since
        for entry, stream in handed.queue:
            self.put(entry, stream=stream)
        if self._left or self._lost_events:
            self._note_loss()

    def close(self) -> None:
        """Send what can be sent now, and tell what was left out."""
        self._flush(len(self._queue))
        self._report()
        for timer in (self._retry, self._telling):
            if timer is not None:
                timer.cancel()
        self._journal.close()

    def _spent_of(self, stream: str) -> Spent:
        return self._spent.get(stream) or Spent()

    def _send(self, entry: bytes, stream: str) -> bool:
        """Whether it is dealt with: sent, or left out because the measure is full."""
        if not stream:
            return self._journal.offer(entry)
        spent, admitted = admit(self._spent_of(stream), self._clock.monotonic(), self._allowed)
        if not admitted:
            self._leave_out(stream)
            return True
        if not self._journal.offer(entry):
            return False
        self._spent[stream] = spent
        return True

    def _flush(self, most: int) -> None:
        for _ in range(min(most, len(self._queue))):
            entry, stream = self._queue[0]
            if not self._send(entry, stream):
                self._retry_s = min(self._retry_s * 2, _LONGEST_RETRY_S)
                return
            self._queue.popleft()
            self._retry_s = _RETRY_S
            if stream:
                self._line_bytes -= len(entry)
            else:
                self._events -= 1

    def _arm(self) -> None:
        if self._retry is None and self._queue:
            with contextlib.suppress(RuntimeError):  # no loop (yet): the next entry tries again
                self._retry = asyncio.get_running_loop().call_later(self._retry_s, self._again)

    def _again(self) -> None:
        self._retry = None
        self._flush(_AT_ONCE)
        self._arm()

    def _leave_out(self, stream: str) -> None:
        self._left[stream] = self._left.get(stream, 0) + 1
        self._note_loss()

    def _note_loss(self) -> None:
        if self._telling is None:
            self._since = self._since or self._clock.monotonic()
            span_s = self._allowed.span_s
            delay_s = span_s if 0 < span_s < math.inf else _TOLD_EVERY_S
            with contextlib.suppress(RuntimeError):  # no loop: told at the end
                self._telling = asyncio.get_running_loop().call_later(delay_s, self._told_later)

    def _told_later(self) -> None:
        self._telling = None
        if self._queue:  # it is not back: nobody would hear of it, and there may be more of it
            self._note_loss()
        else:
            self._report()

    def _report(self) -> None:
        left = Left(lines=dict(self._left), events=self._lost_events, seconds=self._clock.monotonic() - self._since)
        self._left, self._lost_events, self._since = {}, 0, 0.0
        if left.lines or left.events:
            self._tell(left)
