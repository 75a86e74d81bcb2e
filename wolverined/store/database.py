# SPDX-License-Identifier: MIT
"""One SQLite file: opening, migrations, transactions, and errors in words.

WAL, so that the reader of one process never waits for the writer of the other. Writes begin with
BEGIN IMMEDIATE: a transaction that reads first and writes later gets SQLITE_BUSY at once, whatever
the busy timeout (sqlite.org/wal.html). What fails to be written is counted, so that nothing is
dropped in silence. The supervisor never waits: its opening is a hasty one, whose rooms keep in memory
what another process's lock refuses.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wolverined.errors import StoreBusy, StoreError
from wolverined.store.migrations import MIGRATIONS, SEQUENCES

T = TypeVar("T")

BUSY_S = 5.0
"""How long a write waits for the other process; both keep their transactions to milliseconds."""

HASTY_S = 0.02
"""How long a hasty write waits; after one that found the file locked the next do not wait at all."""

AFTER_LOSS = 1_000_000
"""Numbers of a file made anew start at a multiple of this: what a lost file had handed out is not known."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_WORDS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space; what could not be written is counted"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "let the user of wolverined write there"),
    sqlite3.SQLITE_IOERR: ("the disk gives errors", "look at the kernel's log"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "does the directory exist, and may wolverined write there?"),
    sqlite3.SQLITE_BUSY: ("another process keeps it locked", "end the process that holds it"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "restart wolverined: the file is then moved aside"),
    sqlite3.SQLITE_NOTADB: ("it is no database", "restart wolverined: the file is then moved aside"),
}


class Database:
    """The connection of one process. Safe to use from several threads, one transaction at a time.

    Attributes:
        path: The file, or None for one in memory.
        lost: How many writes failed since the process began.
        lost_why: What the last of them failed of.
        moved_aside: Where a damaged predecessor lies, when this open found one.
        hasty: A write that finds the file locked gives up almost at once, with StoreBusy; it is not counted as
            lost, for the room whose it is keeps it.
    """

    def __init__(self, *, path: Path | None) -> None:
        self.path = path
        self.hasty = False
        self.lost = 0
        self.lost_why = ""
        self.moved_aside: Path | None = None
        self._thread_lock = threading.RLock()
        self._lock_fd: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._depth = 0
        self._synchronous = ""
        self._timeout_s = BUSY_S

    @classmethod
    def open(cls, path: Path, *, floors: Callable[[], dict[str, int]] = dict, hasty: bool = False) -> Database:
        """Open `path`, make or migrate its schema, and move a damaged file aside.

        Args:
            path: The database file; its directory must exist.
            floors: Asked when the file is new: table -> the highest number known to be in use already.
            hasty: Do not wait for another process once it is open; opening itself waits in any case.

        Raises:
            StoreError: The file cannot be opened or written, is from a newer version, or is damaged
                while another process has it open.
        """
        database = cls(path=path)
        try:
            database._take_lock()
            try:
                database._connect(floors)
            except _Damaged as damage:
                database._move_aside(damage)
                database._connect(floors)
        except (_Damaged, OSError) as error:
            database.close()
            raise StoreError(f"the store {path} cannot be used: {error}", hint="may wolverined write there?") from error
        except BaseException:
            database.close()
            raise
        database.hasty = hasty
        if hasty:
            database._wait_at_most(HASTY_S)
        return database

    @classmethod
    def check(cls, path: Path) -> None:
        """Look at a file that another process has open; what cannot be looked at is no reason against it.

        Raises:
            StoreError: It was written by a newer version.
        """
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_to_read(path)) as connection:
            _refuse_newer(connection.execute("PRAGMA user_version").fetchone()[0], path)

    @classmethod
    def in_memory(cls) -> Database:
        """A database that ends with the process: for a daemon whose state directory cannot be written."""
        database = cls(path=None)
        database._connect(dict)
        return database

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # The last one to close folds the log into the file; if the disk is full it stays beside it.
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        lock_fd, self._lock_fd = self._lock_fd, None
        if lock_fd is not None:
            os.close(lock_fd)

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction; nested ones join the outer.

        Args:
            durable: True: on disk before this returns (synchronous=FULL). False: survives the death of
                the process, and a power cut may take the last of it (NORMAL).

        Raises:
            StoreBusy: As StoreError, of a hasty opening while another process writes; it is not counted.
            StoreError: Nothing of the transaction was written; it is counted in `lost`.
        """
        with self._thread_lock:
            if self._depth:
                yield self._connected()
                return
            try:
                self._begin(durable=durable)
                self._depth = 1
                try:
                    yield self._connected()
                    self._patiently(lambda: self._connected().execute("COMMIT"))
                except BaseException:
                    self._abandon()
                    raise
                finally:
                    self._depth = 0
            except sqlite3.IntegrityError:
                raise  # a constraint said no: the caller knows which and says it in its own words
            except sqlite3.Error as error:
                raise self._counted(error) from error

    @property
    def nested(self) -> bool:
        """Whether a transaction is open, which a `write` would join."""
        return bool(self._depth)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query.

        Raises:
            StoreError: The file cannot be read.
        """
        with self._thread_lock:
            try:
                return self._patiently(lambda: self._connected().execute(sql, values).fetchall())
            except sqlite3.Error as error:
                raise self._said(error) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the store is closed")
        return self._connection

    def _take_lock(self) -> None:
        """Hold a shared lock for as long as the file is open, so that nobody moves it from under us."""
        assert self.path is not None
        name = self.path.with_suffix(".lock")
        self._lock_fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)
        # SQLite would create the file by the umask; the store holds request bodies and source.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def _connect(self, floors: Callable[[], dict[str, int]]) -> None:
        target = ":memory:" if self.path is None else str(self.path)
        try:
            self._connection = sqlite3.connect(
                target, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            self._patiently(lambda: self._connected().execute("PRAGMA journal_mode = WAL"))
            check = self._patiently(lambda: self._connected().execute("PRAGMA quick_check(1)").fetchone())
            if check[0] != "ok":
                raise _Damaged(str(check[0]))
            self._migrate(floors)
        except sqlite3.DatabaseError as error:
            if _code(error) in _DAMAGED:
                raise _Damaged(str(error)) from error
            raise self._said(error) from error

    def _migrate(self, floors: Callable[[], dict[str, int]]) -> None:
        (version,) = self._connected().execute("PRAGMA user_version").fetchone()
        _refuse_newer(version, self.path)
        if version == len(MIGRATIONS):
            return
        with self.write() as connection:
            # Both processes may come here at once: who waited for the lock finds the work done.
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for statement in (one for step in MIGRATIONS[version:] for one in step):
                connection.execute(statement)
            if version == 0:
                self._raise_sequences(connection, floors())
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS):d}")

    def _raise_sequences(self, connection: sqlite3.Connection, floors: dict[str, int]) -> None:
        lost_files = len(list(self.path.parent.glob(f"{self.path.name}.corrupt-*[0-9]"))) if self.path else 0
        for table in SEQUENCES:
            floor = max(floors.get(table, 0), lost_files * AFTER_LOSS)
            if floor:
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, floor))

    def _move_aside(self, damage: Exception) -> None:
        assert self.path is not None
        assert self._lock_fd is not None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"the store {self.path} is damaged ({damage}) and another process has it open",
                hint="restart wolverined: the file is then moved aside",
            ) from error
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
            number += 1
        for suffix in ("-wal", "-shm", ""):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self.moved_aside = aside
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)

    def _begin(self, *, durable: bool) -> None:
        connection = self._connected()
        wanted = "FULL" if durable else "NORMAL"
        if wanted != self._synchronous:
            connection.execute(f"PRAGMA synchronous = {wanted}")
            self._synchronous = wanted
        self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
        if self.hasty:
            self._wait_at_most(HASTY_S)

    def _abandon(self) -> None:
        # SQLite may have rolled back by itself (disk full, I/O error); the first error is the one to tell.
        connection = self._connection
        if connection is not None and connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _patiently(self, work: Callable[[], T]) -> T:
        """Run `work` again while the file is busy, up to BUSY_S.

        The busy timeout alone is not enough: changing to WAL, recovery after a crash and the last
        closer's clean-up answer SQLITE_BUSY without asking the busy handler (sqlite.org/wal.html, 9).
        A hasty one is not tried again, and after it found the file busy the next does not even wait once.
        """
        if self.hasty:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if _code(error) in _BUSY:
                    self._wait_at_most(0.0)
                raise
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.005)

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._timeout_s:
            self._connected().execute(f"PRAGMA busy_timeout = {round(seconds * 1000):d}")
            self._timeout_s = seconds

    def _counted(self, error: sqlite3.Error) -> StoreError:
        said = self._said(error)
        if isinstance(said, StoreBusy):
            return said
        self.lost += 1
        self.lost_why = said.message
        return said

    def _said(self, error: sqlite3.Error) -> StoreError:
        words, hint = _WORDS.get(_code(error), (str(error), ""))
        kind = StoreBusy if self.hasty and _code(error) in _BUSY else StoreError
        return kind(f"the store {self.path or 'in memory'} fails: {words}", hint=hint)


def _to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)


def _refuse_newer(version: int, path: Path | None) -> None:
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the store {path} was written by a newer wolverined (schema {version}, this one knows {len(MIGRATIONS)})",
            hint="install that version again, or move the file away",
        )


class _Damaged(Exception):
    """The file is no sound database; it never leaves this module."""


def _code(error: sqlite3.Error) -> int:
    """The primary result code: the low byte of the extended one."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
