# SPDX-License-Identifier: MIT
"""Hears the reports of the hooks inside the application (DESIGN 7.5) on a Unix stream socket.

One JSON object a line. The other end is the application: its uid is checked, what it says is hostile. It
is bounded in size, connections and rate, for all connections together: an application must not be able
to keep its supervisor busy. Reports are handed on as they came; `crash` and `route_error` read them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from wolverined.errors import SpawnError
from wolverined.linux.peer import Peer, peer_of
from wolverined.linux.runtime import identity
from wolverined.sense.crash import CrashLine, CrashReport, read_crash

__all__ = ["Counts", "CrashLine", "CrashReport", "ReportServer", "read_crash"]

MAX_LINE = 64 << 10
MAX_CONNECTIONS = 64
LINES = (400, 200.0)
"""How many lines may come at once, and a second after that, of all connections together."""

CRASHES = (32, 4.0)
"""The same of crash reports."""

ARRIVALS = (128, 50.0)
"""The same of connections; more wait in the kernel's queue."""

_CHUNK = 64 << 10
_TURNS = 8  # what one sender had written before it died fits into its socket's buffer several times over
_BACKLOG = 64
_PAUSE_S = 0.25
_PATH_MAX = 107  # unix(7): sun_path without its NUL
_KNOWN = frozenset({"crash", "route_error", "requests", "pending", "loop"})


class Counts(msgspec.Struct):
    """What became of everything that arrived; nothing is dropped in silence."""

    connections: int = 0
    refused_peer: int = 0
    refused_full: int = 0
    lines: int = 0
    crashes: int = 0
    other: int = 0  # what a living application tells
    unknown: int = 0
    malformed: int = 0
    too_long: int = 0
    too_fast: int = 0  # of the lines that had been read; what a sender that is hung up on had not got rid of is its own
    hung_up: int = 0


class HandedReporter(msgspec.Struct, frozen=True, kw_only=True):
    """One sender's connection: its file descriptor, and the start of a line whose end has not come."""

    fd: int
    pending: bytes


class HandedReports(msgspec.Struct, frozen=True, kw_only=True):
    """What a successor in this process hears on with.

    Attributes:
        listener: The file descriptor of the listening socket.
        inode: What tells the socket's path from another that is put there later.
        senders: The connections.
        counts: What became of what has arrived.
    """

    listener: int
    inode: tuple[int, int, int] | None
    senders: tuple[HandedReporter, ...]
    counts: Counts


class _Kind(msgspec.Struct):
    """All of a report that is looked at before somebody wants to know it."""

    type: object = None


def _unheard(_kind: str, _line: bytes) -> None:
    """Stand in where nobody listens to a living application."""


class ReportServer:
    """Serves `report.sock`; an async context manager.

    Args:
        path: Where the socket is made. Everybody may connect; who is not the application is refused.
        app_uid: The application's uid.
        on_crash: Called in the loop with each crash report; must not block.
        on_report: The same with the type and the line of every other report of a known type.
        generation: Tells which generation runs.
        peer: Tells who is at the other end.
        now: Wall clock, for labels.
        monotonic: What the rates are measured by.
    """

    def __init__(
        self,
        path: Path,
        *,
        app_uid: int,
        on_crash: Callable[[CrashLine], None],
        on_report: Callable[[str, bytes], None] = _unheard,
        generation: Callable[[], int] = lambda: 0,
        peer: Callable[[socket.socket], Peer] = peer_of,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._path = path
        self._app_uid = app_uid
        self._on_crash = on_crash
        self._on_report = on_report
        self._generation = generation
        self._peer = peer
        self._now = now
        self._lines = _Bucket(*LINES, monotonic)
        self._crashes = _Bucket(*CRASHES, monotonic)
        self._arrivals = _Bucket(*ARRIVALS, monotonic)
        self._socket: socket.socket | None = None
        self._inode: tuple[int, int, int] | None = None
        self._paused: asyncio.TimerHandle | None = None
        self._open: set[_Connection] = set()

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
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._path.unlink(missing_ok=True)
            sock.bind(str(self._path))
            # The application's user differs from ours; who connects is judged by the kernel's word, not by mode.
            self._path.chmod(0o666)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise SpawnError(
                f"cannot listen on {self._path}: {error.strerror}", hint="is its directory writable for wolverined?"
            ) from error
        self._socket, self._inode = sock, identity(self._path)
        self._listen()

    def adopt(self, handed: HandedReports) -> None:
        """Hear on where a predecessor in this process stopped; no sender notices."""
        self._socket, self._inode, self.counts = socket.socket(fileno=handed.listener), handed.inode, handed.counts
        self._socket.setblocking(False)
        self._listen()
        for each in handed.senders:
            sock = socket.socket(fileno=each.fd)
            sock.setblocking(False)
            try:
                self._open.add(_Connection(self, sock, self._peer(sock), pending=each.pending))
            except OSError:
                sock.close()  # who it was cannot be told

    def hand_over(self) -> HandedReports | None:
        """What a successor needs; it stays ours as long as there is none. None when nobody can be heard."""
        if self._socket is None:
            return None
        senders = tuple(HandedReporter(fd=each.fd, pending=each.pending) for each in self._open if each.fd >= 0)
        return HandedReports(listener=self._socket.fileno(), inode=self._inode, senders=senders, counts=self.counts)

    def there(self) -> bool:
        """Whether the socket that senders find is still ours."""
        return self._inode is not None and identity(self._path) == self._inode

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._socket is None:
            return
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        for connection in list(self._open):
            connection.close()
        if self.there():
            self._path.unlink(missing_ok=True)

    async def settle(self) -> None:
        """Return when what a process had written before it died has been read."""
        self.hear()

    def hear(self) -> None:
        """Read now, without waiting, what has been written: a process may have died in this pass of the loop."""
        for _ in range(MAX_CONNECTIONS):
            if not self._accept():
                break
        for connection in list(self._open):
            for _ in range(_TURNS):
                if not connection.read():
                    break

    def _listen(self) -> None:
        self._paused = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _pause(self) -> None:
        """Let new ones wait: a sender that comes again and again must not keep us busy."""
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        self._paused = loop.call_later(_PAUSE_S, self._listen)

    def _accept(self) -> bool:
        """Take one connection, or none; whether there was one."""
        if self._socket is None or self._paused is not None:
            return False
        if not self._arrivals.allows():
            self._pause()
            return False
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._arrivals.give_back()
            return False
        except OSError:
            self._pause()  # no file descriptor is left; the loop would ask again at once, for ever
            return False
        self._admit(sock)
        return True

    def _admit(self, sock: socket.socket) -> None:
        self.counts.connections += 1
        if len(self._open) >= MAX_CONNECTIONS:
            self.counts.refused_full += 1
            sock.close()
            return
        try:
            sock.setblocking(False)
            peer = self._peer(sock)
        except OSError:
            peer = None  # it is gone already; who it was cannot be told
        if peer is None or peer.uid != self._app_uid:
            self.counts.refused_peer += 1
            sock.close()
            return
        self._open.add(_Connection(self, sock, peer))

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._open.discard(connection)

    def take(self, line: bytes, peer: Peer) -> bool:
        """Read one line of an admitted peer; False when it is one too many."""
        if not self._lines.allows():
            return False
        if not line.strip():
            return True
        self.counts.lines += 1
        try:
            kind = msgspec.json.decode(line, type=_Kind).type
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            self.counts.malformed += 1
            return True
        if kind == "crash":
            return self._crash(line, peer)
        if isinstance(kind, str) and kind in _KNOWN:
            self.counts.other += 1
            self._tell(kind, line)
        else:
            self.counts.unknown += 1
        return True

    def _tell(self, kind: str, line: bytes) -> None:
        try:
            self._on_report(kind, line)
        except Exception as error:
            # Whoever listens may have a fault; a line that shows it must not be read again and again for ever.
            context = {"message": "a report could not be heard", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _crash(self, line: bytes, peer: Peer) -> bool:
        if not self._crashes.allows():
            return False
        self.counts.crashes += 1
        told = CrashLine(line=line, peer_pid=peer.pid, generation=self._generation(), received_at=self._now())
        self._on_crash(told)
        return True


class _Connection:
    """One sender. A bare socket: a chunk of it is read a turn, and one that breaks the rules is hung up on."""

    def __init__(self, server: ReportServer, sock: socket.socket, peer: Peer, *, pending: bytes = b"") -> None:
        self._server = server
        self._socket: socket.socket | None = sock
        self._peer = peer
        self._pending = bytearray(pending)
        asyncio.get_running_loop().add_reader(sock, self.read)

    @property
    def fd(self) -> int:
        """Its file descriptor; -1 when it has ended."""
        return self._socket.fileno() if self._socket is not None else -1

    @property
    def pending(self) -> bytes:
        """The start of a line."""
        return bytes(self._pending)

    def read(self) -> bool:
        """Take what is there, one chunk at most; whether there may be more."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""  # how the other end died is the exit's business
        if not data:
            # A process may die between the object and its line end: the object is whole, or it does not decode.
            if self._pending:
                self._take(bytes(self._pending))
            self.close()
            return False
        self._pending += data
        self._cut()
        return self._socket is not None

    def _cut(self) -> None:
        """Take every whole line. Each costs a token of the server's, so there is an end to it."""
        begin = 0
        while (end := self._pending.find(b"\n", begin)) >= 0:
            if not self._take(bytes(self._pending[begin:end])):
                self._server.counts.too_fast += self._pending.count(b"\n", end + 1)
                return
            begin = end + 1
        del self._pending[:begin]
        if len(self._pending) > MAX_LINE:
            self._take(bytes(self._pending))

    def _take(self, line: bytes) -> bool:
        """Hand a line on; False when the sender was hung up on for it."""
        counts = self._server.counts
        if len(line) > MAX_LINE:
            # The sender breaks the protocol: where its next line begins means nothing.
            counts.too_long += 1
        elif self._server.take(line, self._peer):
            return True
        else:
            counts.too_fast += 1
        counts.hung_up += 1
        self.close()
        return False

    def close(self) -> None:
        """Hang up."""
        sock, self._socket = self._socket, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
            self._server.forget(self)


class _Bucket:
    """A token bucket: a burst, then so many a second."""

    def __init__(self, burst: int, per_second: float, monotonic: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._monotonic = monotonic
        self._left = self._burst
        self._at = monotonic()

    def allows(self) -> bool:
        """Take one, if there is one."""
        now = self._monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """What was taken was not used."""
        self._left = min(self._burst, self._left + 1)
