# SPDX-License-Identifier: MIT
"""A clock for tests of what takes time: nothing waits."""

from __future__ import annotations


class HandClock:
    """A clock that a test sets, the same for what decides and what labels."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        """What the test set."""
        return self.now

    def wall(self) -> float:
        """The same."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
