# SPDX-License-Identifier: MIT
"""Asks an app once how it is: over HTTP, by a connection, by a program of its own.

What an answer means for its life is counted in `probes`. A probe that could not be carried out says
nothing about the app.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Protocol

from wolverined.config.schema import ProbeTable
from wolverined.errors import WolverineError
from wolverined.linux.credentials import Credentials
from wolverined.linux.leaf import Leaf
from wolverined.linux.process import Child, spawn
from wolverined.model import Probing
from wolverined.sense.http import Garbled, connect, get, hang_up

_TAIL_BYTES = 512
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

    @property
    def earlier(self) -> Probing | None:
        """Where the probing of this very generation stood when wolverined replaced itself."""
        ...


class Result(Enum):
    """What one probe found.

    ANSWERS: alive, but not what makes ready. ERROR: it could not be carried out, which says nothing of the app.
    """

    OK = "ok"
    ANSWERS = "answers"
    FAILED = "failed"
    ERROR = "error"


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
