# SPDX-License-Identifier: MIT
"""How a heal gets its roles: it asks the supervisor, and the other end of a stream comes back.

The supervisor spawns the role, or connects to where PID 1 keeps one, and passes a descriptor (SCM_RIGHTS) over
a socket that serves for nothing else. What is spoken on the stream afterwards is the role's own business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping

import msgspec

from wolverined.errors import SandboxUnavailable, StreamError, WolverineError
from wolverined.heal.stream import Channel, Handler

_ANSWER_S = 30.0


class Roles:
    """Opens streams to roles, one request at a time, over the socket that the supervisor gave."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(
        self, role: str, *, deadline_s: float, handlers: Mapping[str, Handler] | None = None, side: str = "candidate"
    ) -> AsyncIterator[Channel]:
        """Give a started channel to a fresh process of `role`; the process ends with the channel.

        Args:
            role: A name that the supervisor knows.
            deadline_s: Of the whole job.
            handlers: What the role may call.
            side: What a trial is for; under systemd each side has walls of its own.

        Raises:
            StreamError: The supervisor did not answer, or the role never said hello.
            SandboxUnavailable: There are no walls behind which a candidate could run.
            WolverineError: The supervisor refused, with its reason.
        """
        channel = Channel(await self._ask(role, side), role="heal", deadline_s=deadline_s, handlers=handlers)
        try:
            await channel.start()
            yield channel
        finally:
            await channel.close()

    async def _ask(self, role: str, side: str) -> socket.socket:
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await loop.sock_sendall(self._sock, msgspec.json.encode({"role": role, "side": side}))
                    data, descriptors = await self._receive()
            except (TimeoutError, OSError) as error:
                raise StreamError(f"the supervisor did not hand over the {role}: {error or 'no answer'}") from error
        if descriptors:
            return socket.socket(fileno=descriptors[0])
        try:
            answer = msgspec.json.decode(data, type=dict[str, str | bool])
        except msgspec.DecodeError as error:
            raise StreamError(f"the supervisor's answer to {role} cannot be read") from error
        kind = SandboxUnavailable if answer.get("kind") == SandboxUnavailable.kind else WolverineError
        raise kind(str(answer.get("error", "no such role")), hint=str(answer.get("hint", "")))

    async def _receive(self) -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._sock.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._sock.fileno())
        data, descriptors, _flags, _address = socket.recv_fds(self._sock, 65536, 1)
        return data, descriptors

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
