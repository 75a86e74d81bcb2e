# SPDX-License-Identifier: MIT
# ruff: noqa: SIM105 - contextlib is not loaded
"""Counts requests, and tells once a second what there was: `requests`, `pending`, `loop`.

A request costs its own thread one append; a thread of ours does the rest. It lives while there is
something to tell, and is none of `threading`'s: nobody joins it, nobody counts it.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections import deque
from time import monotonic, time

from .crash import clean
from .sender import release, sender
from .start import THREADS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Done = tuple[str, Any, str, str, int, float]

BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_OVER_MS = 60_000
_KEPT_MAX = 20_000  # a second
_ROUTES_MAX = 100
_SAMPLE_MAX = 5
_TEXT_MAX = 512
_IDLE_TURNS = 30
_SERVER_ERROR = 500


class Tally:
    """What happened since it was told last.

    Attributes:
        lost: Reports that could not be made, and requests that there was no room to count.
        beat_at: When the event loop's timer came last; 0: there is no event loop.
        sample_left: How many more requests may be samples of the second that runs.
        lag_s: By how much it came too late.
        loop: The event loop.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: this process begins."""
        self.lost = 0
        self.sample_left = _SAMPLE_MAX * 4
        self.beat_at = self.lag_s = 0.0
        self.loop: Any = None
        self._awake = False
        self._done: deque[Done] = deque()

    def add(self, done: Done) -> None:
        """Count a request: method, rule, path, path with its query if it may be a sample, status, seconds."""
        if len(self._done) >= _KEPT_MAX:
            self.lost += 1
            return
        self._done.append(done)
        if not self._awake:
            self.wake()

    def wake(self) -> None:
        """See to it that somebody tells of it."""
        if self._awake:
            return
        self._awake = True
        try:
            THREADS[0](self._run, ())
        except RuntimeError:  # no thread can be had, or the interpreter ends: the next request tries again
            self._awake = False

    def _run(self) -> None:
        pause = THREADS[1]()
        pause.acquire()
        idle, process = 0, os.getpid()
        while idle < _IDLE_TURNS or self.beat_at or sender.waiting():
            pause.acquire(True, 1.0)
            if os.getpid() != process:
                return  # vfork and the like
            try:
                idle = 0 if self.tick() else idle + 1
            except Exception:
                self.lost += 1  # the application changed something under us
        self._awake = False
        if self._done:
            self.wake()

    def tick(self) -> bool:
        """Tell of the last second; whether there was anything."""
        from . import told  # noqa: PLC0415 - not before there is something to tell

        release()
        waiting = told.pending()
        told_any = bool(self._done)
        if self._done:
            done = [self._done.popleft() for _ in range(len(self._done))]
            sender.put(told.line(self.requests(done)))
        if waiting is not None:
            sender.put(told.line(waiting))
        if self.loop is not None and not self.loop.is_running():
            self.beat_at, self.loop = 0.0, None  # it has ended, and is no longer late
        if self.beat_at:
            late = max(self.lag_s, monotonic() - self.beat_at - 1.0, 0.0)
            self.lag_s = 0.0
            sender.put(told.line({"type": "loop", "lag_ms": round(late * 1000), "timestamp": round(time() * 1000)}))
        sender.flush()
        return told_any or waiting is not None

    def last(self) -> None:
        """Tell what there is before the interpreter ends."""
        try:
            self.tick()
        except Exception:  # noqa: S110 - whoever wanted to know it is told of the end anyway
            pass

    def requests(self, done: list[Done]) -> dict[str, Any]:
        """One `requests` report."""
        from .routes import route_of  # noqa: PLC0415

        histogram: dict[str, int] = {}
        routes: dict[str, dict[str, float]] = {}
        sample: list[dict[str, Any]] = []
        errors = 0
        self.sample_left = _SAMPLE_MAX * 4
        sampled: set[str] = set()
        for method, rule, path, target, status, took_s in done:
            ms = took_s * 1000
            bound = str(next((bound for bound in BOUNDS_MS if ms <= bound), _OVER_MS))
            histogram[bound] = histogram.get(bound, 0) + 1
            bad = status >= _SERVER_ERROR
            errors += bad
            key = f"{method} {route_of(rule, path)}"[:_TEXT_MAX]
            if key not in routes and len(routes) >= _ROUTES_MAX:
                key = f"{method} *"
            one = routes.setdefault(key, {"count": 0, "errors": 0, "ms": 0.0})
            one["count"] += 1
            one["errors"] += bad
            one["ms"] = round(one["ms"] + ms, 3)
            if target and len(sample) < _SAMPLE_MAX and key not in sampled:
                sampled.add(key)
                sample.append({"method": method, "path": clean(target[:_TEXT_MAX]), "status": status})
        return {
            "type": "requests",
            "count": len(done),
            "errors": errors,
            "histogram": histogram,
            "routes": routes,
            "sample": sample,
            "dropped": sender.dropped + self.lost,
            "timestamp": round(time() * 1000),
        }


def watch_loop() -> None:
    """Feel the pulse of the event loop that runs here."""
    loop = sys.modules["asyncio"].get_running_loop()
    beat(loop)
    tally.wake()


def beat(loop: Any) -> None:
    """One beat; it keeps no loop alive and ends with it."""
    now = monotonic()
    tally.beat_at, tally.loop = now, loop

    def again() -> None:
        tally.lag_s = max(tally.lag_s, monotonic() - now - 1.0)
        beat(loop)

    loop.call_later(1.0, again)


tally = Tally()
os.register_at_fork(after_in_child=tally.clear)
atexit.register(tally.last)
