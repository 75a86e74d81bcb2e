# SPDX-License-Identifier: MIT
"""Hears the reports of the hooks inside the application (DESIGN 7.5) on a Unix stream socket.

One JSON object a line. The other end is the application: its uid is checked, what it says is hostile,
bounded in size, rate and number of connections, and redacted before it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from wolverined.errors import SpawnError
from wolverined.linux.peer import Peer, peer_of
from wolverined.model import Request
from wolverined.redact import clean

MAX_LINE = 64 << 10
MAX_CONNECTIONS = 64
MAX_REQUESTS = 16
_BURST = 200
_PASSES = 6
_PER_SECOND = 100.0
_PATH_MAX = 107  # unix(7): sun_path without its NUL
_KNOWN = frozenset({"crash", "route_error", "requests", "pending", "loop"})
_MAX_MESSAGE = 4 << 10
_MAX_STACK = 32 << 10


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a dying process told of itself; redacted.

    Attributes:
        name: The error's type.
        message: Its message.
        stack: Its stack as the runtime gives it, causes below.
        requests: The requests in flight; the one that the error came out of, or the youngest, first.
        pid: The sender's own word, for attribution only.
        peer_pid: What the kernel says (0 when it lives in another PID namespace).
        generation: The generation that ran when the report came.
        timestamp: The sender's clock, in seconds.
        received_at: Our clock, in seconds.
        handled: The application has a handler of its own for uncaught errors, so it may live on.
        thread: The thread that died, when it was not the main one.
    """

    name: str
    message: str = ""
    stack: str = ""
    requests: tuple[Request, ...] = ()
    pid: int = 0
    peer_pid: int = 0
    generation: int = 0
    timestamp: float = 0.0
    received_at: float = 0.0
    handled: bool = False
    thread: str = ""


class Counts(msgspec.Struct):
    """What became of everything that arrived; nothing is dropped in silence."""

    connections: int = 0
    refused_peer: int = 0
    refused_full: int = 0
    lines: int = 0
    crashes: int = 0
    other: int = 0  # types of the protocol that nobody listens to yet
    unknown: int = 0
    malformed: int = 0
    too_long: int = 0
    too_fast: int = 0


class ReportServer:
    """Serves `report.sock`; an async context manager.

    Args:
        path: Where the socket is made. Everybody may connect; who is not the application is refused.
        app_uid: The application's uid.
        on_crash: Called in the loop with each crash report; must not block.
        redact: Takes secrets out of a request.
        redact_text: Takes secrets out of a message or a stack.
        generation: Tells which generation runs.
        peer: Tells who is at the other end.
        now: Wall clock, for labels.
        monotonic: What the rate is measured by.
    """

    def __init__(
        self,
        path: Path,
        *,
        app_uid: int,
        on_crash: Callable[[CrashReport], None],
        redact: Callable[[Request], Request],
        redact_text: Callable[[str], str] = clean,
        generation: Callable[[], int] = lambda: 0,
        peer: Callable[[socket.socket], Peer] = peer_of,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._path = path
        self._app_uid = app_uid
        self._on_crash = on_crash
        self._redact = redact
        self._redact_text = redact_text
        self._generation = generation
        self._peer = peer
        self._now = now
        self._monotonic = monotonic
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen; a socket that a killed predecessor left is replaced.

        Raises:
            SpawnError: The path is too long for a Unix socket, or its directory cannot be written.
        """
        if len(os.fsencode(self._path)) > _PATH_MAX:
            raise SpawnError(
                f"{self._path} is too long for a socket ({_PATH_MAX} bytes)", hint="name a shorter --runtime-dir"
            )
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            self._server = await loop.create_unix_server(lambda: _Connection(self), str(self._path))
            # The application's user differs from ours; who connects is judged by the kernel's word, not by mode.
            self._path.chmod(0o666)
        except OSError as error:
            raise SpawnError(
                f"cannot listen on {self._path}: {error.strerror}", hint="is its directory writable for wolverined?"
            ) from error

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        for transport in list(self._open):
            transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # `abort` closes the sockets in the loop's next pass
        self._server = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def settle(self) -> None:
        """Return when what a process had written before it died has been read.

        Its end may be noticed in the very pass of the loop in which its last line arrives: accepting a
        connection, and reading from it, take a pass each.
        """
        for _ in range(_PASSES):
            await asyncio.sleep(0)

    def admit(self, transport: asyncio.Transport) -> Peer | None:
        """Decide on a new connection; None refuses it."""
        self.counts.connections += 1
        if len(self._open) >= MAX_CONNECTIONS:
            self.counts.refused_full += 1
            return None
        try:
            peer = self._peer(cast("socket.socket", transport.get_extra_info("socket")))
        except OSError:
            # It is gone already; who it was cannot be told.
            self.counts.refused_peer += 1
            return None
        if peer.uid != self._app_uid:
            self.counts.refused_peer += 1
            return None
        self._open.add(transport)
        return peer

    def forget(self, transport: asyncio.Transport) -> None:
        """A connection has ended."""
        self._open.discard(transport)

    def rate(self) -> _Rate:
        """Give a new connection its own measure."""
        return _Rate(self._monotonic)

    def take(self, line: bytes, peer: Peer) -> None:
        """Read one line of an admitted peer."""
        if not line.strip():
            return
        self.counts.lines += 1
        try:
            report = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            self.counts.malformed += 1
            return
        kind = report.get("type") if isinstance(report, dict) else None
        if kind == "crash":
            self._crash(report, peer)
        elif isinstance(kind, str) and kind in _KNOWN:
            self.counts.other += 1
        elif isinstance(report, dict):
            self.counts.unknown += 1
        else:
            self.counts.malformed += 1

    def _crash(self, report: dict[str, Any], peer: Peer) -> None:
        self.counts.crashes += 1
        told = report.get("requests")
        requests = [request for each in (told if isinstance(told, list) else []) if (request := _request(each))]
        self._on_crash(
            CrashReport(
                name=_text(report, "name", 200),
                message=self._redact_text(_text(report, "message", _MAX_MESSAGE)),
                stack=self._redact_text(_text(report, "stack", _MAX_STACK)),
                requests=tuple(self._redact(request) for request in requests[:MAX_REQUESTS]),
                pid=_number(report, "pid"),
                peer_pid=peer.pid,
                generation=self._generation(),
                timestamp=_number(report, "timestamp") / 1000,
                received_at=self._now(),
                handled=report.get("handled") is True,
                thread=_text(report, "thread", 200),
            )
        )


class _Connection(asyncio.Protocol):
    """One sender. A protocol, not a stream: a dying process is heard in as few passes of the loop as can be."""

    def __init__(self, server: ReportServer) -> None:
        self._server = server
        self._rate = server.rate()
        self._pending = bytearray()
        self._peer: Peer | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = self._server.admit(self._transport)
        if self._peer is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._peer is None:
            return
        self._pending += data
        *lines, rest = self._pending.split(b"\n")
        self._pending = rest
        for line in lines:
            self._take(bytes(line))
        if len(rest) > MAX_LINE:
            self._take(bytes(rest))

    def _take(self, line: bytes) -> None:
        counts = self._server.counts
        if len(line) > MAX_LINE:
            # The sender breaks the protocol: it is hung up on, for where its next line begins means nothing.
            counts.too_long += 1
            self._pending.clear()
            peer, self._peer = self._peer, None
            if peer is not None and self._transport is not None:
                self._transport.abort()
        elif self._peer is not None:
            if self._rate.allows():
                self._server.take(line, self._peer)
            else:
                counts.too_fast += 1

    def eof_received(self) -> None:
        # A process may die between the object and its line end: the object is whole, or it does not decode.
        if self._peer is not None and self._pending:
            self._take(bytes(self._pending))
            self._pending.clear()

    def connection_lost(self, error: Exception | None) -> None:
        del error  # how the other end died is the exit's business
        if self._transport is not None:
            self._server.forget(self._transport)


class _Rate:
    """A token bucket: a burst, then so many a second."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = float(_BURST)
        self._at = monotonic()

    def allows(self) -> bool:
        now = self._monotonic()
        self._left = min(_BURST, self._left + (now - self._at) * _PER_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _text(report: dict[str, Any], key: str, most: int) -> str:
    value = report.get(key)
    return clean(value)[:most] if isinstance(value, str) else ""


def _number(report: dict[str, Any], key: str) -> int:
    value = report.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        return 0
    return int(value)


def _request(told: Any) -> Request | None:
    """Read one request of a report; None when it is none."""
    if not isinstance(told, dict):
        return None
    method, path, body, headers = (told.get(key) for key in ("method", "path", "body", "headers"))
    if not isinstance(method, str) or not isinstance(path, str) or not method or not path.startswith("/"):
        return None
    named = headers.items() if isinstance(headers, dict) else ()
    return Request(
        method=method,
        path=path,
        headers={name: value for name, value in named if isinstance(value, str)},
        body=body if isinstance(body, str) else "",
        truncated=told.get("truncated") is True,
    )
