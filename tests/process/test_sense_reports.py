# SPDX-License-Identifier: MIT
"""The socket of reports: only the application is heard, and nothing that it says can hurt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
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
from wolverined.sense.reports import MAX_CONNECTIONS, MAX_LINE, CrashReport, ReportServer

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
        redactor = Redactor()
        self.heard: list[CrashReport] = []
        self.path = directory / "r.sock"
        self.server = ReportServer(
            self.path,
            **{
                "app_uid": os.geteuid(),
                "on_crash": self.heard.append,
                "redact": redactor.request,
                "redact_text": redactor.text,
                "generation": lambda: 7,
                "now": lambda: 1234.5,
            }
            | options,
        )

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
    heard: list[CrashReport] = []
    server = ReportServer(Path("/unused"), app_uid=0, on_crash=heard.append, redact=lambda r: r)
    for each in lines:
        server.take(each, Peer(pid=1, uid=0, gid=0, groups=()))
    assert server.counts.lines == sum(1 for each in lines if each.strip())


def test_a_flood_is_dropped_and_counted(tmp_path: Path) -> None:
    """A burst of 200 lines, then 100 a second."""
    now = [0.0]

    async def story(told: Story) -> None:
        await told.say(line({"type": "loop"}) * 500)
        assert (told.server.counts.other, told.server.counts.too_fast) == (200, 300)
        now[0] += 1
        await told.say(line({"type": "loop"}))

    assert run(tmp_path, story, monotonic=lambda: now[0]).server.counts.too_fast == 300


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
        server = ReportServer(path, app_uid=0, on_crash=lambda _: None, redact=lambda r: r)
        with pytest.raises(SpawnError) as caught:
            await server.start()
        assert caught.value.hint
        await server.close()

    asyncio.run(story())
