# SPDX-License-Identifier: MIT
"""Probes: is the app up yet, and is it still well? Counting is pure, asking is done in the loop.

The startup probe gates liveness: nothing is called a hang before the app was ready once, and a slow start
is told, never punished. A probe that could not be carried out says nothing about the app. One prober
watches one generation; the supervisor throws it away when it ends that generation, so nobody is killed twice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Protocol

import msgspec

from wolverined.config.schema import ProbeTable
from wolverined.errors import AccessDenied
from wolverined.model import Probing
from wolverined.sense.asks import Ask, Result, Target, ask_exec, ask_http, ask_tcp
from wolverined.sense.notices import NotifySocket

__all__ = ["ProberFactory", "Result", "ask_exec", "ask_http", "ask_tcp"]

ALIVE_S = 1.0
"""An app with neither port nor probe is ready when it has lived this long."""

FIRST_S = 0.02
"""The pause after the first probe of a start."""

SHARE = 5
"""While starting, a pause is this part of the time since the start: ready is seen at most 20 % late."""

_STALL_S = 1.0  # a probe that overran its deadline by this much was held up by us, not by the app
_EXEC_PAUSE_S = 0.1  # a program is dearer than a connection
_NOTICES_A_TURN = 64
LOOK_S = 5.0
"""How often it is looked whether the app still finds the socket that it tells us things on."""

_FLOOD_PAUSE_S = 0.005  # an app that tells without end waits for us, not the loop for it


class Events(Protocol):
    """Who is told what was found."""

    @property
    def ready(self) -> Callable[[], None]:
        """The startup probe passed."""
        ...

    @property
    def unready(self) -> Callable[[str], None]:
        """The startup grace is over."""
        ...

    @property
    def hung(self) -> Callable[[str], None]:
        """Liveness failed often enough."""
        ...

    @property
    def said(self) -> Callable[[str], None]:
        """The app said how it is."""
        ...


# --- counting


class Told(Enum):
    """What a result leads to."""

    READY = "ready"
    UNREADY = "unready"
    HUNG = "hung"


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Where the counting stands.

    Attributes:
        ready: The startup probe has passed.
        failures: Failures in a row since then.
        told: That the grace is over has been told.
        over: A hang has been told; nothing counts any more.
    """

    ready: bool = False
    failures: int = 0
    told: bool = False
    over: bool = False


def count(state: Count, result: Result, *, elapsed_s: float, table: ProbeTable) -> tuple[Count, Told | None]:
    """Count one result.

    Args:
        state: Where the counting stands.
        result: What the probe found.
        elapsed_s: Time since the generation started.
        table: `[probe]`.
    """
    if state.over:
        return state, None
    if not state.ready:
        if result is Result.OK:
            return msgspec.structs.replace(state, ready=True), Told.READY
        if elapsed_s >= table.startup_s and not state.told:
            return msgspec.structs.replace(state, told=True), Told.UNREADY
        return state, None
    if result is Result.ERROR:
        return state, None
    failures = state.failures + 1 if result is Result.FAILED else 0
    over = failures >= table.failures
    return msgspec.structs.replace(state, failures=failures, over=over), Told.HUNG if over else None


def pause_s(state: Count, *, elapsed_s: float, took_s: float, floor_s: float, table: ProbeTable) -> float:
    """How long to wait before the next probe.

    While starting, a share of the time since the start, for how late ready is seen is what a restart costs.
    Then `interval_s` from start to start; after a failure half of that, to be sure sooner.
    """
    if not state.ready:
        return min(max(elapsed_s / SHARE, floor_s), table.interval_s)
    interval_s = table.interval_s / 2 if state.failures else table.interval_s
    return max(interval_s - took_s, 0.0)


# --- probers


class Poller:
    """Asks again and again."""

    def __init__(self, target: Target, *, ask: Ask, floor_s: float = FIRST_S) -> None:
        self._target = target
        self._ask = ask
        self._floor_s = floor_s
        self._earlier = target.earlier
        self._count = Count(ready=target.ready)
        if self._earlier is not None:
            before = self._earlier
            self._count = Count(ready=before.ready, failures=before.failures, told=before.told)
        self._born = self._next_at = 0.0
        self._between = asyncio.Event()  # nothing is being asked
        self._between.set()
        self._may_ask = asyncio.Event()
        self._may_ask.set()

    async def run(self, events: Events) -> None:
        """Probe until cancelled or a hang was told; the first probe is made at once."""
        loop, table = asyncio.get_running_loop(), self._target.probe
        self._begin(loop.time())
        try:
            while not self._count.over:
                await self._pause(loop)
                began = loop.time()
                result, detail = await self._ask(self._target)
                took_s = loop.time() - began
                if took_s > table.timeout_s + _STALL_S:
                    result = Result.ERROR  # our own loop or the machine stood still: no verdict on the app
                self._count, told = count(self._count, result, elapsed_s=loop.time() - self._born, table=table)
                _tell(events, told, detail, table)
                elapsed_s = loop.time() - self._born
                wait_s = pause_s(self._count, elapsed_s=elapsed_s, took_s=took_s, floor_s=self._floor_s, table=table)
                self._next_at = loop.time() + wait_s
        finally:
            self._between.set()

    def _begin(self, now: float) -> None:
        if self._earlier is not None:
            self._born, self._next_at = self._earlier.born, self._earlier.next_at
        else:
            self._born, self._next_at = now, now + (self._target.probe.interval_s if self._count.ready else 0.0)

    async def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        self._between.set()
        if (wait_s := self._next_at - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        await self._may_ask.wait()
        self._between.clear()

    async def rest(self) -> None:
        """Begin no probe before `go_on`; returns when none is under way."""
        self._may_ask.clear()
        await self._between.wait()

    def go_on(self) -> None:
        """Rested enough."""
        self._may_ask.set()

    def hand_over(self) -> Probing:
        """Where the probing stands; ask for it while it rests."""
        now = asyncio.get_running_loop().time()
        state = self._count
        return Probing(
            born=self._born or now,
            next_at=self._next_at or now,
            ready=state.ready,
            failures=state.failures,
            told=state.told,
        )

    def close(self) -> None:
        """Nothing is held between probes."""


class Patience:
    """For an app that nobody can ask: it is ready when it has lived for `ALIVE_S`."""

    def __init__(self, target: Target) -> None:
        self._born = target.earlier.born if target.earlier is not None else None
        self._ready = target.ready

    async def run(self, events: Events) -> None:
        """Wait, and tell that it is ready; its exit is the only bad news there can be."""
        now = asyncio.get_running_loop().time()
        self._born = now if self._born is None else self._born
        if not self._ready:
            await asyncio.sleep(self._born + ALIVE_S - now)
            self._ready = True
            events.ready()

    async def rest(self) -> None:
        """Waiting is all that is done."""

    def go_on(self) -> None:
        """Waiting goes on by itself."""

    def hand_over(self) -> Probing:
        """Since when it waits."""
        now = asyncio.get_running_loop().time()
        return Probing(born=now if self._born is None else self._born, ready=self._ready)

    def close(self) -> None:
        """Nothing is held."""


class Hearer:
    """Hears what the app tells of itself; silence is a hang only once it has sent WATCHDOG=1."""

    def __init__(self, target: Target, *, path: Path) -> None:
        earlier = target.earlier or Probing(born=asyncio.get_running_loop().time(), ready=target.ready)
        self._table = target.probe
        self._silence_s = target.probe.interval_s * target.probe.failures
        self._born = earlier.born
        self._ready = earlier.ready
        self._socket = NotifySocket(path, uid=target.credentials.uid, pids=target.leaf.pids, earlier=earlier)
        self._news = asyncio.Event()
        self._grace_ends = math.inf if earlier.ready or earlier.told else earlier.born + self._table.startup_s
        self._beat = earlier.beat  # when the app sent its last WATCHDOG=1
        self._triggered = earlier.triggered

    async def run(self, events: Events) -> None:
        """Listen until cancelled or a hang was told."""
        loop = asyncio.get_running_loop()
        self._news.set()  # what had come before we listened is read at once
        loop.add_reader(self._socket.fileno(), self._news.set)
        while True:
            await self._wait(min(self._grace_ends, self._silent_at(), loop.time() + LOOK_S) - loop.time())
            # What came while our own loop stood still counts too: nothing is judged before all is read.
            if not self._read(events, loop.time()):
                await asyncio.sleep(_FLOOD_PAUSE_S)
            elif self._audible() and self._judge(events, loop.time()):
                return

    async def rest(self) -> None:
        """Nothing is asked of the app; what it says meanwhile stays in the kernel."""

    def go_on(self) -> None:
        """Listening goes on by itself."""

    def hand_over(self) -> Probing:
        """Where it stands, with the socket itself, which stays ours until there is a successor."""
        return Probing(
            born=self._born,
            ready=self._ready,
            told=not self._ready and self._grace_ends == math.inf,
            beat=self._beat,
            triggered=self._triggered,
            notices=self._socket.fileno(),
            inode=self._socket.inode,
        )

    def _audible(self) -> bool:
        """Whether the app could be heard; a socket that somebody removed is replaced, and silence so far excused."""
        if self._socket.there():
            return True
        self._beat = None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        with suppress(OSError, AccessDenied):  # its directory is gone, too: the daemon makes that anew
            self._socket.renew()
        loop.add_reader(self._socket.fileno(), self._news.set)
        return False

    def close(self) -> None:
        """Close the socket, and have the loop forget it first: the next file gets the same number."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _silent_at(self) -> float:
        return self._beat + self._silence_s if self._ready and self._beat is not None else math.inf

    async def _wait(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wait_s == math.inf else max(wait_s, 0.0)):
                await self._news.wait()
        self._news.clear()

    def _read(self, events: Events, now: float) -> bool:
        """Take what has come; True when that was all."""
        for _ in range(_NOTICES_A_TURN):
            notice = self._socket.receive()
            if notice is None:
                return True
            if notice.status is not None:
                events.said(notice.status)
            if notice.watchdog == "1":
                self._beat = now
            if notice.ready and not self._ready:
                self._ready, self._grace_ends = True, math.inf
                events.ready()
            self._triggered |= notice.watchdog == "trigger" and self._ready
        self._news.set()
        return False

    def _judge(self, events: Events, now: float) -> bool:
        """Tell what silence or a trigger means; True when that was a hang."""
        if self._triggered or now >= self._silent_at():
            events.hung("the app asked for it (WATCHDOG=trigger)" if self._triggered else self._silence())
            return True
        if now >= self._grace_ends:
            self._grace_ends = math.inf
            events.unready(f"not ready within {self._table.startup_s:g} s: the app has not sent READY=1")
        return False

    def _silence(self) -> str:
        return f"the app has not sent WATCHDOG=1 for {self._silence_s:g} s"


def _tell(events: Events, told: Told | None, detail: str, table: ProbeTable) -> None:
    match told:
        case Told.READY:
            events.ready()
        case Told.UNREADY:
            events.unready(f"not ready within {table.startup_s:g} s: {detail}")
        case Told.HUNG:
            events.hung(f"{detail} ({table.failures} times in a row)")
        case None:
            pass


class ProberFactory:
    """Makes the prober that the configuration asks for."""

    def __call__(self, target: Target) -> Poller | Patience | Hearer:
        """Make it; a notify socket is bound now, so that it is there when the app looks.

        Raises:
            SpawnError: The path of the notify socket is too long.
            OSError: It cannot be bound.
        """
        probe = target.probe
        if probe.notify and target.notify_path is not None:
            return Hearer(target, path=target.notify_path)
        if probe.exec:
            return Poller(target, ask=ask_exec, floor_s=_EXEC_PAUSE_S)
        if target.port is None:
            return Patience(target)
        return Poller(target, ask=ask_http if probe.http else ask_tcp)
