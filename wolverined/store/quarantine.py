# SPDX-License-Identifier: MIT
"""How often a fingerprint's heal failed, and until when it rests. Stored here, decided in `heal/triage.py`."""

from __future__ import annotations

import msgspec

from wolverined.store.codec import pack, unpack
from wolverined.store.database import Database

_PUT = """
    INSERT INTO quarantine (fingerprint, body) VALUES (?, ?)
    ON CONFLICT (fingerprint) DO UPDATE SET body = excluded.body
"""


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """The rest that a fingerprint has been given.

    `level` counts the steps of the backoff that were taken, `attempts` the heals that failed. The rest
    began at `since_wall`; `until_wall` is None for a fingerprint that stays out until an operator lifts
    it. `lifted` grants one try.
    """

    fingerprint: str
    level: int = 0
    since_wall: float = 0.0
    until_wall: float | None = 0.0
    attempts: int = 0
    lifted: bool = False
    why: str = ""


class Quarantines:
    """The rests of one instance; written by the supervisor alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, fingerprint: str) -> Quarantine:
        """The rest of this fingerprint; level 0 when it has none."""
        rows = self._database.rows("SELECT body FROM quarantine WHERE fingerprint = ?", (fingerprint,))
        return unpack(rows[0][0], Quarantine) if rows else Quarantine(fingerprint=fingerprint)

    def put(self, rest: Quarantine) -> None:
        """Keep a rest in place of what was known of its fingerprint."""
        with self._database.write() as connection:
            connection.execute(_PUT, (rest.fingerprint, pack(rest)))

    def clear(self, fingerprint: str) -> None:
        """Forget a fingerprint: its repair stood."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM quarantine WHERE fingerprint = ?", (fingerprint,))

    def list(self) -> list[Quarantine]:
        """Every fingerprint that has a rest."""
        return [unpack(row[0], Quarantine) for row in self._database.rows("SELECT body FROM quarantine")]
