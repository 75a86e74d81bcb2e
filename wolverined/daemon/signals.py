# SPDX-License-Identifier: MIT
"""The signals that a daemon obeys, and how none of them is lost while it replaces itself by execve(2).

A handler runs in the loop, a moment after the signal: an exec in that moment would lose it. So they are
first only written down, then kept back by the kernel, which hands them to the program that comes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from types import FrameType

_TURNS = 3  # of the loop: the wakeup is read, the handler is called, what it set is seen


class Signals:
    """Handlers in the running loop.

    Args:
        handlers: Signal -> what is called in the loop.
    """

    def __init__(self, handlers: Mapping[int, Callable[[], object]]) -> None:
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._written: list[int] = []
        self._listen()

    def _listen(self) -> None:
        for number, handler in self._handlers.items():
            self._loop.add_signal_handler(number, handler)
        # A predecessor in this process may have kept them back for us.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handlers)

    async def write_down(self) -> None:
        """Know of every signal from now on at once; those before it have been obeyed when this returns."""
        self._written.clear()
        for number in self._handlers:
            signal.signal(number, self._write)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def _write(self, number: int, _frame: FrameType | None) -> None:
        self._written.append(number)  # the loop hears of it, too, and calls the handler

    def keep_back(self) -> bool:
        """Leave every further one to the program that comes; False when there was one already, to be obeyed first."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._handlers)
        return not self._written

    def go_on(self) -> None:
        """There is no such program: obey as before."""
        self._listen()
