# SPDX-License-Identifier: MIT
"""Errors out of what an application prints and lives on after (pure): lines and times in, errors out.

For where no reporter runs. A trace is gathered until it is whole, then held for a moment: what ends the
process is told as its exit, what a reporter tells is the reporter's. Nothing here reads a clock: whoever
owns it says what time it is and comes again at `wake_at`. A flood costs a glance a line and is read in turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from wolverined.model import Request, Trace
from wolverined.sense.printed import Printed, Record, errors, record, recorded, same
from wolverined.sense.route_error import Cause, RouteError, normalised, trace_of

QUIET_S = 0.3
"""A trace is whole when nothing that could belong to it has come for so long."""

TURN_S = 1.0
"""The longest that lines are gathered before they are read."""

HOLD_S = 2.0
"""How long an error is held back, for the end of its process and for the reporter that may tell it as well."""

WINDOW_S = 10.0
"""For how long what a reporter told keeps the same error in the output from being told."""

WATCHED_S = 30.0
"""For how long a reporter that told of its requests is trusted to see every error."""

MAX_LINES = 600
MAX_CHARS = 256 << 10
"""Of lines that are gathered, all streams together; more are not looked at until these have been read."""

MAX_HELD = 32
"""Errors that are held at a time; more are counted and dropped."""

_MAX_LINE = 4096
_MAX_RECORDS = 32
_MAX_OPEN = 130  # lines of a traceback whose end has not come
_CONTEXT = 24  # lines above a stack that may be its head: as far as the parser of Node looks back
_AFTER = 8  # lines behind the newest one of a trace that are kept for it: an error's own line, a note
_DECODED = 64  # lines of JSON that are decoded in one turn
_PREFIX = 200  # characters: what loggers put before each line of a trace ends before
_HEADER = "Traceback (most recent call last)"
_FILE = 'File "'
_PLACE_ENDS = frozenset(")0123456789{")


class Counts(msgspec.Struct):
    """What became of what was seen."""

    told: int = 0
    reported: int = 0  # a reporter told it, or is there to tell it
    ended: int = 0  # it belonged to the end of the process
    dropped: int = 0  # lines and errors that were too many at once


class _Held(msgspec.Struct, frozen=True):
    """An error that waits until it is known to be nobody else's."""

    error: RouteError
    trace: Trace
    at: float
    due: float


class _Reported:
    """An error that a reporter told; read only when there is one in the output that it may be."""

    def __init__(self, error: RouteError, at: float) -> None:
        self.at = at
        self._error = error
        self._trace: Trace | None = None
        self._read = False

    def is_of(self, trace: Trace, app_root: str) -> bool:
        """Whether that trace is of the same error; one without a frame of the application's own could be of any."""
        if not self._read:
            self._trace, self._read = trace_of(self._error, app_root=app_root), True
        own = self._trace is not None and any(frame.own for frame in self._trace.frames)
        return own and self._trace is not None and same(self._trace, trace)


class Outputs:
    """Hears the lines of one application, one generation at a time.

    Args:
        app_root: Gives the application's directory.
        hooks: The directories of our own reporters, whose traces are none.
    """

    def __init__(self, *, app_root: Callable[[], str], hooks: Sequence[str] = ()) -> None:
        self.counts = Counts()
        self._app_root = app_root
        self._hooks = tuple(f"{each.rstrip('/')}/" for each in hooks)
        self._streams: dict[str, _Gathered] = {}
        self._records: list[Record] = []
        self._records_at = 0.0
        self._decoded = 0
        self._decoded_at = 0.0
        self._held: deque[_Held] = deque()
        self._reported: deque[_Reported] = deque(maxlen=64)
        self._watched_until = 0.0

    def heard(self, text: str, *, stream: str, now: float) -> bool:
        """Look at one line; True when `wake_at` may have changed."""
        if text.startswith("{"):
            return self._heard_record(text, now)
        gathered = self._streams.get(stream)
        if gathered is None:
            gathered = self._streams[stream] = _Gathered()
        marked = _is_marked(text)
        if not (marked or gathered.open):
            gathered.context.append(text)
            return False
        if self._room(text):
            gathered.take(text, marked=marked, now=now)
        else:
            self.counts.dropped += 1
        return True

    def _heard_record(self, text: str, now: float) -> bool:
        if not ("stack" in text or "Traceback" in text):
            return False
        if now - self._decoded_at >= TURN_S:
            self._decoded, self._decoded_at = 0, now
        if self._decoded >= _DECODED or len(self._records) >= _MAX_RECORDS:
            self.counts.dropped += 1
            return False
        self._decoded += 1
        told = record(text)
        if told is None:
            return False
        if not self._records:
            self._records_at = now
        self._records.append(told)
        return True

    def _room(self, text: str) -> bool:
        lines = sum(len(each.lines) for each in self._streams.values())
        return lines < MAX_LINES and sum(each.chars for each in self._streams.values()) + len(text) < MAX_CHARS

    def reported(self, error: RouteError, *, now: float) -> None:
        """A reporter told of an error: the same one in the output, before or after, is not told again."""
        told = _Reported(error, now)
        self._reported.append(told)
        if not self._held:
            return
        root = self._app_root()
        kept = [each for each in self._held if not (now - each.at < WINDOW_S and told.is_of(each.trace, root))]
        self.counts.reported += len(self._held) - len(kept)
        self._held = deque(kept)

    def watched(self, *, now: float) -> None:
        """A reporter told of its requests: it sees how each was answered, which no trace in the output tells."""
        self._watched_until = now + WATCHED_S
        self.counts.reported += len(self._held)
        self._held.clear()

    def ended(self) -> None:
        """The generation is over: what it printed last is part of its end."""
        self.counts.ended += len(self._held)
        self._held.clear()
        self._streams.clear()
        self._records.clear()
        self._records_at = self._watched_until = 0.0
        self._reported.clear()

    @property
    def wake_at(self) -> float | None:
        """When `due` has something to do next; None: not before another line comes."""
        times = [each.whole_at for each in self._streams.values() if each.open]
        if self._records:
            times.append(self._records_at + QUIET_S)
        if self._held:
            times.append(self._held[0].due)
        return min(times, default=None)

    def due(self, *, now: float) -> list[RouteError]:
        """Read what is whole by now; the errors that nobody else has told in the meantime."""
        about: dict[str, Any] = {"app_root": self._app_root(), "hooks": self._hooks}
        for gathered in self._streams.values():
            if gathered.open and gathered.whole_at <= now:
                begun_at = gathered.begun_at
                self._hold(errors(gathered.whole(), **about), begun_at, now)
        if self._records and self._records_at + QUIET_S <= now:
            for each in self._records:
                self._hold(recorded(each, **about), self._records_at, now)
            self._records.clear()
        told: list[RouteError] = []
        while self._held and self._held[0].due <= now:
            told.append(self._held.popleft().error)
        self.counts.told += len(told)
        return told

    def _hold(self, found: Sequence[Printed], at: float, now: float) -> None:
        for each in found:
            if now < self._watched_until or self._is_reported(each.trace, now):
                self.counts.reported += 1
            elif len(self._held) >= MAX_HELD:
                self.counts.dropped += 1
            else:
                self._held.append(_Held(_told(each), each.trace, at, now + HOLD_S))

    def _is_reported(self, trace: Trace, now: float) -> bool:
        root = self._app_root()
        return any(now - each.at < WINDOW_S and each.is_of(trace, root) for each in self._reported)


class _Gathered:
    """The lines of one stream around traces, from some lines above the first on."""

    def __init__(self) -> None:
        self.context: deque[str] = deque(maxlen=_CONTEXT)
        self.lines: list[str] = []
        self.chars = 0
        self.begun_at = 0.0
        self._newest_at = 0.0
        self._unmarked = 0

    @property
    def open(self) -> bool:
        """Whether a trace has begun."""
        return bool(self.lines)

    @property
    def whole_at(self) -> float:
        """When what has been gathered is read."""
        return min(self._newest_at + QUIET_S, self.begun_at + TURN_S)

    def take(self, text: str, *, marked: bool, now: float) -> None:
        """Keep a line; one that no trace could reach to keeps it from being read no longer."""
        if not self.lines:
            self.lines = [line[:_MAX_LINE] for line in self.context]
            self.begun_at = now
            self.chars = sum(map(len, self.lines))
        self.lines.append(text[:_MAX_LINE])
        self.chars += len(self.lines[-1])
        self._unmarked = 0 if marked else self._unmarked + 1
        if self._unmarked <= _AFTER:
            self._newest_at = now

    def whole(self) -> list[str]:
        """Give the lines to be read, and go on with what follows; no line is read twice."""
        lines, kept = self.lines, _begun(self.lines)
        self.context.clear()
        if self._unmarked > _AFTER:
            self.context.extend(lines[_AFTER - self._unmarked :])
        self.lines, self.chars, self._unmarked = lines[kept:], sum(map(len, lines[kept:])), 0
        self.begun_at = self._newest_at
        return lines[:kept]


def _is_marked(text: str) -> bool:
    """Whether a line may be one of a trace; a glance, for every line of the application takes it."""
    begin = text[:_PREFIX]
    if _HEADER in begin or _FILE in begin:
        return True
    return "at " in begin and (begin.lstrip().startswith("at ") or (" at " in begin and text[-1] in _PLACE_ENDS))


def _begun(lines: Sequence[str]) -> int:
    """Where a traceback begins that is not over at the end of these lines; never at the first: it would stay there."""
    for at in range(len(lines) - 1, max(0, len(lines) - _MAX_OPEN), -1):
        if lines[at].startswith(_HEADER):
            return at
        if not lines[at].startswith(" "):
            break
    return len(lines)


def _told(printed: Printed) -> RouteError:
    """The error as a reporter would have told it, without a request to replay."""
    last = printed.trace.errors[-1]
    where = next(frame for frame in printed.trace.frames if frame.own)
    path = printed.path.partition("?")[0]
    method = printed.method or ("GET" if path else "")
    return RouteError(
        route=f"{method} {normalised(path)}" if path else "",
        status=printed.status,
        request=Request(method=method, path=printed.path),
        chain=(Cause(last.type, last.message, printed.trace.text),),
        file=where.path,
        line=where.line,
    )
