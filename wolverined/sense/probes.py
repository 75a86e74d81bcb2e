# SPDX-License-Identifier: MIT
"""Probes: is the app up yet, and is it still well? Counting is pure, asking is done in the loop.

The startup probe gates liveness: nothing is called a hang before the app was ready once, and a slow start
is told, never punished. A probe that could not be carried out says nothing about the app. One prober
watches one generation; the supervisor throws it away when it ends that generation, so nobody is killed twice.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Protocol

import msgspec

from wolverined.config.schema import ProbeTable
from wolverined.errors import AccessDenied, WolverineError
from wolverined.linux.credentials import Credentials
from wolverined.linux.leaf import Leaf
from wolverined.linux.process import Child, spawn
from wolverined.sense.http import Garbled, connect, get, hang_up
from wolverined.sense.notices import NotifySocket

ALIVE_S = 1.0
"""An app with neither port nor probe is ready when it has lived this long."""

FIRST_S = 0.02
"""The pause after the first probe of a start."""

SHARE = 5
"""While starting, a pause is this part of the time since the start: ready is seen at most 20 % late."""

_STALL_S = 1.0  # a probe that overran its deadline by this much was held up by us, not by the app
_EXEC_PAUSE_S = 0.1  # a program is dearer than a connection
_TAIL_BYTES = 512
_NOTICES_A_TURN = 64
LOOK_S = 5.0
"""How often it is looked whether the app still finds the socket that it tells us things on."""

_FLOOD_PAUSE_S = 0.005  # an app that tells without end waits for us, not the loop for it
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
_BAD_REQUEST, _SERVER_ERROR = 400, 500


class Target(Protocol):
    """The generation to watch, as supervision describes it."""

    @property
    def probe(self) -> ProbeTable:
        """How to probe."""
        ...

    @property
    def port(self) -> int | None:
        """Its port."""
        ...

    @property
    def leaf(self) -> Leaf:
        """Where it lives."""
        ...

    @property
    def notify_path(self) -> Path | None:
        """Where it looks for its notify socket."""
        ...

    @property
    def helper_leaf(self) -> Callable[[str], Leaf]:
        """Makes a leaf for a probe's program."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a probe's program."""
        ...

    @property
    def directory(self) -> Path:
        """The working directory of a probe's program."""
        ...

    @property
    def credentials(self) -> Credentials:
        """The user of a probe's program."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it has been ready already."""
        ...


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


class Result(Enum):
    """What one probe found.

    ANSWERS: alive, but not what makes ready. ERROR: it could not be carried out, which says nothing of the app.
    """

    OK = "ok"
    ANSWERS = "answers"
    FAILED = "failed"
    ERROR = "error"


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


# --- asking

Found = tuple[Result, str]


class Ask(Protocol):
    """One kind of probe."""

    async def __call__(self, target: Target) -> Found:
        """Probe once, within `timeout_s`."""
        ...


async def ask_http(target: Target) -> Found:
    """GET the path: 2xx and 3xx are well, 5xx and silence are not; 4xx is alive, but never makes ready.

    A 404 is a path that is not there (or not yet): no reason to call a server that answers hung.
    """
    probe, port = target.probe, target.port
    assert port is not None
    try:
        answer = await get(port, probe.http, timeout_s=probe.timeout_s)
    except (TimeoutError, OSError, Garbled) as error:
        return _network_failure(f"GET {probe.http}", error, probe.timeout_s)
    detail = f"GET {probe.http} answered {answer.status}"
    if answer.status < _BAD_REQUEST:
        return Result.OK, detail
    return Result.ANSWERS if answer.status < _SERVER_ERROR else Result.FAILED, detail


async def ask_tcp(target: Target) -> Found:
    """Connect to the port and hang up."""
    port, timeout_s = target.port, target.probe.timeout_s
    assert port is not None
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await connect(port)
            await hang_up(writer)
    except (TimeoutError, OSError) as error:
        return _network_failure(f"connecting to port {port}", error, timeout_s)
    return Result.OK, f"port {port} is open"


def _network_failure(what: str, error: Exception, timeout_s: float) -> Found:
    if isinstance(error, TimeoutError):
        return Result.FAILED, f"{what}: no answer within {timeout_s:g} s"
    if isinstance(error, OSError) and error.errno in _OURS:
        return Result.ERROR, f"{what} could not be tried: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return Result.FAILED, f"{what}: connection refused"
    return Result.FAILED, f"{what}: {getattr(error, 'strerror', None) or error}"


_numbers = itertools.count(1)


async def ask_exec(target: Target) -> Found:
    """Run the program as the app's user: exit 0 is well. All of it is killed at the timeout."""
    argv = target.probe.exec
    try:
        leaf = target.helper_leaf(f"probe-{next(_numbers)}")
    except (WolverineError, OSError) as error:
        return Result.ERROR, f"{argv[0]} could not be run: {error}"
    try:
        child = spawn(argv, leaf=leaf, cwd=target.directory, env=target.environment, credentials=target.credentials)
        with child:
            return await _await_program(argv[0], child, timeout_s=target.probe.timeout_s)
    except (WolverineError, OSError) as error:
        return Result.ERROR, f"{argv[0]} could not be run: {error}"
    finally:
        leaf.kill()
        await leaf.wait_empty(timeout_s=1.0)
        leaf.remove()


async def _await_program(name: str, child: Child, *, timeout_s: float) -> Found:
    tail = bytearray()
    loop = asyncio.get_running_loop()
    fds = [fd for fd in (child.stdout, child.stderr) if fd is not None]
    for fd in fds:
        loop.add_reader(fd, _drain, fd, tail)
    try:
        async with asyncio.timeout(timeout_s):
            status = await child.wait()
        for fd in fds:
            _drain(fd, tail)
    except TimeoutError:
        return Result.FAILED, f"{name} did not end within {timeout_s:g} s"
    finally:
        for fd in fds:
            loop.remove_reader(fd)
    if status.never_ran:
        return Result.ERROR, f"{name} could not be run: {_last_line(tail)}"
    if status.code == 0:
        return Result.OK, f"{name} exited with 0"
    ended = f"exited with {status.code}" if status.signal is None else f"was killed by signal {status.signal}"
    return Result.FAILED, f"{name} {ended}: {_last_line(tail)}".removesuffix(": ")


def _drain(fd: int, tail: bytearray) -> None:
    # Read so that a talkative program does not wait for us; only its last words are kept.
    try:
        chunk = os.read(fd, 65_536)
    except BlockingIOError:
        return
    if not chunk:
        asyncio.get_running_loop().remove_reader(fd)
    tail += chunk
    del tail[:-_TAIL_BYTES]


def _last_line(tail: bytearray) -> str:
    lines = tail.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


# --- probers


class Poller:
    """Asks again and again."""

    def __init__(self, target: Target, *, ask: Ask, floor_s: float = FIRST_S) -> None:
        self._target = target
        self._ask = ask
        self._floor_s = floor_s

    async def run(self, events: Events) -> None:
        """Probe until cancelled or a hang was told; the first probe is made at once."""
        loop, table = asyncio.get_running_loop(), self._target.probe
        state = Count(ready=self._target.ready)
        born = loop.time()
        if state.ready:
            await asyncio.sleep(table.interval_s)
        while not state.over:
            began = loop.time()
            result, detail = await self._ask(self._target)
            took_s = loop.time() - began
            if took_s > table.timeout_s + _STALL_S:
                result = Result.ERROR  # our own loop or the machine stood still: no verdict on the app
            state, told = count(state, result, elapsed_s=loop.time() - born, table=table)
            _tell(events, told, detail, table)
            elapsed_s = loop.time() - born
            await asyncio.sleep(pause_s(state, elapsed_s=elapsed_s, took_s=took_s, floor_s=self._floor_s, table=table))

    def close(self) -> None:
        """Nothing is held between probes."""


class Patience:
    """For an app that nobody can ask: it is ready when it has lived for `ALIVE_S`."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def run(self, events: Events) -> None:
        """Wait, and tell that it is ready; its exit is the only bad news there can be."""
        if not self._target.ready:
            await asyncio.sleep(ALIVE_S)
            events.ready()

    def close(self) -> None:
        """Nothing is held."""


class Hearer:
    """Hears what the app tells of itself; silence is a hang only once it has sent WATCHDOG=1."""

    def __init__(self, target: Target, *, path: Path) -> None:
        self._table = target.probe
        self._silence_s = target.probe.interval_s * target.probe.failures
        self._ready = target.ready
        self._socket = NotifySocket(path, uid=target.credentials.uid, pids=target.leaf.pids)
        self._news = asyncio.Event()
        self._grace_ends = math.inf
        self._beat: float | None = None  # when the app sent its last WATCHDOG=1
        self._triggered = False

    async def run(self, events: Events) -> None:
        """Listen until cancelled or a hang was told."""
        loop = asyncio.get_running_loop()
        if not self._ready:
            self._grace_ends = loop.time() + self._table.startup_s
        loop.add_reader(self._socket.fileno(), self._news.set)
        while True:
            await self._wait(min(self._grace_ends, self._silent_at(), loop.time() + LOOK_S) - loop.time())
            # What came while our own loop stood still counts too: nothing is judged before all is read.
            if not self._read(events, loop.time()):
                await asyncio.sleep(_FLOOD_PAUSE_S)
            elif self._audible() and self._judge(events, loop.time()):
                return

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
