# SPDX-License-Identifier: MIT
"""Repairs and their patches: written by the heal alone; what worked is recalled, what failed is never offered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import NotFound
from wolverined.model import FileChange, Repair, RepairMode, RepairState
from wolverined.store.codec import pack, unpack
from wolverined.store.database import Database
from wolverined.store.incidents import number

NEGATIVE = (RepairState.REFUTED, RepairState.REJECTED, RepairState.ROLLED_BACK)
"""A diff that ended so is not proposed again for the same fingerprint."""

GOOD = (RepairState.VERIFIED, RepairState.STABLE)
"""A repair that ended so may be recalled."""

_INSERT = "INSERT INTO repairs (incident, fingerprint, state, sha256, body, changes) VALUES (?, ?, ?, ?, ?, ?)"
_UPDATE = "UPDATE repairs SET incident = ?, state = ?, sha256 = ?, body = ? WHERE n = ?"
_NEGATIVES = "SELECT DISTINCT sha256 FROM repairs WHERE fingerprint = ? AND sha256 <> '' AND state IN (?, ?, ?)"
_LAST_GOOD = """
    SELECT n, body, changes, fingerprint FROM repairs
    WHERE fingerprint = ? AND state IN (?, ?) ORDER BY n DESC LIMIT 1
"""


class StoredRepair(msgspec.Struct, frozen=True, kw_only=True):
    """A repair with the exact bytes that it replaces and writes."""

    repair: Repair
    fingerprint: str
    changes: tuple[FileChange, ...]


class Repairs:
    """The repairs of one instance."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        *,
        incident: str,
        fingerprint: str,
        mode: RepairMode,
        error: str,
        resolution: str,
        state: RepairState = RepairState.PROPOSED,
        changes: Sequence[FileChange] = (),
        **fields: Any,
    ) -> Repair:
        """Record a repair and keep its changes; `files` is theirs. Further fields are those of `Repair`.

        Raises:
            StoreError: It could not be written.
        """
        fields.setdefault("files", tuple(change.path for change in changes))
        fields.setdefault("created_at", self._clock.wall())
        repair = Repair(id="", incident=incident, mode=mode, state=state, error=error, resolution=resolution, **fields)
        body, kept = pack(repair), msgspec.msgpack.encode(tuple(changes))
        with self._database.write() as connection:
            values = (incident, fingerprint, state.value, repair.sha256, body, kept)
            row = connection.execute(_INSERT, values).lastrowid
        return msgspec.structs.replace(unpack(body, Repair), id=f"r{row}")

    def get(self, repair_id: str) -> Repair:
        """The repair of this id.

        Raises:
            NotFound: There is none.
        """
        return self.stored(repair_id).repair

    def stored(self, repair_id: str) -> StoredRepair:
        """The repair of this id with its changes.

        Raises:
            NotFound: There is none.
        """
        sql = "SELECT n, body, changes, fingerprint FROM repairs WHERE n = ?"
        rows = self._database.rows(sql, (number("r", repair_id),))
        if not rows:
            raise NotFound(f"there is no repair {repair_id}", hint="see: wolverinectl repairs")
        return _stored(*rows[0])

    def list(self, *, limit: int = 100, incident: str = "") -> list[Repair]:
        """Repairs, newest first; of one incident when that is given."""
        sql = "SELECT n, body FROM repairs WHERE ? IN ('', incident) ORDER BY n DESC LIMIT ?"
        return [_repair(*row) for row in self._database.rows(sql, (incident, max(0, limit)))]

    def update(self, repair_id: str, **fields: Any) -> Repair:
        """Replace fields of a repair.

        Raises:
            NotFound: There is none of this id.
        """
        with self._database.write() as connection:
            body = pack(msgspec.structs.replace(self.get(repair_id), **fields))
            repair = unpack(body, Repair)
            values = (repair.incident, repair.state.value, repair.sha256, body, number("r", repair_id))
            connection.execute(_UPDATE, values)
            return repair

    def negatives(self, fingerprint: str) -> set[str]:
        """The sha256 of every diff that was refuted, rejected or rolled back for this fingerprint."""
        values = (fingerprint, *(state.value for state in NEGATIVE))
        return {row[0] for row in self._database.rows(_NEGATIVES, values)}

    def last_good(self, fingerprint: str) -> StoredRepair | None:
        """The newest repair of this fingerprint that stood its probation, for recall."""
        rows = self._database.rows(_LAST_GOOD, (fingerprint, *(state.value for state in GOOD)))
        return _stored(*rows[0]) if rows else None


def _repair(n: int, body: bytes) -> Repair:
    return msgspec.structs.replace(unpack(body, Repair), id=f"r{n}")


def _stored(n: int, body: bytes, changes: bytes, fingerprint: str) -> StoredRepair:
    kept = msgspec.msgpack.decode(changes, type=tuple[FileChange, ...])
    return StoredRepair(repair=_repair(n, body), fingerprint=fingerprint, changes=kept)
