# SPDX-License-Identifier: MIT
"""A stream of records to one client, at the client's own pace.

Nothing is queued for a client: it has a cursor into what the daemon keeps anyway. A slow one falls
behind until the daemon forgets records, and is then told how many; it costs one buffer and no wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from wolverined.control.envelope import encode
from wolverined.model import Event, LogLine

BATCH = 32
CHUNK_BYTES = 32 * 1024


class Source(Protocol):
    """Records with cursors that grow by one."""

    kind: str

    def after(self, cursor: int, limit: int) -> Sequence[LogLine | Event]:
        """The oldest records still kept after `cursor`."""
        ...

    def newest(self) -> int:
        """The cursor of the newest record."""
        ...

    async def grown(self, cursor: int) -> None:
        """Return when there is a record after `cursor`."""
        ...


Send = Callable[[bytes], Awaitable[None]]


def line_of(kind: str, record: msgspec.Struct) -> bytes:
    """One NDJSON line: the record with a `type` before its fields."""
    return b'{"type":"' + kind.encode() + b'",' + encode(record)[1:] + b"\n"


def note(kind: str, **fields: int) -> bytes:
    """One NDJSON line that is no record: start, heartbeat, dropped, reset, again."""
    return msgspec.json.encode({"type": kind, **fields}) + b"\n"


async def follow(
    *,
    source: Source,
    cursor: int,
    send: Send,
    gone: asyncio.Event,
    heartbeat_s: float,
    paused: asyncio.Event | None = None,
) -> None:
    """Send every record after `cursor` as it comes, until the peer has gone.

    The first line is `start` with the cursor; a silence of `heartbeat_s` sends `heartbeat`. When `paused` is set
    the stream ends with `again` and a cursor: whoever asks for what follows that misses nothing.
    """
    paused = paused or asyncio.Event()
    if cursor > source.newest():
        # The client's cursor is of a life of the daemon whose records were lost: begin anew, and say so.
        cursor = 0
        await send(note("reset", cursor=cursor))
    await send(note("start", cursor=cursor))
    while not gone.is_set():
        cursor = await _send_kept(source=source, cursor=cursor, send=send)
        if paused.is_set():
            await send(note("again", cursor=cursor))
            return
        if not await _grown(source=source, cursor=cursor, ends=(gone, paused), timeout_s=heartbeat_s):
            await send(note("heartbeat", cursor=cursor))


async def _send_kept(*, source: Source, cursor: int, send: Send) -> int:
    while records := source.after(cursor, BATCH):
        lost = records[0].cursor - cursor - 1
        chunk = bytearray(note("dropped", count=lost) if lost > 0 else b"")
        for record in records:
            chunk += line_of(source.kind, record)
            cursor = record.cursor
            if len(chunk) >= CHUNK_BYTES:
                await send(bytes(chunk))
                chunk.clear()
        if chunk:
            await send(bytes(chunk))
        await asyncio.sleep(0)  # a fast reader of a long backlog must not hold the loop
    return cursor


async def _grown(*, source: Source, cursor: int, ends: tuple[asyncio.Event, ...], timeout_s: float) -> bool:
    """Wait for a record, an end, or the time of a heartbeat (then False)."""
    waits = {asyncio.ensure_future(wait) for wait in (source.grown(cursor), *(end.wait() for end in ends))}
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    for wait in done:
        wait.result()  # a source that fails must end the stream, not be asked again without end
    return bool(done)
