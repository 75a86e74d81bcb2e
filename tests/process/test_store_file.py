# SPDX-License-Identifier: MIT
"""The store's file: two writers, crashes, damage, full and read-only disks."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import IS_ROOT
from support.surgeons import forked

from wolverined.clock import SystemClock
from wolverined.errors import StoreError
from wolverined.model import IncidentKind, NewIncident, RepairMode
from wolverined.store import JournalState, Store

CLOCK = SystemClock()


def crash(fingerprint: str) -> NewIncident:
    """A crash of this fingerprint."""
    return NewIncident(fingerprint=fingerprint, kind=IncidentKind.CRASH, error="E")


def supervise(state: Path, rounds: int) -> int:
    """What a supervisor writes, and what it reads of the heal's; opens and closes as it goes."""
    for number in range(rounds):
        store = Store.open(state, clock=CLOCK)
        for _ in range(10):
            store.incidents.open_or_count(crash(f"f{number}"))
            store.events.append("a", "b")
            store.repairs.list(limit=5)
        assert store.events.waiting == 0
        store.close()
    return 0


def heal(state: Path, rounds: int) -> int:
    """What a heal writes."""
    for _ in range(rounds):
        store = Store.open(state, clock=CLOCK)
        for _ in range(5):
            with store.atomic():
                backup = store.backups.add(repair="r1", files=("a",), tree_hash="t")
                entry = store.journal.begin(kind="apply", repair="r1", backup=backup.id, plan={})
            store.repairs.add(incident="i1", fingerprint="f", mode=RepairMode.FAST, error="e", resolution="r")
            store.journal.advance(entry, JournalState.DONE)
        store.close()
    return 0


def test_two_processes_write_and_open_at_once_and_nothing_is_ever_locked(tmp_path: Path) -> None:
    """Every write of both arrives; a lock error would end a child with a code that is not 0."""
    pids = [forked(lambda: supervise(tmp_path, 25)), forked(lambda: heal(tmp_path, 25))]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    store = Store.open(tmp_path, clock=CLOCK)
    assert store.incidents.count_open() == 25
    assert {one.count for one in store.incidents.list()} == {10}
    assert store.events.newest == 250
    assert len(store.repairs.list(limit=1000)) == len(store.backups.list()) == 125
    store.close()


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    """Each finds the schema whole, whoever made it."""

    def main() -> int:
        store = Store.open(tmp_path, clock=CLOCK)
        store.incidents.open_or_count(crash("f"))
        store.close()
        return 0

    pids = [forked(main) for _ in range(8)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    store = Store.open(tmp_path, clock=CLOCK)
    assert store.incidents.get("i1").count == 8
    store.close()


def test_a_file_that_is_busy_while_it_is_opened_is_waited_for(tmp_path: Path) -> None:
    """A lock of another process, held for a moment, is no error."""
    raw = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    raw.execute("CREATE TABLE t (x)")
    raw.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.3, lambda: raw.execute("ROLLBACK"))
    timer.start()
    Store.open(tmp_path, clock=CLOCK).close()
    timer.join()
    raw.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Also in the middle of a transaction, of which nothing remains."""

    def main() -> int:
        store = Store.open(tmp_path, clock=CLOCK)
        store.incidents.open_or_count(crash("kept"))
        store.events.append("a", "kept")
        with store.atomic():
            store.incidents.open_or_count(crash("not kept"))
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert os.WTERMSIG(os.waitpid(forked(main), 0)[1]) == signal.SIGKILL
    store = Store.open(tmp_path, clock=CLOCK)
    assert [one.fingerprint for one in store.incidents.list()] == ["kept"]
    assert [event.message for event in store.events.after(0)] == ["kept"]
    store.close()


@pytest.mark.parametrize("damage", ["nonsense", "header", "middle"])
def test_a_damaged_file_is_moved_aside_and_loudly_begun_anew(tmp_path: Path, damage: str) -> None:
    """Never emptied in silence; ids start where none was ever given out."""
    store = Store.open(tmp_path, clock=CLOCK)
    for number in range(200):
        store.incidents.open_or_count(crash(f"f{number}"))
    store.close()
    path = tmp_path / "store.db"
    data = bytearray(path.read_bytes())
    if damage == "nonsense":
        data = bytearray(b"this was never a database " * 400)
    elif damage == "header":
        data[:100] = bytes(100)
    else:
        data[4096 : len(data) - 4096] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    store = Store.open(tmp_path, clock=CLOCK)
    (event,) = store.events.after(0)
    assert (event.name, event.severity) == ("store.corrupt", "critical")
    assert (tmp_path / "store.db.corrupt-1").read_bytes() == bytes(data)
    assert store.incidents.open_or_count(crash("f")).id == "i1000001"
    store.close()
    again = Store.open(tmp_path, clock=CLOCK)
    assert again.incidents.get("i1000001")
    again.close()


def test_a_damaged_file_that_another_process_has_open_is_left_in_place(tmp_path: Path) -> None:
    """Moving it away from under the other would lose that one's writes."""
    first = Store.open(tmp_path, clock=CLOCK)
    first._database._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    copy = (tmp_path / "store.db").read_bytes()
    (tmp_path / "store.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match="another process"):
        Store.open(tmp_path, clock=CLOCK)
    (tmp_path / "store.db").write_bytes(copy)
    first.close()
    assert not list(tmp_path.glob("*corrupt*"))


def test_numbers_of_backups_on_disk_are_not_given_out_again(tmp_path: Path) -> None:
    """Somebody removed the file: what lies beside it still has its names."""
    (tmp_path / "backups" / "b7").mkdir(parents=True)
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "r12.patch").touch()
    store = Store.open(tmp_path, clock=CLOCK)
    assert store.backups.add(repair="r1", files=(), tree_hash="").id == "b8"
    repair = store.repairs.add(incident="i1", fingerprint="f", mode=RepairMode.FAST, error="e", resolution="r")
    assert repair.id == "r13"
    store.close()


def test_a_newer_schema_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """A downgrade must not damage what the newer version wrote."""
    Store.open(tmp_path, clock=CLOCK).close()
    raw = sqlite3.connect(tmp_path / "store.db")
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreError, match="newer") as caught:
        Store.open(tmp_path, clock=CLOCK)
    assert "install" in caught.value.hint
    assert not list(tmp_path.glob("*corrupt*"))


def test_the_file_is_private(tmp_path: Path) -> None:
    """It holds source and requests: no other user reads it, whatever the umask."""
    old = os.umask(0)
    try:
        store = Store.open(tmp_path, clock=CLOCK)
        store.incidents.open_or_count(crash("f"))
        modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(old)
    assert modes == {0o600}


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_state_directory_that_is_none_is_an_error_in_words(tmp_path: Path, kind: str) -> None:
    """Not a traceback: the daemon goes on with a volatile store."""
    place = tmp_path / "state"
    if kind == "file":
        place.touch()
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(place, clock=CLOCK)


def test_a_symbolic_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """The store is never somewhere else than it seems."""
    (tmp_path / "store.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(tmp_path, clock=CLOCK)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB."""
    if not IS_ROOT:
        pytest.skip("mounting a tiny file system needs root")
    place = Path(tempfile.mkdtemp(prefix="wolverine-test-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False)
    if mounted.returncode != 0:
        place.rmdir()
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


def fill(path: Path) -> None:
    """Write until nothing fits."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def open_many(store: Store) -> None:
    """Write incidents until one is refused."""
    for number in range(10_000):
        store.incidents.open_or_count(crash(f"f{number}"))


def test_a_full_disk_is_said_and_survived(small_disk: Path) -> None:
    """Writes fail in words and are counted, events wait; with room again everything goes on."""
    store = Store.open(small_disk, clock=CLOCK)
    store.incidents.open_or_count(crash("before"))
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(StoreError, match="disk is full"):
        open_many(store)
    for _ in range(50):
        store.events.append("a", "x" * 4000)
    assert store.lost >= 1
    filler.unlink()
    store.events.append("a", "room again")
    assert store.events.waiting == 0
    assert store.incidents.open_or_count(crash("after")).fingerprint == "after"
    assert {"before", "after"} <= {one.fingerprint for one in store.incidents.list(limit=10_000)}
    store.close()
    Store.open(small_disk, clock=CLOCK).close()


def test_a_read_only_disk_is_said_and_survived(small_disk: Path) -> None:
    """An open store answers reads and refuses writes; a new one cannot be opened."""
    store = Store.open(small_disk, clock=CLOCK)
    store.incidents.open_or_count(crash("f"))
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        with pytest.raises(StoreError, match="cannot be used"):
            Store.open(small_disk, clock=CLOCK)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


def test_a_write_that_the_system_limits_is_an_error_in_words(tmp_path: Path) -> None:
    """A file size limit ends a write with SIGXFSZ or EFBIG, not the daemon."""

    def main() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = Store.open(tmp_path, clock=CLOCK)
        size = (tmp_path / "store.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5000, size + 5000))
        try:
            open_many(store)
        except StoreError:
            return 0 if store.lost == 1 else 4
        return 3

    assert os.waitpid(forked(main), 0)[1] == 0
    shutil.rmtree(tmp_path)
