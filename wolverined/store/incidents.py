# SPDX-License-Identifier: MIT
"""Incidents: written by the supervisor alone. One of a fingerprint is open at a time; more are counted on it.

What a hasty store cannot write, because another process has it locked, waits in memory under the number
that it will have on disk (nobody else hands out these numbers), is read as if it were written, and is
written with the next transaction that goes through.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import Conflict, NotFound, StoreBusy
from wolverined.model import Incident, IncidentState, NewIncident
from wolverined.store.codec import pack, unpack
from wolverined.store.database import Database

KEEP_CLOSED = 2_000
"""Closed incidents beyond the newest so many are forgotten: an app that crashes for ever must not fill the disk."""

WAITING = 200
"""Incidents that may wait in memory; an app has far fewer fingerprints."""

_OPEN = "SELECT n, body FROM incidents WHERE fingerprint = ? AND state <> 'closed'"
_INSERT = "INSERT INTO incidents (fingerprint, state, opened_at, body) VALUES (?, ?, ?, ?)"
_UPDATE = "UPDATE incidents SET fingerprint = ?, state = ?, opened_at = ?, body = ? WHERE n = ?"
_PUT = """
    INSERT INTO incidents (n, fingerprint, state, opened_at, body) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (n) DO UPDATE SET state = excluded.state, body = excluded.body
"""
_NEWEST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'incidents'), 0)"
_FORGET = """
    DELETE FROM incidents WHERE state = 'closed'
    AND n <= (SELECT n FROM incidents WHERE state = 'closed' ORDER BY n DESC LIMIT 1 OFFSET ?)
"""


class Incidents:
    """The incidents of one instance."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[int, Incident] = {}

    @property
    def waiting(self) -> int:
        """How many incidents are newer in memory than on disk."""
        return len(self._waiting)

    def settle(self) -> None:
        """Try again to write what waits.

        Raises:
            StoreError: It waits on.
        """
        if self._waiting:
            with self._write():
                pass

    def open_or_count(self, new: NewIncident) -> Incident:
        """Open an incident, or count the trouble on the open one of the same fingerprint.

        The newest evidence (exit, trace, request) replaces the older when there is some.

        Raises:
            StoreError: It could not be written, and not be kept either.
        """
        now = new.at or self._clock.wall()
        try:
            with self._write() as connection:
                found = connection.execute(_OPEN, (new.fingerprint,)).fetchone()
                if found is not None:
                    return self._save(connection, _counted(_incident(*found), new, now))
                incident = _opened(new, now)
                body = pack(incident)
                row = connection.execute(_INSERT, (new.fingerprint, incident.state.value, now, body)).lastrowid
                connection.execute(_FORGET, (KEEP_CLOSED,))
                return _incident(row or 0, body)
        except StoreBusy as busy:
            old = self._open_of(new.fingerprint)
            if old is not None:
                return self._keep(_counted(old, new, now), busy)
            n = max(self._database.rows(_NEWEST)[0][0], *self._waiting, 0) + 1
            return self._keep(msgspec.structs.replace(_opened(new, now), id=f"i{n}"), busy)

    def get(self, incident_id: str) -> Incident:
        """The incident of this id.

        Raises:
            NotFound: There is none.
        """
        n = number("i", incident_id)
        if n in self._waiting:
            return self._waiting[n]
        rows = self._database.rows("SELECT n, body FROM incidents WHERE n = ?", (n,))
        if not rows:
            raise NotFound(f"there is no incident {incident_id}", hint="see: wolverinectl incidents")
        return _incident(*rows[0])

    def list(self, *, limit: int = 100, open_only: bool = False) -> list[Incident]:
        """Incidents, newest first."""
        where = "WHERE state <> 'closed'" if open_only else ""
        sql = f"SELECT n, body FROM incidents {where} ORDER BY n DESC LIMIT ?"  # noqa: S608  one of two constants
        rows = self._database.rows(sql, (max(0, limit) + len(self._waiting),))
        found = {row[0]: _incident(*row) for row in rows} | self._waiting
        newest = sorted(found.items(), reverse=True)
        return [one for _, one in newest if not open_only or one.state is not IncidentState.CLOSED][: max(0, limit)]

    def newest_open(self) -> Incident | None:
        """The open incident that was opened last."""
        found = self.list(limit=1, open_only=True)
        return found[0] if found else None

    def count_open(self) -> int:
        """How many incidents are not closed."""
        if self._waiting:
            return len(self.list(limit=KEEP_CLOSED, open_only=True))
        return int(self._database.rows("SELECT count(*) FROM incidents WHERE state <> 'closed'")[0][0])

    def update(self, incident_id: str, **fields: Any) -> Incident:
        """Replace fields of an incident; closing it sets `closed_at` unless that is given.

        Raises:
            NotFound: There is none of this id.
            Conflict: It would be a second open incident of one fingerprint.
        """
        try:
            with self._write() as connection:
                return self._save(connection, self._changed(incident_id, fields))
        except sqlite3.IntegrityError as error:
            raise Conflict(f"another incident with the fingerprint of {incident_id} is open") from error
        except StoreBusy as busy:
            changed = self._changed(incident_id, fields)
            beside = self._open_of(changed.fingerprint)
            if changed.state is not IncidentState.CLOSED and beside is not None and beside.id != incident_id:
                raise Conflict(f"another incident with the fingerprint of {incident_id} is open") from busy
            return self._keep(changed, busy)

    def _changed(self, incident_id: str, fields: dict[str, Any]) -> Incident:
        old = self.get(incident_id)
        if fields.get("state") == IncidentState.CLOSED and old.closed_at is None:
            fields.setdefault("closed_at", self._clock.wall())
        return msgspec.structs.replace(old, **fields)

    def _open_of(self, fingerprint: str) -> Incident | None:
        """The open incident of a fingerprint, on disk or waiting."""
        rows = self._database.rows(_OPEN, (fingerprint,))
        found = {row[0]: _incident(*row) for row in rows} | self._waiting
        alike = (one for one in found.values() if one.fingerprint == fingerprint)
        return next((one for one in alike if one.state is not IncidentState.CLOSED), None)

    def _keep(self, incident: Incident, busy: StoreBusy) -> Incident:
        n = number("i", incident.id)
        if n not in self._waiting and len(self._waiting) >= WAITING:
            self._database.lost += 1
            raise busy
        self._waiting[n] = unpack(pack(incident), Incident)  # as it will be read from the disk
        return self._waiting[n]

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which begins with what waits."""
        joins = self._database.nested  # then the end of this block is not yet on disk
        with self._database.write() as connection:
            # The closed ones first: a fingerprint may have been opened anew while its first incident waited.
            for n, one in sorted(self._waiting.items(), key=lambda item: item[1].state is not IncidentState.CLOSED):
                connection.execute(_PUT, (n, one.fingerprint, one.state.value, one.opened_at, pack(one)))
            yield connection
        if not joins:
            self._waiting.clear()

    def _save(self, connection: sqlite3.Connection, incident: Incident) -> Incident:
        body = pack(incident)
        checked = unpack(body, Incident)
        values = (checked.fingerprint, checked.state.value, checked.opened_at, body, number("i", incident.id))
        connection.execute(_UPDATE, values)
        return checked


def _opened(new: NewIncident, now: float) -> Incident:
    fields = msgspec.structs.asdict(new)
    del fields["at"]
    return Incident(id="", opened_at=now, last_at=now, **fields)


def _counted(old: Incident, new: NewIncident, now: float) -> Incident:
    newer = {name: value for name in ("trace", "exit", "request") if (value := getattr(new, name)) is not None}
    if new.generation:
        newer["generation"] = new.generation
    return msgspec.structs.replace(old, count=old.count + 1, last_at=now, **newer)


def number(letter: str, identifier: str) -> int:
    """The number in an id such as "i12"; -1, which no row has, when it is none."""
    digits = identifier.removeprefix(letter)
    sound = identifier.startswith(letter) and digits.isascii() and digits.isdigit() and len(digits) < 19  # noqa: PLR2004  fits 64 bits
    return int(digits) if sound else -1


def _incident(n: int, body: bytes) -> Incident:
    return msgspec.structs.replace(unpack(body, Incident), id=f"i{n}")
