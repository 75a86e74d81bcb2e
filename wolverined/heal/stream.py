# SPDX-License-Identifier: MIT
"""Streams between the roles (DESIGN 7.9) for asyncio: calls in both directions over one socket.

`Channel` is for whoever has a loop (supervisor, heal); `SyncChannel` is its blocking twin for the
mains of surgeon, trial and adviser. The bytes are `frames`' business. A channel ends at the first
breach of the contract, at its deadline, and when the other side goes; it never hangs on for less.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from wolverined.errors import StreamError, UsageError, WolverineError
from wolverined.heal import frames
from wolverined.heal.frames import Decoder, Hello, Message, encode
from wolverined.heal.syncstream import SyncChannel, SyncHandler, inherited

__all__ = ["Channel", "Decoder", "Handler", "Message", "SyncChannel", "SyncHandler", "encode", "inherited"]

Answer = tuple[Mapping[str, Any], Sequence[bytes]]
Handler = Callable[[dict[str, Any], tuple[bytes, ...]], Awaitable[Answer]]

MAX_CALLS = 32
"""Calls of the other side that may be under way; more is a breach, not a queue."""
CHUNK = 256 * 1024
HELLO_S = 30.0
"""How long a fresh role may take to say hello: a Python start on a machine that swaps."""


class Channel:
    """One end of a role stream, driven by the running loop; owns the socket.

    Calls of the other side run as tasks. Calls without an answer ("events") are handled one after
    the other while nothing else is read, so that they are seen in order and before a later answer;
    their handlers must therefore not call back on this channel.

    Args:
        sock: A connected stream socket; closed by `close`.
        role: What this side calls itself in the hello.
        deadline_s: After so many seconds the channel ends; the smaller of both sides' counts.
        handlers: Call name -> async function of (args, blobs) giving (result, blobs). A raised
            `WolverineError` becomes an error answer; any other exception too, and is told to the
            loop's exception handler.
        peer_role: When given, what the other side must call itself.
        hello_s: How long the other side may take to say hello.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        role: str,
        deadline_s: float,
        handlers: Mapping[str, Handler] | None = None,
        peer_role: str = "",
        hello_s: float = HELLO_S,
    ) -> None:
        self._sock = sock
        self._role = role
        self._deadline_s = deadline_s
        self._handlers = dict(handlers or {})
        self._peer_role = peer_role
        self._hello_s = min(hello_s, deadline_s)
        self._decoder = Decoder()
        self._early: list[Message] = []  # came in one read with the hello
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._sending = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._abandoned: set[int] = set()
        self._next = 1
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self.peer: Hello | None = None
        self.error: StreamError | None = None

    async def start(self) -> None:
        """Exchange the hellos and begin to read.

        Raises:
            StreamError: When the other side does not greet as the contract says; the channel is closed.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            self._sock.setblocking(False)
            self._reader, self._writer = await asyncio.open_connection(sock=self._sock, limit=CHUNK)
            async with asyncio.timeout(self._hello_s):
                await self._send(frames.hello(role=self._role, deadline_s=self._deadline_s))
                first = await self._first()
            self.peer = frames.read_hello(first, expected_role=self._peer_role)
        except TimeoutError:
            await self._refuse(StreamError(f"no hello within {self._hello_s:g} s"))
        except StreamError as error:
            await self._refuse(error)
        except OSError as error:
            await self._refuse(StreamError(f"the stream cannot be used: {error}"))
        except asyncio.CancelledError:
            await self.close()
            raise
        assert self.peer is not None
        left = min(self._deadline_s, self.peer.deadline_s) - (loop.time() - started)
        self._timer = loop.call_later(max(left, 0.0), self._end, StreamError("the job's deadline is over"))
        self._reading = asyncio.create_task(self._read(), name=f"stream-{self._role}")

    async def call(
        self,
        name: str,
        args: Mapping[str, Any] | None = None,
        *,
        blobs: Sequence[bytes] = (),
        timeout_s: float | None = None,
    ) -> Message:
        """Ask the other side and wait for its answer.

        Returns:
            The answer: `body` is the result itself, `blobs` what came with it.

        Raises:
            StreamError: The channel ended, or no answer came in time (the channel lives on then).
            WolverineError: What the other side raised, rebuilt.
        """
        self._alive()
        number = self._next
        self._next += 1
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        encoded = frames.call(name=name, args=args, blobs=blobs, number=number)
        self._waiting[number] = future
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(encoded)
                return await future
        except TimeoutError:
            self._abandoned.add(number)
            raise StreamError(f"no answer to {name} within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            self._abandoned.add(number)
            raise
        finally:
            self._waiting.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()  # seen: a send that failed first must not leave it "never retrieved"

    async def notify(self, name: str, args: Mapping[str, Any] | None = None) -> None:
        """Tell the other side something that has no answer.

        Raises:
            StreamError: The channel has ended.
        """
        self._alive()
        await self._send(frames.call(name=name, args=args, blobs=(), number=None))

    async def closed(self) -> None:
        """Return when the channel has ended: the other side went, broke the contract, or time is over."""
        await self._ended.wait()

    async def close(self) -> None:
        """End the channel, its tasks and its socket; may be called at any time, also twice."""
        self._end(StreamError("the channel was closed"))
        me = asyncio.current_task()
        tasks = [task for task in (self._reading, *self._serving) if task is not None and task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._writer is not None:
            # An aborted connection says so here; that it is gone is what was wanted.
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._sock.close()

    def _alive(self) -> None:
        if self.error is not None:
            raise self.error
        if self._reading is None:
            raise StreamError("the channel was not started")

    async def _refuse(self, error: StreamError) -> None:
        self._end(error)
        await self.close()
        raise error

    async def _first(self) -> Message:
        assert self._reader is not None
        while data := await self._reader.read(CHUNK):
            if messages := self._decoder.feed(data):
                self._early = messages[1:]
                return messages[0]
        raise StreamError("the other side went away before its hello")

    async def _send(self, message: Message) -> None:
        data = encode(message)
        assert self._writer is not None
        # One message at a time: a peer that sends calls and reads no answers fills one buffer, not many.
        async with self._sending:
            if self.error is not None:
                raise self.error
            try:
                self._writer.write(data)
                await self._writer.drain()
            except OSError as error:
                self._end(StreamError(f"the other side went away: {error}"))
                assert self.error is not None
                raise self.error from None

    async def _read(self) -> None:
        assert self._reader is not None
        try:
            for message in self._early:
                await self._take(message)
            self._early = []
            while data := await self._reader.read(CHUNK):
                for message in self._decoder.feed(data):
                    await self._take(message)
            self._decoder.finish()
            self._end(StreamError("the other side went away"))
        except StreamError as error:
            self._end(error)
        except OSError as error:
            self._end(StreamError(f"the other side went away: {error}"))

    async def _take(self, message: Message) -> None:
        wire = frames.read(message)
        if wire.call is None:
            self._settle(wire, message.blobs)
        elif wire.id is None:
            if (handler := self._handlers.get(wire.call)) is not None:
                await self._run(handler, wire, message.blobs)
        elif len(self._serving) >= MAX_CALLS:
            raise StreamError(f"more than {MAX_CALLS} calls at once")
        else:
            task = asyncio.create_task(self._serve(wire, message.blobs), name=f"stream-{self._role}-{wire.call[:40]}")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def _settle(self, wire: frames.Wire, blobs: tuple[bytes, ...]) -> None:
        assert wire.id is not None
        if wire.id in self._abandoned:
            self._abandoned.discard(wire.id)
            return
        future = self._waiting.pop(wire.id, None)
        if future is None or future.done():
            raise StreamError("an answer to a call that was never made")
        if wire.error is not None:
            future.set_exception(frames.rebuild(wire.error))
        else:
            future.set_result(Message(wire.result or {}, blobs))

    async def _serve(self, wire: frames.Wire, blobs: tuple[bytes, ...]) -> None:
        assert wire.id is not None
        handler = self._handlers.get(wire.call or "")
        if handler is None:
            answer = frames.failure(wire.id, UsageError(f"no call {wire.call!r:.60} here"))
        else:
            answer = await self._run(handler, wire, blobs)
        try:
            await self._send(answer)
        except StreamError as error:
            if self.error is None:  # too big or no JSON: the caller must not wait for ever
                with contextlib.suppress(StreamError):
                    await self._send(frames.failure(wire.id, error))

    async def _run(self, handler: Handler, wire: frames.Wire, blobs: tuple[bytes, ...]) -> Message:
        number = wire.id or 0
        try:
            value, out = await handler(wire.args or {}, blobs)
            return frames.result(number, value, out)
        except WolverineError as error:
            return frames.failure(number, error)
        except Exception as error:  # a bug in a handler is told to both sides, but is no reason to hang the caller
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the handler of {wire.call!r} failed", "exception": error}
            )
            return frames.failure(number, WolverineError(f"{wire.call} failed: {type(error).__name__}"))

    def _end(self, error: StreamError) -> None:
        """Make the end known everywhere; the first reason stays."""
        if self.error is not None:
            return
        self.error = error
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        me = asyncio.current_task() if self._reading is not None else None
        for task in self._serving:
            if task is not me:
                task.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
