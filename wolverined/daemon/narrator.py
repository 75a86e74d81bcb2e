# SPDX-License-Identifier: MIT
"""The one mouth of the daemon: every event is stored, then told (journal or console).

Durable first: an event is in the store before anybody hears of it. A store that cannot write (disk
full) does not silence us: it keeps the event in memory and counts, and the event is told all the same.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import structlog

from wolverined.daemon.console import Console, Renderer, has_unicode, wants_colour
from wolverined.linux.journal import Journal, stderr_is_journal
from wolverined.model import Event, LogLine
from wolverined.redact import Redactor
from wolverined.store import Store

_PRIORITY = {"info": 6, "warn": 4, "error": 3, "critical": 2}
_LINES_KEPT = 5000
_BYTES_KEPT = 4 << 20


class _Sink:
    """The end of the structlog chain: hands rendered lines to the console's thread."""

    def __init__(self, console: Console | None) -> None:
        self._console = console

    def info(self, line: str) -> None:
        """Queue one rendered line."""
        if self._console is not None:
            self._console.put(line)


class Narrator:
    """Stores events, keeps the newest lines of the app, and tells both.

    Args:
        name: The instance, for journal fields.
        store: Where events go first.
        redactor: Gives what takes secrets out of every event.
        environ: Decides about colours.
        out: The console's stream when there is no journal.
        as_json: One JSON object a line instead of the rendering for a person.
    """

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        redactor: Callable[[], Redactor],
        environ: dict[str, str],
        out: TextIO = sys.stderr,
        as_json: bool = False,
    ) -> None:
        self._name = name
        self._store = store
        self._redactor = redactor
        self._journal = Journal() if stderr_is_journal() else None
        self._console = None if self._journal else Console(out)
        self._renderer = Renderer(colour=wants_colour(out, environ), unicode=has_unicode(out))
        self._as_json = as_json
        self._log = self._logger()
        self._lines: deque[LogLine] = deque()
        self._line_bytes = 0
        self._line_cursor = 0
        self._last_event = store.events.newest
        self._grown = asyncio.Event()

    def _logger(self) -> Any:
        render = structlog.processors.JSONRenderer() if self._as_json else self._renderer
        sink = _Sink(self._console)
        return structlog.wrap_logger(sink, processors=[render], wrapper_class=structlog.BoundLogger)

    def tell(
        self,
        name: str,
        message: str,
        *,
        severity: str = "info",
        generation: int | None = None,
        incident: str = "",
        repair: str = "",
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Record one event and tell it."""
        message = self._redactor().text(message)
        about: dict[str, Any] = {"severity": severity, "generation": generation, "incident": incident, "repair": repair}
        event = self._store.events.append(name, message, fields=fields or {}, **about)
        self._last_event = event.cursor
        self._publish(event)
        self._wake()

    def _publish(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.send(
                {
                    "MESSAGE": event.message,
                    "PRIORITY": _PRIORITY.get(event.severity, 6),
                    "SYSLOG_IDENTIFIER": self._name,
                    "WOLVERINE_APP": self._name,
                    "WOLVERINE_EVENT": event.name,
                    **({"WOLVERINE_GENERATION": event.generation} if event.generation is not None else {}),
                    **({"WOLVERINE_INCIDENT": event.incident} if event.incident else {}),
                    **({"WOLVERINE_REPAIR": event.repair} if event.repair else {}),
                }
            )
            return
        known = {"name": event.name, "at": event.at, "severity": event.severity}
        about = {"incident": event.incident, "repair": event.repair, "generation": event.generation}
        self._log.info(event.message, **known, **about)

    def line(self, line: LogLine) -> None:
        """Keep one line of the app for `wolverinectl logs`, and tell it."""
        self._line_cursor += 1
        kept = LogLine(
            cursor=self._line_cursor,
            at=line.at,
            stream=line.stream,
            text=line.text,
            generation=line.generation,
            pid=line.pid,
            truncated=line.truncated,
        )
        self._lines.append(kept)
        self._line_bytes += len(kept.text)
        while len(self._lines) > _LINES_KEPT or self._line_bytes > _BYTES_KEPT:
            self._line_bytes -= len(self._lines.popleft().text)
        if self._journal is not None:
            self._journal.send(
                {
                    "MESSAGE": kept.text,
                    "PRIORITY": 4 if kept.stream == "stderr" else 6,
                    "SYSLOG_IDENTIFIER": self._name,
                    "WOLVERINE_APP": self._name,
                    "WOLVERINE_STREAM": kept.stream,
                    "WOLVERINE_GENERATION": kept.generation,
                }
            )
        elif self._console is not None and not self._as_json:
            self._console.put(self._renderer.app_line(kept.at, kept.stream, kept.text))
        self._wake()

    def lines_after(self, cursor: int, limit: int) -> list[LogLine]:
        """The app's lines after `cursor`, oldest first; 0 gives what is kept."""
        after = [line for line in self._lines if line.cursor > cursor]
        return after[:limit]

    @property
    def line_cursor(self) -> int:
        """The cursor of the newest line; 0 before the first."""
        return self._line_cursor

    async def lines_grown(self, cursor: int) -> None:
        """Return once there is a line after `cursor`."""
        while self._line_cursor <= cursor:
            await self._grown.wait()

    async def events_grown(self, cursor: int) -> None:
        """Return once there is an event after `cursor`."""
        while self._last_event <= cursor:
            await self._grown.wait()

    def _wake(self) -> None:
        """Wake all who wait; a new event serves those who come to wait later."""
        self._grown.set()
        self._grown = asyncio.Event()

    def close(self) -> None:
        """Let the console write what it has."""
        if self._console is not None:
            self._console.close()
