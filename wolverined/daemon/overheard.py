# SPDX-License-Identifier: MIT
"""Gives `sense.outputs` the app's lines and the time, and what it finds to whoever hears caught errors.

What is being gathered when wolverined replaces itself is forgotten: the successor reads what comes then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from wolverined.model import LogLine
from wolverined.sense.outputs import Outputs
from wolverined.sense.route_error import RouteError, read_route_error

_WATCHING = frozenset({"requests", "pending", "loop"})
"""What only a reporter tells that sees every request."""


class Overheard:
    """Hears the app's lines and its reports.

    Args:
        app_root: Gives where the app's own files lie.
        hooks: The directories of our own reporters.
        take: Takes an error into account.
    """

    def __init__(
        self, *, app_root: Callable[[], str], hooks: Sequence[str], take: Callable[[RouteError], object]
    ) -> None:
        self.outputs = Outputs(app_root=app_root, hooks=hooks)
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def line(self, line: LogLine) -> None:
        """Look at one line of the app."""
        if not self.outputs.heard(line.text, stream=line.stream, now=self._loop.time()):
            return
        wake = self.outputs.wake_at
        if self._timer is None or (wake is not None and wake < self._timer.when()):
            self._wind()

    def report(self, kind: str, line: bytes) -> None:
        """Know what a reporter tells, so that it is not told twice."""
        if kind in _WATCHING:
            self.outputs.watched(now=self._loop.time())
        elif kind == "route_error" and (error := read_route_error(line)) is not None:
            self.outputs.reported(error, now=self._loop.time())

    def ended(self) -> None:
        """A generation is over."""
        self.outputs.ended()

    def close(self) -> None:
        """Hear no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = None if self._closed else self.outputs.wake_at
        self._timer = None if at is None else self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            # A timer may come a clock's tick early.
            now = max(self._loop.time(), self.outputs.wake_at or 0.0)
            for error in self.outputs.due(now=now):
                self._take(error)
        finally:
            self._wind()
