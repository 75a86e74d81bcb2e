# SPDX-License-Identifier: MIT
"""How long somebody waits for an application to be served, to be gone, or to show what a repair is worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wolverined.errors import Conflict
from wolverined.supervise.bell import Bell
from wolverined.supervise.lifecycle import Life, Phase
from wolverined.supervise.status import Record, check_hope, not_down, not_ready


class Waiting:
    """Waits for a supervisor's machine; asks nothing of it.

    Args:
        life: Gives its state.
        record: Gives what is remembered beside that.
        changed: Rings when one of them has changed.
    """

    def __init__(self, *, life: Callable[[], Life], record: Callable[[], Record], changed: Bell) -> None:
        self._life = life
        self._record = record
        self._changed = changed

    async def until_ready(self, patience_s: float) -> None:
        """Return when it is served.

        Raises:
            Conflict: A repair holds it down, it was stopped meanwhile, or it crashes again and again.
            SpawnError: It cannot be started at all.
            TimedOut: It took longer.
        """
        try:
            async with asyncio.timeout(patience_s):
                while self._life().phase is not Phase.UP:
                    check_hope(self._life(), self._record())
                    await self._changed.heard()
        except TimeoutError:
            raise not_ready(self._record(), patience_s) from None

    async def until_down(self, patience_s: float) -> None:
        """Return when nothing of it lives.

        Raises:
            Conflict: It was started again meanwhile.
            TimedOut: Something of it cannot be killed; it is named.
        """
        try:
            async with asyncio.timeout(patience_s):
                while self._life().phase not in {Phase.STOPPED, Phase.HELD}:
                    if self._life().wanted and not self._life().held:
                        raise Conflict("the app was started again meanwhile")
                    await self._changed.heard()
        except TimeoutError:
            raise not_down(self._record()) from None

    async def served_at_once(self, *, timeout_s: float) -> bool:
        """Whether the generation that is due is served in time: before it ends, or cannot be started.

        Raises:
            Conflict: The operator stopped it meanwhile, so that nothing is known.
        """
        # The generation that will tell: the one being started, or the next when its predecessor still ends.
        telling = self._life().generation + (self._life().phase is Phase.ENDING)
        try:
            async with asyncio.timeout(timeout_s):
                while (life := self._life()).phase is not Phase.UP:
                    if not life.wanted or life.held:
                        raise Conflict("the app was stopped during the repair", hint="start it: wolverinectl start")
                    if life.phase in {Phase.WAITING, Phase.FAILED} or life.generation > telling:
                        return False
                    if life.phase is Phase.ENDING and life.trouble:
                        return False
                    await self._changed.heard()
        except TimeoutError:
            return False
        return True
