# SPDX-License-Identifier: MIT
"""HTTP/1.1 on one wire: requests in, answers and streams out, every size and every wait bounded.

h11 holds the grammar; this module holds the limits and the rules of a local API: no Origin (no browser
has business here), no Host but `localhost` and `_` (DNS rebinding), one deadline for a whole request
(a byte now and then does not keep a connection).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import msgspec

from wolverined.control.envelope import Refusal, encode
from wolverined.control.wire import Wire

JSON = "application/json"
NDJSON = "application/x-ndjson"
HOSTS = frozenset({b"localhost", b"_"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one control socket gives its clients."""

    header_bytes: int = 16 * 1024
    body_bytes: int = 1024 * 1024
    connections: int = 64
    view_connections: int = 48  # of all: readers can never lock out who acts
    idle_s: float = 10.0  # for a whole request to come, and for an answer to be taken
    heartbeat_s: float = 15.0
    stall_s: float = 600.0  # a follower that reads nothing for so long is gone
    wait_max_s: float = 60.0


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One request, whole and within the limits."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class HttpWire:
    """Reads requests off a wire and writes answers to it, in turn.

    Args:
        wire: The connection.
        limits: Sizes and times.
    """

    def __init__(self, wire: Wire, *, limits: Limits) -> None:
        self._wire = wire
        self._limits = limits
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._used = False
        self._head_only = False

    async def next_request(self) -> Incoming | None:
        """The next request; None when the peer is done, or was silent for too long.

        Raises:
            Refusal: The bytes are no acceptable request; answer it and close.
        """
        if self._used:
            if self._conn.our_state is not h11.DONE or self._conn.their_state is not h11.DONE:
                return None
            self._conn.start_next_cycle()
        self._used = True
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return await self._read_request()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                raise self._headers_too_large() from error
            raise Refusal(error.error_status_hint, "bad-request", f"not HTTP: {error}") from error
        except TimeoutError:
            # Nothing of a request has come: an idle keep-alive connection just ends.
            if self._conn.their_state is h11.IDLE and not self._conn.trailing_data[0]:
                return None
            raise Refusal(408, "timed-out", "the request did not come whole in time") from None

    async def respond(
        self, status: int, body: bytes, *, content_type: str = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send one complete answer."""
        await self._head(status, {"content-type": content_type, "content-length": str(len(body)), **(headers or {})})
        events = (h11.EndOfMessage(),) if self._head_only else (h11.Data(data=body), h11.EndOfMessage())
        await self._send(*events, stall_s=self._limits.idle_s)

    async def begin_stream(self, *, content_type: str = NDJSON) -> None:
        """Begin an answer without an end; `chunk` continues it."""
        await self._head(200, {"content-type": content_type, "cache-control": "no-store"})

    async def chunk(self, data: bytes) -> None:
        """Continue a stream; returns when the peer keeps up."""
        await self._send(h11.Data(data=data), stall_s=self._limits.stall_s)

    async def end_stream(self) -> None:
        """End a stream; the connection can carry another request."""
        await self._send(h11.EndOfMessage(), stall_s=self._limits.idle_s)

    @property
    def idle(self) -> bool:
        """Whether the peer is between two requests, as far as anything of it has been read."""
        return self._conn.their_state is h11.IDLE and not self._conn.trailing_data[0] and self._wire.empty

    @property
    def answerable(self) -> bool:
        """Whether no answer to the request at hand was begun."""
        return self._conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def _read_request(self) -> Incoming | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None  # the peer closed between two requests
        self._head_only = head.method == b"HEAD"
        incoming = self._checked(head)
        body = bytearray()
        if self._conn.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]), stall_s=self._limits.idle_s)
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > self._limits.body_bytes:
                raise self._body_too_large()
        if isinstance(event, h11.ConnectionClosed):
            return None
        return msgspec.structs.replace(incoming, body=bytes(body))

    async def _next_event(self) -> h11.Event | None:
        while True:
            event = self._conn.next_event()
            if isinstance(event, h11.Event):
                return event
            if event is h11.PAUSED:
                return None
            self._conn.receive_data(await self._wire.receive())

    def _checked(self, head: h11.Request) -> Incoming:
        # h11 measures only what is incomplete; a head that came in one piece is measured here.
        size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
        if size > self._limits.header_bytes:
            raise self._headers_too_large()
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        if "origin" in headers:
            raise Refusal(403, "access-denied", "a request with an Origin comes from a browser and is refused")
        hosts = [value for name, value in head.headers if name == b"host"]
        if any(host not in HOSTS for host in hosts):
            raise Refusal(403, "access-denied", "the Host must be localhost or _")
        if int(headers.get("content-length", "0")) > self._limits.body_bytes:
            raise self._body_too_large()
        path, query = _split(head.target)
        return Incoming(method=head.method.decode("ascii"), path=path, query=query, headers=headers, body=b"")

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        reason = HTTPStatus(status).phrase.encode()
        await self._send(h11.Response(status_code=status, reason=reason, headers=pairs), stall_s=self._limits.idle_s)

    async def _send(self, *events: h11.Event, stall_s: float) -> None:
        data = b"".join(self._conn.send(event) or b"" for event in events)
        async with asyncio.timeout(stall_s):
            await self._wire.send(data)

    def _headers_too_large(self) -> Refusal:
        return Refusal(431, "too-large", f"the request's head is longer than {self._limits.header_bytes} bytes")

    def _body_too_large(self) -> Refusal:
        return Refusal(413, "too-large", f"the request's body is longer than {self._limits.body_bytes} bytes")


def raw_refusal(status: int, kind: str, message: str, hint: str) -> bytes:
    """A whole answer to a peer that will not be read from."""
    body = encode({"type": "error", "result": {"kind": kind, "message": message, "hint": hint}})
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _split(target: bytes) -> tuple[str, dict[str, str]]:
    try:
        parts = urlsplit(target.decode("ascii"))
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError as error:  # UnicodeDecodeError is one
        raise _bad("the request's target is no URL") from error
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        raise _bad("the request's target must be a path")
    return unquote(parts.path), dict(pairs)


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad-request", message)
