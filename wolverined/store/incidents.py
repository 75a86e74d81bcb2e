# SPDX-License-Identifier: MIT
"""Incidents: written by the supervisor alone. One of a fingerprint is open at a time; more are counted on it."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import Conflict, NotFound
from wolverined.model import Incident, IncidentState, NewIncident
from wolverined.store.codec import pack, unpack
from wolverined.store.database import Database

KEEP_CLOSED = 2_000
"""Closed incidents beyond the newest so many are forgotten: an app that crashes for ever must not fill the disk."""

_OPEN = "SELECT n, body FROM incidents WHERE fingerprint = ? AND state <> 'closed'"
_INSERT = "INSERT INTO incidents (fingerprint, state, opened_at, body) VALUES (?, ?, ?, ?)"
_UPDATE = "UPDATE incidents SET fingerprint = ?, state = ?, opened_at = ?, body = ? WHERE n = ?"
_FORGET = """
    DELETE FROM incidents WHERE state = 'closed'
    AND n <= (SELECT n FROM incidents WHERE state = 'closed' ORDER BY n DESC LIMIT 1 OFFSET ?)
"""


class Incidents:
    """The incidents of one instance."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def open_or_count(self, new: NewIncident) -> Incident:
        """Open an incident, or count the trouble on the open one of the same fingerprint.

        The newest evidence (exit, trace, request) replaces the older when there is some.

        Raises:
            StoreError: It could not be written.
        """
        now = new.at or self._clock.wall()
        with self._database.write() as connection:
            found = connection.execute(_OPEN, (new.fingerprint,)).fetchone()
            if found is not None:
                return self._count(connection, _incident(*found), new, now)
            fields = msgspec.structs.asdict(new)
            del fields["at"]
            incident = Incident(id="", opened_at=now, last_at=now, **fields)
            body = pack(incident)
            row = connection.execute(_INSERT, (new.fingerprint, incident.state.value, now, body)).lastrowid
            connection.execute(_FORGET, (KEEP_CLOSED,))
            return _incident(row or 0, body)

    def get(self, incident_id: str) -> Incident:
        """The incident of this id.

        Raises:
            NotFound: There is none.
        """
        rows = self._database.rows("SELECT n, body FROM incidents WHERE n = ?", (number("i", incident_id),))
        if not rows:
            raise NotFound(f"there is no incident {incident_id}", hint="see: wolverinectl incidents")
        return _incident(*rows[0])

    def list(self, *, limit: int = 100, open_only: bool = False) -> list[Incident]:
        """Incidents, newest first."""
        where = "WHERE state <> 'closed'" if open_only else ""
        sql = f"SELECT n, body FROM incidents {where} ORDER BY n DESC LIMIT ?"  # noqa: S608  one of two constants
        return [_incident(*row) for row in self._database.rows(sql, (max(0, limit),))]

    def newest_open(self) -> Incident | None:
        """The open incident that was opened last."""
        found = self.list(limit=1, open_only=True)
        return found[0] if found else None

    def count_open(self) -> int:
        """How many incidents are not closed."""
        return int(self._database.rows("SELECT count(*) FROM incidents WHERE state <> 'closed'")[0][0])

    def update(self, incident_id: str, **fields: Any) -> Incident:
        """Replace fields of an incident; closing it sets `closed_at` unless that is given.

        Raises:
            NotFound: There is none of this id.
            Conflict: It would be a second open incident of one fingerprint.
        """
        with self._database.write() as connection:
            old = self.get(incident_id)
            if fields.get("state") == IncidentState.CLOSED and old.closed_at is None:
                fields.setdefault("closed_at", self._clock.wall())
            try:
                return self._save(connection, msgspec.structs.replace(old, **fields))
            except sqlite3.IntegrityError as error:
                raise Conflict(f"another incident with the fingerprint of {incident_id} is open") from error

    def _count(self, connection: sqlite3.Connection, old: Incident, new: NewIncident, now: float) -> Incident:
        newer = {name: value for name in ("trace", "exit", "request") if (value := getattr(new, name)) is not None}
        if new.generation:
            newer["generation"] = new.generation
        return self._save(connection, msgspec.structs.replace(old, count=old.count + 1, last_at=now, **newer))

    def _save(self, connection: sqlite3.Connection, incident: Incident) -> Incident:
        body = pack(incident)
        checked = unpack(body, Incident)
        values = (checked.fingerprint, checked.state.value, checked.opened_at, body, number("i", incident.id))
        connection.execute(_UPDATE, values)
        return checked


def number(letter: str, identifier: str) -> int:
    """The number in an id such as "i12"; -1, which no row has, when it is none."""
    digits = identifier.removeprefix(letter)
    sound = identifier.startswith(letter) and digits.isascii() and digits.isdigit() and len(digits) < 19  # noqa: PLR2004  fits 64 bits
    return int(digits) if sound else -1


def _incident(n: int, body: bytes) -> Incident:
    return msgspec.structs.replace(unpack(body, Incident), id=f"i{n}")
