# SPDX-License-Identifier: MIT
"""Small parts of the daemon: whether the source is whole (a store that fails is no yes), what was dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from wolverined.clock import SystemClock
from wolverined.daemon.faults import Faults
from wolverined.daemon.mainline import MainLine
from wolverined.errors import StoreError
from wolverined.sense.reports import ReportServer


class Desk:
    """Takes the place of the desk; its store fails so many times, then knows."""

    def __init__(self, *, failures: int, torn: bool) -> None:
        self._failures = failures
        self._torn = torn

    async def recover(self) -> None:
        """Nothing is to be done."""

    @property
    def torn(self) -> bool:
        """The answer, or the failure."""
        self._failures -= 1
        if self._failures >= 0:
            raise StoreError("the disk gives errors")
        return self._torn


class Teller:
    """Takes the place of the narrator."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, name: str, message: str, **_: Any) -> None:
        """Keep it."""
        self.said.append(f"{name} {message}")


def main_line(desk: Desk, reports: ReportServer | None = None) -> tuple[MainLine, Teller]:
    """As much of the daemon as asks."""
    teller: Any = Teller()
    nobody: Any = None
    what: Any = desk
    made = MainLine(
        supervisor=nobody,
        desk=what,
        service=nobody,
        narrator=teller,
        faults=Faults(teller, clock=SystemClock(), environ={}),
        place=nobody,
        server=nobody,
        reports=reports or nobody,
    )
    return made, teller


def test_a_store_that_fails_says_not_known_to_be_whole_and_is_asked_again() -> None:
    """The main line, and with it daemon and app, goes on; it is told once."""
    daemon, teller = main_line(Desk(failures=2, torn=False))
    assert [asyncio.run(daemon._is_whole()) for _ in range(3)] == [False, False, True]
    assert len(teller.said) == 1
    assert "disk gives errors" in teller.said[0]


def test_reports_that_were_dropped_are_told_once() -> None:
    """A loss is never silent, nor told again while there is no more of it."""
    reports = ReportServer(Path("/unused"), app_uid=0, on_crash=lambda _: None)
    daemon, teller = main_line(Desk(failures=0, torn=False), reports)
    daemon._tell_dropped()
    assert teller.said == []
    reports.counts.too_fast = 7
    reports.counts.malformed = 1
    daemon._tell_dropped()
    daemon._tell_dropped()
    assert [words.partition(" lines")[0] for words in teller.said] == ["reports.dropped 8"]


def test_a_torn_source_is_not_whole() -> None:
    """As the store says."""
    daemon, _ = main_line(Desk(failures=0, torn=True))
    assert asyncio.run(daemon._is_whole()) is False
