# SPDX-License-Identifier: MIT
"""The Python reporter where it could do harm: storms, floods, forks, deaf and absent listeners, clients that leave."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import eventually_async, public_python
from support.python_reports import APPS, HOOKS, Ear, command, frameworks, serving
from support.reporting import ask

ONE_OF_EACH = ["flask", "django on wsgiref", "fastapi on uvicorn", "aiohttp", "http.server"]


async def get(port: int, path: str) -> bytes:
    """One GET on a connection of its own."""
    return await ask(port, f"GET {path} HTTP/1.1\nHost: x\nConnection: close")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_storm_of_client_errors_tells_no_error(name: str, tmp_path: Path) -> None:
    """Forbidden, not found, half a JSON: all are counted, none is an error of the server's."""

    async def story() -> None:
        argv, printed = command(name)
        async with serving(tmp_path, argv, printed=printed) as served:
            half = "POST /json HTTP/1.1\nHost: x\nConnection: close\nContent-Type: application/json\nContent-Length: 3"
            for _ in range(10):
                answers = [
                    await get(served.port, "/abort/403"),
                    await get(served.port, "/abort/404"),
                    await ask(served.port, half, b'{"a'),
                ]
                assert all(b" 4" in one.partition(b"\r\n")[0] for one in answers)
            await served.counted(30)
            assert served.told("route_error") == served.told("crash") == []
            assert sum(line["errors"] for line in served.told("requests")) == 0

    asyncio.run(story())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_message_of_10_mb_and_one_that_cannot_be_had_go_into_a_line(name: str, tmp_path: Path) -> None:
    """A report is at most 64 KiB (the listener here refuses more), and keeps the frame that the error came from."""

    async def story() -> None:
        argv, printed = command(name)
        async with serving(tmp_path, argv, printed=printed) as served:
            await get(served.port, "/fail/big")
            await get(served.port, "/fail/broken")
            await eventually_async(lambda: len(served.told("route_error")) == 2, within_s=20)
            big, broken = served.told("route_error")
            assert big["message"] == "x" * 4096
            assert (broken["name"].rpartition(".")[2], broken["message"]) == ("Broken", "")
            assert big["file"] == broken["file"] == str(APPS / "trouble.py")
            assert big["stack"].startswith("Traceback")

    asyncio.run(story())


def test_http_server_that_answers_its_own_errors_is_heard(tmp_path: Path) -> None:
    """An answer of 500 in an `except`, an error after the head, one that nobody answers: one report each."""

    async def story() -> None:
        argv, printed = command("http.server")
        async with serving(tmp_path, argv, printed=printed) as served:
            for path in ("/caught?x=1", "/fail/chain", "/deliberate", "/stream", "/unanswered", "/ok"):
                await get(served.port, path)
            await eventually_async(lambda: len(served.told("route_error")) == 4, within_s=20)
            await served.counted(6)
            told = {one["path"]: (one["statusCode"], one["name"]) for one in served.told("route_error")}
            assert told == {
                "/caught": (500, "KeyError"),
                "/fail/chain": (500, "RuntimeError"),
                "/stream": (500, "KeyError"),
                "/unanswered": (500, "KeyError"),
            }
            assert served.told("route_error")[0]["request"]["path"] == "/caught?x=1"

    asyncio.run(story())


def test_an_error_that_ends_the_process_is_told_as_a_crash_alone(tmp_path: Path) -> None:
    """The request's report is held back until it is known that the process lives on."""
    (tmp_path / "app.py").write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom stdlib_app import Handler\n"
        "from http.server import HTTPServer\n"
        "class Server(HTTPServer):\n    def handle_error(self, *told):\n        raise\n"
        "server = Server(('127.0.0.1', 0), Handler)\nprint(server.server_port, flush=True)\nserver.serve_forever()\n"
    )

    async def story() -> None:
        async with serving(tmp_path, [sys.executable, str(tmp_path / "app.py"), str(APPS)]) as served:
            await get(served.port, "/unanswered")
            await served.process.wait()
            await eventually_async(lambda: served.told("crash"))
            assert served.told("route_error") == []
            assert served.told("crash")[0]["requests"][0]["path"] == "/unanswered"

    asyncio.run(story())


@pytest.mark.parametrize("name", ["fastapi on uvicorn", "aiohttp", "flask on gunicorn threads"])
def test_a_client_that_leaves_is_no_error(name: str, tmp_path: Path) -> None:
    """A connection that is reset in the middle of a body or before the answer tells nothing."""

    async def story() -> None:
        argv, printed = command(name)
        async with serving(tmp_path, argv, printed=printed) as served:
            for head in (
                b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\nhalf",
                b"GET /ok/1 HTTP/1.1\r\nHost: x\r\n\r\n",
            ):
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(head)
                await writer.drain()
                await get(served.port, "/ok/2")  # by then the first is being read
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            await get(served.port, "/ok/3")
            await served.counted(3)
            assert served.told("route_error") == []

    asyncio.run(story())


def test_an_error_in_a_timer_is_told_and_blames_no_request(tmp_path: Path) -> None:
    """What asyncio logs because nobody waits for it is told as handled: the process lives on."""

    async def story() -> None:
        argv, printed = command("aiohttp")
        async with serving(tmp_path, argv, printed=printed) as served:
            assert b"200" in await get(served.port, "/timer")
            await eventually_async(lambda: served.told("crash"), within_s=20)
            await served.counted(1)
            (crash,) = served.told("crash")
            assert (crash["name"], crash["handled"], crash["requests"]) == ("KeyError", True, [])
            assert "in ring" in crash["stack"]
            assert served.told("route_error") == []

    asyncio.run(story())


def test_uvloop_tells_of_tasks_that_nobody_waits_for(tmp_path: Path) -> None:
    """Its event loop is no Python class, and logs where asyncio's does."""
    text = (
        "import asyncio, gc, uvloop\nasync def job():\n    raise OSError('lost')\n"
        "async def main():\n    print(1, flush=True)\n    t = asyncio.create_task(job())\n    await asyncio.sleep(0)\n"
        "    await asyncio.sleep(0)\n    del t\n    gc.collect()\n"
        "uvloop.run(main())\n"
    )
    (tmp_path / "app.py").write_text(text)

    async def story() -> None:
        async with serving(tmp_path, [frameworks(), str(tmp_path / "app.py")]) as served:
            await served.process.wait()
            await eventually_async(lambda: served.told("crash"))
            assert [(one["name"], one["thread"]) for one in served.told("crash")] == [("OSError", "asyncio")]

    asyncio.run(story())


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:0", "flask_app:app"],
        ["-m", "gunicorn", "-w", "2", "--preload", "-b", "127.0.0.1:0", "flask_app:app"],
    ],
)
def test_each_worker_tells_for_itself(argv: list[str], tmp_path: Path) -> None:
    """Two workers of gunicorn: own pids and numbers, nothing twice, also with what was loaded before the fork."""

    async def story() -> None:
        async with serving(tmp_path, [frameworks(), *argv], printed="stderr") as served:
            pids: set[int] = set()
            asked = 0
            while len(pids) < 2 and asked < 200:
                await asyncio.gather(*(get(served.port, "/fail/plain") for _ in range(4)))
                asked += 4
                await eventually_async(lambda n=asked: len(served.told("route_error")) == n, within_s=20)  # type: ignore[misc]
                pids = {one["pid"] for one in served.told("route_error")}
            assert len(pids) == 2
            assert served.process.pid not in pids
            assert {one["worker"] for one in served.told("route_error")} == {"1", "2"}
            await served.counted(asked)

    asyncio.run(story())


def test_uvicorn_workers_tell_for_themselves(tmp_path: Path) -> None:
    """Workers that are new interpreters load the reporter anew."""

    async def story() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        argv = [frameworks(), "-m", "uvicorn", "--workers", "2", "--port", str(port), "fastapi_app:app"]
        async with serving(tmp_path, argv, printed="stderr") as served:
            await eventually_async(lambda: served.told("loop") or _poke(port), within_s=30)
            await get(port, "/fail/plain")
            await eventually_async(lambda: served.told("route_error"), within_s=20)
            told = served.told("route_error")[0]
            assert told["worker"].startswith("SpawnProcess-")
            assert told["pid"] != served.process.pid

    asyncio.run(story())


def _poke(port: int) -> None:
    """Ask once, if somebody listens yet."""
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) == 0:
            client.sendall(b"GET /ok/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            client.recv(1)


def test_a_listener_that_does_not_read_stops_nobody_and_the_loss_is_counted(tmp_path: Path) -> None:
    """The buffer is bounded: 2,000 errors are answered, what there was no room for is dropped and told later."""

    async def story() -> None:
        argv, printed = command("http.server")
        async with serving(tmp_path, argv, printed=printed) as served:
            path = tmp_path / "report.sock"
            path.unlink()
            with socket.socket(socket.AF_UNIX) as deaf:
                deaf.bind(str(path))
                deaf.listen(1)
                body = b"x" * 16_000
                head = f"POST /caught HTTP/1.1\nHost: x\nConnection: close\nContent-Length: {len(body)}"
                for _ in range(300):
                    assert b"500" in await asyncio.wait_for(ask(served.port, head, body), 5)
            path.unlink()
            async with Ear(path) as later:
                await get(served.port, "/ok")
                await eventually_async(
                    lambda: any(line["type"] == "requests" and line["dropped"] > 0 for line in later.lines), within_s=20
                )
                assert len([line for line in later.lines if line["type"] == "route_error"]) < 300

    asyncio.run(story())


def test_reports_go_to_a_supervisor_that_came_anew(tmp_path: Path) -> None:
    """The socket is replaced under the application: it connects again, and loses no line that was not under way."""

    async def story() -> None:
        argv, printed = command("http.server")
        async with serving(tmp_path, argv, printed=printed) as served:
            await get(served.port, "/caught")
            await eventually_async(lambda: served.told("route_error"))
            (tmp_path / "report.sock").rename(tmp_path / "old.sock")
            async with Ear(tmp_path / "report.sock") as second:
                os.kill(served.process.pid, 0)
                await served.hang_up()
                await get(served.port, "/caught")
                await eventually_async(lambda: any(x["type"] == "route_error" for x in second.lines), within_s=20)

    asyncio.run(story())


def test_descriptors_that_the_application_closed_are_not_written_to(tmp_path: Path) -> None:
    """A daemon closes all that it does not know; the number is somebody else's then, and gets no report."""
    text = """\
import os, socket, sys, threading
sys.path.insert(0, sys.argv[1])
from stdlib_app import Handler, ThreadingHTTPServer
class Closing(Handler):
    def do_GET(self):
        if self.path == "/close":
            for fd in range(3, 64):
                if fd not in (server.fileno(), self.connection.fileno()):
                    try:
                        os.close(fd)
                    except OSError:
                        continue
                    other = os.open("mine", os.O_RDWR | os.O_CREAT)
                    if other != fd:
                        os.dup2(other, fd)
        super().do_GET()
server = ThreadingHTTPServer(("127.0.0.1", 0), Closing)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever(poll_interval=0.05)
"""
    (tmp_path / "app.py").write_text(text)

    async def story() -> None:
        async with serving(tmp_path, [sys.executable, str(tmp_path / "app.py"), str(APPS)]) as served:
            await get(served.port, "/caught")
            await eventually_async(lambda: served.told("route_error"))
            await get(served.port, "/close")
            await get(served.port, "/caught")
            await eventually_async(lambda: len(served.told("route_error")) == 2, within_s=20)
            assert (APPS / "mine").read_bytes() == b""

    try:
        asyncio.run(story())
    finally:
        (APPS / "mine").unlink(missing_ok=True)


def test_a_request_that_waits_is_told_of(tmp_path: Path) -> None:
    """A worker that hangs cannot tell it; a thread of the reporter's does, and also how late the event loop is."""
    (tmp_path / "app.py").write_text(
        "import time\nasync def app(scope, receive, send):\n    time.sleep(2.5)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'late'})\n"
    )

    async def story() -> None:
        start = (
            f"import runpy, sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.argv[1:] = ['app:app']; "
            "runpy.run_path('serve_uvicorn.py', run_name='__main__')"
        )
        async with serving(tmp_path, [frameworks(), "-c", start]) as served:
            assert (await get(served.port, "/report?month=5")).count(b"late") == 1
            pending = served.told("pending")
            assert pending
            assert (pending[0]["method"], pending[0]["path"], pending[0]["count"]) == ("GET", "/report", 1)
            assert pending[-1]["age_ms"] > 1000
            assert max(line["lag_ms"] for line in served.told("loop")) > 500

    asyncio.run(story())


def test_little_is_loaded_before_a_framework_is(tmp_path: Path) -> None:
    """A script that serves nothing loads the entry, the hooks and the crash path, and none of the rest."""
    text = (
        "import sys, json, logging, asyncio\n"
        "print(json.dumps(sorted(n for n in sys.modules if n.startswith('wolverine'))))"
    )
    done = subprocess.run(
        [public_python(), "-c", text],
        env={
            "PATH": os.defpath,
            "PYTHONPATH": str(HOOKS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WOLVERINE_REPORT_SOCKET": str(tmp_path / "none.sock"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    ours = ["", ".background", ".crash", ".start"]
    assert json.loads(done.stdout) == [f"wolverine_reporter{name}" for name in ours]
