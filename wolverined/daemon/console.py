# SPDX-License-Identifier: MIT
"""Renders events and the app's lines for a person at a terminal.

Writing to a terminal that is stopped (Ctrl-S) or to a full pipe blocks, and the supervisor never
waits: a thread of its own writes, from a bounded queue; what does not fit is left out and counted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

_QUEUED_LINES = 2000
_FLUSH_S = 1.0

_RESET = "\033[0m"
_DIM = "\033[2m"
_BOLD = "\033[1m"
_COLOURS = {"info": "\033[36m", "good": "\033[32m", "warn": "\033[33m", "error": "\033[31m", "critical": "\033[1;31m"}
_GOOD = ("app.ready", "repair.verified", "repair.stable", "incident.closed", "heal.proven")
_MARKS = {"info": "·", "good": "✓", "warn": "!", "error": "✗", "critical": "✗"}
_ASCII_MARKS = {"info": "-", "good": "+", "warn": "!", "error": "x", "critical": "X"}
_NAME_WIDTH = 20


class Console:
    """Writes lines to `out` from a thread, never blocking the caller."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: queue.Queue[str | None] = queue.Queue(_QUEUED_LINES)
        self._left_out = 0
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue one line; when the terminal does not take any more, count it instead."""
        try:
            if self._left_out:
                self._lines.put_nowait(f"({self._left_out} lines left out: the terminal did not take them)")
                self._left_out = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Let the thread write what is queued, for a bounded time."""
        try:
            self._lines.put(None, timeout=_FLUSH_S)
        except queue.Full:
            return
        self._thread.join(_FLUSH_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._out.write(line + "\n")
                self._out.flush()
            except (OSError, ValueError):
                # The terminal has gone (hang-up, closed pipe). The app is supervised all the same, and
                # the store has every event.
                return


class Renderer:
    """The last structlog processor: an event dictionary becomes one line for a person.

    Args:
        colour: Whether to use ANSI colours.
        unicode: Whether the terminal's encoding has the marks; else ASCII stands in.
    """

    def __init__(self, *, colour: bool, unicode: bool) -> None:
        self._colour = colour
        self._marks = _MARKS if unicode else _ASCII_MARKS
        self._bar = "│" if unicode else "|"

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
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
        return f"{self._paint(_clock(event), _DIM)} {mark} {label} {message}{tail}"

    def app_line(self, at: float, stream: str, text: str) -> str:
        """Render one line of the app's output; its stderr is told by a colour."""
        bar = self._paint(self._bar, _COLOURS["warn"] if stream == "stderr" else _DIM)
        return f"{self._paint(_clock({'at': at}), _DIM)} {bar} {_one_line(text)}"

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


def _clock(event: Mapping[str, Any]) -> str:
    at = float(event.get("at") or 0.0)
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"


# The app's output is hostile: an escape sequence in it must not move the cursor or retitle the window.
# Bidirectional controls could make a line read as something that it does not say.
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_HARMLESS = {number: f"\\x{number:02x}" for number in (*range(9), *range(11, 32), *range(127, 160), *_BIDI)}
_INDENT = "\n" + " " * 15


def _one_line(text: str) -> str:
    return text.translate(_HARMLESS).replace("\n", _INDENT)
