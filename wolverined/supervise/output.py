# SPDX-License-Identifier: MIT
"""The app's output: two pipes become lines, kept in a bounded ring and handed on one by one.

A flood is answered by reading slowly, never by growing: the app then waits in its own `write`. Work is
done in slices of a few milliseconds, so that the loop stays punctual. Nobody waits for the end of a
pipe without a limit, since a process that left the app's session may hold it open for ever.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

from wolverined.clock import Clock
from wolverined.model import LogLine
from wolverined.supervise.bell import Bell
from wolverined.supervise.handover import HandedPipe

LINE_BYTES = 65_536
"""The longest line that is kept; the rest of a longer one is counted and thrown away."""

PARTIAL_S = 0.25
"""How long the start of a line waits for its end before it is shown (a prompt, a progress bar)."""

_CHUNK = 16_384  # a quarter of what a pipe holds: empty lines are a hundred times as large here as in the pipe
_SLICE_S = 0.004  # how long one turn may keep the loop
_BATCH = 32  # lines between two looks at the time
_DRAIN_S = 0.05  # how long the last words of a dead process may keep the loop
_DRAIN_BYTES = 1 << 20  # the most that a pipe can hold for a plain user (/proc/sys/fs/pipe-max-size)
_LINE_COST = 200  # a LogLine and its place in the ring, besides its text (measured: 184 bytes)


class Splitter:
    """Bytes in, lines out; remembers the start of a line whose end has not come.

    Attributes:
        dropped_bytes: What did not fit into `LINE_BYTES` and was thrown away.
    """

    def __init__(self, rest: bytes = b"", *, skipping: bool = False, dropped_bytes: int = 0) -> None:
        self.dropped_bytes = dropped_bytes
        self._rest = rest
        self._skipping = skipping

    @property
    def rest(self) -> tuple[bytes, bool]:
        """The start of a line, and whether the rest of a line is being thrown away: what a successor begins with."""
        return self._rest, self._skipping

    @property
    def pending(self) -> bool:
        """Whether the start of a line waits."""
        return bool(self._rest)

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The lines that this chunk ends, each with whether it was cut."""
        if self._skipping:
            head, newline, chunk = chunk.partition(b"\n")
            self.dropped_bytes += len(head)
            if not newline:
                return []
            self._skipping = False
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        lines = [self._capped(line) for line in whole]
        if len(self._rest) > LINE_BYTES:
            lines.append(self._capped(self._rest))
            self._rest = b""
            self._skipping = True
        return lines

    def partial(self, *, final: bool = False) -> bytes:
        """Give up waiting for the line's end: what is there, without half a character unless `final`."""
        held, self._rest = self._rest, b""
        if final:
            return held
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(held)
        self._rest = decoder.getstate()[0]
        return held[: len(held) - len(self._rest)]

    def _capped(self, line: bytes) -> tuple[bytes, bool]:
        if len(line) <= LINE_BYTES:
            return line, False
        self.dropped_bytes += len(line) - LINE_BYTES
        return line[:LINE_BYTES], True


def text_of(line: bytes) -> str:
    """A line as text: invalid UTF-8 replaced, the carriage return of a DOS line end removed."""
    return line.decode("utf-8", "replace").removesuffix("\r")


class Ring:
    """The newest lines, bounded by memory and by number; each has a cursor that grows for ever.

    Args:
        max_bytes: Roughly how much memory it may take.
        max_lines: How many lines it may hold.
    """

    def __init__(self, *, max_bytes: int = 1 << 20, max_lines: int = 10_000) -> None:
        self.size_bytes = 0
        self.newest = 0
        self._max_bytes = max_bytes
        self._lines: deque[tuple[LogLine, int]] = deque()
        self._max_lines = max_lines
        self._bell = Bell()

    def append(self, line: LogLine) -> None:
        """Add a line whose cursor is `newest + 1`; the oldest go when the bounds are reached."""
        cost = sys.getsizeof(line.text) + _LINE_COST
        self._lines.append((line, cost))
        self.newest = line.cursor
        self.size_bytes += cost
        while self.size_bytes > self._max_bytes or len(self._lines) > self._max_lines:
            self.size_bytes -= self._lines.popleft()[1]
        self._bell.ring()

    def resume(self, lines: Iterable[LogLine], *, newest: int) -> None:
        """Take what a predecessor kept, and count on from its newest cursor."""
        for line in lines:
            self.append(line)
        self.newest = newest

    def after(self, cursor: int, limit: int) -> list[LogLine]:
        """At most `limit` lines with a cursor greater than `cursor`, oldest first."""
        if not self._lines:
            return []
        skip = max(0, cursor - self._lines[0][0].cursor + 1)
        return [line for line, _ in islice(self._lines, skip, skip + max(0, limit))]

    def tail(self, count: int) -> tuple[str, ...]:
        """The text of the newest `count` lines, oldest first."""
        return tuple(line.text for line in self.after(self.newest - max(0, count), max(0, count)))

    async def grown(self, cursor: int) -> None:
        """Return when there is a line with a cursor greater than `cursor`."""
        while self.newest <= cursor:
            await self._bell.heard()


class Pump:
    """Reads one pipe in the running loop and hands on its lines; owns the file descriptor.

    Args:
        fd: The non-blocking read end.
        deliver: Called with the text of each line and whether it was cut. Must not block or raise.
        splitter: What a predecessor had begun; None: begin anew.
        capacity: What the pipe shall hold again, once there is no more in it; 0: it is as it was.
    """

    def __init__(
        self,
        fd: int,
        *,
        deliver: Callable[[str, bool], None],
        splitter: Splitter | None = None,
        capacity: int = 0,
    ) -> None:
        self.ended = asyncio.Event()
        self._fd: int | None = fd
        self._deliver = deliver
        self._splitter = splitter or Splitter()
        self._capacity = capacity
        self._backlog: deque[tuple[bytes, bool]] = deque()
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.TimerHandle | None = None
        self._partial: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._readable)
        if self._splitter.pending:
            self._partial = self._loop.call_later(PARTIAL_S, self._flush)

    @property
    def dropped_bytes(self) -> int:
        """How much of lines that were too long was thrown away."""
        return self._splitter.dropped_bytes

    def drain(self) -> None:
        """Hand on what is in the pipe now, within limits; for the last words of a process that has ended."""
        until, left = self._loop.time() + _DRAIN_S, _DRAIN_BYTES
        while self._work(until=until) and left > 0 and (chunk := self._read()):
            left -= len(chunk)

    def hand_over(self, stream: str) -> HandedPipe | None:
        """Hand on every whole line that was read, and give the pipe as it stands then; None at its end.

        The descriptor stays ours as long as there is no successor.
        """
        self._work(until=None)
        if self._fd is None:
            return None
        rest, skipping = self._splitter.rest
        capacity = self._capacity or fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        return HandedPipe(
            stream=stream,
            fd=self._fd,
            rest=rest,
            skipping=skipping,
            dropped_bytes=self.dropped_bytes,
            capacity=capacity,
        )

    async def finish(self, *, timeout_s: float) -> None:
        """Read on until everybody has closed the pipe, but no longer than `timeout_s`; then close it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.ended.wait()
        except TimeoutError:
            pass  # somebody who left the app's tree holds the pipe: what it says is no longer the app's
        finally:
            self.close()

    def close(self) -> None:
        """Stop reading and let the pipe go; what has been read is still handed on."""
        self._release()
        for timer in (self._turn, self._partial):
            if timer is not None:
                timer.cancel()
        self._work(until=None)
        self._flush(final=True)
        self.ended.set()

    def _readable(self) -> None:
        started = self._loop.time()
        until = started + _SLICE_S
        chunk = self._read()
        while self._work(until=until) and chunk is not None and len(chunk) == _CHUNK and self._loop.time() < until:
            chunk = self._read()
        spent_s = self._loop.time() - started
        if self._fd is not None and spent_s >= _SLICE_S:
            # A flood: give the rest of the loop as long as we took, then go on.
            self._loop.remove_reader(self._fd)
            self._turn = self._loop.call_later(spent_s, self._resume)

    def _resume(self) -> None:
        self._turn = None
        started = self._loop.time()
        if not self._work(until=started + _SLICE_S):
            self._turn = self._loop.call_later(self._loop.time() - started, self._resume)
        elif self._fd is not None:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._end()

    def _read(self) -> bytes | None:
        if self._fd is None:
            return None
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            chunk = b""  # the pipe is of no more use, whatever the reason: as good as its end
        if self._capacity and len(chunk) < _CHUNK:
            self._narrow()
        if chunk:
            self._backlog.extend(self._splitter.feed(chunk))
            return chunk
        self._release()
        if self._turn is None:
            self._turn = self._loop.call_later(0, self._resume)
        return None

    def _narrow(self) -> None:
        """Last words are looked for in what a pipe holds: it must not hold more than can be read in a moment."""
        assert self._fd is not None
        with suppress(OSError):  # much was written meanwhile: the next time
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, self._capacity)
            self._capacity = 0

    def _work(self, *, until: float | None) -> bool:
        """Hand on lines until `until`; True when none is left."""
        while self._backlog:
            for _ in range(min(_BATCH, len(self._backlog))):
                line, truncated = self._backlog.popleft()
                self._deliver(text_of(line), truncated)
            if until is not None and self._loop.time() >= until:
                break
        if self._splitter.pending and self._partial is None and self._fd is not None:
            self._partial = self._loop.call_later(PARTIAL_S, self._flush)
        return not self._backlog

    def _flush(self, *, final: bool = False) -> None:
        self._partial = None
        if self._backlog and not final:
            self._partial = self._loop.call_later(PARTIAL_S, self._flush)
        elif text := text_of(self._splitter.partial(final=final)):
            self._deliver(text, False)

    def _release(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _end(self) -> None:
        self._flush(final=True)
        self.ended.set()


class Output:
    """All output of one app over its generations: numbers the lines, keeps the ring, tells a sink.

    Args:
        clock: Labels each line.
        sink: Called with each line. Must not block or raise.
        ring: Where lines are kept.
    """

    def __init__(self, *, clock: Clock, sink: Callable[[LogLine], None], ring: Ring) -> None:
        self.ring = ring
        self._clock = clock
        self._sink = sink

    def pump(self, pipe: HandedPipe, *, generation: int, pid: int) -> Pump:
        """Read one pipe of one generation; what a predecessor had begun of it goes on."""

        def deliver(text: str, truncated: bool) -> None:  # noqa: FBT001 - the shape that Pump calls
            line = LogLine(
                cursor=self.ring.newest + 1,
                at=self._clock.wall(),
                stream=pipe.stream,
                text=text,
                generation=generation,
                pid=pid,
                truncated=truncated,
            )
            self.ring.append(line)
            self._sink(line)

        splitter = Splitter(pipe.rest, skipping=pipe.skipping, dropped_bytes=pipe.dropped_bytes)
        return Pump(pipe.fd, deliver=deliver, splitter=splitter, capacity=pipe.capacity)
