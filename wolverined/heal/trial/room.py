# SPDX-License-Identifier: MIT
"""Watches the room on the disk below /tmp, which in a unit is the host's: no candidate may fill it.

PID 1 gives a trial directories of its own there and removes them at its end, but limits them in nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from wolverined.errors import WolverineError

PLACES = ("/tmp", "/var/tmp")  # noqa: S108  a name, not used
MOST = 512 << 20
"""So many bytes may vanish during a trial, whoever took them."""
EVERY_S = 0.1

Free = Callable[[str], int]
"""Gives the bytes that are free below a path."""


def free_below(path: str) -> int:
    """The bytes that a plain user may still write; many where that cannot be known."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize


class Room:
    """What was free at the beginning.

    Args:
        places: Directories to watch.
        free: Looks.
    """

    def __init__(self, places: Sequence[str] = PLACES, *, free: Free = free_below) -> None:
        self._free = free
        self._least = {place: free(place) - MOST for place in places}
        self._next = 0.0

    def check(self, now: float) -> None:
        """Look again, when it is time.

        Raises:
            WolverineError: Too much is gone.
        """
        if now < self._next:
            return
        self._next = now + EVERY_S
        for place, least in self._least.items():
            if self._free(place) < least:
                raise WolverineError(f"the disk below {place} filled up during the trial; it was ended")
