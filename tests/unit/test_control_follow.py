# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wolverined.control.follow import CHUNK_BYTES, follow
from wolverined.model import LogLine


class Ring:
    """A bounded memory of lines."""

    kind = "line"

    def __init__(self, keep: int = 1000) -> None:
        self.lines: deque[LogLine] = deque(maxlen=keep)
        self.count = 0
        self.woken = asyncio.Event()

    def add(self, text: str) -> None:
        """One line more."""
        self.count += 1
        self.lines.append(LogLine(cursor=self.count, at=0.0, stream="stdout", text=text, generation=1))
        self.woken.set()

    def after(self, cursor: int, limit: int) -> Sequence[LogLine]:
        """As a source."""
        return [line for line in self.lines if line.cursor > cursor][:limit]

    def newest(self) -> int:
        """As a source."""
        return self.count

    async def grown(self, cursor: int) -> None:
        """As a source."""
        while self.count <= cursor:
            self.woken.clear()
            await self.woken.wait()


class Reader:
    """A client that leaves after so many records, or once it has the record of a cursor."""

    def __init__(self, until: int = 10**9, *, last: int | None = None) -> None:
        self.last = last
        self.gone = asyncio.Event()
        self.records: list[dict[str, Any]] = []
        self.biggest = 0
        self._until = until

    async def send(self, data: bytes) -> None:
        """Take a chunk, which is whole lines."""
        assert data.endswith(b"\n")
        self.biggest = max(self.biggest, len(data))
        self.records += [json.loads(line) for line in data.splitlines()]
        if len(self.records) >= self._until or (self.last is not None and self.records[-1].get("cursor") == self.last):
            self.gone.set()


def collect(ring: Ring, cursor: int, until: int, *, heartbeat_s: float = 60.0) -> Reader:
    """Follow until so many records have come."""
    reader = Reader(until)

    async def main() -> None:
        async with asyncio.timeout(10):
            await follow(source=ring, cursor=cursor, send=reader.send, gone=reader.gone, heartbeat_s=heartbeat_s)

    asyncio.run(main())
    return reader


def test_everything_after_the_cursor_in_order() -> None:
    """A stream begins with where it begins, and brings each record once."""
    ring = Ring()
    for number in range(100):
        ring.add(str(number))
    records = collect(ring, 90, 11).records
    assert records[0] == {"type": "start", "cursor": 90}
    assert [record["cursor"] for record in records[1:]] == list(range(91, 101))
    assert all(record["type"] == "line" for record in records[1:])


def test_forgotten_records_are_counted() -> None:
    """What the daemon forgot before it could be sent is told as a number."""
    ring = Ring(keep=10)
    for number in range(50):
        ring.add(str(number))
    records = collect(ring, 5, 12).records
    assert records[1] == {"type": "dropped", "count": 35}
    assert [record["cursor"] for record in records[2:]] == list(range(41, 51))


def test_cursor_of_another_life() -> None:
    """A cursor beyond the newest record begins anew and says so."""
    ring = Ring()
    ring.add("x")
    records = collect(ring, 1_000_000, 3).records
    assert [record["type"] for record in records] == ["reset", "start", "line"]


def test_heartbeat_in_silence() -> None:
    """A silent stream still proves that it lives, with the cursor to continue from."""
    ring = Ring()
    ring.add("x")
    records = collect(ring, 1, 3, heartbeat_s=0.01).records
    assert records == [{"type": "start", "cursor": 1}, *[{"type": "heartbeat", "cursor": 1}] * 2]


def test_chunks_are_bounded() -> None:
    """Huge lines travel one a chunk, not a batch at once."""
    ring = Ring()
    for _ in range(20):
        ring.add("x" * 65536)
    assert collect(ring, 0, 21).biggest < CHUNK_BYTES + 70_000


def test_a_slow_reader_is_told_what_it_missed() -> None:
    """A reader that stops taking loses lines, learns how many, and the writer never waits."""
    ring = Ring(keep=50)
    reader = Reader(last=500)
    open_valve = asyncio.Event()

    async def slow(data: bytes) -> None:
        await open_valve.wait()
        await reader.send(data)

    async def main() -> None:
        task = asyncio.ensure_future(follow(source=ring, cursor=0, send=slow, gone=reader.gone, heartbeat_s=60))
        for number in range(500):
            ring.add(str(number))
            if number % 50 == 0:
                await asyncio.sleep(0)
        open_valve.set()
        await asyncio.wait_for(task, 10)

    asyncio.run(main())
    lost = sum(record["count"] for record in reader.records if record["type"] == "dropped")
    assert lost + sum(record["type"] == "line" for record in reader.records) == 500
    assert lost > 0


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 40), st.integers(0, 100))
def test_sent_and_dropped_add_up(bursts: list[int], keep: int, cursor: int) -> None:
    """Whatever the bursts and the memory: every record after the cursor is either sent or counted."""
    reader = Reader(last=cursor + sum(bursts) + 1)

    async def main() -> None:
        ring = Ring(keep=keep)
        for _ in range(cursor):
            ring.add("before")
        task = asyncio.ensure_future(
            follow(source=ring, cursor=cursor, send=reader.send, gone=reader.gone, heartbeat_s=60)
        )
        for burst in bursts:
            for _ in range(burst):
                ring.add("x")
            for _ in range(4):
                await asyncio.sleep(0)
        ring.add("last")
        await asyncio.wait_for(task, 10)

    asyncio.run(main())
    got = [record["cursor"] for record in reader.records if record["type"] == "line"]
    lost = sum(record["count"] for record in reader.records if record["type"] == "dropped")
    assert got == sorted(set(got))
    assert len(got) + lost == sum(bursts) + 1
