# SPDX-License-Identifier: MIT
"""A bell in the event loop: any number of tasks wait for the next ring, and a ring that nobody hears is free."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes everybody who waits, again and again (an `asyncio.Event` stays set and so tells only once)."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all who wait now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def heard(self) -> None:
        """Return at the next ring. Look at your condition first: earlier rings are over."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
