# SPDX-License-Identifier: MIT
"""Lines of the application and events of wolverined: what is kept, or everything as it comes.

`after=CURSOR` asks for what follows a cursor, `n=COUNT` for the last so many; `follow=true` goes on
for ever as NDJSON.
"""

from __future__ import annotations

from collections.abc import Sequence

from wolverined.control.access import Level
from wolverined.control.follow import Source
from wolverined.control.interfaces import Instance
from wolverined.control.routing import Call, Follow, Now, Reply, Route, flag, number
from wolverined.model import Event, LogLine

MOST = 1000
LAST_CURSOR = 2**63 - 1


class Lines:
    """The application's lines as a source."""

    kind = "line"

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def after(self, cursor: int, limit: int) -> Sequence[LogLine]:
        """The oldest lines after `cursor`."""
        return self._instance.logs_after(cursor, limit)

    def newest(self) -> int:
        """The newest line's cursor."""
        return self._instance.log_cursor()

    async def grown(self, cursor: int) -> None:
        """Return when there is a line after `cursor`."""
        await self._instance.log_grown(cursor)


class Events:
    """The daemon's events as a source."""

    kind = "event"

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def after(self, cursor: int, limit: int) -> Sequence[Event]:
        """The oldest events after `cursor`."""
        return self._instance.events_after(cursor, limit)

    def newest(self) -> int:
        """The newest event's cursor."""
        return self._instance.event_cursor()

    async def grown(self, cursor: int) -> None:
        """Return when there is an event after `cursor`."""
        await self._instance.events_grown(cursor)


async def logs(call: Call) -> Reply:
    """`GET /v1/logs`."""
    return _answer(call, Lines(call.instance))


async def events(call: Call) -> Reply:
    """`GET /v1/events`."""
    return _answer(call, Events(call.instance))


def _answer(call: Call, source: Source) -> Reply:
    count = number(call, "n", default=100, low=0, high=MOST)
    if "after" in call.incoming.query:
        cursor = number(call, "after", default=0, low=0, high=LAST_CURSOR)
    else:
        cursor = _before_last(source, count)
    if flag(call, "follow"):
        return Follow(source, cursor)
    return Now(source.after(cursor, count) if count else [])


def _before_last(source: Source, count: int) -> int:
    """The cursor before the last `count` records, of those that are kept."""
    newest = source.newest()
    cursor = max(0, newest - count)
    first = source.after(cursor, 1) if count else ()
    # What was forgotten already is not "dropped" for someone who asked for the last few.
    return max(cursor, first[0].cursor - 1) if first else newest


ROUTES = (
    Route("GET", "/v1/logs", Level.VIEW, logs),
    Route("GET", "/v1/events", Level.VIEW, events),
)
