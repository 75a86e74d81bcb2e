# SPDX-License-Identifier: MIT
"""When each open incident is looked at again: after a rest, at the end of a hold, when a deploy has settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

_SOON_S = 0.05


class HandedWaits(msgspec.Struct, frozen=True, kw_only=True):
    """Incident -> when it is looked at again, and before when it is not looked at (both monotonic)."""

    due: dict[str, float]
    not_before: dict[str, float]


class HandedDesk(msgspec.Struct, frozen=True, kw_only=True):
    """A desk for a successor in this process.

    Attributes:
        waits: When incidents are looked at again.
        tails: Incident -> the output that came before it.
        started: It sees to incidents already.
        unlooked: Whether a deploy replaced what repairs wrote is not known.
        hold: The end of an operator's hold (monotonic).
    """

    waits: HandedWaits
    tails: dict[str, tuple[str, ...]]
    started: bool
    unlooked: bool
    hold: float


class Waits:
    """The timers of incidents, one each.

    Args:
        again: Told the incident whose time has come.
    """

    def __init__(self, again: Callable[[str], None]) -> None:
        self._again = again
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._not_before: dict[str, float] = {}

    def __contains__(self, incident_id: str) -> bool:
        return incident_id in self._timers

    def later(self, incident_id: str, delay_s: float) -> None:
        """Look at it again after so long."""
        self.forget(incident_id)
        loop = asyncio.get_running_loop()
        self._timers[incident_id] = loop.call_later(max(delay_s, _SOON_S), self._fire, incident_id)

    def forget(self, incident_id: str) -> None:
        """Somebody looks at it now."""
        if timer := self._timers.pop(incident_id, None):
            timer.cancel()

    def put_off(self, incident_id: str, seconds: float) -> None:
        """Whoever looks at it earlier than that shall let it be."""
        self._not_before[incident_id] = asyncio.get_running_loop().time() + seconds

    def left_s(self, incident_id: str) -> float:
        """How long it is still put off; 0 when it is not."""
        left_s = self._not_before.get(incident_id, 0.0) - asyncio.get_running_loop().time()
        if left_s <= 0:
            self._not_before.pop(incident_id, None)
        return max(left_s, 0.0)

    def hand_over(self) -> HandedWaits:
        """What a successor in this process needs; its clock is ours."""
        due = {incident_id: timer.when() for incident_id, timer in self._timers.items()}
        return HandedWaits(due=due, not_before=dict(self._not_before))

    def adopt(self, handed: HandedWaits) -> None:
        """Wait on for what a predecessor waited for."""
        self._not_before = dict(handed.not_before)
        for incident_id, when in handed.due.items():
            self.later(incident_id, when - asyncio.get_running_loop().time())

    def close(self) -> None:
        """Look at nothing again."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, incident_id: str) -> None:
        self._timers.pop(incident_id, None)
        self._again(incident_id)
