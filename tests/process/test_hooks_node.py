# SPDX-License-Identifier: MIT
"""The Node reporter inside real servers: what it tells equals what was sent, and it is in nobody's way."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.places import node_path
from support.reporting import HOOKS, ask, running

from wolverined.traces import parse

REPORTER = HOOKS / "node" / "reporter.cjs"
NODES = sorted({str(path) for path in (node_path(), shutil.which("node")) if path})
ENVIRONMENT = {"NODE_OPTIONS": f"--require {REPORTER}"}

pytestmark = pytest.mark.skipif(not NODES, reason="no Node here")

SERVER = """\
const http = require("node:http");
const server = http.createServer((request, response) => {
  if (request.url === "/ok") return response.end("fine");
  if (request.url === "/wait") return response.write("begun");
  if (request.url.startsWith("/sync")) return null.x;
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (piece) => { body += piece; });
  request.on("end", () => {
    if (request.url === "/echo") return response.end(body);
    request.url = "/rewritten";
    setImmediate(() => { throw new RangeError("bad body", { cause: new TypeError("inner") }); });
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


def program(directory: Path, text: str = SERVER) -> str:
    """Write a program and return its name."""
    (directory / "app.js").write_text(text)
    return "app.js"


@pytest.mark.parametrize("node", NODES)
def test_a_crash_on_a_request_tells_the_request_as_it_was_sent(node: str, tmp_path: Path) -> None:
    """Method, target, headers and body arrive, though the application rewrote the URL and read the body."""
    body = json.dumps({"name": "Zoë ☃", "n": [1, 2]}, ensure_ascii=False).encode()
    head = (
        "POST /orders/7?x=1&y=%20 HTTP/1.1\nHost: shop.test\nX-Trace: a\nX-Trace: b\n"
        f"Content-Type: application/json\nContent-Length: {len(body)}\nConnection: close"
    )

    async def story() -> None:
        async with running(tmp_path, [node, program(tmp_path)], environment=ENVIRONMENT) as app:
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
                "connection": "close",
            }
            assert (report.name, report.message, report.handled) == ("RangeError", "bad body", False)
            assert report.pid == report.peer_pid == app.process.pid
            told = parse(report.stack, app_root=str(tmp_path))[-1]
            printed = parse(stderr, app_root=str(tmp_path))[-1]
            assert [e.type for e in told.errors] == [e.type for e in printed.errors] == ["TypeError", "RangeError"]

    asyncio.run(story())


@pytest.mark.parametrize("node", NODES)
def test_a_crash_before_the_body_was_read_tells_what_was_known(node: str, tmp_path: Path) -> None:
    """A handler that throws at once: a request without a body is whole, one with a body is marked truncated."""

    async def story() -> None:
        async with running(tmp_path, [node, program(tmp_path)], environment=ENVIRONMENT) as app:
            await ask(app.port, "GET /sync?a HTTP/1.1\nHost: x")
            await app.end()
            assert [(r.path, r.body, r.truncated) for r in app.reports[0].requests] == [("/sync?a", "", False)]
        async with running(tmp_path, [node, program(tmp_path)], environment=ENVIRONMENT) as app:
            await ask(app.port, "POST /sync HTTP/1.1\nHost: x\nContent-Length: 5", b"12345")
            await app.end()
            assert app.reports[0].requests[0].truncated

    asyncio.run(story())


@pytest.mark.parametrize("node", NODES)
def test_all_requests_in_flight_are_told_the_youngest_first(node: str, tmp_path: Path) -> None:
    """Answered requests are forgotten, waiting ones are told."""

    async def story() -> None:
        async with running(tmp_path, [node, program(tmp_path)], environment=ENVIRONMENT) as app:
            await ask(app.port, "GET /ok HTTP/1.1\nHost: x\nConnection: close")
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"begun")
            await ask(app.port, "GET /sync HTTP/1.1\nHost: x")
            await app.end()
            writer.close()
            assert [request.path for request in app.reports[0].requests] == ["/sync", "/wait"]

    asyncio.run(story())


@pytest.mark.parametrize("node", NODES)
def test_a_large_or_binary_body_is_cut_and_the_application_gets_all_of_it(node: str, tmp_path: Path) -> None:
    """16 KiB are told, on a character's border; what is no text is told as empty; the stream is untouched."""

    async def story() -> None:
        big = "é".encode() * 20_000
        async with running(tmp_path, [node, program(tmp_path)], environment=ENVIRONMENT) as app:
            head = f"POST /echo HTTP/1.1\nHost: x\nConnection: close\nContent-Length: {len(big)}"
            assert (await ask(app.port, head, big)).count("é".encode()) == 20_000
            await ask(app.port, f"POST /big HTTP/1.1\nHost: x\nContent-Length: {len(big)}", big)
            await app.end()
            request = app.reports[0].requests[0]
            assert request.truncated
            assert request.body == "é" * 8192
        async with running(tmp_path, [node, program(tmp_path)], environment=ENVIRONMENT) as app:
            await ask(app.port, "POST /b HTTP/1.1\nHost: x\nContent-Length: 4", b"\xff\xfe\x00\x01")
            await app.end()
            assert (app.reports[0].requests[0].body, app.reports[0].requests[0].truncated) == ("", True)

    asyncio.run(story())


CRASHES = {
    "at load": ("console.log(1); null.x;", "TypeError", 1),
    "syntax": ("console.log(1)); ", "SyntaxError", 1),
    "rejection": ("console.log(1); Promise.reject(new RangeError('r'));", "RangeError", 1),
    "text": ("console.log(1); throw 'words';", "Uncaught", 1),
    "hostile": (
        "console.log(1); throw Object.defineProperty(new Error('x'), 'stack', { get() { throw 1; } });",
        "Error",
        None,
    ),
    "handled": ("console.log(1); process.on('uncaughtException', () => process.exit(9)); null.x;", "TypeError", 9),
    "exit": ("console.log(1); process.exit(3);", None, 3),
}


@pytest.mark.parametrize("case", CRASHES)
def test_every_uncaught_error_is_told_and_the_exit_stays_the_same(case: str, tmp_path: Path) -> None:
    """At load, by rejection, of any value; a handler of the application still decides; an exit is no crash."""
    text, name, code = CRASHES[case]

    async def story() -> None:
        program(tmp_path, text)
        alone = await asyncio.create_subprocess_exec(
            NODES[0], "app.js", cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, stderr_alone = await alone.communicate()
        async with running(tmp_path, [NODES[0], "app.js"], environment=ENVIRONMENT) as app:
            ended, stderr = await app.end()
            assert ended == alone.returncode
            assert code is None or ended == code
            assert stderr == stderr_alone.decode()
            assert [report.name for report in app.reports] == ([name] if name else [])
            assert all(report.handled is (case == "handled") for report in app.reports)

    asyncio.run(story())


@pytest.mark.parametrize("socket_path", ["/nonexistent/report.sock", "", "/" + "x" * 300])
def test_without_a_listener_nothing_happens(socket_path: str, tmp_path: Path) -> None:
    """No socket, no variable, an impossible path: the application runs and dies as without the reporter."""

    async def story() -> None:
        argv = [NODES[0], program(tmp_path)]
        async with running(tmp_path, argv, environment=ENVIRONMENT, report_socket=socket_path) as app:
            assert (await ask(app.port, "GET /ok HTTP/1.1\nHost: x\nConnection: close")).endswith(b"fine")
            await ask(app.port, "GET /sync HTTP/1.1\nHost: x")
            code, stderr = await app.end()
            assert code == 1
            assert stderr.count("TypeError") == 1
            assert app.reports == []

    asyncio.run(story())


def test_a_script_ends_when_it_is_done(tmp_path: Path) -> None:
    """The open connection keeps no event loop alive."""

    async def story() -> None:
        text = "console.log(1); setTimeout(() => {}, 20);"
        async with running(tmp_path, [NODES[0], program(tmp_path, text)], environment=ENVIRONMENT) as app:
            code, stderr = await app.end()
            assert (code, stderr) == (0, "")

    asyncio.run(story())


def test_a_restarted_supervisor_is_found_again(tmp_path: Path) -> None:
    """The connection of the start is gone, so the crash makes a new one."""

    async def story() -> None:
        async with running(tmp_path, [NODES[0], program(tmp_path)], environment=ENVIRONMENT) as app:
            await app.server.close()
            await app.server.start()
            await ask(app.port, "GET /sync HTTP/1.1\nHost: x")
            await app.end()
            assert [report.requests[0].path for report in app.reports] == ["/sync"]

    asyncio.run(story())


def test_workers_and_children_do_not_disturb(tmp_path: Path) -> None:
    """A worker thread that dies unhandled is reported once, by the process that it ends."""

    async def story() -> None:
        text = (
            "const { Worker, isMainThread } = require('worker_threads');\n"
            "if (isMainThread) { console.log(1); new Worker(__filename); } else { null.x; }\n"
        )
        async with running(tmp_path, [NODES[0], program(tmp_path, text)], environment=ENVIRONMENT) as app:
            await app.end()
            assert [report.name for report in app.reports] == ["TypeError"]

    asyncio.run(story())


def test_the_reporter_is_valid_and_small(tmp_path: Path) -> None:
    """Each of its files parses, and all of them add little to the start of Node."""
    files = sorted(REPORTER.parent.glob("*.cjs"))
    for file in files:
        subprocess.run([NODES[0], "--check", str(file)], check=True, cwd=tmp_path)
    assert sum(file.stat().st_size for file in files) < 64_000
