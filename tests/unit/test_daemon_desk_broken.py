# SPDX-License-Identifier: MIT
"""What the desk does when a heal cannot even be conducted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from wolverined.clock import SystemClock
from wolverined.config.schema import AppTable, Config
from wolverined.daemon.desk import Desk
from wolverined.errors import SpawnError, StoreError
from wolverined.heal.job import Conclusion, Job, Result
from wolverined.model import ErrorLink, IncidentKind, IncidentState, NewIncident, Trace
from wolverined.store import Store


class Teller:
    """Takes the place of the narrator and remembers the names of events."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def tell(self, name: str, _message: str, **_about: Any) -> None:
        """Remember that it was told."""
        self.names.append(name)


class Dispatched:
    """Takes the place of the dispatcher; every job ends with nothing found."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def run(self, job: Job) -> Result:
        """Note the job."""
        self.jobs.append(job)
        return Result(conclusion=Conclusion.NOTHING, said="no remedy fits")

    async def let_go(self) -> None:
        """Nothing is held."""

    def tell(self, what: str, fields: dict[str, Any]) -> None:
        """Nobody listens."""


def trouble(message: str = "boom") -> NewIncident:
    """A crash with a trace, which policy `auto` heals."""
    trace = Trace(language="python", errors=(ErrorLink("ValueError", message),))
    return NewIncident(fingerprint=message, kind=IncidentKind.CRASH, error="ValueError", message=message, trace=trace)


class Place:
    """A desk over a store in memory, whose environment file is missing until `mended` is set."""

    def __init__(self, state_dir: Path) -> None:
        self.teller, self.dispatched = Teller(), Dispatched()
        self.mended = False
        self.store = Store.volatile(clock=SystemClock(), why="a test")
        config = Config(app=AppTable(command=("x",), directory=Path("/")))
        self.desk = Desk(
            name="app",
            config=lambda: config,
            state_dir=state_dir,
            store=self.store,
            narrator=self.teller,  # type: ignore[arg-type]
            dispatcher=self.dispatched,  # type: ignore[arg-type]
            clock=SystemClock(),
            environment=self._environment,
            hide=(),
            hooks="",
            healing=lambda _on: None,
            serving=lambda: True,
            ai=lambda: False,
        )

    def _environment(self) -> dict[str, str]:
        if not self.mended:
            raise SpawnError("the environment file is gone")
        return {}


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_a_heal_that_breaks_leaves_its_incident_open_and_is_not_tried_again_at_once(tmp_path: Path) -> None:
    """The incident is not `healing` for ever, and the desk does not spin; it tells once and waits."""

    async def life() -> None:
        place = Place(tmp_path)
        place.desk.resume()
        incident = place.desk.take(trouble())
        assert incident is not None
        await settled()
        kept = place.store.incidents.get(incident.id)
        assert kept.state is IncidentState.OPEN
        assert place.teller.names.count("heal.broken") == 1
        assert place.dispatched.jobs == []
        await place.desk.close()
        place.store.close()

    asyncio.run(life())


def test_another_incident_is_healed_while_a_broken_one_rests(tmp_path: Path) -> None:
    """One incident's broken heal is no reason to leave the next alone."""

    async def life() -> None:
        place = Place(tmp_path)
        place.desk.resume()
        place.desk.take(trouble("first"))
        await settled()
        place.mended = True
        second = place.desk.take(trouble("second"))
        assert second is not None
        await settled()
        assert [job.incident.id for job in place.dispatched.jobs if job.incident] == [second.id]
        await place.desk.close()
        place.store.close()

    asyncio.run(life())


def test_two_reports_of_an_operator_are_two_incidents(tmp_path: Path) -> None:
    """Different words are different trouble; the same words again are the same."""

    async def life() -> None:
        place = Place(tmp_path)
        place.mended = True
        for words in ("the totals are wrong", "the  totals are wrong", "images are missing"):
            await place.desk.heal_asked({"report": words})
        assert [incident.count for incident in reversed(place.store.incidents.list())] == [2, 1]
        await place.desk.close()
        place.store.close()

    asyncio.run(life())


def test_an_incident_that_cannot_be_read_when_its_time_comes_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its timer is the only one that would; a store that fails must not take it away."""

    async def life() -> None:
        place = Place(tmp_path)
        incident = place.store.incidents.open_or_count(trouble())

        def broken(_: str) -> None:
            raise StoreError("the disk gives errors")

        with monkeypatch.context() as patched:
            patched.setattr(place.store.incidents, "get", broken)
            place.desk._again(incident.id)
        assert incident.id in place.desk._waits
        await place.desk.close()
        place.store.close()

    asyncio.run(life())
