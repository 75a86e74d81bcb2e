# SPDX-License-Identifier: MIT
"""What an application's requests say of it: how many there were, and which of them go well.

A heal asks both of its trials some of those that went well, and takes an answer of the failing route for right
when it is of a class that the route gave before. Bounded; the newest is kept.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wolverined.model import Request
from wolverined.sense.route_error import Requests, normalised

MAX_ROUTES = 200
SAMPLES = 4
_HARMLESS = ("GET", "HEAD")


class Good(msgspec.Struct, frozen=True):
    """The newest request of a route that went well, and the statuses that the route gave then."""

    path: str
    statuses: tuple[int, ...]


class HandedTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """For a successor in this process: totals, and what went well by its route, the newest last."""

    count: int = 0
    errors: int = 0
    dropped: int = 0
    good: dict[str, Good] = {}


class Traffic:
    """What was told since the application's supervisor was started.

    Args:
        handed: What a predecessor in this process knew.
    """

    def __init__(self, handed: HandedTraffic | None = None) -> None:
        handed = handed or HandedTraffic()
        self.count = handed.count
        self.errors = handed.errors
        self.dropped = handed.dropped
        self._good = dict(handed.good)

    def take(self, told: Requests) -> None:
        """Take one second into account."""
        self.count += told.count
        self.errors += told.errors
        self.dropped += told.dropped
        for one in told.sample:
            route = f"{one.method} {normalised(one.path)}"
            known = self._good.pop(route, None)
            statuses = {one.status, *(known.statuses if known is not None else ())}
            self._good[route] = Good(one.path, tuple(sorted(statuses)))
            if len(self._good) > MAX_ROUTES:
                del self._good[next(iter(self._good))]

    def samples(self) -> tuple[Request, ...]:
        """Requests that change nothing and went well, those of the newest routes first."""
        found = (
            Request(method=method, path=good.path)
            for route, good in reversed(self._good.items())
            if (method := route.partition(" ")[0]) in _HARMLESS
        )
        return tuple(request for request, _ in zip(found, range(SAMPLES), strict=False))

    def statuses(self, request: Request) -> tuple[int, ...]:
        """What the route of a request answered when all was well."""
        good = self._good.get(f"{request.method} {normalised(request.path)}")
        return good.statuses if good is not None else ()

    def hand_over(self) -> HandedTraffic:
        """What a successor in this process needs."""
        return HandedTraffic(count=self.count, errors=self.errors, dropped=self.dropped, good=dict(self._good))

    def told(self) -> dict[str, Any]:
        """For `status`."""
        return {"count": self.count, "errors": self.errors, "dropped": self.dropped}
