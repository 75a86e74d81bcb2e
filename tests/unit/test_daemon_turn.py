# SPDX-License-Identifier: MIT
"""One job at a time, and what is heard of it."""

import asyncio

import pytest

from wolverined.daemon.turn import Turn
from wolverined.errors import Conflict


class Heard:
    """A turn, and what it told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.turn = Turn(healing=lambda on: self.told.append(f"healing {on}"), after=lambda: self.told.append("next"))

    async def work(self, what: str, *, fault: Exception | None = None) -> str:
        """Do a job; what is said of it meanwhile."""
        async with self.turn.of(what):
            if fault is not None:
                raise fault
            with pytest.raises(Conflict, match=f"a heal of {what} is under way"):
                self.turn.claim("another")
            return self.turn.job


def test_a_second_job_is_refused_and_told_why() -> None:
    """Who comes too late learns what is under way; the first goes on to its end."""
    heard = Heard()
    assert asyncio.run(heard.work("i1")) == "i1"
    assert not heard.turn.taken
    assert heard.told == ["healing True", "healing False", "next"]


def test_a_job_that_breaks_gives_its_turn_up() -> None:
    """Else nothing would ever be healed again."""
    heard = Heard()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(heard.work("i1", fault=ZeroDivisionError()))
    assert not heard.turn.taken
    assert heard.told[-1] == "next"


def test_a_look_after_a_deploy_is_nobodys_business() -> None:
    """It takes the turn, but is not named, and not shown as healing."""
    heard = Heard()
    with heard.turn.of_check():
        assert heard.turn.taken
        assert heard.turn.job == ""
        assert heard.told == []


def test_who_asks_during_a_look_waits_for_its_end() -> None:
    """Its turn comes by itself, and at once when nothing is looked at."""
    heard = Heard()

    async def ask() -> None:
        with heard.turn.of_check():
            work = asyncio.create_task(heard.work("r1"))
            await asyncio.sleep(0)
            assert not work.done()
        assert await work == "r1"
        heard.turn.claim("i1")
        await heard.turn.until_checked()

    asyncio.run(ask())
