# SPDX-License-Identifier: MIT
"""The socket of reports: only the application is heard, and nothing that it says can hurt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.places import eventually_async

from wolverined.errors import SpawnError
from wolverined.linux.peer import Peer
from wolverined.redact import Redactor
from wolverined.sense.reports import (
    ARRIVALS,
    CRASHES,
    LINES,
    MAX_CONNECTIONS,
    MAX_LINE,
    CrashLine,
    CrashReport,
    ReportServer,
    read_crash,
)

CRASH = {
    "type": "crash",
    "name": "TypeError",
    "message": "no function; password=hunter22",
    "stack": "TypeError: x\n    at f (/srv/app/a.js:1:2)",
    "requests": [
        {"method": "POST", "path": "/a?token=abcd1234", "headers": {"cookie": "s=1", "n": 3}, "body": "{}"},
        {"method": "GET", "path": "/b", "truncated": True},
        {"method": "GET"},
        "nonsense",
    ],
    "pid": 77,
    "timestamp": 1_700_000_000_000,
    "handled": True,
    "thread": "worker",
}


class Story:
    """A server, what it heard, and a way to say something to it."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.heard: list[CrashReport] = []
        self.raw: list[CrashLine] = []
        self.path = directory / "r.sock"
        self.server = ReportServer(
            self.path,
            **{
                "app_uid": os.geteuid(),
                "on_crash": self.hear,
                "generation": lambda: 7,
                "now": lambda: 1234.5,
            }
            | options,
        )

    def hear(self, told: CrashLine) -> None:
        """Keep a crash report, and read it if it can be read."""
        redactor = Redactor()
        self.raw.append(told)
        report = read_crash(told, redact=redactor.request, redact_text=redactor.text)
        if report is not None:
            self.heard.append(report)

    async def say(self, data: bytes) -> None:
        """Connect, write, hang up, and wait until all of it was read."""
        before = self.server.counts.connections
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, str(self.path))
            with contextlib.suppress(ConnectionError):  # hung up on, as it may be
                await loop.sock_sendall(sock, data)
        await eventually_async(lambda: self.server.counts.connections > before and not self.server._open)


def run(directory: Path, story: Callable[[Story], Any], **options: Any) -> Story:
    """Run a story with its server."""

    async def whole() -> Story:
        told = Story(directory, **options)
        async with told.server:
            await story(told)
        return told

    return asyncio.run(whole())


def line(report: Any) -> bytes:
    """Encode one report."""
    return json.dumps(report).encode() + b"\n"


def test_a_crash_report_arrives_redacted_with_its_requests(tmp_path: Path) -> None:
    """Every field; what is no request is left out; who sent it is the kernel's word."""
    story = run(tmp_path, lambda s: s.say(line(CRASH)))
    (report,) = story.heard
    assert (report.name, report.message) == ("TypeError", "no function; password=«secret:password»")
    assert report.stack == CRASH["stack"]
    assert [(r.method, r.path, r.body, r.truncated) for r in report.requests] == [
        ("POST", "/a?token=«secret:token»", "{}", False),
        ("GET", "/b", "", True),
    ]
    assert report.requests[0].headers == {"cookie": "«secret:cookie»"}
    assert (report.pid, report.peer_pid, report.generation) == (77, os.getpid(), 7)
    assert (report.timestamp, report.received_at) == (1_700_000_000.0, 1234.5)
    assert (report.handled, report.thread) == (True, "worker")


def test_a_line_may_come_in_pieces_and_without_its_end(tmp_path: Path) -> None:
    """A dying process may not get to write the line end; two lines may come at once."""
    story = run(tmp_path, lambda s: s.say(line(CRASH) + line({**CRASH, "name": "Second"})[:-1]))
    assert [report.name for report in story.heard] == ["TypeError", "Second"]

    async def slowly(told: Story) -> None:
        reader, writer = await asyncio.open_unix_connection(str(told.path))
        data = line(CRASH)
        for at in range(0, len(data), 50):
            writer.write(data[at : at + 50])
            await writer.drain()
            await asyncio.sleep(0)
        await eventually_async(lambda: told.heard)
        writer.close()
        await reader.read()

    assert len(run(tmp_path, slowly).heard) == 1


def test_everybody_else_is_refused_and_counted(tmp_path: Path) -> None:
    """Another uid is hung up on before anything is read, root too."""
    for uid in (os.geteuid() + 1, 0 if os.geteuid() else 4711):
        story = run(
            tmp_path, lambda s: s.say(line(CRASH)), peer=lambda _, uid=uid: Peer(pid=1, uid=uid, gid=uid, groups=())
        )
        assert story.heard == []
        assert (story.server.counts.refused_peer, story.server.counts.lines) == (1, 0)


@pytest.mark.parametrize(
    ("data", "counted"),
    [
        (b"not json\n", "malformed"),
        (b"[1]\n", "malformed"),
        (b'"crash"\n', "malformed"),
        (b"\xff\xfe\n", "malformed"),
        (b'{"type": "crash", "pid": NaN}\n', "malformed"),
        (b"[" * 60_000 + b"\n", "malformed"),
        (b'{"type": "crash"', "malformed"),
        (b'{"type": "other"}\n', "unknown"),
        (b'{"type": 7}\n', "unknown"),
        (b"{}\n", "unknown"),
        (b'{"type": "route_error", "path": "/"}\n', "other"),
        (b'{"type": "loop"}\n', "other"),
        (b"x" * (MAX_LINE + 1), "too_long"),
        (b"x" * (MAX_LINE * 3) + b"\n" + line(CRASH), "too_long"),
    ],
)
def test_what_breaks_the_protocol_is_dropped_and_counted(tmp_path: Path, data: bytes, counted: str) -> None:
    """Nothing is heard, one counter says why, and the server goes on."""

    async def story(told: Story) -> None:
        await told.say(data)
        assert told.heard == []
        assert getattr(told.server.counts, counted) == 1
        await told.say(line(CRASH))
        assert len(told.heard) == 1

    run(tmp_path, story)


WRONG = [None, True, -1, 2**70, 1e308, "x" * 50_000, [], {}, [[]], {"a": {"b": 1}}, "\u202e\x1b[31m\x00"]


@pytest.mark.parametrize("field", sorted(set(CRASH) - {"type"}))
def test_any_field_may_hold_anything(tmp_path: Path, field: str) -> None:
    """Wrong types, huge numbers and texts: the report is heard with what is right in it, bounded and clean."""

    async def story(told: Story) -> None:
        for value in WRONG:
            await told.say(line({**CRASH, field: value}))

    heard = run(tmp_path, story).heard
    assert len(heard) == len(WRONG)
    for report in heard:
        assert len(report.message) <= 4 << 10
        assert "\x1b" not in repr(report)
        assert 0 <= report.pid < 2**53


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes_are_survived(lines: list[bytes]) -> None:
    """Without a socket: whatever a peer writes, nothing is raised."""
    heard: list[CrashLine] = []
    server = ReportServer(Path("/unused"), app_uid=0, on_crash=heard.append)
    for each in lines:
        assert server.take(each, Peer(pid=1, uid=0, gid=0, groups=()))
        read_crash(CrashLine(line=each), redact=lambda request: request)
    assert server.counts.lines == sum(1 for each in lines if each.strip())


def test_a_flood_is_hung_up_on_and_counted(tmp_path: Path) -> None:
    """So many lines at once, for all connections together; time gives room again."""
    now = [0.0]
    burst, per_second = LINES

    async def story(told: Story) -> None:
        counts = told.server.counts
        await told.say(line({"type": "loop"}) * (burst // 2))
        await told.say(line({"type": "loop"}) * burst)
        assert (counts.other, counts.too_fast, counts.hung_up) == (burst, burst // 2, 1)
        await told.say(line({"type": "loop"}))
        assert (counts.too_fast, counts.hung_up) == (burst // 2 + 1, 2)
        now[0] += 1
        await told.say(line({"type": "loop"}) * int(per_second))
        assert counts.hung_up == 2

    run(tmp_path, story, monotonic=lambda: now[0])


def test_lines_with_nothing_in_them_cost_as_much_as_others(tmp_path: Path) -> None:
    """A quarter of a million line ends are not looked at one by one."""

    async def story(told: Story) -> None:
        await told.say(b"\n" * (256 << 10))
        assert (told.server.counts.lines, told.server.counts.hung_up) == (0, 1)
        assert told.server.counts.too_fast >= (64 << 10) - LINES[0]

    run(tmp_path, story, monotonic=lambda: 0.0)


def test_crash_reports_have_a_measure_of_their_own(tmp_path: Path) -> None:
    """A flood of them leaves other lines alone, and is bounded sooner."""

    async def story(told: Story) -> None:
        await told.say(line(CRASH) * 100)
        counts = told.server.counts
        assert (counts.crashes, counts.hung_up, counts.too_fast) == (CRASHES[0], 1, 100 - CRASHES[0])
        await told.say(line({"type": "loop"}))
        assert (counts.other, counts.hung_up) == (1, 1)

    run(tmp_path, story, monotonic=lambda: 0.0)


def test_who_comes_too_often_waits_in_the_queue_of_the_kernel(tmp_path: Path) -> None:
    """Connections beyond the measure are taken later, none is lost."""
    now = [0.0]

    async def story(told: Story) -> None:
        for _ in range(ARRIVALS[0]):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(told.path))
                told.server.hear()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(told.path))
            sock.sendall(line(CRASH))
            told.server.hear()
            assert (told.heard, told.server.counts.connections) == ([], ARRIVALS[0])
            now[0] += 1
            await eventually_async(lambda: told.heard)

    run(tmp_path, story, monotonic=lambda: now[0])


def test_what_was_written_before_a_death_is_heard_without_waiting(tmp_path: Path) -> None:
    """Several senders, several lines each, nobody accepted yet: one call reads all of it."""

    async def story(told: Story) -> None:
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(told.path))
                sock.sendall(line({"type": "loop", "x": "y" * 60_000}) * 2 + line(CRASH))
        told.server.hear()
        assert (len(told.heard), told.server.counts.other) == (5, 10)

    run(tmp_path, story)


def test_a_report_is_kept_as_it_came(tmp_path: Path) -> None:
    """Nothing of it is read or redacted before somebody examines the exit."""
    story = run(tmp_path, lambda s: s.say(line(CRASH)))
    assert [told.line + b"\n" for told in story.raw] == [line(CRASH)]


FLOODER = """
import socket, sys, threading
kind, path = sys.argv[1:]
crash = b'{"type":"crash","name":"E","stack":"' + b"password=hunter22 " * 3000 + b'"}\\n'
data = {"crash": crash * 4, "newlines": b"\\n" * (256 << 10), "loop": b'{"type":"loop"}\\n' * 9000}[kind]
def flood():
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                while True:
                    sock.sendall(data)
        except OSError:
            pass
for _ in range(20):
    threading.Thread(target=flood).start()
"""


@pytest.mark.parametrize("kind", ["crash", "newlines", "loop"])
def test_twenty_flooding_connections_do_not_keep_the_loop_busy(tmp_path: Path, kind: str) -> None:
    """What the flood costs the supervisor is its CPU time, which no neighbour on the machine changes."""

    async def story(told: Story) -> None:
        argv = (sys.executable, "-c", FLOODER.replace("\\\\", "\\"), kind, str(told.path))
        sender = await asyncio.create_subprocess_exec(*argv)
        try:
            await eventually_async(lambda: told.server.counts.hung_up > 20)
            worst, spent, passes = 0.0, time.process_time(), 0
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                before = time.thread_time()
                await asyncio.sleep(0)
                worst = max(worst, time.thread_time() - before)
                passes += 1
                await asyncio.sleep(0.005)
            assert worst < 0.05, f"one pass of the loop cost {worst:.3f} s"
            assert time.process_time() - spent < 0.5
        finally:
            sender.kill()
            await sender.wait()

    run(tmp_path, story)


def test_connections_are_bounded(tmp_path: Path) -> None:
    """The 65th is refused; when one goes, the next is taken."""

    async def story(told: Story) -> None:
        held = [await asyncio.open_unix_connection(str(told.path)) for _ in range(MAX_CONNECTIONS)]
        await eventually_async(lambda: len(told.server._open) == MAX_CONNECTIONS)
        reader, writer = await asyncio.open_unix_connection(str(told.path))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert told.server.counts.refused_full == 1
        for _, other in held:
            other.close()
        await eventually_async(lambda: not told.server._open)
        await told.say(line(CRASH))
        assert len(told.heard) == 1

    run(tmp_path, story)


def test_a_stale_socket_is_replaced_and_ours_is_removed(tmp_path: Path) -> None:
    """A killed predecessor leaves its socket; every user may connect to ours; it goes with the server."""
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "r.sock"))
    stale.close()

    async def story(told: Story) -> None:
        assert told.path.stat().st_mode & 0o777 == 0o666
        await told.say(line(CRASH))

    story_ = run(tmp_path, story)
    assert len(story_.heard) == 1
    assert not story_.path.exists()


@pytest.mark.parametrize("path", [Path("/tmp") / ("x" * 120), Path("/nonexistent/dir/r.sock")])
def test_a_path_that_cannot_be_is_an_error_with_a_hint(path: Path) -> None:
    """Too long for a socket, or no such directory."""

    async def story() -> None:
        server = ReportServer(path, app_uid=0, on_crash=lambda _: None)
        with pytest.raises(SpawnError) as caught:
            await server.start()
        assert caught.value.hint
        await server.close()

    asyncio.run(story())
