# SPDX-License-Identifier: MIT
"""The clock that rooms are given: monotonic time decides, wall time labels."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a room may ask of time; tests pass one that they move by hand."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""
        return time.time()
