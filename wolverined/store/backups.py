# SPDX-License-Identifier: MIT
"""The list of backups: written by the heal alone. Their contents lie in directories of `heal/transaction.py`."""

from __future__ import annotations

from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import NotFound
from wolverined.model import Backup, BackupState
from wolverined.store.codec import pack, unpack
from wolverined.store.database import Database
from wolverined.store.incidents import number

_INSERT = "INSERT INTO backups (repair, state, created_at, body) VALUES (?, ?, ?, ?)"
_UPDATE = "UPDATE backups SET repair = ?, state = ?, created_at = ?, body = ? WHERE n = ?"


class Backups:
    """The backups of one instance."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, *, repair: str, files: tuple[str, ...], tree_hash: str, size_bytes: int = 0) -> Backup:
        """Record a new backup, `unstable` as yet.

        Raises:
            StoreError: It could not be written.
        """
        backup = Backup(
            id="",
            repair=repair,
            state=BackupState.UNSTABLE,
            files=files,
            tree_hash=tree_hash,
            created_at=self._clock.wall(),
            size_bytes=size_bytes,
        )
        body = pack(backup)
        with self._database.write() as connection:
            row = connection.execute(_INSERT, (repair, backup.state.value, backup.created_at, body)).lastrowid
        return msgspec.structs.replace(unpack(body, Backup), id=f"b{row}")

    def get(self, backup_id: str) -> Backup:
        """The backup of this id.

        Raises:
            NotFound: There is none.
        """
        rows = self._database.rows("SELECT n, body FROM backups WHERE n = ?", (number("b", backup_id),))
        if not rows:
            raise NotFound(f"there is no backup {backup_id}", hint="see: wolverinectl backups")
        return _backup(*rows[0])

    def list(self, *, limit: int = 1000) -> list[Backup]:
        """Backups, newest first."""
        sql = "SELECT n, body FROM backups ORDER BY n DESC LIMIT ?"
        return [_backup(*row) for row in self._database.rows(sql, (max(0, limit),))]

    def update(self, backup_id: str, **fields: Any) -> Backup:
        """Replace fields of a backup.

        Raises:
            NotFound: There is none of this id.
        """
        with self._database.write() as connection:
            body = pack(msgspec.structs.replace(self.get(backup_id), **fields))
            backup = unpack(body, Backup)
            values = (backup.repair, backup.state.value, backup.created_at, body, number("b", backup_id))
            connection.execute(_UPDATE, values)
            return backup

    def remove(self, backup_id: str) -> None:
        """Forget a backup whose contents are gone."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM backups WHERE n = ?", (number("b", backup_id),))


def _backup(n: int, body: bytes) -> Backup:
    return msgspec.structs.replace(unpack(body, Backup), id=f"b{n}")
