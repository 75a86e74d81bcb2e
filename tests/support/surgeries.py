# SPDX-License-Identifier: MIT
"""The journal of surgeries in an instance's store, read from outside while a heal writes it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

STEPS = ("intent", "swapping", "undoing", "committed", "done", "undone")
PATIENCE_S = 5.0


class Journal:
    """What it holds of surgeries that are newer than itself.

    Args:
        state: The instance's state directory.
    """

    def __init__(self, state: Path) -> None:
        self._place = f"file:{state / 'store.db'}?mode=ro"
        self._known = self.newest()[0]

    def newest(self) -> tuple[int, str]:
        """Number and step of the newest surgery."""
        with contextlib.closing(sqlite3.connect(self._place, uri=True)) as connection:
            row = connection.execute("SELECT n, state FROM journal ORDER BY n DESC LIMIT 1").fetchone()
        return row or (0, "")

    def wait_for(self, step: str) -> None:
        """Return once a surgery that is new to us has come as far as `step`, or none came in time."""
        with contextlib.closing(sqlite3.connect(self._place, uri=True)) as connection:
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until:
                row = connection.execute("SELECT n, state FROM journal ORDER BY n DESC LIMIT 1").fetchone()
                if row and row[0] > self._known and STEPS.index(row[1]) >= STEPS.index(step):
                    return

    def wait_for_role(self, members: Callable[[], list[int]]) -> list[int]:
        """Pids of a role as soon as there are any; none once a surgery that is new to us is over."""
        found: list[int] = []
        until = time.monotonic() + PATIENCE_S
        while not found and time.monotonic() < until:
            found = members()
            number, step = self.newest()
            if number > self._known and step in ("done", "undone"):
                break
        return found
