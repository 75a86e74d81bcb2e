# SPDX-License-Identifier: MIT
"""The supervisor's store while another process keeps the file locked: nothing waits, nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wolverined.clock import SystemClock
from wolverined.errors import Conflict, StoreBusy
from wolverined.model import Exit, IncidentKind, IncidentState, NewIncident, RepairMode
from wolverined.store import Quarantine, Store, incidents
from wolverined.store.database import BUSY_S, Database

CLOCK = SystemClock()


def crash(fingerprint: str = "f", **fields: object) -> NewIncident:
    """A crash of this fingerprint."""
    return NewIncident(fingerprint=fingerprint, kind=IncidentKind.CRASH, error="E", **fields)  # type: ignore[arg-type]


@contextmanager
def locked(directory: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else is in the middle of a write."""
    other = sqlite3.connect(directory / "store.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        if other.in_transaction:
            other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The supervisor's store."""
    opened = Store.open(tmp_path, clock=CLOCK, hasty=True)
    yield opened
    opened.close()


def on_disk(directory: Path) -> Store:
    """What somebody who opens the file anew finds."""
    return Store.open(directory, clock=CLOCK)


def test_a_hundred_writes_to_a_locked_file_take_less_than_one_wait_of_the_patient(store: Store, tmp_path: Path) -> None:
    """Only the first of them waits at all; a patient store would have waited a hundred times as long."""
    began = CLOCK.monotonic()
    with locked(tmp_path):
        for number in range(50):
            store.incidents.open_or_count(crash(f"f{number}"))
            store.events.append("a", "b")
    assert CLOCK.monotonic() - began < BUSY_S / 2
    assert (store.incidents.waiting, store.events.waiting, store.lost) == (50, 50, 0)


def test_what_waits_is_read_as_if_it_were_written_and_is_written_later(store: Store, tmp_path: Path) -> None:
    """Opened, counted, changed and closed; the numbers that were told are the numbers on the disk."""
    store.incidents.open_or_count(crash("old"))
    with locked(tmp_path):
        assert store.incidents.open_or_count(crash("old")).count == 2
        new = store.incidents.open_or_count(crash("new", generation=3))
        again = store.incidents.open_or_count(crash("new", generation=4, exit=Exit(generation=4, code=1)))
        assert (new.id, again.id, again.count, again.generation) == ("i2", "i2", 2, 4)
        store.incidents.update("i1", state=IncidentState.CLOSED, closed_by="restarted")
        assert store.incidents.get("i1").closed_at is not None
        assert store.incidents.open_or_count(crash("old")).id == "i3"
        seen = store.incidents.list()
        assert [one.id for one in seen] == ["i3", "i2", "i1"]
        assert [one.id for one in store.incidents.list(open_only=True)] == ["i3", "i2"]
        assert [one.id for one in store.incidents.list(limit=1)] == ["i3"]
        assert (store.incidents.count_open(), store.waiting) == (2, 3)
        store.settle()
        assert store.waiting == 3
    store.settle()
    assert store.waiting == 0
    found = on_disk(tmp_path)
    assert found.incidents.list() == seen
    assert found.incidents.open_or_count(crash("more")).id == "i4"
    found.close()


def test_the_next_write_takes_along_what_waits(store: Store, tmp_path: Path) -> None:
    """No timer is needed while incidents come."""
    with locked(tmp_path):
        store.incidents.open_or_count(crash("a"))
    assert store.incidents.open_or_count(crash("b")).id == "i2"
    assert store.waiting == 0


def test_what_waits_at_the_end_is_written_with_patience(tmp_path: Path) -> None:
    """A daemon that ends while a heal writes loses nothing."""
    store = Store.open(tmp_path, clock=CLOCK, hasty=True)
    with locked(tmp_path) as other:
        store.incidents.open_or_count(crash())
        timer = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        timer.start()
        store.close()
        timer.join()
    found = on_disk(tmp_path)
    assert found.incidents.count_open() == 1
    found.close()


def test_two_open_ones_of_a_fingerprint_are_refused_in_memory_as_on_disk(store: Store, tmp_path: Path) -> None:
    """What the index says there, the code says here."""
    store.incidents.open_or_count(crash())
    store.incidents.update("i1", state=IncidentState.CLOSED)
    with locked(tmp_path):
        store.incidents.open_or_count(crash())
        with pytest.raises(Conflict):
            store.incidents.update("i1", state=IncidentState.OPEN)
    store.settle()
    assert [one.state for one in store.incidents.list()] == [IncidentState.OPEN, IncidentState.CLOSED]


def test_a_rest_waits_too(store: Store, tmp_path: Path) -> None:
    """Given and forgotten, it is read as it will be written."""
    store.quarantine.put(Quarantine(fingerprint="gone", level=1))
    with locked(tmp_path):
        store.quarantine.put(Quarantine(fingerprint="kept", level=2))
        store.quarantine.clear("gone")
        assert (store.quarantine.get("kept").level, store.quarantine.get("gone").level) == (2, 0)
        assert [rest.fingerprint for rest in store.quarantine.list()] == ["kept"]
    store.settle()
    found = on_disk(tmp_path)
    assert [rest.fingerprint for rest in found.quarantine.list()] == ["kept"]
    found.close()


def test_the_waiting_room_of_incidents_is_bounded(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot take is refused, and counted as lost."""
    monkeypatch.setattr(incidents, "WAITING", 2)
    with locked(tmp_path):
        store.incidents.open_or_count(crash("a"))
        store.incidents.open_or_count(crash("b"))
        with pytest.raises(StoreBusy):
            store.incidents.open_or_count(crash("c"))
        assert store.incidents.open_or_count(crash("a")).count == 2, "what is there already is counted on"
    assert store.lost == 1
    store.settle()
    assert store.incidents.count_open() == 2


def test_what_has_no_waiting_room_says_that_it_is_busy(store: Store, tmp_path: Path) -> None:
    """Another room's write is refused at once, and goes through when the other process is done."""
    with locked(tmp_path), pytest.raises(StoreBusy):
        store.repairs.add(incident="i1", fingerprint="f", mode=RepairMode.FAST, error="e", resolution="r")
    store.repairs.add(incident="i1", fingerprint="f", mode=RepairMode.FAST, error="e", resolution="r")


def test_a_patient_store_waits(tmp_path: Path) -> None:
    """A heal's write outlives a lock of a moment."""
    store = Store.open(tmp_path, clock=CLOCK)
    with locked(tmp_path) as other:
        timer = threading.Timer(0.2, lambda: other.execute("ROLLBACK"))
        timer.start()
        store.incidents.open_or_count(crash())
        timer.join()
    assert store.waiting == 0
    store.close()


def test_nothing_sleeps_in_a_hasty_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop that tries again is for the patient."""
    database = Database.open(tmp_path / "store.db", hasty=True)

    def never(_: float) -> None:
        raise AssertionError("it slept")

    monkeypatch.setattr("wolverined.store.database.time.sleep", never)
    with locked(tmp_path), pytest.raises(StoreBusy), database.write():
        pass
    database.close()
