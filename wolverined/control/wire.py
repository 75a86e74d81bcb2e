# SPDX-License-Identifier: MIT
"""One accepted connection: bounded bytes in, bounded bytes out, and the moment when the peer goes.

asyncio's own streams read 256 KiB at a time, never tell that the peer has gone while nobody reads,
and keep a closed connection for as long as its buffer is not drained. A control socket cannot afford
any of the three, so this is a protocol of our own.
"""

from __future__ import annotations

import asyncio
import select
import socket

READ_BYTES = 16 * 1024
HIGH_WATER = 64 * 1024


class Wire(asyncio.BufferedProtocol):
    """The two directions of a connection; use `Wire.over`."""

    def __init__(self) -> None:
        self._chunk = bytearray(READ_BYTES)
        self._pending = bytearray()
        self._ended = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()
        """Set once the peer can no longer be answered."""

    @classmethod
    async def over(cls, sock: socket.socket) -> Wire:
        """Take a connected Unix stream socket into the running loop; the wire owns it from now on."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.connect_accepted_socket(cls, sock)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002  (asyncio's signature)
        """Called by asyncio: where the next bytes go."""
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio: `nbytes` have come."""
        self._pending += memoryview(self._chunk)[:nbytes]
        self._readable.set()
        if len(self._pending) >= READ_BYTES and self._transport is not None:
            # What is pipelined behind a request that still runs stays in the kernel.
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Called by asyncio: the peer will send no more, but may still read."""
        self._ended = True
        self._readable.set()
        if self._hung_up():
            self.gone.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """Called by asyncio: it is over in both directions."""
        self._ended = True
        self._lost.set()
        self.gone.set()
        self._readable.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Called by asyncio: the peer reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by asyncio: the peer has caught up."""
        self._writable.set()

    @property
    def empty(self) -> bool:
        """Whether the connection is alive in both directions and everything that was read has been received."""
        return not (self._pending or self._ended or self.gone.is_set())

    def hold(self) -> int:
        """Leave in the kernel what comes from now on; gives the file descriptor, which stays ours."""
        assert self._transport is not None
        self._transport.pause_reading()
        fd: int = self._transport.get_extra_info("socket").fileno()
        return fd

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing() and not self._ended:
            self._transport.resume_reading()

    async def receive(self) -> bytes:
        """The next bytes, at most some 32 KiB of them; empty at the end."""
        if not self._pending and not self._ended:
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._pending)
        self._pending.clear()
        if self._transport is not None and not self._transport.is_closing() and not self._ended:
            self._transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        """Write `data`; returns when the peer keeps up. Raises BrokenPipeError when it is gone."""
        if self.gone.is_set() or self._transport is None or self._transport.is_closing():
            raise BrokenPipeError
        self._transport.write(data)
        await self._writable.wait()

    async def close(self, *, timeout_s: float) -> None:
        """Let the peer read what was written, for at most `timeout_s`, then end the connection."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._lost.wait()
        except TimeoutError:
            pass  # what it did not read in time, it will never read
        finally:
            self._transport.abort()

    def _hung_up(self) -> bool:
        # A peer that only shut down its writing side (`nc -N`) still wants its answer: the kernel
        # says POLLHUP when both directions are closed, POLLRDHUP alone when one is.
        if self._transport is None:
            return True
        sock = self._transport.get_extra_info("socket")
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLRDHUP)
        return any(mask & (select.POLLHUP | select.POLLERR) for _, mask in poller.poll(0))
