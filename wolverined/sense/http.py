# SPDX-License-Identifier: MIT
"""One GET over HTTP/1.1 to the app on this machine: small, bounded, always ended by its deadline.

The supervisor carries no HTTP client library; h11 parses, asyncio's streams carry. No TLS, no
redirects, no keep-alive, no proxy: the other end is the app itself.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress

import h11
import msgspec

_HOSTS = ("127.0.0.1", "::1")
_ABSENT = {errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_CHUNK = 16_384


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. `body` holds at most what was asked for; `truncated` says that there was more."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    truncated: bool = False


class Garbled(Exception):
    """What came back is not HTTP, or ended too early."""


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the app's port on this machine, IPv4 first, then IPv6.

    Raises:
        OSError: Nobody answers there, or we cannot connect at all.
    """
    refused: OSError | None = None
    for host in _HOSTS:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            refused = refused or error
            continue
        # A connect to a free port of the ephemeral range can meet itself (TCP simultaneous open, when
        # the kernel picks the very port as its own end): that is nobody's answer.
        if writer.get_extra_info("sockname")[:2] != writer.get_extra_info("peername")[:2]:
            return reader, writer
        await hang_up(writer)
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "nobody but ourselves")
    raise refused or ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection whatever state it is in."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def get(port: int, path: str, *, timeout_s: float, max_body: int = 65_536) -> Answer:
    """GET a path.

    Args:
        port: The app's port on this machine.
        path: Path and query, percent-encoded.
        timeout_s: For all of it, to the end of the body.
        max_body: How much of the body is wanted; what is more is not read.

    Raises:
        TimeoutError: It took longer.
        OSError: The connection failed.
        Garbled: What came back is no HTTP.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await connect(port)
        try:
            return await _converse(reader, writer, path=path, port=port, max_body=max_body)
        except h11.ProtocolError as error:
            raise Garbled(str(error)) from error
        finally:
            await hang_up(writer)


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, path: str, port: int, max_body: int
) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", f"localhost:{port}"), ("User-Agent", "wolverined"), ("Accept", "*/*"), ("Connection", "close")]
    request = connection.send(h11.Request(method="GET", target=path, headers=headers))
    writer.write((request or b"") + (connection.send(h11.EndOfMessage()) or b""))
    response: h11.Response | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and response is not None:
            return _answer(response, bytes(body), max_body)
        elif not isinstance(event, h11.InformationalResponse):
            raise Garbled("the connection ended before the answer")
        if response is not None and len(body) > max_body:
            return _answer(response, bytes(body), max_body)


def _answer(response: h11.Response, body: bytes, max_body: int) -> Answer:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers)
    return Answer(status=response.status_code, headers=headers, body=body[:max_body], truncated=len(body) > max_body)
