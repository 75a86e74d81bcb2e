# SPDX-License-Identifier: MIT
"""The blocking end of a role stream, for the mains of surgeon, trial and adviser.

Same wire as `stream.Channel`, without a loop, so that a role that lives for seconds does not load one.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from wolverined.errors import StreamError, UsageError, WolverineError
from wolverined.heal import frames
from wolverined.heal.frames import Decoder, Hello, Message

SyncHandler = Callable[[dict[str, Any], tuple[bytes, ...]], tuple[Mapping[str, Any], Sequence[bytes]]]

CHUNK = 256 * 1024
HELLO_S = 30.0
MAX_QUEUED = 32
"""Messages of the other side that may wait while this side waits for an answer."""


def inherited(number: str) -> socket.socket:
    """The stream socket whose fd was given as an argument; no child of ours inherits it further.

    Raises:
        StreamError: When it is no fd of a connected stream socket.
    """
    try:
        fd = int(number)
        if fd < 0 or not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise StreamError(f"fd {number} is no socket")
        sock = socket.socket(fileno=fd)
    except (ValueError, OSError) as error:
        raise StreamError(
            f"no stream at fd {number!r}: {error}", hint="roles are started by wolverined alone"
        ) from None
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise StreamError(f"fd {number} is no stream socket")
    sock.set_inheritable(False)
    return sock


def _unknown(name: str | None) -> SyncHandler:
    def refuse(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        raise UsageError(f"no call {name!r:.60} here")

    return refuse


class SyncChannel:
    """One end of a role stream, blocking; owns the socket; a context manager that closes it.

    Args:
        sock: A connected stream socket.
        role: What this side calls itself in the hello.
        deadline_s: After so many seconds every wait raises; the smaller of both sides' counts.
        peer_role: When given, what the other side must call itself.
        hello_s: How long the other side may take to say hello.
    """

    def __init__(
        self, sock: socket.socket, *, role: str, deadline_s: float, peer_role: str = "", hello_s: float = HELLO_S
    ) -> None:
        self._sock = sock
        self._role = role
        self._deadline_s = deadline_s
        self._peer_role = peer_role
        self._hello_s = min(hello_s, deadline_s)
        self._decoder = Decoder()
        self._inbox: deque[Message] = deque()
        self._queued: deque[tuple[frames.Wire, tuple[bytes, ...]]] = deque()
        self._next = 1
        self._abandoned: set[int] = set()
        self._until = time.monotonic() + deadline_s
        self.peer: Hello | None = None
        self.error: StreamError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Hello:
        """Exchange the hellos; give the other side's.

        Raises:
            StreamError: When the other side does not greet as the contract says.
        """
        started = time.monotonic()
        self._until = started + self._hello_s
        try:
            self._send(frames.hello(role=self._role, deadline_s=self._deadline_s))
            # An end in good order before the hello reads as an empty message, which is no hello.
            message = self._receive() or Message({})
            self.peer = frames.read_hello(message, expected_role=self._peer_role)
        except StreamError as error:
            raise self._end(error) from None
        self._until = started + min(self._deadline_s, self.peer.deadline_s)
        return self.peer

    def serve(self, handlers: Mapping[str, SyncHandler]) -> None:
        """Answer calls, one after the other, until the other side ends the stream in good order.

        Raises:
            StreamError: It ended in the middle of a message, broke the contract, or the deadline is over.
        """
        while True:
            if self._queued:
                wire, blobs = self._queued.popleft()
            else:
                message = self._receive()
                if message is None:
                    return
                wire, blobs = self._read(message), message.blobs
            if wire.call is None:
                self._unasked(wire)
            else:
                self._answer(handlers, wire, blobs)

    def call(
        self,
        name: str,
        args: Mapping[str, Any] | None = None,
        *,
        blobs: Sequence[bytes] = (),
        timeout_s: float | None = None,
    ) -> Message:
        """Ask the other side and wait for its answer; its own calls meanwhile wait for `serve`.

        Raises:
            StreamError: The stream ended, or no answer came in time.
            WolverineError: What the other side raised, rebuilt.
        """
        number = self._next
        self._next += 1
        until = time.monotonic() + timeout_s if timeout_s is not None else None
        self._send(frames.call(name=name, args=args, blobs=blobs, number=number))
        while True:
            try:
                message = self._receive(until=until)
            except StreamError:
                if self.error is None:
                    self._abandoned.add(number)
                raise
            if message is None:
                raise self._end(StreamError("the other side went away"))
            wire = self._read(message)
            if wire.call is not None:
                self._queued.append((wire, message.blobs))
                if len(self._queued) > MAX_QUEUED:
                    raise self._end(StreamError(f"more than {MAX_QUEUED} calls at once"))
            elif wire.id == number:
                if wire.error is not None:
                    raise frames.rebuild(wire.error)
                return Message(wire.result or {}, message.blobs)
            else:
                self._unasked(wire)

    def notify(self, name: str, args: Mapping[str, Any] | None = None) -> None:
        """Tell the other side something that has no answer."""
        self._send(frames.call(name=name, args=args, blobs=(), number=None))

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self._sock.close()

    def _answer(self, handlers: Mapping[str, SyncHandler], wire: frames.Wire, blobs: tuple[bytes, ...]) -> None:
        number = wire.id or 0
        handler = handlers.get(wire.call or "", _unknown(wire.call))
        try:
            value, out = handler(wire.args or {}, blobs)
            answer = frames.result(number, value, out)
        except StreamError as error:
            # Of this stream: over. Of another one (a role may hold two): an answer like any other.
            if self.error is not None:
                raise
            answer = frames.failure(number, error)
        except WolverineError as error:
            answer = frames.failure(number, error)
        except Exception as error:  # a bug in a handler is told to both sides, but is no reason to hang the caller
            traceback.print_exc(file=sys.stderr)
            answer = frames.failure(number, WolverineError(f"{wire.call} failed: {type(error).__name__}"))
        if wire.id is not None:
            try:
                data = frames.encode(answer)
            except StreamError as error:  # too big or no JSON: the caller must not wait for ever
                data = frames.encode(frames.failure(number, error))
            self._write(data)

    def _unasked(self, wire: frames.Wire) -> None:
        if wire.id in self._abandoned:
            self._abandoned.discard(wire.id)
            return
        raise self._end(StreamError("an answer to a call that was never made"))

    def _read(self, message: Message) -> frames.Wire:
        try:
            return frames.read(message)
        except StreamError as error:
            raise self._end(error) from None

    def _send(self, message: Message) -> None:
        self._write(frames.encode(message))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                self._patience(self._until)
                view = view[self._sock.send(view, socket.MSG_NOSIGNAL) :]
            except TimeoutError:
                raise self._end(StreamError("the job's deadline is over")) from None
            except OSError as error:
                raise self._end(StreamError(f"the other side went away: {error}")) from None

    def _receive(self, *, until: float | None = None) -> Message | None:
        """The next message, or None when the other side ended in good order."""
        limit = min(self._until, until) if until is not None else self._until
        while not self._inbox:
            try:
                self._patience(limit)
                data = self._sock.recv(CHUNK)
                if not data:
                    self._decoder.finish()
                    self.error = StreamError("the other side went away")
                    return None
                self._inbox += self._decoder.feed(data)
            except StreamError as error:
                raise self._end(error) from None
            except TimeoutError:
                if limit < self._until:
                    raise StreamError("no answer in time") from None
                raise self._end(StreamError("the job's deadline is over")) from None
            except OSError as error:
                raise self._end(StreamError(f"the other side went away: {error}")) from None
        return self._inbox.popleft()

    def _patience(self, until: float) -> None:
        if self.error is not None:
            raise self.error
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def _end(self, error: StreamError) -> StreamError:
        if self.error is None:
            self.error = error
        return self.error
