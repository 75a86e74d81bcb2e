# SPDX-License-Identifier: MIT
"""The store as its users see it: one object with a room for each kind of record."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from wolverined.clock import Clock
from wolverined.errors import StoreError
from wolverined.store.backups import Backups
from wolverined.store.database import Database
from wolverined.store.events import Events
from wolverined.store.incidents import Incidents
from wolverined.store.journal import Journal
from wolverined.store.quarantine import Quarantines
from wolverined.store.repairs import Repairs
from wolverined.store.usage import UsageLedger

FILE = "store.db"

_NUMBERED = (
    ("backups", "backups", re.compile(r"b(\d{1,18})")),
    ("repairs", "patches", re.compile(r"r(\d{1,18})\.patch")),
)


class Store:
    """Everything that one instance remembers.

    Attributes:
        durable: False when nothing of this outlives the process; no heal may then run.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self.durable = database.path is not None
        self.incidents = Incidents(database, clock=clock)
        self.repairs = Repairs(database, clock=clock)
        self.backups = Backups(database, clock=clock)
        self.usage = UsageLedger(database, clock=clock)
        self.events = Events(database, clock=clock)
        self.quarantine = Quarantines(database)
        self.journal = Journal(database, clock=clock)

    @classmethod
    def open(cls, state_dir: Path, *, clock: Clock, hasty: bool = False) -> Store:
        """Open or make `store.db` in the state directory.

        A damaged file is moved to `store.db.corrupt-N` and a critical event says so.

        Args:
            state_dir: Where it lies.
            clock: Labels what is written.
            hasty: For who must never wait: incidents, rests and events that another process's lock refuses are
                kept in memory, and written later (`settle`); other writes raise StoreBusy.

        Raises:
            StoreError: It cannot be used; see `volatile`.
        """
        database = Database.open(state_dir / FILE, floors=lambda: _floors(state_dir), hasty=hasty)
        try:
            store = cls(database, clock=clock)
        except StoreError:
            database.close()
            raise
        if database.moved_aside is not None:
            store.events.append(
                "store.corrupt",
                f"the store was damaged; it lies in {database.moved_aside}, and a new one was begun",
                severity="critical",
                fields={"path": str(database.moved_aside)},
            )
        return store

    @classmethod
    def check(cls, state_dir: Path) -> None:
        """Say whether this version could use what lies there, and touch nothing.

        Raises:
            StoreError: It was written by a newer one.
        """
        Database.check(state_dir / FILE)

    @classmethod
    def volatile(cls, *, clock: Clock, why: str) -> Store:
        """A store in memory, for a daemon that must supervise although its state directory is unusable."""
        store = cls(Database.in_memory(), clock=clock)
        message = f"nothing is written to disk: {why}"
        store.events.append("store.volatile", message, severity="critical", fields={"why": why})
        return store

    @property
    def lost(self) -> int:
        """Writes that failed since the process began (an event that waits in memory counts once a try)."""
        return self._database.lost

    @property
    def lost_why(self) -> str:
        """What the last failed write failed of."""
        return self._database.lost_why

    @property
    def waiting(self) -> int:
        """How much is in memory only, until `settle` goes through."""
        return self.incidents.waiting + self.quarantine.waiting + self.events.waiting

    def settle(self) -> None:
        """Try again to write what waits in memory; what cannot be written waits on."""
        with contextlib.suppress(StoreError):
            self.incidents.settle()
            self.quarantine.settle()
            self.events.settle()

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Writes to several rooms that reach the disk together or not at all."""
        with self._database.write():
            yield

    def close(self) -> None:
        """Write what waits, with patience, for nothing is left to be kept waiting; close the file."""
        if self.waiting and self._database.path is not None:
            self._database.hasty = False
            self.settle()
        self._database.close()


def _floors(state_dir: Path) -> dict[str, int]:
    """The numbers that directories of a lost store still use: their ids must not be handed out again."""
    floors = {}
    for table, directory, pattern in _NUMBERED:
        try:
            names = [path.name for path in (state_dir / directory).iterdir()]
        except OSError:
            continue  # not made yet: no number in use
        floors[table] = max((int(found[1]) for name in names if (found := pattern.fullmatch(name))), default=0)
    return floors
