# SPDX-License-Identifier: MIT
"""Renders events and the app's lines for a person at a terminal.

Writing to a terminal that is stopped (Ctrl-S) or to a full pipe blocks, and the supervisor never
waits: a thread of its own writes, from a bounded room; what does not fit is left out and counted. Our
own events have room that no flood of the app's lines can take.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec

_QUEUED_LINES = 2000
_QUEUED_CHARS = 1 << 20
_EVENTS_SHARE = 2  # how many times as much room there is for our own events
_WRITE_CHARS = 1 << 15
_FLUSH_S = 1.0
_HAND_OVER_S = 0.2

_RESET = "\033[0m"
_DIM = "\033[2m"
_BOLD = "\033[1m"
_COLOURS = {"info": "\033[36m", "good": "\033[32m", "warn": "\033[33m", "error": "\033[31m", "critical": "\033[1;31m"}
_GOOD = ("app.ready", "repair.verified", "repair.stable", "incident.closed", "heal.proven")
_MARKS = {"info": "·", "good": "✓", "warn": "!", "error": "✗", "critical": "✗"}
_ASCII_MARKS = {"info": "-", "good": "+", "warn": "!", "error": "x", "critical": "X"}
_NAME_WIDTH = 18


class HandedConsole(msgspec.Struct, frozen=True, kw_only=True):
    """What a terminal did not take yet, as UTF-8, and how many lines were left out."""

    lines: tuple[bytes, ...]
    left_out: int


class Console:
    """Writes lines to `out` from a thread, never blocking the caller."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._fd = _fd_of(out)
        self._lines: deque[str] = deque()
        self._chars = 0
        self._left_out = 0
        self._writing = 0  # lines that the thread has taken and is about to write
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def has_room(self) -> bool:
        """Whether a line of the app would be taken; counts it when not, so that nobody need render it."""
        if len(self._lines) < _QUEUED_LINES and self._chars < _QUEUED_CHARS:
            return True
        with self._changed:
            self._left_out += not self._ended
        return False

    def put(self, line: str, *, event: bool = False) -> None:
        """Queue one line; when the terminal does not take any more, count it instead.

        Args:
            line: Without its line end.
            event: It is ours, not the app's: it may use the room that is kept for that.
        """
        share = _EVENTS_SHARE if event else 1
        with self._changed:
            if self._ended:
                return
            if len(self._lines) >= _QUEUED_LINES * share or self._chars >= _QUEUED_CHARS * share:
                self._left_out += 1
                return
            if self._left_out:
                self._add(f"({self._left_out} lines left out: the terminal did not take them)")
                self._left_out = 0
            self._add(line)
            self._changed.notify_all()

    def hand_over(self) -> HandedConsole:
        """Give it a moment to write what it has; the rest is for a successor in this process."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not (self._lines or self._writing), timeout=_HAND_OVER_S)
            # What a thread is about to write to a terminal that is stopped goes with the thread.
            lost = 0 if self._ended else self._writing
            lines = tuple(line.encode("utf-8", "backslashreplace") for line in self._lines)
            return HandedConsole(lines=lines, left_out=self._left_out + lost)

    def adopt(self, handed: HandedConsole) -> None:
        """Write what a predecessor could not."""
        with self._changed:
            for line in handed.lines:
                self._add(line.decode("utf-8"))
            self._left_out += handed.left_out
            self._changed.notify_all()

    def close(self) -> None:
        """Let the thread write what is queued, for a bounded time."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(_FLUSH_S)

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._chars += len(line)

    def _take(self) -> str:
        """Wait for lines and give some of them as one text; nothing when it is over."""
        taken, size = [], 0
        with self._changed:
            self._writing = 0
            self._changed.notify_all()
            while not self._lines and not self._ended:
                self._changed.wait()
            while self._lines and size < _WRITE_CHARS:
                line = self._lines.popleft()
                size += len(line)
                taken.append(f"{line}\n")
            self._chars -= size
            self._writing = len(taken)
        return "".join(taken)

    def _write(self) -> None:
        try:
            while text := self._take():
                self._put_out(text)
        except (OSError, ValueError):
            # The terminal has gone (hang-up, closed pipe). The app is supervised all the same, and
            # the store has every event.
            with self._changed:
                self._ended = True
                self._lines.clear()

    def _put_out(self, text: str) -> None:
        if self._fd is None:
            self._out.write(text)
            self._out.flush()
            return
        # Past the stream's own buffer: its lock, held by a thread that waits for a stopped terminal,
        # would make the interpreter abort at its end ("could not acquire lock for stderr").
        data = memoryview(text.encode(self._out.encoding or "ascii", "backslashreplace"))
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [])  # whoever shares the terminal with us made it non-blocking


class Renderer:
    """Makes of an event, as plain data, one line for a person.

    Args:
        colour: Whether to use ANSI colours.
        unicode: Whether the terminal's encoding has the marks; else ASCII stands in.
    """

    def __init__(self, *, colour: bool, unicode: bool) -> None:
        self._colour = colour
        self._marks = _MARKS if unicode else _ASCII_MARKS
        self._bar = "│" if unicode else "|"
        self._second = (-1, "")  # a flood of lines is rendered with one look at the calendar a second

    def __call__(self, event: Mapping[str, Any]) -> str:
        """Render one event: time, mark, name, message, and what it is about."""
        name = str(event.get("name", ""))
        tone = self._tone(name, str(event.get("severity", "info")))
        mark = self._paint(self._marks[tone], _COLOURS[tone])
        about = " ".join(str(event[key]) for key in ("incident", "repair") if event.get(key))
        message = _one_line(str(event["event"]))
        if tone in ("error", "critical", "good"):
            message = self._paint(message, _BOLD)
        label = self._paint(f"{name:<{_NAME_WIDTH}}", _DIM)
        tail = self._paint(f"  [{about}]", _DIM) if about else ""
        return f"{self._paint(self._clock(float(event.get('at') or 0.0)), _DIM)} {mark} {label} {message}{tail}"

    def app_line(self, at: float, stream: str, text: str) -> str:
        """Render one line of the app's output; its stderr is told by a colour."""
        bar = self._paint(self._bar, _COLOURS["warn"] if stream == "stderr" else _DIM)
        return f"{self._paint(self._clock(at), _DIM)} {bar} {_one_line(text)}"

    def _clock(self, at: float) -> str:
        second = int(at)
        if second != self._second[0]:
            self._second = (second, time.strftime("%H:%M:%S", time.localtime(second)))
        return f"{self._second[1]}.{int(at * 1000) % 1000:03d}"

    def _tone(self, name: str, severity: str) -> str:
        if severity == "info" and name in _GOOD:
            return "good"
        return severity if severity in _COLOURS else "info"

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if self._colour else text


def wants_colour(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Colours only on a terminal that can, and only while NO_COLOR is unset."""
    return out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def has_unicode(out: TextIO) -> bool:
    """Whether the stream's encoding can show the marks."""
    return (out.encoding or "ascii").lower().replace("-", "").startswith("utf")


def _fd_of(out: TextIO) -> int | None:
    try:
        return out.fileno()
    except (OSError, ValueError):
        return None  # no file at all, or one that is closed: writing to it says so


# The app's output is hostile: an escape sequence in it must not move the cursor or retitle the window.
# Bidirectional controls could make a line read as something that it does not say.
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_HARMLESS = {number: f"\\x{number:02x}" for number in (*range(9), *range(11, 32), *range(127, 160), *_BIDI)}
_INDENT = "\n" + " " * 15


def _one_line(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_HARMLESS).replace("\n", _INDENT)
