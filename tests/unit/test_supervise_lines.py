# SPDX-License-Identifier: MIT
"""Bytes become lines, and lines stay within bounds (no process needed)."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from wolverined.model import LogLine
from wolverined.supervise.output import LINE_BYTES, Ring, Splitter, text_of


def line(cursor: int, text: str = "x") -> LogLine:
    """A line of that number."""
    return LogLine(cursor=cursor, at=0.0, stream="stdout", text=text, generation=1)


def filled(count: int, *, text: str = "x", max_bytes: int = 1 << 20, max_lines: int = 10_000) -> Ring:
    """A ring that was given that many lines."""
    ring = Ring(max_bytes=max_bytes, max_lines=max_lines)
    for cursor in range(1, count + 1):
        ring.append(line(cursor, text))
    return ring


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    """The same bytes give the same lines, however they arrive."""
    splitter, lines = Splitter(), []
    for chunk in chunks:
        lines += [raw for raw, _ in splitter.feed(chunk)]
    lines.append(splitter.partial(final=True))
    assert b"\n".join(lines) == b"".join(chunks)


def test_a_long_line_is_cut_and_the_rest_counted() -> None:
    """A line over 64 KiB is shown once, marked, and what follows to its end is thrown away."""
    splitter = Splitter()
    assert splitter.feed(b"a" * LINE_BYTES) == []
    (cut,) = splitter.feed(b"bc")
    assert cut == (b"a" * LINE_BYTES, True)
    assert splitter.feed(b"still the same line") == []
    assert splitter.feed(b" end\nnext\n") == [(b"next", False)]
    assert splitter.dropped_bytes == len(b"bcstill the same line end")


def test_a_long_line_in_one_chunk_is_cut_too() -> None:
    """It makes no difference whether the long line comes at once."""
    splitter = Splitter()
    assert splitter.feed(b"a" * (LINE_BYTES + 3) + b"\nnext\n") == [(b"a" * LINE_BYTES, True), (b"next", False)]
    assert splitter.dropped_bytes == 3


def test_a_line_of_exactly_the_limit_is_whole() -> None:
    """64 KiB fit."""
    assert Splitter().feed(b"a" * LINE_BYTES + b"\n") == [(b"a" * LINE_BYTES, False)]


def test_a_partial_line_keeps_half_a_character_for_later() -> None:
    """A flush in the middle of a character does not destroy it."""
    splitter = Splitter()
    splitter.feed("grü".encode()[:-1])
    assert splitter.partial() == b"gr"
    assert splitter.feed("ü\n".encode()[1:]) == [("ü".encode(), False)]


def test_at_the_end_half_a_character_is_shown_as_it_is() -> None:
    """Nothing waits for what cannot come any more."""
    splitter = Splitter()
    splitter.feed("ü".encode()[:1])
    assert text_of(splitter.partial(final=True)) == "\ufffd"


def test_text_is_always_text() -> None:
    """Invalid UTF-8 is replaced and a DOS line end goes."""
    assert text_of(b"a\xff\xfeb\r") == "a\ufffd\ufffdb"


def test_the_ring_is_bounded_by_number() -> None:
    """Only the newest lines stay; cursors go on."""
    ring = filled(100, max_lines=10)
    assert [kept.cursor for kept in ring.after(0, 1000)] == list(range(91, 101))
    assert ring.newest == 100


def test_the_ring_is_bounded_by_memory() -> None:
    """Long lines push old ones out sooner."""
    ring = filled(100, text="x" * 10_000, max_bytes=50_000)
    assert ring.size_bytes <= 50_000
    assert len(ring.after(0, 1000)) == 4


def test_a_line_larger_than_the_ring_leaves_it_empty() -> None:
    """The bound holds even then."""
    ring = filled(1, text="x" * 1000, max_bytes=100)
    assert ring.after(0, 10) == []
    assert ring.size_bytes == 0
    assert ring.tail(5) == ()


def test_reading_goes_on_after_a_cursor() -> None:
    """`after` gives what is newer, at most as much as asked for, and nothing for nonsense."""
    ring = filled(20)
    assert [kept.cursor for kept in ring.after(15, 3)] == [16, 17, 18]
    assert ring.after(20, 5) == []
    assert ring.after(10**9, 5) == []
    assert ring.after(3, 0) == []
    assert ring.after(3, -1) == []
    assert len(ring.after(-5, 1000)) == 20


def test_the_tail_is_the_newest() -> None:
    """`tail` counts from the end and never has more than there is."""
    ring = Ring()
    for cursor in range(1, 6):
        ring.append(line(cursor, str(cursor)))
    assert ring.tail(2) == ("4", "5")
    assert ring.tail(99) == ("1", "2", "3", "4", "5")
    assert ring.tail(0) == ()
    assert ring.tail(-1) == ()


def test_waiters_wake_when_the_ring_grows() -> None:
    """`grown` returns at once for an old cursor, else with the next line; a cancelled one leaves nothing."""

    async def scenario() -> None:
        ring = filled(1)
        await ring.grown(0)
        given_up = asyncio.create_task(ring.grown(1))
        waiting = [asyncio.create_task(ring.grown(1)) for _ in range(3)]
        await asyncio.sleep(0)
        given_up.cancel()
        ring.append(line(2))
        await asyncio.gather(*waiting)
        await asyncio.gather(given_up, return_exceptions=True)
        assert not ring._bell._waiting

    asyncio.run(scenario())
