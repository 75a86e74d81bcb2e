# SPDX-License-Identifier: MIT
"""The one mouth of the daemon: every event is stored, then told (journal or console).

Durable first: an event is in the store before anybody hears of it. A store that cannot write (disk
full) does not silence us: it keeps the event in memory and counts, and the event is told all the same.
To the journal the app's lines go by measure, so that journald never has a reason to drop an event.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from wolverined.clock import Clock, SystemClock
from wolverined.daemon import entries
from wolverined.daemon.allowance import Allowance, allowance
from wolverined.daemon.console import Console, HandedConsole, Renderer, has_unicode, wants_colour
from wolverined.daemon.outbox import HandedOutbox, Left, Outbox
from wolverined.linux.journal import Journal, encode, stderr_is_journal
from wolverined.linux.journald import own_unit, rate_limit
from wolverined.model import Event, LogLine
from wolverined.redact import Redactor
from wolverined.store import Store
from wolverined.supervise.bell import Bell

_FOR_WHO_ASKS = frozenset({"audit.change"})  # what it led to is told anyway


class _Sink:
    """The end of the structlog chain: hands rendered lines to the console's thread."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def info(self, line: str) -> None:
        """Queue one rendered event."""
        self._console.put(line, event=True)


class HandedNarrator(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be told yet: to a journal, or to a terminal."""

    console: HandedConsole
    outbox: HandedOutbox | None


class Narrator:
    """Stores events and tells them, and tells the app's lines.

    Args:
        name: The instance, for journal fields.
        store: Where events go first.
        redactor: Gives what takes secrets out of every event.
        environ: Decides about colours.
        out: The console's stream when there is no journal.
        as_json: One JSON object a line instead of the rendering for a person.
        verbose: Tell also what only explains other events.
        journal: Where to tell it instead of the console; None: journald when stderr leads there.
        allowed: The measure for lines to a journal; None: what journald's configuration leaves.
        clock: Monotonic time measures the lines.
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
        verbose: bool = False,
        journal: Journal | None = None,
        allowed: Allowance | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._store = store
        self._redactor = redactor
        self._outbox: Outbox | None = None
        if journal is None and stderr_is_journal():
            journal = Journal()
        if journal is not None:
            measure = allowed or allowance(rate_limit(own_unit()))
            self._outbox = Outbox(journal, allowed=measure, clock=clock or SystemClock(), tell=self._tell_left)
        self._console = Console(out)
        self._renderer = Renderer(colour=wants_colour(out, environ), unicode=has_unicode(out))
        self._as_json = as_json
        self._unsaid = frozenset() if verbose else _FOR_WHO_ASKS
        self._log = self._logger() if as_json and self._outbox is None else None
        self._last_event = store.events.newest
        self._bell = Bell()
        self.overheard: Callable[[Event], None] | None = None
        """Hears every event after it was told."""

    def _logger(self) -> Any:
        """Structured lines for programs; a person's are rendered by ourselves, a megabyte cheaper."""
        import structlog  # noqa: PLC0415 - see above

        return structlog.wrap_logger(
            _Sink(self._console),
            processors=[structlog.processors.JSONRenderer()],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

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
        redactor = self._redactor()
        about: dict[str, Any] = {"severity": severity, "generation": generation, "incident": incident, "repair": repair}
        kept = {key: _redacted(value, redactor) for key, value in (fields or {}).items()}
        event = self._store.events.append(name, redactor.text(message), fields=kept, **about)
        self._last_event = event.cursor
        self.publish(event)
        self._bell.ring()
        if self.overheard is not None:
            self.overheard(event)

    def publish(self, event: Event) -> None:
        """Tell an event that is stored already."""
        if self._outbox is not None:
            self._outbox.put(encode(entries.of_event(self._name, event)))
        elif event.name not in self._unsaid:
            known = {"name": event.name, "at": event.at, "severity": event.severity}
            about = {"incident": event.incident, "repair": event.repair, "generation": event.generation}
            if self._log is not None:
                self._log.info(event.message, **known, **about)
            else:
                self._console.put(self._renderer({"event": event.message, **known, **about}), event=True)

    def line(self, line: LogLine) -> None:
        """Tell one line of the app; it is not redacted, for it is the app's own output."""
        if self._outbox is not None:
            if self._outbox.takes_line(line.stream):
                self._outbox.put(encode(entries.of_line(self._name, line)), stream=line.stream)
        elif not self._console.has_room():
            return
        elif self._as_json:
            about = {"name": "app.line", "at": line.at, "stream": line.stream, "generation": line.generation}
            self._console.put(json.dumps({"event": line.text, **about}))
        else:
            self._console.put(self._renderer.app_line(line.at, line.stream, line.text))

    async def events_grown(self, cursor: int) -> None:
        """Return once there is an event after `cursor`."""
        while self._last_event <= cursor:
            await self._bell.heard()

    def _tell_left(self, left: Left) -> None:
        """Tell what the journal did not get; the store has every event, the ring the newest lines."""
        seconds = f"in {left.seconds:.0f} s"
        if left.lines:
            words = f"{sum(left.lines.values())} lines of the app were left out of the journal {seconds}"
            where = "the newest are kept: wolverinectl logs"
            self.tell("output.limited", f"{words}; {where}", severity="warn", fields={"lines": dict(left.lines)})
        if left.events:
            words = f"{left.events} events did not reach the journal {seconds}; all are kept: wolverinectl events"
            self.tell("journal.lost", words, severity="warn", fields={"events": left.events})

    def hand_over(self) -> HandedNarrator:
        """Tell what can be told in a moment; the rest is for a successor in this process."""
        outbox = self._outbox.hand_over() if self._outbox is not None else None
        return HandedNarrator(console=self._console.hand_over(), outbox=outbox)

    def adopt(self, handed: HandedNarrator) -> None:
        """Tell what a predecessor could not."""
        self._console.adopt(handed.console)
        if self._outbox is not None and handed.outbox is not None:
            self._outbox.adopt(handed.outbox)

    def close(self) -> None:
        """Let the journal and the console have what they take; nothing is told after this."""
        if self._outbox is not None:
            self._outbox.close()
        self._console.close()


def _redacted(value: Any, redactor: Redactor) -> Any:
    """The same data with every text redacted; keys are our own words."""
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, dict):
        return {key: _redacted(item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, redactor) for item in value]
    return value
