# SPDX-License-Identifier: MIT
"""What a service manager is told of the daemon (DESIGN 5): ready, in one line how it is, reloading, alive.

READY=1 is sent once: when the app is ready, or when it is clear that it will not be for now (its startup
grace is over, or there is an incident): an app that cannot boot must not make the manager end its heal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from wolverined.linux.notify import Notifier
from wolverined.model import AppState

BEAT_S = 2.0
"""How often the loop shows that it turns, at least; a watchdog with a shorter period gets three beats in one."""

_PATIENCE = 10  # beats: until it is ready, and while it ends, the manager is asked for the time of so many more
_EXEC_S = 20.0  # an interpreter's start and ours take some tenths of a second, and ten times that under load
_CONTROL = "control"
_SERVED = (AppState.READY, AppState.DEGRADED)


class Service:
    """The daemon as its service manager sees it.

    Args:
        notifier: Carries the words.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        watchdog_s = notifier.watchdog_s
        self._period_s = BEAT_S if watchdog_s is None else min(BEAT_S, watchdog_s / 3)
        self._ready = False
        self._ending = False

    def ready(self) -> None:
        """Starting is over; said once."""
        if not self._ready:
            self._ready = True
            self._notifier.ready()

    @property
    def is_ready(self) -> bool:
        """Whether that was said."""
        return self._ready

    def took_over(self, *, ready: bool) -> None:
        """Another program of this very process has said so much already; what it was reloading is done."""
        self.loop_turns()
        if ready:
            self.ready()

    def loop_stands(self) -> None:
        """The loop will not turn before another program of this process has begun, on a machine that may be busy."""
        if self._notifier.watchdog_s is not None:
            self._notifier.expect_within(max(self._notifier.watchdog_s, _EXEC_S))

    def loop_turns(self) -> None:
        """The loop is watched as ever."""
        if self._notifier.watchdog_s is not None:
            self._notifier.expect_within(self._notifier.watchdog_s)

    def state(self, state: AppState, why: str) -> None:
        """The app's state has changed."""
        self._notifier.status(f"{state.value}: {why}" if why and why != state.value else state.value)
        if state in _SERVED:
            self.ready()

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """A reload is under way in here."""
        if not self._ready:
            yield  # it is not started yet: READY=1 would say that it is
            return
        self._notifier.reloading()
        try:
            yield
        finally:
            self._notifier.ready()

    def stopping(self) -> None:
        """The end has begun; it may take as long as the app's stop does."""
        self._ending = True
        self._notifier.stopping()
        self._ask_for_time()

    def keep_control(self, fd: int) -> None:
        """Have the manager keep the control socket while we are restarted: clients wait in its queue meanwhile."""
        self._notifier.keep(_CONTROL, fd)

    def kept_control(self, kept: Iterable[tuple[str, int]]) -> int | None:
        """The control socket among what the manager kept; whatever else it kept is given up, here and there."""
        found: int | None = None
        for name, fd in kept:
            if name == _CONTROL and found is None:
                found = fd
                continue
            os.close(fd)
            if name and name != _CONTROL:
                self._notifier.forget(name)
        return found

    async def beat(self, each: Callable[[], None]) -> None:
        """Tell for ever that the loop turns, which is all that the watchdog watches; do a little `each` time."""
        while True:
            self._notifier.watchdog()
            if not self._ready or self._ending:
                self._ask_for_time()
            each()
            await asyncio.sleep(self._period_s)

    def _ask_for_time(self) -> None:
        self._notifier.extend(_PATIENCE * self._period_s)
