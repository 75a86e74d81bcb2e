# SPDX-License-Identifier: MIT
"""Output over real pipes: floods, foreign holders, half lines and bad bytes, from real processes."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leaves import python
from support.places import eventually_async, public_tmp
from support.supervision import SLEEPER, Recorder, best_hierarchy, configured, supervised

from wolverined.linux.leaf import Hierarchy
from wolverined.model import AppState
from wolverined.sense import probes
from wolverined.supervise.output import LINE_BYTES, Pump

MIB = 1 << 20


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Run one scenario with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(100):
            await scenario

    asyncio.run(limited())


@pytest.fixture
def hierarchy(tmp_path: Path) -> Iterator[Hierarchy]:
    """A hierarchy of the best kind that there is."""
    with best_hierarchy(tmp_path) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which the app may write."""
    with public_tmp(mode=0o777) as path:
        yield path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that nobody can ask is ready sooner than in life."""
    monkeypatch.setattr(probes, "ALIVE_S", 0.1)


def pipe() -> tuple[int, int]:
    """A pipe with a non-blocking read end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    return read, write


class Kept:
    """A pump that keeps what it delivers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []
        read, self.write = pipe()
        self.pump = Pump(read, deliver=lambda text, truncated: self.lines.append((text, truncated)))

    def say(self, data: bytes) -> None:
        """Write to the pipe."""
        os.write(self.write, data)

    def hang_up(self) -> None:
        """Close the write end."""
        os.close(self.write)


def rss_bytes() -> int:
    """Our resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_lines_come_with_their_stream_and_generation(hierarchy: Hierarchy, place: Path) -> None:
    """Both pipes are read; each line says where and whose it is."""
    program = "import sys; print('out'); print('err', file=sys.stderr, flush=True); sys.stdout.flush();" + SLEEPER

    async def scenario() -> None:
        async with supervised(configured(python(program), place), hierarchy) as run:
            await run.supervisor.start()
            await run.until(lambda: len(run.told.lines) == 3)
            by_text = {line.text: line for line in run.told.lines}
            assert (by_text["out"].stream, by_text["err"].stream) == ("stdout", "stderr")
            assert {line.generation for line in run.told.lines} == {1}
            assert {line.pid for line in run.told.lines} == {run.pid}
            assert [line.cursor for line in run.told.lines] == [1, 2, 3]
            assert set(run.supervisor.tail(10)) == {"out", "err", "awake"}
            assert run.supervisor.ring.after(2, 10) == [run.told.lines[2]]

    play(scenario())


def test_half_a_line_is_shown_after_a_moment() -> None:
    """A prompt without a newline does not wait for ever; the rest of the line follows as its own."""

    async def scenario() -> None:
        kept = Kept()
        kept.say(b"password: ")
        await eventually_async(lambda: kept.lines == [("password: ", False)])
        kept.say(b"ok\n")
        await eventually_async(lambda: kept.lines[1:] == [("ok", False)])
        kept.hang_up()
        await kept.pump.finish(timeout_s=5)

    play(scenario())


def test_the_end_of_the_pipe_ends_the_line() -> None:
    """What a process wrote last is shown, newline or not, and invalid UTF-8 is replaced."""

    async def scenario() -> None:
        kept = Kept()
        kept.say(b"a\xff\nlast words")
        kept.hang_up()
        await kept.pump.finish(timeout_s=5)
        assert kept.lines == [("a\ufffd", False), ("last words", False)]

    play(scenario())


def test_a_long_line_is_cut_and_marked() -> None:
    """64 KiB of it are shown; the rest is counted."""

    async def scenario() -> None:
        kept = Kept()
        writing = asyncio.create_task(asyncio.to_thread(kept.say, b"x" * (LINE_BYTES + 10_000) + b"\nnext\n"))
        await eventually_async(lambda: len(kept.lines) == 2)
        await writing
        assert kept.lines == [("x" * LINE_BYTES, True), ("next", False)]
        assert kept.pump.dropped_bytes == 10_000
        kept.hang_up()
        await kept.pump.finish(timeout_s=5)

    play(scenario())


def test_a_foreign_holder_of_the_pipe_blocks_nobody() -> None:
    """`finish` returns after its limit though somebody keeps the write end, and closes the pipe."""

    async def scenario() -> None:
        kept = Kept()
        kept.say(b"one\n")
        await kept.pump.finish(timeout_s=0.05)
        assert kept.lines == [("one", False)]
        with pytest.raises(BrokenPipeError):
            kept.say(b"two\n")
        kept.hang_up()

    play(scenario())


def test_a_restart_does_not_wait_for_a_holder_outside_of_the_tree(hierarchy: Hierarchy, place: Path) -> None:
    """Somebody outside holds the old generation's stdout: the new one starts at once all the same."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place), hierarchy) as run:
            await run.supervisor.start()
            holder = os.open(f"/proc/{run.pid}/fd/1", os.O_WRONLY)
            os.kill(run.pid, 9)
            await run.until(lambda: run.generation == 2)
            await run.until_state(AppState.READY)
            assert run.told.exits[0].tail == ("awake",)
            await run.supervisor.stop()
            os.close(holder)

    play(scenario())


def test_drain_takes_what_is_there() -> None:
    """The last words of a dead process are there before anybody waits."""

    async def scenario() -> None:
        kept = Kept()
        kept.say(b"one\ntwo\nthree")
        kept.pump.drain()
        assert kept.lines == [("one", False), ("two", False)]
        kept.hang_up()
        kept.pump.drain()
        await kept.pump.finish(timeout_s=5)
        assert kept.lines[-1] == ("three", False)

    play(scenario())


def test_a_slow_sink_does_not_keep_the_loop() -> None:
    """Between two slices of lines everything else in the loop has its turn."""

    async def scenario() -> None:
        turns, seen = [0], []

        def deliver(_text: str, _truncated: bool) -> None:
            time.sleep(0.0005)
            seen.append(turns[0])

        read, write = pipe()
        os.write(write, b"\n".join(b"line" for _ in range(1000)) + b"\n")
        pump = Pump(read, deliver=deliver)
        while len(seen) < 1000:
            turns[0] += 1
            await asyncio.sleep(0)
        assert max(Counter(seen).values()) <= 64
        os.close(write)
        await pump.finish(timeout_s=5)

    play(scenario())


FLOODS = {
    "long lines": "import os\nblock = (b'x' * 99 + b'\\n') * 10486\nfor _ in range(80): os.write(1, block)",
    "empty lines": "import os\nblock = b'\\n' * (1 << 20)\nos.write(1, block)",
    "no newline": "import os\nblock = b'x' * (1 << 20)\nfor _ in range(400): os.write(1, block)",
    "both pipes": "import os\nblock = (b'x' * 99 + b'\\n') * 5243\n"
    "for _ in range(80): os.write(1, block), os.write(2, block)",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_grows_nothing_and_keeps_the_loop_punctual(hierarchy: Hierarchy, place: Path, flood: str) -> None:
    """Hundreds of MB of output: memory stays, the loop stays responsive, the end of it arrives."""
    program = FLOODS[flood] + "\nos.write(1, b'\\nthe end\\n')\n" + SLEEPER
    recorder = Recorder()
    recorder.keep_lines = False

    async def scenario() -> None:
        async with supervised(configured(python(program), place), hierarchy, listener=recorder) as run:
            loop = asyncio.get_running_loop()
            before = rss_bytes()
            late_s, grown = [0.0], [0]
            await run.supervisor.start()
            while not {"the end", "awake"} <= recorder.last_words:
                asked = loop.time()
                await asyncio.sleep(0.01)
                late_s.append(loop.time() - asked - 0.01)
                grown.append(rss_bytes() - before)
            assert sorted(late_s)[len(late_s) // 2] < 0.05
            assert max(grown) < 16 * MIB
            assert run.supervisor.ring.size_bytes <= MIB

    play(scenario())


def test_a_flooding_app_can_still_be_stopped(hierarchy: Hierarchy, place: Path) -> None:
    """A stop in the middle of endless output ends it, and what was in the pipe does not hold it up."""

    async def scenario() -> None:
        recorder = Recorder()
        recorder.keep_lines = False
        async with supervised(configured(["yes"], place), hierarchy, listener=recorder) as run:
            await run.supervisor.start()
            await run.supervisor.stop()
            assert run.supervisor.state is AppState.STOPPED
            assert set(run.supervisor.tail(5)) == {"y"}

    play(scenario())
