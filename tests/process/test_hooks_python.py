# SPDX-License-Identifier: MIT
"""The Python reporter inside real servers: what it tells equals what was sent, and it is in nobody's way."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import public_python
from support.reporting import HOOKS, ask, running

from wolverined.traces import parse

PYTHONS = sorted({sys.executable, public_python()})
ENVIRONMENT = {"PYTHONPATH": str(HOOKS / "python"), "PYTHONDONTWRITEBYTECODE": "1"}

SERVER = """\
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path != "/ok":
            raise LookupError(self.path)
        self.answer(b"fine")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/echo":
            return self.answer(body)
        try:
            {}["k"]
        except KeyError as error:
            raise ValueError("bad body") from error

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

class Server(HTTPServer):
    def handle_error(self, request, address):
        raise

server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def program(directory: Path, text: str = SERVER) -> str:
    """Write a program and return its name."""
    (directory / "app.py").write_text(text)
    return "app.py"


@pytest.mark.parametrize("python", PYTHONS)
def test_a_crash_on_a_request_tells_the_request_as_it_was_sent(python: str, tmp_path: Path) -> None:
    """Method, target, headers and body arrive; the traceback is the one that Python printed, without our frames."""
    body = '{"name": "Zoë ☃"}'.encode()
    head = (
        "POST /orders/7?x=1&y=%20 HTTP/1.1\nHost: shop.test\nX-Trace: a\nX-Trace: b\n"
        f"Content-Type: application/json\nContent-Length: {len(body)}"
    )

    async def story() -> None:
        async with running(tmp_path, [python, program(tmp_path)], environment=ENVIRONMENT) as app:
            assert (await ask(app.port, "GET /ok HTTP/1.1\nHost: x\nConnection: close")).endswith(b"fine")
            await ask(app.port, head, body)
            code, stderr = await app.end()
            assert code == 1
            (report,) = app.reports
            (request,) = report.requests
            assert (request.method, request.path, request.truncated) == ("POST", "/orders/7?x=1&y=%20", False)
            assert request.body.encode() == body
            assert request.headers == {
                "host": "shop.test",
                "x-trace": "a, b",
                "content-type": "application/json",
                "content-length": str(len(body)),
            }
            assert (report.name, report.message, report.thread) == ("ValueError", "bad body", "")
            assert report.pid == report.peer_pid == app.process.pid
            assert "sitecustomize" not in stderr
            assert parse(report.stack, app_root=str(tmp_path)) == parse(stderr, app_root=str(tmp_path))

    asyncio.run(story())


def test_the_request_is_the_one_that_failed_also_on_a_connection_kept_open(tmp_path: Path) -> None:
    """Requests before it on the same connection are not told."""

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path)], environment=ENVIRONMENT) as app:
            first = "POST /echo HTTP/1.1\nHost: x\nContent-Length: 3\n\nabcGET /ok HTTP/1.1\nHost: x\n\n"
            got = await ask(app.port, first + "GET /bad HTTP/1.1\nHost: x")
            assert b"abc" in got
            assert b"fine" in got
            await app.end()
            assert [(r.method, r.path, r.body) for r in app.reports[0].requests] == [("GET", "/bad", "")]

    asyncio.run(story())


def test_an_answered_request_is_not_blamed_when_its_connection_breaks(tmp_path: Path) -> None:
    """A client that resets a connection kept open ends this server, but no request is at fault."""

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path)], environment=ENVIRONMENT) as app:
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writer.write(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"fine")
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await app.end()
            assert [(report.name, report.requests) for report in app.reports] == [("ConnectionResetError", ())]

    asyncio.run(story())


def test_a_head_that_cannot_be_read_does_not_blame_the_request_before(tmp_path: Path) -> None:
    """An error while the next head is parsed belongs to no request yet."""
    text = SERVER.replace(
        "    def answer(self, body):",
        "    def send_error(self, *told):\n        raise OSError('bad head')\n\n    def answer(self, body):",
    )

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path, text)], environment=ENVIRONMENT) as app:
            await ask(app.port, "GET /ok HTTP/1.1\nHost: x\n\nnonsense with too many words")
            await app.end()
            assert [(report.name, report.requests) for report in app.reports] == [("OSError", ())]

    asyncio.run(story())


def test_a_body_that_was_not_read_or_is_too_big_or_no_text_is_marked(tmp_path: Path) -> None:
    """What is told of a body is what the application had read of it, at most 16 KiB, on a character's border."""

    async def story() -> None:
        argv = [sys.executable, program(tmp_path)]
        big = "é".encode() * 20_000
        cases = [
            (f"POST /x HTTP/1.1\nHost: x\nContent-Length: {len(big)}", big, "é" * 8192),
            ("POST /x HTTP/1.1\nHost: x\nContent-Length: 3", b"\xff\x00\x01", ""),
            ("GET /x HTTP/1.1\nHost: x\nContent-Length: 3", b"abc", ""),
        ]
        for head, body, told in cases:
            async with running(tmp_path, argv, environment=ENVIRONMENT) as app:
                await ask(app.port, head, body)
                await app.end()
                request = app.reports[0].requests[0]
                assert (request.body, request.truncated) == (told, True)

    asyncio.run(story())


THREADS = SERVER.replace("class Server(HTTPServer)", "class Server(ThreadingHTTPServer)").replace(
    "raise LookupError(self.path)",
    "started.set() if self.path == '/wait' else None; hold.wait(60) if self.path == '/wait' else sys.exit(1)",
)


def test_requests_of_other_threads_are_told_and_idle_connections_are_not(tmp_path: Path) -> None:
    """A crash outside of any request tells those that threads are at; one that waits for its next is at none."""
    text = (
        "import threading\nhold, started = threading.Event(), threading.Event()\n"
        + THREADS.partition("server = Server")[0]
        + 'server = Server(("127.0.0.1", 0), Handler)\nserver.daemon_threads = True\n'
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "print(server.server_port, flush=True)\nstarted.wait(60)\nraise OSError('outside')\n"
    )

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path, text)], environment=ENVIRONMENT) as app:
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writer.write(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"fine")
            await ask(app.port, "GET /wait HTTP/1.1\nHost: x")
            await app.end()
            writer.close()
            assert [request.path for request in app.reports[0].requests] == ["/wait"]
            assert app.reports[0].name == "OSError"

    asyncio.run(story())


def test_a_thread_that_dies_is_told_as_such(tmp_path: Path) -> None:
    """Python goes on without it: the report says so."""
    text = (
        "import threading\nprint(1, flush=True)\ndef work():\n    raise OSError('in thread')\n"
        "t = threading.Thread(target=work, name='worker-7')\nt.start()\nt.join()\n"
    )

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path, text)], environment=ENVIRONMENT) as app:
            code, stderr = await app.end()
            assert code == 0
            assert "in thread" in stderr
            (report,) = app.reports
            assert (report.thread, report.handled, report.requests) == ("worker-7", True, ())

    asyncio.run(story())


def test_wsgi_applications_are_seen(tmp_path: Path) -> None:
    """`wsgiref` stands on the same handler; the body is told as far as the application read it."""
    text = """\
import sys, threading
from wsgiref.simple_server import make_server, WSGIRequestHandler
broken = threading.Event()
def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    broken.set()
    threading.Event().wait(60)
class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass
server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
broken.wait(60)
raise RuntimeError("all is lost")
"""

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path, text)], environment=ENVIRONMENT) as app:
            await ask(app.port, "PUT /w?q=1 HTTP/1.1\nHost: x\nContent-Length: 4", b"body")
            await app.end()
            (request,) = app.reports[0].requests
            assert (request.method, request.path, request.body, request.truncated) == ("PUT", "/w?q=1", "body", False)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ("print(1, flush=True)\n1/0\n", "ZeroDivisionError", 1),
        ("print(1, flush=True)\nimport sys\nsys.exit(3)\n", None, 3),
        ("print(1, flush=True)\nraise KeyboardInterrupt\n", None, None),
        ("print(1, flush=True)\nclass Mine(Exception):\n    def __str__(self): raise OSError\nraise Mine\n", "Mine", 1),
        (
            "print(1, flush=True)\nimport sys\nsys.excepthook = lambda *a: print('mine', file=sys.stderr)\n1/0\n",
            None,
            1,
        ),
    ],
)
def test_only_errors_are_told_and_the_end_stays_the_same(
    text: str, name: str | None, code: int | None, tmp_path: Path
) -> None:
    """Same code and same stderr as without the reporter, whatever is raised; hooks of the application win."""
    program(tmp_path, text)
    alone = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    async def story() -> None:
        async with running(tmp_path, [sys.executable, "app.py"], environment=ENVIRONMENT) as app:
            ended, stderr = await app.end()
            assert (ended, stderr) == (alone.returncode, alone.stderr)
            assert code is None or ended == code
            assert [report.name for report in app.reports] == ([name] if name else [])

    asyncio.run(story())


@pytest.mark.parametrize("socket_path", ["/nonexistent/report.sock", "", "/" + "x" * 300])
def test_without_a_listener_nothing_happens(socket_path: str, tmp_path: Path) -> None:
    """No socket, no variable, an impossible path: the application runs and dies as without the reporter."""

    async def story() -> None:
        argv = [sys.executable, program(tmp_path)]
        async with running(tmp_path, argv, environment=ENVIRONMENT, report_socket=socket_path) as app:
            assert (await ask(app.port, "GET /ok HTTP/1.1\nHost: x\nConnection: close")).endswith(b"fine")
            await ask(app.port, "GET /bad HTTP/1.1\nHost: x")
            code, stderr = await app.end()
            assert code == 1
            assert stderr.count("Traceback") == 1
            assert app.reports == []

    asyncio.run(story())


def test_a_sitecustomize_of_the_application_still_runs(tmp_path: Path) -> None:
    """It is the module of that name, its errors are its own, and the reporter works beside it."""
    other = tmp_path / "theirs"
    other.mkdir()
    (other / "sitecustomize.py").write_text("VALUE = 42\nimport builtins\nbuiltins.THEIRS = __file__\n")
    text = (
        "import sitecustomize\nprint(sitecustomize.VALUE, flush=True)\nassert THEIRS == sitecustomize.__file__\n1/0\n"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": f"{HOOKS / 'python'}{os.pathsep}{other}"}

    async def story() -> None:
        async with running(tmp_path, [sys.executable, program(tmp_path, text)], environment=environment) as app:
            assert app.port == 42
            code, stderr = await app.end()
            assert code == 1
            assert "ZeroDivisionError" in stderr
            assert [report.name for report in app.reports] == ["ZeroDivisionError"]

    asyncio.run(story())


def test_little_is_loaded_at_the_start(tmp_path: Path) -> None:
    """A script that serves nothing loads no server, no socket, no JSON because of us."""
    text = (
        "import sys\nprint(sorted({'json', 'socket', 'http', 'traceback', 'typing', 'inspect'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [public_python(), "-c", text],
        env={"PATH": os.defpath, "WOLVERINE_REPORT_SOCKET": str(tmp_path / "none.sock"), **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
