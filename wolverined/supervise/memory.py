# SPDX-License-Identifier: MIT
"""What one generation may use of memory and processes, and whether its end was a death for want of memory.

The kernel counts such deaths in the leaf. A worker may have died so an hour ago: only a kill that nobody has
heard of yet, or one of a moment ago, explains the end of the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.linux.leaf import Leaf
from wolverined.linux.limits import Limits

SPARED_PROCESSES = 128
"""Of what the unit may have at once (TasksMax), so many stay for wolverined and its heals, whatever the app forks."""

_MIB = 1 << 20
_EXPLAINS_S = 10.0  # a cluster's main process may take its time to give up after its worker
_SURVIVED_S = 0.5


def limits_of(config: Config) -> Limits:
    """What the leaf of a generation is held to."""
    megabytes = config.resources.memory_max_mb
    return Limits(memory_bytes=megabytes * _MIB if megabytes else None, spared_processes=SPARED_PROCESSES)


class MemoryDeaths:
    """The deaths for want of memory in one generation's leaf.

    Args:
        leaf: Its leaf.
        before: How many the leaf had counted when the generation began.
        clock: Monotonic time decides.
        survived: Told how many processes died so, when the generation has gone on for a moment after it.

    Attributes:
        seen: How many the leaf had counted when it was looked at last.
    """

    def __init__(self, leaf: Leaf, *, before: int, clock: Clock, survived: Callable[[int], None]) -> None:
        self.seen = before
        self._told = before
        self._leaf = leaf
        self._clock = clock
        self._survived = survived
        self._last: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end_watch = leaf.watch_memory(self._look)

    @property
    def told(self) -> int:
        """How many of them have been told: a successor tells the others."""
        return self._told

    def explain_end(self) -> bool:
        """Whether the generation, which has just ended, ended for want of memory; nothing is told after this."""
        self._look()
        self.close()
        return self._last is not None and self._clock.monotonic() - self._last < _EXPLAINS_S

    def close(self) -> None:
        """Stop watching."""
        self._end_watch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        kills = self._leaf.oom_kills()
        if kills <= self.seen:
            return
        self.seen = kills
        self._last = self._clock.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SURVIVED_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        new, self._told = self.seen - self._told, self.seen
        self._survived(new)
