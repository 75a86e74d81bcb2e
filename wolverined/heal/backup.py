# SPDX-License-Identifier: MIT
"""Backups on disk: both contents of every file that a repair touches, durable before the first rename.

`<state_dir>/backups/<id>/` holds `manifest.json` and the contents as `N.old` and `N.new`. The manifest
is written last, so a directory without one is a backup that was never finished. Retention is a pure
decision over the store's list.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from wolverined.errors import StoreError, SurgeryAborted
from wolverined.heal.source import sha256_of
from wolverined.model import Backup, BackupState

DAY_S = 86400.0
_MANIFEST = "manifest.json"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a backup: hashes (None: no such file) and permission bits, before and after."""

    path: str
    old: str | None
    new: str | None
    old_mode: int
    new_mode: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `root` is where the source really lay; `made_dirs` are those the repair made."""

    version: int = 1
    backup: str
    repair: str
    root: str
    tree_hash: str
    made_dirs: tuple[str, ...]
    files: tuple[Kept, ...]


class Archive:
    """The directory of all backups of one instance."""

    def __init__(self, state_dir: Path) -> None:
        self._top = state_dir / "backups"

    def path(self, backup_id: str) -> Path:
        """Where a backup lies."""
        if not (backup_id[:1] == "b" and backup_id[1:].isascii() and backup_id[1:].isdigit()):
            raise SurgeryAborted(f"{backup_id!r} is no backup")
        return self._top / backup_id

    def write(self, manifest: Manifest, *, old: Sequence[bytes | None], new: Sequence[bytes | None]) -> None:
        """Keep a backup, durable when this returns.

        Raises:
            StoreError: The disk refuses.
        """
        place = self.path(manifest.backup)
        try:
            self._top.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700)
            for kind, contents in (("old", old), ("new", new)):
                for number, data in enumerate(contents):
                    if data is not None:
                        write_durable(place / f"{number}.{kind}", data)
            write_durable(place / _MANIFEST, msgspec.json.encode(manifest))
            for directory in (place, self._top, self._top.parent):
                sync_directory(directory)
        except OSError as error:
            raise StoreError(
                f"the backup {place} cannot be written: {error.strerror}", hint="free some space"
            ) from error

    def manifest(self, backup_id: str) -> Manifest:
        """What a backup holds.

        Raises:
            SurgeryAborted: It is not there, or is damaged.
        """
        try:
            return msgspec.json.decode((self.path(backup_id) / _MANIFEST).read_bytes(), type=Manifest)
        except FileNotFoundError as error:
            raise SurgeryAborted(f"the backup {backup_id} is not on disk") from error
        except (OSError, msgspec.DecodeError) as error:
            raise SurgeryAborted(f"the backup {backup_id} cannot be read: {error}") from error

    def contents(self, manifest: Manifest, kind: str) -> list[bytes | None]:
        """The contents of a backup, `old` or `new`, in the order of its files, checked by hash.

        Raises:
            SurgeryAborted: One is missing or damaged.
        """
        found: list[bytes | None] = []
        for number, kept in enumerate(manifest.files):
            wanted = kept.old if kind == "old" else kept.new
            found.append(None if wanted is None else self._content(manifest.backup, f"{number}.{kind}", wanted))
        return found

    def remove(self, backup_id: str) -> None:
        """Remove a backup's directory; fine when it is gone.

        Raises:
            StoreError: The disk refuses.
        """
        try:
            shutil.rmtree(self.path(backup_id))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"the backup {backup_id} cannot be removed: {error}") from error

    def strays(self, known: Collection[str]) -> tuple[str, ...]:
        """Backups on disk that are not among the known ones."""
        try:
            names = [path.name for path in self._top.iterdir()]
        except OSError:
            return ()  # none yet
        return tuple(name for name in sorted(names) if re.fullmatch(r"b\d+", name) and name not in known)

    def _content(self, backup_id: str, name: str, wanted: str) -> bytes:
        try:
            data = (self.path(backup_id) / name).read_bytes()
        except OSError as error:
            raise SurgeryAborted(f"the backup {backup_id} is not whole: {name}: {error.strerror}") from error
        if sha256_of(data) != wanted:
            raise SurgeryAborted(f"the backup {backup_id} is damaged: {name} is not what was kept")
        return data


def to_prune(
    backups: Iterable[Backup], *, now: float, days: int, stable_per_day: int, in_use: Collection[str] = ()
) -> tuple[str, ...]:
    """The ids of the backups that retention gives up (pure).

    Everything younger than `days` stays; of what is older, the newest `stable_per_day` stable ones of
    each day (UTC). What is `in_use` stays, and so does a backup dated into the future.
    """
    kept_of_day: dict[dt.date, int] = {}
    gone = []
    for backup in sorted(backups, key=lambda one: (one.created_at, one.id), reverse=True):
        if now - backup.created_at < days * DAY_S or backup.id in in_use:
            continue
        if backup.state is BackupState.STABLE:
            day = dt.datetime.fromtimestamp(backup.created_at, tz=dt.UTC).date()
            kept_of_day[day] = kept_of_day.get(day, 0) + 1
            if kept_of_day[day] <= stable_per_day:
                continue
        gone.append(backup.id)
    return tuple(gone)


def write_durable(path: Path, data: bytes) -> None:
    """Write a new private file and wait for the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
