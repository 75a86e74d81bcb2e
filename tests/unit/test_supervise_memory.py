# SPDX-License-Identifier: MIT
"""Deaths for want of memory: which explain an end, which are survived, and what an app is held to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clocks import HandClock
from support.places import eventually_async

from wolverined.config.schema import AppTable, Config, ResourcesTable
from wolverined.linux.limits import Limits
from wolverined.supervise import memory
from wolverined.supervise.memory import SPARED_PROCESSES, MemoryDeaths, limits_of


class Leaf:
    """Counts as a test says; keeps who watches."""

    def __init__(self, kills: int = 0) -> None:
        self.kills = kills
        self.changed: Callable[[], None] | None = None

    def oom_kills(self) -> int:
        """What the test says."""
        return self.kills

    def watch_memory(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Keep who is told."""
        self.changed = changed

        def end() -> None:
            self.changed = None

        return end

    def die(self, processes: int = 1) -> None:
        """The kernel kills so many, and says so."""
        self.kills += processes
        if self.changed is not None:
            self.changed()


class Watched:
    """The deaths of one generation, between a leaf and a clock of the test."""

    def __init__(self, *, kills: int = 0, before: int | None = None) -> None:
        self.leaf, self.clock, self.told = Leaf(kills), HandClock(), list[int]()
        self.deaths = MemoryDeaths(
            self.leaf,  # type: ignore[arg-type]
            before=kills if before is None else before,
            clock=self.clock,
            survived=self.told.append,
        )


def run(scenario: Callable[[], object]) -> None:
    """A scenario inside a loop."""

    async def inside() -> None:
        scenario()

    asyncio.run(inside())


def test_an_end_without_such_a_death_is_another_end() -> None:
    """What the leaf counted before the generation began is not its own."""
    run(lambda: _assert_end(Watched(kills=3), explained=False))


def _assert_end(watched: Watched, *, explained: bool) -> None:
    assert watched.deaths.explain_end() is explained
    assert watched.leaf.changed is None


def test_a_death_that_nobody_has_heard_of_yet_explains_the_end() -> None:
    """The main process was killed; its end is noticed before the counter."""

    def scenario() -> None:
        watched = Watched()
        watched.leaf.kills = 1
        _assert_end(watched, explained=True)

    run(scenario)


@pytest.mark.parametrize(("later_s", "explained"), [(0.3, True), (9.0, True), (3600.0, False)])
def test_a_workers_death_explains_an_end_soon_after_it_and_no_later_one(later_s: float, *, explained: bool) -> None:
    """A cluster's main process may give up for it; a crash an hour later is a crash."""

    def scenario() -> None:
        watched = Watched()
        watched.leaf.die()
        watched.clock.now += later_s
        _assert_end(watched, explained=explained)
        assert watched.told == []

    run(scenario)


def test_deaths_that_are_survived_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is clear that the rest goes on; those of one moment as one."""
    monkeypatch.setattr(memory, "_SURVIVED_S", 0.01)

    async def scenario() -> None:
        watched = Watched()
        watched.leaf.die()
        watched.leaf.die(2)
        await eventually_async(lambda: watched.told)
        watched.leaf.die()
        await eventually_async(lambda: len(watched.told) > 1)
        assert watched.told == [3, 1]
        assert watched.deaths.seen == 4
        watched.deaths.close()
        watched.deaths.close()

    asyncio.run(scenario())


def test_a_change_of_the_file_that_is_no_death_is_not_told() -> None:
    """`memory.events` counts much more; what was handed over by a predecessor is not new either."""

    def scenario() -> None:
        watched = Watched(kills=5, before=5)
        watched.leaf.die(0)
        watched.deaths.close()
        assert watched.told == []
        assert watched.deaths.seen == 5

    run(scenario)


@pytest.mark.parametrize(("megabytes", "size_bytes"), [(0, None), (64, 64 << 20)])
def test_the_limit_is_the_configurations(megabytes: int, size_bytes: int | None) -> None:
    """In MiB; 0 is none. Room for us is always kept."""
    app = AppTable(command=("x",), directory=Path("/"))
    config = Config(app=app, resources=ResourcesTable(memory_max_mb=megabytes))
    assert limits_of(config) == Limits(memory_bytes=size_bytes, spared_processes=SPARED_PROCESSES)
