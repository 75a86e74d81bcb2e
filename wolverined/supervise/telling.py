# SPDX-License-Identifier: MIT
"""Tells a listener what happens, after it has been acted on, and survives the listener's faults.

A restart must not wait for whoever writes down why: what is said while the machine works is told when it
has come to rest, in the order in which it was said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial


class Telling:
    """What is still to be told."""

    def __init__(self) -> None:
        self._unsaid: deque[Callable[[], None]] = deque()
        self._speaking = False

    def note(self, call: Callable[..., None], *args: object, **kwargs: object) -> None:
        """Tell it when `speak` is called next."""
        self._unsaid.append(partial(call, *args, **kwargs))

    def speak(self) -> None:
        """Tell everything noted, also what is noted meanwhile."""
        if self._speaking:
            return
        self._speaking = True
        try:
            while self._unsaid:
                say(self._unsaid.popleft())
        finally:
            self._speaking = False


def say(call: Callable[..., None], *args: object) -> None:
    """Call a listener; whoever listens may have a fault: supervision goes on all the same, and the fault is told."""
    try:
        call(*args)
    except Exception as error:
        complain(error)


def complain(error: BaseException) -> None:
    """Tell a fault that stops nothing."""
    asyncio.get_running_loop().call_exception_handler({"message": "supervision met a fault", "exception": error})
