# SPDX-License-Identifier: MIT
"""Whose turn it is: one job at a time, whether a heal, an operator's word on a repair, or a look after a deploy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from wolverined.errors import Conflict

_CHECK = "check"  # in the place of an incident: short, and nobody's business


class Turn:
    """At most one job is under way.

    Args:
        healing: Told when a job begins that is shown as healing, and when any ends.
        after: Called when one has ended, so that what waits may begin.
    """

    def __init__(self, *, healing: Callable[[bool], None], after: Callable[[], None]) -> None:
        self._healing = healing
        self._after = after
        self._job = ""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def taken(self) -> bool:
        """Whether a job is under way."""
        return bool(self._job)

    @property
    def job(self) -> str:
        """What it works on: an incident, a repair; nothing for a look after a deploy."""
        return "" if self._job == _CHECK else self._job

    def claim(self, what: str) -> None:
        """Take it; given up by `give_up`.

        Raises:
            Conflict: Another job is under way.
        """
        if self._job:
            raise Conflict(f"a heal of {self._job} is under way", hint="wait for it; see: wolverinectl events -f")
        self._job = what
        self._idle.clear()

    def show(self) -> None:
        """The job has begun, and is shown as healing."""
        self._healing(True)

    def give_up(self) -> None:
        """The job is over."""
        self._job = ""
        self._healing(False)
        self._idle.set()
        self._after()

    async def over(self) -> None:
        """Return when no job is under way."""
        await self._idle.wait()

    async def until_checked(self) -> None:
        """An operator who asks for something right behind a restart is not refused for the look after it."""
        if self._job == _CHECK:
            await self.over()

    @contextlib.asynccontextmanager
    async def of(self, what: str) -> AsyncIterator[None]:
        """A job from its beginning to its end."""
        await self.until_checked()
        self.claim(what)
        self.show()
        try:
            yield
        finally:
            self.give_up()

    @contextlib.contextmanager
    def of_check(self) -> Iterator[None]:
        """A look after a deploy, which is not shown."""
        self.claim(_CHECK)
        try:
            yield
        finally:
            self.give_up()
