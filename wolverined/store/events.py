# SPDX-License-Identifier: MIT
"""Events: the newest ten thousand, by a cursor that only grows; written by the supervisor alone.

An event never stops the daemon. What the disk refuses waits in memory, stays readable, and is
written with the next event that goes through; only what no longer fits there is lost, and counted.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import StoreError
from wolverined.model import Event
from wolverined.store.codec import pack, unpack
from wolverined.store.database import Database

KEEP = 10_000
TRIM_EVERY = 100
WAITING = 1_000
MAX_MESSAGE = 4_096
MAX_FIELDS = 32_768

_NEWEST = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), 0)"


class Events:
    """The events of one instance.

    Attributes:
        lost: Events that neither the disk nor the waiting room could take.
    """

    def __init__(self, database: Database, *, clock: Clock, keep: int = KEEP) -> None:
        self._database = database
        self._clock = clock
        self._keep = keep
        self._waiting: deque[Event] = deque()
        self._newest = int(database.rows(_NEWEST)[0][0])
        self.lost = 0

    @property
    def newest(self) -> int:
        """The cursor of the newest event that this process wrote or found; 0 before the first."""
        return self._newest

    @property
    def waiting(self) -> int:
        """How many events are in memory only because the disk refuses them."""
        return len(self._waiting)

    def settle(self) -> None:
        """Try again to write what waits.

        Raises:
            StoreError: It waits on.
        """
        if self._waiting:
            self._newest = max(self._newest, self._write_waiting().cursor)

    def append(
        self,
        name: str,
        message: str,
        *,
        severity: str = "info",
        generation: int | None = None,
        incident: str = "",
        repair: str = "",
        fields: dict[str, Any] | None = None,
    ) -> Event:
        """Record what happened. Never raises for the disk's sake; see the module."""
        event = Event(
            cursor=self._newest + 1,
            at=self._clock.wall(),
            name=name,
            message=message[:MAX_MESSAGE],
            severity=severity,
            generation=generation,
            incident=incident,
            repair=repair,
            fields=_bounded(fields or {}),
        )
        self._waiting.append(event)
        try:
            event = self._write_waiting()
        except StoreError:
            # Counted by the database; the event is kept here, and the daemon goes on.
            if len(self._waiting) > WAITING:
                self._waiting.popleft()
                self.lost += 1
        self._newest = max(self._newest, event.cursor)
        return event

    def after(self, cursor: int, limit: int = 1000) -> list[Event]:
        """Events with a greater cursor, oldest first."""
        sql = "SELECT cursor, body FROM events WHERE cursor > ? ORDER BY cursor LIMIT ?"
        rows = self._database.rows(sql, (max(cursor, 0), max(0, limit)))
        found = [_event(*row) for row in rows]
        found += [event for event in self._waiting if event.cursor > cursor]
        return found[: max(0, limit)]

    def last(self, limit: int = 100) -> list[Event]:
        """The newest events, oldest of them first."""
        rows = self._database.rows("SELECT cursor, body FROM events ORDER BY cursor DESC LIMIT ?", (max(0, limit),))
        found = [*(_event(*row) for row in reversed(rows)), *self._waiting]
        return found[-limit:] if limit > 0 else []

    def _write_waiting(self) -> Event:
        """Write all that waits, in order; the last as it was written."""
        written: Event | None = None
        with self._database.write(durable=False) as connection:
            for event in self._waiting:
                written = self._insert(connection, event)
                if written.cursor % TRIM_EVERY == 0:
                    connection.execute("DELETE FROM events WHERE cursor <= ?", (written.cursor - self._keep,))
        self._waiting.clear()
        assert written is not None
        return written

    def _insert(self, connection: sqlite3.Connection, event: Event) -> Event:
        (newest,) = connection.execute(_NEWEST).fetchone()
        # A cursor that was shown while the event waited is kept, unless another writer took it since.
        kept = event if event.cursor > newest else msgspec.structs.replace(event, cursor=newest + 1)
        connection.execute("INSERT INTO events (cursor, body) VALUES (?, ?)", (kept.cursor, pack(kept)))
        return kept


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields as plain JSON data, or a word of their size when they are too big to keep."""
    packed = pack(fields)
    if len(packed) > MAX_FIELDS:
        return {"truncated": True, "bytes": len(packed)}
    return unpack(packed, dict[str, Any])


def _event(cursor: int, body: bytes) -> Event:
    return msgspec.structs.replace(unpack(body, Event), cursor=cursor)
