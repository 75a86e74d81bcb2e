# SPDX-License-Identifier: MIT
"""Caught errors between the report socket and the desk: what is opened, counted, told to a heal, and kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wolverined.clock import SystemClock
from wolverined.config.schema import AppTable, Config, ErrorsTable
from wolverined.daemon import caught as room
from wolverined.daemon.caught import Caught, HandedCaught
from wolverined.errors import StoreError
from wolverined.heal.job import Job, Task
from wolverined.model import Incident, IncidentKind, IncidentState, NewIncident
from wolverined.redact import Redactor
from wolverined.store import Store

SECRET = "hunter2-Zq81xkW03b"
CONFIG = Config(app=AppTable(command=("true",), directory=Path("/srv/app"), user="nobody"))


def line(path: str = "/items/1", **fields: Any) -> bytes:
    """A report of an error at a path."""
    report = {
        "type": "route_error",
        "path": path,
        "method": "GET",
        "statusCode": 500,
        "name": "TypeError",
        "message": f"no price for {SECRET}",
        "stack": f"TypeError: no price for {SECRET}\n    at show (/srv/app/items.js:7:15)",
    }
    return json.dumps(report | fields).encode()


def other(path: str = "/other") -> bytes:
    """A report of another fault."""
    return line(path, name="RangeError", message="r", stack="RangeError: r\n    at list (/srv/app/list.js:1:2)")


class Heard:
    """A monitor between a store and fakes."""

    def __init__(self, store: Store, rules: ErrorsTable) -> None:
        self.store = store
        self.taken: list[NewIncident] = []
        self.tails: list[tuple[str, ...]] = []
        self.told: list[dict[str, Any]] = []
        self.healing = False
        self.generation = 1
        self.caught = Caught(
            rules=lambda: rules,
            incidents=lambda: store.incidents,
            take=self._take,
            tell_heal=lambda what, fields: self.told.append({"what": what, **fields}),
            healing=lambda: self.healing,
            app_root=lambda: "/srv/app",
            redactor=lambda: Redactor({"TOKEN": SECRET}),
            tail=lambda count: (f"{count} lines with {SECRET}",),
            generation=lambda: self.generation,
            wall=lambda: 5000.0,
        )

    def _take(self, new: NewIncident, tail: tuple[str, ...]) -> Incident | None:
        self.taken.append(new)
        self.tails.append(tail)
        try:
            return self.store.incidents.open_or_count(new)
        except StoreError:
            return None

    def hear(self, *lines: bytes) -> None:
        """Hear errors."""
        for one in lines:
            self.caught.on_report("route_error", one)

    @property
    def counts(self) -> dict[str, int]:
        """Route -> count, of the incidents."""
        self.caught.flush()
        return {one.route: one.count for one in self.store.incidents.list()}


def heard(act: Callable[[Heard], Awaitable[None] | None], *, rules: ErrorsTable | None = None) -> Heard:
    """Let something happen to a monitor in a loop."""

    async def scenario() -> Heard:
        store = Store.volatile(clock=SystemClock(), why="a test")
        found = Heard(store, rules or ErrorsTable())
        try:
            if (waited := act(found)) is not None:
                await waited
            found.caught.close()
        finally:
            store.close()
        return found

    return asyncio.run(scenario())


def test_a_caught_error_opens_an_incident_without_secrets() -> None:
    """Kind, route, request, trace and the newest output; nothing that is secret."""
    found = heard(lambda it: it.hear(line()))
    (new,) = found.taken
    assert (new.kind, new.route, new.error, new.generation) == (IncidentKind.HTTP5XX, "GET /items/:id", "TypeError", 1)
    assert new.request is not None
    assert new.request.path == "/items/1"
    assert new.trace is not None
    assert new.trace.frames[0].path == "items.js"
    assert SECRET not in msgspec.json.encode((new, found.tails)).decode()
    assert found.tails[0][0].startswith("200 lines")


def test_a_storm_of_one_error_is_one_incident_and_one_write_a_second() -> None:
    """Five hundred errors on two items of one route; every one is counted."""

    def storm(it: Heard) -> None:
        it.hear(*(line(f"/items/{number % 2}") for number in range(500)))
        assert it.store.incidents.list()[0].count == 1
        assert it.counts == {"GET /items/:id": 500}

    assert len(heard(storm).taken) == 1


def test_what_was_counted_is_written_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask, and the time of the newest is kept."""
    monkeypatch.setattr(room, "FLUSH_S", 0.01)

    async def wait(it: Heard) -> None:
        written, update = asyncio.Event(), it.store.incidents.update

        def note(*names: str, **fields: Any) -> Incident:
            written.set()
            return update(*names, **fields)

        monkeypatch.setattr(it.store.incidents, "update", note)
        it.hear(line(), line())
        await asyncio.wait_for(written.wait(), 5)
        (incident,) = it.store.incidents.list()
        assert (incident.count, incident.last_at) == (2, 5000.0)

    heard(wait)


@pytest.mark.parametrize("status", [400, 404, 422, 499, 302])
def test_what_is_no_failure_of_the_server_makes_no_incident(status: int) -> None:
    """It is counted as a client's."""
    found = heard(lambda it: it.hear(*[line(statusCode=status)] * 50))
    assert found.taken == []
    assert (found.caught.counts.client, found.caught.counts.errors) == (50, 0)


def test_what_is_no_report_is_counted_and_harms_nobody() -> None:
    """Of every type."""

    def hostile(it: Heard) -> None:
        for kind in ("route_error", "requests", "pending", "loop"):
            for bad in (b"", b"{", b"[]", b'{"path": 1}', b'{"count": "x", "age_ms": {}, "lag_ms": []}', b"\xff" * 100):
                it.caught.on_report(kind, bad)
        it.caught.on_report("unheard-of", b"{}")

    found = heard(hostile)
    assert found.taken == []
    assert found.caught.counts.malformed >= 22


def test_an_error_during_a_heal_of_another_is_an_incident_at_once() -> None:
    """It is in the store, so not even the end of wolverined loses it."""

    def during(it: Heard) -> None:
        it.hear(line())
        it.healing = True
        it.hear(other())

    found = heard(during)
    assert [new.route for new in found.taken] == ["GET /items/:id", "GET /other"]


def test_a_heal_is_told_of_the_same_trouble_and_of_what_is_new_since_its_repair() -> None:
    """An error that was there before the repair is not laid at its door; nor is each of a storm told."""

    def probation(it: Heard) -> None:
        it.hear(line(), other())
        it.healing, it.generation = True, 2
        it.hear(*[line()] * 20, *[other()] * 20, *[line("/new", stack="E: x\n    at n (/srv/app/n.js:1:1)")] * 20)

    told = heard(probation).told
    assert [(one["what"], one["own"]) for one in told] == [("incident", False), ("incident", False), ("incident", True)]
    assert len({one["fingerprint"] for one in told}) == 3


def test_an_error_of_a_dependency_alone_is_no_reason_to_take_a_repair_back() -> None:
    """There is no frame of the app's own in it."""

    def foreign(it: Heard) -> None:
        it.healing = True
        it.hear(line(stack="E: x\n    at n (/srv/app/node_modules/a/n.js:1:1)"))

    assert [one["own"] for one in heard(foreign).told] == [False]


def test_an_error_after_the_end_of_its_incident_is_news_in_spite_of_the_cooldown() -> None:
    """Mended once, broken again: it is opened anew, within the second."""

    def again(it: Heard) -> None:
        it.hear(line())
        it.store.incidents.update("i1", state=IncidentState.CLOSED)
        it.hear(line(), line())
        it.caught.flush()
        it.caught.flush()

    found = heard(again)
    assert len(found.taken) == 2
    assert found.caught.counts.errors == 3


def test_a_store_that_cannot_be_written_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts wait, and are written when it can."""

    def locked(it: Heard) -> None:
        it.hear(line(), line())

        def fail(*_: Any, **__: Any) -> None:
            raise StoreError("locked")

        with monkeypatch.context() as broken:
            broken.setattr(it.store.incidents, "update", fail)
            it.caught.flush()
            it.hear(line())
            broken.setattr(it.store.incidents, "list", fail)
            it.caught.flush()
        assert it.counts == {"GET /items/:id": 3}

    heard(locked)


REQUESTS = {
    "type": "requests",
    "count": 3,
    "errors": 0,
    "routes": {"GET /items/:id": {"count": 3, "errors": 0, "ms": 4}},
    "sample": [
        {"method": "GET", "path": f"/items/7?k={SECRET}", "status": 200},
        {"method": "POST", "path": "/items", "status": 201},
    ],
    "dropped": 2,
}


def test_successes_of_a_route_take_its_errors_back() -> None:
    """Below the threshold: two errors, two clean seconds, one error more are no incident."""

    def decay(it: Heard) -> None:
        it.hear(line(), line())
        for _ in range(2):
            it.caught.on_report("requests", json.dumps(REQUESTS).encode())
        it.hear(line(), line())

    assert heard(decay, rules=ErrorsTable(threshold=3)).taken == []
    assert len(heard(lambda it: it.hear(line(), line(), line()), rules=ErrorsTable(threshold=3)).taken) == 1


def test_a_heal_is_given_what_went_well() -> None:
    """Requests that change nothing, without secrets; and what the failing route answered."""

    def well(it: Heard) -> None:
        it.caught.on_report("requests", json.dumps(REQUESTS).encode())
        it.hear(line("/items/9"))
        incident = it.store.incidents.list()[0]
        job = it.caught.equip(Job(task=Task.HEAL, name="a", state_dir="/s", config=CONFIG, incident=incident))
        assert [sample.path.partition("?")[0] for sample in job.samples] == ["/items/7"]
        assert job.known_statuses == (200,)
        assert SECRET not in str(job.samples)
        assert Job.decode(json.loads(json.dumps(job.encode()))) == job

    found = heard(well)
    assert (found.caught.told()["count"], found.caught.told()["dropped"]) == (3, 2)


def test_a_successor_in_this_process_knows_what_was_known() -> None:
    """The cooldown goes on, counts are on disk, and what was seen before a repair is still old."""

    def handed(it: Heard) -> None:
        it.hear(line(), line())
        it.caught.on_report("requests", json.dumps(REQUESTS).encode())
        plain = msgspec.msgpack.encode(it.caught.hand_over())
        assert it.store.incidents.list()[0].count == 2
        successor = Heard(it.store, ErrorsTable())
        successor.caught.adopt(msgspec.msgpack.decode(plain, type=HandedCaught))
        successor.healing, successor.generation = True, 2
        successor.hear(line())
        successor.caught.close()
        assert successor.taken == []
        assert successor.caught.traffic.samples() == it.caught.traffic.samples() != ()
        assert successor.caught.told()["count"] == 3
        assert [one["own"] for one in successor.told] == [False]
        assert it.store.incidents.list()[0].count == 3

    heard(handed)


def test_a_bare_report_is_an_incident_too() -> None:
    """No stack, no message: the route and the status say what there is to say."""
    found = heard(lambda it: it.hear(b'{"type": "route_error", "path": "/a", "statusCode": 503}'))
    (new,) = found.taken
    assert (new.error, new.route, new.trace) == ("status 503", "GET /a", None)
