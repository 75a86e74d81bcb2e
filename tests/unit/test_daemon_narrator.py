# SPDX-License-Identifier: MIT
"""The mouth of the daemon: stored first, redacted, told once; and who waits for more is woken."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wolverined.clock import SystemClock
from wolverined.daemon.allowance import Allowance
from wolverined.daemon.narrator import Narrator
from wolverined.errors import StoreError
from wolverined.linux.journal import Journal
from wolverined.model import LogLine
from wolverined.redact import Redactor
from wolverined.store import Store

SECRET = "a-secret-of-the-app-41"


@contextmanager
def narrating(**options: Any) -> Iterator[tuple[Narrator, Store, io.StringIO]]:
    """A narrator over a store in memory, and where it writes; closed at the end."""
    store = Store.volatile(clock=SystemClock(), why="a test")
    out = io.StringIO()
    narrator = Narrator(
        name="app", store=store, redactor=lambda: Redactor({"TOKEN": SECRET}), environ={}, out=out, **options
    )
    try:
        yield narrator, store, out
    finally:
        narrator.close()
        store.close()


def line(number: int) -> LogLine:
    """One line of the app."""
    return LogLine(cursor=number, at=0.0, stream="stdout", text=f"line {number}", generation=1, pid=1, truncated=False)


def test_an_event_is_stored_and_told() -> None:
    """With all that it is about."""
    with narrating() as (narrator, store, out):
        narrator.tell(
            "app.exit", "it ended", severity="error", generation=3, incident="i1", repair="r2", fields={"a": 1}
        )
        event = store.events.last(1)[0]
        narrator.close()
        assert (event.name, event.severity, event.generation, event.incident) == ("app.exit", "error", 3, "i1")
        assert event.fields == {"a": 1}
        assert out.getvalue().rstrip().endswith("it ended  [i1 r2]")


def test_neither_message_nor_fields_hold_a_secret() -> None:
    """However deep it lies; what is no text stays what it is."""
    with narrating() as (narrator, store, out):
        fields = {"one": SECRET, "deep": {"list": [f"x {SECRET}", 7, None]}, "number": 1.5}
        narrator.tell("heal.step", f"found {SECRET}", fields=fields)
        kept = store.events.last(1)[0]
        narrator.close()
        assert SECRET not in repr(kept) + out.getvalue()
        assert kept.fields["number"] == 1.5
        assert kept.fields["deep"]["list"][1:] == [7, None]


def test_a_disk_that_refuses_silences_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event waits in memory, and is told all the same."""
    with narrating() as (narrator, store, out):

        def refuse(**_: Any) -> Any:
            raise StoreError("the disk is full")

        monkeypatch.setattr(store.events._database, "write", refuse)
        narrator.tell("app.exit", "it ended")
        narrator.close()
        assert "it ended" in out.getvalue()
        assert store.events.waiting == 1


def test_what_only_explains_other_events_is_told_to_who_asks() -> None:
    """`uid 0 asked for reload` stands in the store; on the console only with --verbose."""
    for verbose in (False, True):
        with narrating(verbose=verbose) as (narrator, store, out):
            narrator.tell("audit.change", "uid 0 asked for reload")
            narrator.tell("audit.denied", "uid 7 may not", severity="warn")
            narrator.close()
            assert [event.name for event in store.events.last(2)] == ["audit.change", "audit.denied"]
            assert ("audit.change" in out.getvalue()) is verbose
            assert "audit.denied" in out.getvalue()


def test_as_json_every_line_is_an_object() -> None:
    """Events and the app's lines; whatever is in them."""
    with narrating(as_json=True) as (narrator, _, out):
        narrator.tell("app.exit", 'quote " and\nline end', generation=1)
        narrator.line(line(1))
        narrator.close()
        event, told = (json.loads(each) for each in out.getvalue().splitlines())
        assert (event["name"], event["event"]) == ("app.exit", 'quote " and\nline end')
        assert (told["name"], told["event"], told["stream"]) == ("app.line", "line 1", "stdout")


def test_who_waits_for_events_is_woken_by_the_next_and_by_no_line() -> None:
    """`events_grown` returns at once for an old cursor, and waits for a new one."""

    async def scenario() -> None:
        with narrating() as (narrator, store, _):
            await asyncio.wait_for(narrator.events_grown(store.events.newest - 1), 1)
            waiting = [asyncio.create_task(narrator.events_grown(store.events.newest)) for _ in range(3)]
            await asyncio.sleep(0)
            narrator.line(line(1))
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            narrator.tell("app.exit", "it ended")
            await asyncio.wait_for(asyncio.gather(*waiting), 1)

    asyncio.run(scenario())


def test_an_event_of_before_is_told_without_being_stored_again() -> None:
    """What the store noted while it was opened reaches the console, too."""
    with narrating() as (narrator, store, out):
        before = store.events.newest
        narrator.publish(store.events.last(1)[0])
        narrator.close()
        assert "store.volatile" in out.getvalue()
        assert store.events.newest == before


@contextmanager
def journald(place: Path) -> Iterator[socket.socket]:
    """A socket in the place of journald's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(place / "socket"))
        sock.setblocking(False)
        yield sock


def entries(sock: socket.socket) -> list[dict[str, str]]:
    """What has arrived, where no value has a newline."""
    found = []
    while True:
        try:
            data = sock.recv(1 << 20).decode()
        except BlockingIOError:
            return found
        found.append(dict(line.split("=", 1) for line in data.splitlines()))


def test_under_a_service_manager_events_and_lines_are_journal_entries(tmp_path: Path) -> None:
    """Nothing is written to the console then; an event is redacted, the app's own line is not."""
    with journald(tmp_path) as sock:
        with narrating(journal=Journal(tmp_path / "socket")) as (narrator, store, out):
            narrator.tell("app.exit", f"it ended with {SECRET}", severity="error", generation=1)
            narrator.line(line(1))
            cursor = store.events.newest
        event, told = entries(sock)
        assert out.getvalue() == ""
    assert SECRET not in event["MESSAGE"]
    assert (event["WOLVERINE_EVENT"], event["WOLVERINE_CURSOR"]) == ("app.exit", str(cursor))
    assert (told["MESSAGE"], told["WOLVERINE_APP_PID"]) == ("line 1", "1")
    assert "WOLVERINE_EVENT" not in told


def test_lines_above_the_measure_are_told_as_an_event(tmp_path: Path) -> None:
    """With their number, in the store and in the journal; at the end at the latest."""
    with journald(tmp_path) as sock:
        options = {"journal": Journal(tmp_path / "socket"), "allowed": Allowance(lines=2, span_s=30.0)}
        with narrating(**options) as (narrator, store, _):
            for number in range(10):
                narrator.line(line(number))
            narrator.close()
            kept = store.events.last(1)[0]
        found = entries(sock)
    assert (kept.name, kept.severity, kept.fields) == ("output.limited", "warn", {"lines": {"stdout": 8}})
    assert [one["MESSAGE"][:15] for one in found] == ["line 0", "line 1", "8 lines of the "]


def test_a_journal_that_is_gone_silences_only_the_journal(tmp_path: Path) -> None:
    """The store has every event, and whoever follows is woken."""
    with narrating(journal=Journal(tmp_path / "socket")) as (narrator, store, _):
        for number in range(1200):
            narrator.tell("app.exit", f"it ended {number}")
        with journald(tmp_path) as sock:
            narrator.tell("app.exit", "the last")
            narrator.close()
            last = store.events.last(1)[0]
            assert entries(sock)[0]["MESSAGE"] == "it ended 0"
        assert (last.name, last.fields) == ("journal.lost", {"events": 201})
        assert len(store.events.after(last.cursor - 1202, 2000)) == 1202
