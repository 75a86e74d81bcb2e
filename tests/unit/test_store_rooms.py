# SPDX-License-Identifier: MIT
"""The store's rooms: what is kept, counted, refused and forgotten."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clocks import HandClock

from wolverined.config.schema import BudgetTable
from wolverined.errors import Conflict, NotFound, OverBudget, StoreError
from wolverined.model import (
    BackupState,
    Exit,
    FileChange,
    IncidentKind,
    IncidentState,
    NewIncident,
    RepairMode,
    RepairState,
    Usage,
)
from wolverined.store import JournalState, Quarantine, Store, incidents
from wolverined.store.events import MAX_FIELDS, Events


@pytest.fixture
def clock() -> HandClock:
    """A clock at one million seconds."""
    return HandClock(1_000_000.0)


@pytest.fixture
def store(tmp_path: Path, clock: HandClock) -> Iterator[Store]:
    """An empty store."""
    opened = Store.open(tmp_path, clock=clock)
    yield opened
    opened.close()


def crash(fingerprint: str = "f", **fields: object) -> NewIncident:
    """A crash of this fingerprint."""
    return NewIncident(fingerprint=fingerprint, kind=IncidentKind.CRASH, error="TypeError", **fields)  # type: ignore[arg-type]


# --- incidents -----------------------------------------------------------------------------------


def test_the_same_trouble_is_counted_not_opened_twice(store: Store, clock: HandClock) -> None:
    """Count, last time and the newest evidence change; the id and the first time stay."""
    first = store.incidents.open_or_count(crash(generation=1))
    clock.now += 5
    again = store.incidents.open_or_count(crash(generation=2, exit=Exit(generation=2, code=1)))
    assert (again.id, again.count, again.opened_at, again.last_at) == (first.id, 2, 1_000_000.0, 1_000_005.0)
    assert (again.generation, again.exit) == (2, Exit(generation=2, code=1))
    assert store.incidents.open_or_count(crash()).exit == again.exit, "older evidence stays when there is no newer"


def test_a_closed_incident_opens_anew_under_another_id(store: Store, clock: HandClock) -> None:
    """`closed_at` is set, and ids are never reused."""
    store.incidents.open_or_count(crash())
    clock.now += 7
    closed = store.incidents.update("i1", state=IncidentState.CLOSED, closed_by="restarted")
    assert closed.closed_at == 1_000_007.0
    assert store.incidents.open_or_count(crash()).id == "i2"
    assert [one.id for one in store.incidents.list()] == ["i2", "i1"]
    assert [one.id for one in store.incidents.list(open_only=True)] == ["i2"]
    assert store.incidents.count_open() == 1


def test_two_incidents_of_one_fingerprint_are_never_open_together(store: Store) -> None:
    """The database itself refuses to reopen the older."""
    store.incidents.open_or_count(crash())
    store.incidents.update("i1", state=IncidentState.CLOSED)
    store.incidents.open_or_count(crash())
    with pytest.raises(Conflict):
        store.incidents.update("i1", state=IncidentState.OPEN)
    assert store.incidents.get("i1").state is IncidentState.CLOSED


@pytest.mark.parametrize("name", ["i9", "", "i", "x1", "i-1", "i1 ", "i٣", "i" + "9" * 40, "1"])
def test_an_unknown_id_is_not_found(store: Store, name: str) -> None:
    """Whatever is given as an id is a question, never a crash."""
    store.incidents.open_or_count(crash())
    for get in (store.incidents.get, store.repairs.get, store.backups.get):
        with pytest.raises(NotFound):
            get(name)


def test_closed_incidents_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that crashes differently for ever does not fill the disk; open ones are kept."""
    monkeypatch.setattr(incidents, "KEEP_CLOSED", 5)
    for number in range(20):
        new = store.incidents.open_or_count(crash(f"f{number}"))
        if number:
            store.incidents.update(new.id, state=IncidentState.CLOSED)
    kept = [one.id for one in store.incidents.list()]
    assert kept[-1] == "i1"
    assert len(kept) <= 7


def test_text_that_no_json_holds_is_kept_all_the_same(store: Store) -> None:
    """A lone surrogate in an app's message must not lose the incident."""
    new = crash(message="caf\udce9", exit=Exit(generation=1, code=1, tail=("\ud800",)))
    kept = store.incidents.open_or_count(new)
    assert kept.message == "caf?"
    assert store.incidents.get("i1") == kept


# --- repairs -------------------------------------------------------------------------------------

CHANGE = FileChange(path="a.js", before=b"\xff\x00", after=None, mode=0o755)


def repair(
    store: Store, *, fingerprint: str = "f", state: RepairState = RepairState.PROPOSED, sha256: str = "s"
) -> str:
    """A repair of this state; its id."""
    added = store.repairs.add(
        incident="i1",
        fingerprint=fingerprint,
        mode=RepairMode.REMEDY,
        error="e",
        resolution="r",
        state=state,
        changes=(CHANGE,),
        sha256=sha256,
    )
    return added.id


def test_a_repair_keeps_the_exact_bytes_of_its_changes(store: Store) -> None:
    """What was approved is what is applied later, bytes that are no text included."""
    found = store.repairs.stored(repair(store))
    assert found.changes == (CHANGE,)
    assert (found.repair.files, found.fingerprint) == (("a.js",), "f")


def test_negatives_are_what_failed_for_this_fingerprint(store: Store) -> None:
    """Refuted, rejected, rolled back; not what failed for another fingerprint or still stands."""
    for number, state in enumerate(RepairState):
        repair(store, state=state, sha256=f"s{number}")
    repair(store, fingerprint="g", state=RepairState.REFUTED, sha256="other")
    states = list(RepairState)
    failed = (RepairState.REFUTED, RepairState.REJECTED, RepairState.ROLLED_BACK)
    assert store.repairs.negatives("f") == {f"s{states.index(state)}" for state in failed}


def test_the_last_good_repair_is_recalled(store: Store) -> None:
    """Only one that stood its probation, the newest of them."""
    repair(store, state=RepairState.ROLLED_BACK)
    assert store.repairs.last_good("f") is None
    repair(store, state=RepairState.STABLE)
    wanted = repair(store, state=RepairState.VERIFIED)
    repair(store, state=RepairState.REFUTED)
    found = store.repairs.last_good("f")
    assert found is not None
    assert found.repair.id == wanted


def test_repairs_are_listed_newest_first_and_by_incident(store: Store) -> None:
    """An update is seen by the list."""
    repair(store)
    repair(store)
    store.repairs.update("r1", state=RepairState.APPLIED, incident="i7")
    assert [one.id for one in store.repairs.list()] == ["r2", "r1"]
    assert [one.id for one in store.repairs.list(incident="i7")] == ["r1"]
    assert [one.id for one in store.repairs.list(limit=1)] == ["r2"]


# --- backups, quarantine, journal ----------------------------------------------------------------


def test_backups_rise_from_unstable_to_stable_and_can_be_forgotten(store: Store) -> None:
    """A forgotten id is not given to another backup."""
    backup = store.backups.add(repair="r1", files=("a",), tree_hash="t", size_bytes=3)
    assert backup.state is BackupState.UNSTABLE
    assert store.backups.update("b1", state=BackupState.STABLE).state is BackupState.STABLE
    store.backups.remove("b1")
    assert store.backups.list() == []
    assert store.backups.add(repair="r1", files=(), tree_hash="t").id == "b2"


def test_a_rest_is_kept_and_cleared(store: Store) -> None:
    """A fingerprint without a rest has level 0."""
    assert store.quarantine.get("f") == Quarantine(fingerprint="f")
    rest = Quarantine(fingerprint="f", level=2, until_wall=None, attempts=2, why="refuted")
    store.quarantine.put(rest)
    assert store.quarantine.get("f") == rest
    assert store.quarantine.list() == [rest]
    store.quarantine.clear("f")
    assert store.quarantine.get("f").level == 0


def test_one_surgery_at_a_time(store: Store) -> None:
    """The second is refused until the first is done or undone."""
    entry = store.journal.begin(kind="apply", repair="r1", backup="b1", plan={"steps": []})
    for state in (JournalState.SWAPPING, JournalState.COMMITTED, JournalState.UNDOING):
        entry = store.journal.advance(entry, state)
        with pytest.raises(Conflict):
            store.journal.begin(kind="rollback", repair="r1", backup="b1", plan={})
    found = store.journal.unfinished()
    assert found is not None
    assert (found.number, found.plan, found.state) == (1, b'{"steps":[]}', JournalState.UNDOING)
    store.journal.advance(entry, JournalState.UNDONE, note="x")
    assert store.journal.unfinished() is None
    assert store.journal.begin(kind="rollback", repair="r1", backup="b1", plan={}).number == 2


def test_what_is_written_together_is_written_together(store: Store) -> None:
    """An error in the middle takes all of it back."""
    repair(store)
    with contextlib.suppress(NotFound), store.atomic():
        store.repairs.update("r1", state=RepairState.APPLIED)
        store.repairs.update("r9", state=RepairState.APPLIED)
    assert store.repairs.get("r1").state is RepairState.PROPOSED


# --- usage ---------------------------------------------------------------------------------------

BUDGET = BudgetTable(usd_per_incident=1.0, usd_per_day=2.0, tokens_per_hour=1000)


def reserve(store: Store, *, incident: str = "i1", tokens: int = 10, usd: float | None = 0.4) -> None:
    """Reserve a call under the test's budget."""
    store.usage.reserve(incident=incident, model="m", input_tokens=tokens, output_tokens=0, cost_usd=usd, budget=BUDGET)


def test_reservations_count_before_the_call_is_made(store: Store) -> None:
    """Per incident, per day and per hour; what does not fit is not held."""
    reserve(store)
    reserve(store)
    with pytest.raises(OverBudget, match="incident"):
        reserve(store)
    for incident in ("i2", "i2", "i3"):
        reserve(store, incident=incident)
    with pytest.raises(OverBudget, match="day"):
        reserve(store, incident="i4")
    with pytest.raises(OverBudget, match="hour"):
        reserve(store, incident="i4", tokens=951, usd=0)
    reserve(store, incident="i4", tokens=950, usd=0)


def test_budgets_of_day_and_hour_pass_with_the_time(store: Store, clock: HandClock) -> None:
    """The incident's own budget does not."""
    reserve(store, tokens=1000, usd=1.0)
    clock.now += 3601
    reserve(store, incident="i2", tokens=1000, usd=1.0)
    clock.now += 86400
    reserve(store, incident="i3", usd=1.0)
    with pytest.raises(OverBudget, match="incident"):
        reserve(store, usd=0.01)


def test_settling_replaces_the_worst_case_by_the_usage(store: Store) -> None:
    """Once; a call that was never sent costs nothing."""
    held = store.usage.reserve(
        incident="i1", model="m", input_tokens=500, output_tokens=500, cost_usd=1.0, budget=BUDGET, mode="agent"
    )
    store.usage.settle(held, Usage(calls=1, input_tokens=7, output_tokens=3, cost_usd=0.1, model="m-2026"))
    with pytest.raises(NotFound):
        store.usage.settle(held, Usage())
    other = store.usage.reserve(incident="i1", model="m", input_tokens=5, output_tokens=5, cost_usd=None, budget=BUDGET)
    store.usage.settle(other, Usage(calls=1, input_tokens=5, cost_usd=None))
    totals = store.usage.totals()
    assert (totals.total.calls, totals.total.input_tokens, totals.total.unpriced) == (2, 12, 1)
    assert totals.total.cost_usd == pytest.approx(0.1)
    assert set(totals.by_model) == {"m-2026", "m"}
    assert totals.by_mode["agent"].output_tokens == 3
    assert store.usage.totals(incident="i2").total.calls == 0


# --- events --------------------------------------------------------------------------------------


def test_events_are_read_by_a_cursor_that_grows(store: Store) -> None:
    """Each reader goes on where it was."""
    for number in range(5):
        store.events.append("app.exit", f"{number}", fields={"n": number})
    assert [event.cursor for event in store.events.after(0, 2)] == [1, 2]
    assert [event.message for event in store.events.after(2)] == ["2", "3", "4"]
    assert [event.message for event in store.events.last(2)] == ["3", "4"]
    assert store.events.after(-5, 1)[0].cursor == 1
    assert store.events.after(99) == []
    assert store.events.newest == 5


def test_old_events_are_forgotten_and_cursors_are_not_reused(tmp_path: Path, clock: HandClock) -> None:
    """Not even after a restart that finds none."""
    store = Store.open(tmp_path, clock=clock)
    events = Events(store._database, clock=clock, keep=150)
    for _ in range(1000):
        events.append("a", "b")
    assert next(iter(events.after(0))).cursor == 851
    with store._database.write() as connection:
        connection.execute("DELETE FROM events")
    store.close()
    again = Store.open(tmp_path, clock=clock)
    assert again.events.append("a", "b").cursor == 1001
    again.close()


def test_events_of_two_writers_get_cursors_of_their_own(tmp_path: Path, clock: HandClock) -> None:
    """One writer is the rule; a second one must not cost an event."""
    one, other = Store.open(tmp_path, clock=clock), Store.open(tmp_path, clock=clock)
    cursors = [store.events.append("a", "b").cursor for store in (one, other, one, one, other)]
    assert cursors == [1, 2, 3, 4, 5]
    one.close()
    other.close()


@pytest.mark.parametrize(
    "fields", [{"x": "y" * MAX_FIELDS}, {"x": "\ud800"}, {"x": 2**70}, {1: b"\xff"}, {"p": Path("/"), "s": {1}}]
)
def test_an_event_holds_whatever_it_is_given(store: Store, fields: dict[str, object]) -> None:
    """Huge, unprintable or strange fields are cut or spelt out, and read back as they were told."""
    told = store.events.append("a", "m" * 10_000, fields=fields)
    assert store.events.after(0) == [told]
    assert len(told.message) < 5000


def test_a_disk_that_refuses_events_does_not_stop_them(store: Store, clock: HandClock) -> None:
    """They wait in memory, can be read, and are written in order when the disk takes them again."""
    store.events.append("a", "0")
    store._database._connected().execute("PRAGMA query_only = ON")
    told = [store.events.append("a", str(number)) for number in range(1, 4)]
    assert [event.cursor for event in told] == [2, 3, 4]
    assert [event.message for event in store.events.after(1)] == ["1", "2", "3"]
    assert store.lost == 3
    assert "read-only" in store.lost_why
    store._database._connected().execute("PRAGMA query_only = OFF")
    store.events.append("a", "4")
    assert store.events.waiting == 0
    rows = store._database.rows("SELECT cursor FROM events ORDER BY cursor")
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]


def test_what_the_waiting_room_cannot_hold_is_lost_and_counted(store: Store) -> None:
    """The oldest go first."""
    store._database._connected().execute("PRAGMA query_only = ON")
    for number in range(1010):
        store.events.append("a", str(number))
    assert (store.events.waiting, store.events.lost) == (1000, 10)
    assert store.events.after(0, 1)[0].message == "10"


def test_a_refused_incident_is_an_error_that_says_why(store: Store) -> None:
    """And it is counted; the store goes on afterwards."""
    store._database._connected().execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="read-only") as caught:
        store.incidents.open_or_count(crash())
    assert caught.value.hint
    store._database._connected().execute("PRAGMA query_only = OFF")
    assert store.incidents.open_or_count(crash()).id == "i1"
    assert store.lost == 1


def test_a_volatile_store_supervises_without_a_disk(clock: HandClock) -> None:
    """It says at once that nothing is kept."""
    store = Store.volatile(clock=clock, why="the disk is full")
    assert not store.durable
    assert store.events.after(0)[0].severity == "critical"
    assert store.incidents.open_or_count(crash()).id == "i1"
    store.close()


def test_a_closed_store_says_so(store: Store) -> None:
    """Not a traceback of the database."""
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.incidents.list()
    with pytest.raises(StoreError, match="closed"):
        store.incidents.open_or_count(crash())
