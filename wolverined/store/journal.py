# SPDX-License-Identifier: MIT
"""The journal of surgeries: a row on disk before each side effect, so that a successor knows what was under way.

`intent` (temporary files may exist) -> `swapping` (targets may be replaced) -> `committed` (the new
tree stands, rests may lie about) -> `done`; before the commit also `undoing` -> `undone`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import Conflict
from wolverined.store.codec import pack
from wolverined.store.database import Database

_INSERT = "INSERT INTO journal (kind, repair, backup, state, at, plan) VALUES (?, ?, ?, ?, ?, ?)"
_COLUMNS = "n, kind, repair, backup, state, at, plan, note"
_OPEN = f"SELECT {_COLUMNS} FROM journal WHERE state NOT IN ('done', 'undone')"  # noqa: S608  constants
_ALL = f"SELECT {_COLUMNS} FROM journal ORDER BY n DESC LIMIT ?"  # noqa: S608  constants


class JournalState(StrEnum):
    """How far a surgery has come."""

    INTENT = "intent"
    SWAPPING = "swapping"
    COMMITTED = "committed"
    UNDOING = "undoing"
    DONE = "done"
    UNDONE = "undone"


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One surgery. `plan` is JSON that `heal/transaction.py` writes and reads."""

    number: int
    kind: str  # "apply", "rollback", "restore"
    repair: str
    backup: str
    state: JournalState
    at: float
    plan: bytes
    note: str = ""


class Journal:
    """The surgeries of one instance; written by the heal alone, always durable."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, *, kind: str, repair: str, backup: str, plan: object) -> JournalEntry:
        """Write down what is about to be done.

        Raises:
            Conflict: Another surgery is under way, or was and has not been recovered.
            StoreError: It could not be written; nothing may be done.
        """
        values = (kind, repair, backup, JournalState.INTENT.value, self._clock.wall(), pack(plan))
        try:
            with self._database.write() as connection:
                row = connection.execute(_INSERT, values).lastrowid
        except sqlite3.IntegrityError as error:
            hint = "it is recovered when the next heal starts"
            raise Conflict("another change of the app's files is not finished", hint=hint) from error
        return _entry((row, *values, ""))

    def advance(self, entry: JournalEntry, state: JournalState, *, note: str = "") -> JournalEntry:
        """Write down the next state.

        Raises:
            StoreError: It could not be written; the next step may not be done.
        """
        with self._database.write() as connection:
            connection.execute("UPDATE journal SET state = ?, note = ? WHERE n = ?", (state.value, note, entry.number))
        return msgspec.structs.replace(entry, state=state, note=note)

    def unfinished(self) -> JournalEntry | None:
        """The surgery that is neither done nor undone."""
        rows = self._database.rows(_OPEN)
        return _entry(rows[0]) if rows else None

    def list(self, *, limit: int = 100) -> list[JournalEntry]:
        """Surgeries, newest first."""
        return [_entry(row) for row in self._database.rows(_ALL, (max(0, limit),))]


def _entry(row: Sequence[Any]) -> JournalEntry:
    number, kind, repair, backup, state, at, plan, note = row
    return JournalEntry(
        number=number,
        kind=kind,
        repair=repair,
        backup=backup,
        state=JournalState(state),
        at=at,
        plan=plan,
        note=note,
    )
