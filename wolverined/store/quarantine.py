# SPDX-License-Identifier: MIT
"""How often a fingerprint's heal failed, and until when it rests. Stored here, decided in `heal/triage.py`.

What a hasty store cannot write waits in memory, as incidents do.
"""

from __future__ import annotations

import msgspec

from wolverined.errors import StoreBusy
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
        self._waiting: dict[str, Quarantine | None] = {}  # None: forgotten

    @property
    def waiting(self) -> int:
        """How many rests are newer in memory than on disk."""
        return len(self._waiting)

    def settle(self) -> None:
        """Try again to write what waits.

        Raises:
            StoreError: It waits on.
        """
        if not self._waiting:
            return
        with self._database.write() as connection:
            for fingerprint, rest in self._waiting.items():
                if rest is None:
                    connection.execute("DELETE FROM quarantine WHERE fingerprint = ?", (fingerprint,))
                else:
                    connection.execute(_PUT, (fingerprint, pack(rest)))
        self._waiting.clear()

    def get(self, fingerprint: str) -> Quarantine:
        """The rest of this fingerprint; level 0 when it has none."""
        if fingerprint in self._waiting:
            return self._waiting[fingerprint] or Quarantine(fingerprint=fingerprint)
        rows = self._database.rows("SELECT body FROM quarantine WHERE fingerprint = ?", (fingerprint,))
        return unpack(rows[0][0], Quarantine) if rows else Quarantine(fingerprint=fingerprint)

    def put(self, rest: Quarantine) -> None:
        """Keep a rest in place of what was known of its fingerprint."""
        self._keep(rest.fingerprint, rest)

    def clear(self, fingerprint: str) -> None:
        """Forget a fingerprint: its repair stood."""
        self._keep(fingerprint, None)

    def list(self) -> list[Quarantine]:
        """Every fingerprint that has a rest."""
        rows = self._database.rows("SELECT body FROM quarantine")
        found = {rest.fingerprint: rest for rest in (unpack(row[0], Quarantine) for row in rows)}
        return [rest for rest in (found | self._waiting).values() if rest is not None]

    def _keep(self, fingerprint: str, rest: Quarantine | None) -> None:
        before = dict(self._waiting)
        self._waiting[fingerprint] = rest
        try:
            self.settle()
        except StoreBusy:
            pass  # it waits, and is read as if it were written
        except BaseException:
            self._waiting = before
            raise
