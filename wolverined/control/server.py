# SPDX-License-Identifier: MIT
"""The control server: accepts, asks who it is, answers.

A peer without access is told so and closed before one of its bytes is read. Everything runs in the
daemon's own loop; what a client can cost is bounded by `http.Limits`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from wolverined.clock import Clock, SystemClock
from wolverined.control import envelope
from wolverined.control.access import Access, Level, Standing
from wolverined.control.address import SOCKET_NAME
from wolverined.control.envelope import Refusal
from wolverined.control.follow import follow
from wolverined.control.http import HttpWire, Incoming, Limits, raw_refusal
from wolverined.control.interfaces import Instance
from wolverined.control.listener import listen, withdraw
from wolverined.control.routes import ROUTES
from wolverined.control.routing import Call, Follow, Later, Now, find
from wolverined.control.wire import Wire
from wolverined.errors import AccessDenied, WolverineError
from wolverined.linux.peer import Peer, peer_of
from wolverined.linux.runtime import identity

__all__ = ["SOCKET_NAME", "Limits", "Server"]

ACCEPTS_A_WAKE = 16  # so that a flood of connections leaves the loop to others in between
NO_FDS_PAUSE_S = 1.0
AUDIT_EVERY_S = 60.0
AUDIT_KEPT = 1024


class HandedServer(msgspec.Struct, frozen=True, kw_only=True):
    """What a successor in this process serves on with.

    Attributes:
        listener: The file descriptor of the listening socket, with whoever waits to be accepted.
        inode: What tells the socket's path from another that is put there later.
        connections: The file descriptors of connections between two requests.
    """

    listener: int
    inode: tuple[int, int, int] | None
    connections: tuple[int, ...]


class Server:
    """The control socket of one instance.

    Args:
        instance: Who answers.
        socket_path: Where; the directory exists already.
        access: Who may.
        limits: Sizes and times; tests shorten them.
        clock: For how often a denial is recorded.
        kept: Told the descriptor that is listened on each time that there is a new one, so that a service manager
            can keep it for a successor; None: nobody does.
    """

    def __init__(
        self,
        instance: Instance,
        socket_path: Path,
        access: Access,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        kept: Callable[[int], None] | None = None,
    ) -> None:
        self._instance = instance
        self._path = socket_path
        self._access = access
        self._limits = limits or Limits()
        self._listener: socket.socket | None = None
        self._inode: tuple[int, int, int] | None = None
        self._served: dict[asyncio.Task[None], _Connection] = {}
        self._paused = asyncio.Event()
        self._turned = asyncio.Event()  # a connection has ended, or has come to the end of a request
        self._denials = _Throttle(clock or SystemClock())
        self._kept = kept

    async def start(self, inherited: socket.socket | None = None) -> None:
        """Listen, or go on listening where a predecessor did. Raises Conflict or SpawnError (see `listener.listen`)."""
        self._listener = inherited or listen(self._path, claimed=self._kept is not None)
        self._inode = identity(self._path)
        if self._kept is not None:
            self._kept(self._listener.fileno())
        self._resume_accepting()

    async def adopt(self, handed: HandedServer) -> None:
        """Serve on where a predecessor in this process stopped."""
        self._listener = socket.socket(fileno=handed.listener)
        self._listener.setblocking(False)
        self._inode = handed.inode
        self._resume_accepting()
        for fd in handed.connections:
            self._admit(socket.socket(fileno=fd))

    async def pause(self, *, within_s: float) -> None:
        """Accept nobody, end what has no end of its own, and let what is being answered be answered.

        Whoever connects meanwhile waits in the kernel for `resume`, or for a successor. Returns when every
        connection is between two requests, or after `within_s`.
        """
        self._paused.set()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
        try:
            async with asyncio.timeout(within_s):
                while not all(connection.idle for connection in self._served.values()):
                    self._turned.clear()
                    await self._turned.wait()
        except TimeoutError:
            pass  # somebody sends half a request, or does not take its answer: a successor does not know it

    def resume(self) -> None:
        """There is no successor: go on."""
        self._paused.clear()
        for connection in self._served.values():
            connection.go_on()
        self._resume_accepting()

    def hand_over(self) -> HandedServer:
        """What a successor needs; nothing more is read from anybody before `resume`."""
        assert self._listener is not None
        idle = [connection.hold() for connection in self._served.values() if connection.idle]
        return HandedServer(listener=self._listener.fileno(), inode=self._inode, connections=tuple(idle))

    @property
    def listening(self) -> bool:
        """Whether it is open."""
        return self._listener is not None

    def there(self) -> bool:
        """Whether the socket that we listen on can still be found."""
        return self._inode is not None and identity(self._path) == self._inode

    async def close(self) -> None:
        """Stop listening, end every connection, and remove the socket, unless it is kept for a successor."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            if self._kept is None:
                withdraw(self._path, self._inode)
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)

    def _resume_accepting(self) -> None:
        if self._listener is not None and not self._paused.is_set():
            asyncio.get_running_loop().add_reader(self._listener, self._accept_some)

    def _accept_some(self) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTS_A_WAKE):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    raise
                # The pending connection keeps the listener readable: without a pause the loop would spin.
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                loop.call_later(NO_FDS_PAUSE_S, self._resume_accepting)
                return
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            peer = peer_of(sock)
        except OSError:
            sock.close()  # it went before we could ask the kernel who it was
            return
        standing = self._access.standing(peer)
        if standing.level is None:
            self._deny(peer, standing.reason, what="connect")
            _turn_away(sock, 403, "access-denied", standing.reason, standing.hint)
            return
        held = Counter(connection.level for connection in self._served.values())
        if held.total() >= self._limits.connections or (
            standing.level is Level.VIEW and held[Level.VIEW] >= self._limits.view_connections
        ):
            _turn_away(sock, 503, "busy", "too many connections to the control socket", "try again")
            return
        connection = _Connection(standing.level)
        task = asyncio.ensure_future(self._serve(sock, peer, standing, connection))
        self._served[task] = connection
        task.add_done_callback(partial(self._forget, sock))

    def _forget(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._served.pop(task, None)
        self._turned.set()
        sock.close()  # for the task that was cancelled before it could take the socket

    async def _serve(self, sock: socket.socket, peer: Peer, standing: Standing, connection: _Connection) -> None:
        wire = await Wire.over(sock)
        http = HttpWire(wire, limits=self._limits)
        connection.serves(wire, http)
        try:
            self._turned.set()
            while await self._exchange(http, wire, peer, standing):
                self._turned.set()
        except (ConnectionError, TimeoutError):
            pass  # the peer went, or does not take its answer: there is nobody left to tell
        finally:
            await wire.close(timeout_s=self._limits.idle_s)

    async def _exchange(self, http: HttpWire, wire: Wire, peer: Peer, standing: Standing) -> bool:
        """One request and its answer; False when the connection is to end."""
        try:
            incoming = await http.next_request()
        except Refusal as refusal:
            if http.answerable:
                # What is left of the request is not read, so nothing can follow it.
                await _refuse(http, refusal, {"connection": "close"})
            return False
        if incoming is None:
            return False
        try:
            await self._answer(http, wire, peer, standing, incoming)
        except WolverineError as error:
            await _refuse(http, error)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            raise
        except Exception as error:
            # A bug behind one endpoint is answered and recorded; the daemon goes on.
            self._instance.audit(
                "control.error",
                f"{incoming.method} {incoming.path}: {type(error).__name__}: {error}",
                {"path": incoming.path, "error": type(error).__name__},
            )
            if not http.answerable:
                return False
            await _refuse(
                http, Refusal(500, "internal", f"{type(error).__name__} inside wolverined", hint="this is a bug")
            )
        return True

    async def _answer(self, http: HttpWire, wire: Wire, peer: Peer, standing: Standing, incoming: Incoming) -> None:
        route, ident = find(ROUTES, incoming.method, incoming.path)
        if not standing.allows(route.level):
            reason = f"uid {peer.uid} may read, not act"
            self._deny(peer, reason, what=f"{incoming.method} {incoming.path}")
            raise AccessDenied(reason, hint=standing.hint)
        call = Call(
            instance=self._instance, peer=peer, incoming=incoming, limits=self._limits, gone=wire.gone, id=ident
        )
        match await route.handler(call):
            case Now(result):
                await http.respond(200, envelope.sync(result))
            case Later(change):
                await http.respond(202, envelope.asynchronous(change), headers={"location": f"/v1/changes/{change.id}"})
            case Follow(source, cursor):
                await http.begin_stream()
                await follow(
                    source=source,
                    cursor=cursor,
                    send=http.chunk,
                    gone=wire.gone,
                    heartbeat_s=self._limits.heartbeat_s,
                    paused=self._paused,
                )
                await http.end_stream()

    def _deny(self, peer: Peer, reason: str, *, what: str) -> None:
        if (missed := self._denials.pass_one(peer.uid)) is None:
            return
        fields: dict[str, Any] = {"uid": peer.uid, "pid": peer.pid, "what": what, "more": missed}
        self._instance.audit("audit.denied", reason, fields)


class _Connection:
    """One connection, as far as the server must know it; `level` is its peer's."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self._wire: Wire | None = None
        self._http: HttpWire | None = None

    def serves(self, wire: Wire, http: HttpWire) -> None:
        """It has been taken into the loop."""
        self._wire, self._http = wire, http

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has been read that is not answered."""
        return self._http is not None and self._http.idle

    def hold(self) -> int:
        """Read no more; its file descriptor."""
        assert self._wire is not None
        return self._wire.hold()

    def go_on(self) -> None:
        """Read again."""
        if self._wire is not None:
            self._wire.go_on()


class _Throttle:
    """One denial a uid and minute is recorded; the others are counted into the next one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[int, _Seen] = {}

    def pass_one(self, uid: int) -> int | None:
        """None: not now. Else record it, and with it so many that were not."""
        now = self._clock.monotonic()
        seen = self._seen.get(uid)
        if seen is not None and now - seen.at < AUDIT_EVERY_S:
            seen.missed += 1
            return None
        if len(self._seen) >= AUDIT_KEPT:
            # User namespaces give one person 65,536 uids: the memory of them stays bounded.
            self._seen = {key: value for key, value in self._seen.items() if now - value.at < AUDIT_EVERY_S}
            if len(self._seen) >= AUDIT_KEPT:
                return None
        self._seen[uid] = _Seen(at=now)
        return seen.missed if seen is not None else 0


class _Seen(msgspec.Struct):
    at: float
    missed: int = 0


async def _refuse(http: HttpWire, error: WolverineError, headers: dict[str, str] | None = None) -> None:
    await http.respond(envelope.status_of(error), envelope.failure(error), headers=headers)


def _turn_away(sock: socket.socket, status: int, kind: str, message: str, hint: str) -> None:
    try:
        # A fresh socket's buffer takes these few hundred bytes; if not, the peer loses words, not we time.
        sock.send(raw_refusal(status, kind, message, hint), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # it has gone already
    finally:
        sock.close()
