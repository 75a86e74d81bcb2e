# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.control_server import serving

from wolverined.control.client import Client
from wolverined.errors import AccessDenied, Conflict, NotFound, Unreachable


@contextmanager
def answering(directory: Path, answer: bytes) -> Iterator[Client]:
    """Someone on the control socket who gives every request the same bytes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "control.sock"))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                sock.recv(65536)
                sock.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Client(str(directory), timeout_s=5)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


def test_requests_against_the_real_server() -> None:
    """Reading, acting and errors arrive as what they are."""
    with serving() as served:
        client = Client(str(served.directory))
        assert client.get("/v1/status")["app"] == "shop"
        change = client.post("/v1/stop", idempotency_key="k")
        assert client.get(f"/v1/changes/{change['id']}/wait?timeout=5", extra_s=5)["state"] == "done"
        assert client.post("/v1/stop", idempotency_key="k")["id"] == change["id"]
        with pytest.raises(NotFound) as error:
            client.get("/v1/incidents/i9")
        assert error.value.hint
        with pytest.raises(Conflict):
            client.post("/v1/start", idempotency_key="k")


def test_streams_against_the_real_server() -> None:
    """A stream is read record by record, or by whoever waits for several things at once."""
    with serving() as served:
        client = Client(str(served.directory))
        served.do(lambda: [served.instance.line(f"line {number}") for number in range(5)])
        with client.stream("/v1/logs?follow=true&after=0") as stream:
            records = iter(stream)
            assert [next(records)["type"] for _ in range(3)] == ["start", "line", "line"]
        with client.stream("/v1/logs?follow=true&after=0") as stream:
            got = []
            while len(got) < 6:
                got += stream.ready()
            assert [record.get("text") for record in got[1:]] == [f"line {number}" for number in range(5)]
        with pytest.raises(NotFound):
            client.stream("/v1/nowhere?follow=true")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_answers_that_are_none(tmp_path: Path, answer: bytes) -> None:
    """Whatever someone else answers there, or half an answer: the daemon is unreachable, with a hint."""
    with answering(tmp_path, answer) as client, pytest.raises(Unreachable) as error:
        client.get("/v1/status")
    assert error.value.hint


@pytest.mark.parametrize("body", [b"", b"zz\r\n", b"-5\r\n", b"5\r\n{}", b"ffffffffff\r\n{}", b"4\r\nabcd"])
def test_streams_that_break(tmp_path: Path, body: bytes) -> None:
    """A stream that is cut off or makes no sense is unreachable too."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with answering(tmp_path, head + body) as client, client.stream("/v1/logs") as stream, pytest.raises(Unreachable):
        list(stream)


def test_an_error_without_form(tmp_path: Path) -> None:
    """An error answer that lacks its fields is still an error."""
    body = b'{"type":"error","result":[]}'
    with answering(tmp_path, b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as client:
        with pytest.raises(Exception, match="failed") as error:
            client.get("/v1/status")
        assert getattr(error.value, "kind", "") == "failed"


def test_nobody_there(tmp_path: Path) -> None:
    """No socket, a dead socket, a file: unreachable; a closed directory: access denied with the group."""
    client = Client(str(tmp_path), timeout_s=1)
    with pytest.raises(Unreachable):
        client.get("/v1/status")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "control.sock"))
    with pytest.raises(Unreachable):
        client.get("/v1/status")
    (tmp_path / "control.sock").unlink()
    (tmp_path / "control.sock").touch()
    with pytest.raises(Unreachable):
        client.get("/v1/status")
    denied = client._explained(PermissionError(13, "Permission denied"))
    assert isinstance(denied, AccessDenied)
    assert "wolverine-view" in denied.hint


def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    """One that accepts and never answers, and one that does not even accept, are found out in time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen(1)
        with pytest.raises(Unreachable, match="does not answer"):
            Client(str(tmp_path), timeout_s=0.05).get("/v1/status")


def test_what_the_fast_path_imports() -> None:
    """The client of `wolverinectl status` loads nothing that costs tens of milliseconds."""
    heavy = (
        "asyncio",
        "ssl",
        "http.client",
        "msgspec",
        "pathlib",
        "dataclasses",
        "shutil",
        "inspect",
        "h11",
        "logging",
    )
    script = (
        "import sys; from wolverined.cli.__main__ import main; main(['--runtime-dir', '/nonexistent', 'status']); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("error: wolverined does not answer")
