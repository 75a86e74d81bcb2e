# SPDX-License-Identifier: MIT
"""What the Node reporter tells of a living process, and what it must never do to it: no framework needed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
from pathlib import Path

import pytest
from support.node_reports import REPORTER, collecting, fetch, started
from support.places import eventually_async, node_path

from wolverined.sense.route_error import read_loop, read_pending, read_requests, read_route_error

NODES = sorted({str(path) for path in (node_path(), shutil.which("node")) if path})

pytestmark = pytest.mark.skipif(not NODES, reason="no Node here")

SEED = """\
const http = require("node:http");
const server = http.createServer((request, response) => {
  if (request.url.startsWith("/fine")) return response.end("fine");
  if (request.url === "/silent") { response.statusCode = 500; return response.end("no word"); }
  if (request.url === "/wait") return;
  try { null.x; } catch (error) {
    const status = request.url.startsWith("/client") ? 400 : 500;
    response.statusCode = status;
    if (request.url === "/before") tell();
    response.end("caught");
    if (request.url !== "/before") tell();
    function tell() {
      console.error(error);
      process.send({ type: "route_error", path: request.url, method: request.method, statusCode: 500,
        message: error.message, stack: error.stack, file: null, line: null, timestamp: Date.now() });
    }
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


def program(directory: Path, text: str, name: str = "app.js") -> str:
    """Write a program and return its name."""
    (directory / name).write_text(text)
    return name


@pytest.mark.parametrize("node", NODES)
def test_a_server_that_sends_its_errors_itself_is_heard_once(node: str, tmp_path: Path) -> None:
    """`process.send` is there, its message and what we see are one report; a 4xx that it calls 500 is none."""

    async def story() -> None:
        async with started([node, program(tmp_path, SEED)], directory=tmp_path) as app:
            for target in ("/items/7?a=1", "/before", "/client/error", "/fine", "/silent"):
                await fetch(app.port, "GET", target)
            await app.counted(5)
            told = app.of("route_error")
            assert [(each["path"], each["route"], each["statusCode"], each["line"]) for each in told] == [
                ("/items/7", "/items/:id", 500, 6),
                ("/before", "/before", 500, 6),
            ]
            assert told[0]["request"]["path"] == "/items/7?a=1"
            assert all(each["name"] == "TypeError" for each in told)
            (counted,) = [each for each in app.of("requests") if each["count"]]
            assert (counted["errors"], counted["dropped"]) == (3, 0)

    asyncio.run(story())


def test_every_line_is_what_the_supervisor_reads(tmp_path: Path) -> None:
    """The strict decoders of the supervisor take each line: errors, counts, the oldest request, the heartbeat."""

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, SEED)], directory=tmp_path) as app:
            await fetch(app.port, "GET", "/items/7?a=1")
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually_async(lambda: app.of("pending"), within_s=10)
            writer.close()
            error = read_route_error(json.dumps(app.of("route_error")[0]).encode())
            assert error is not None
            assert (error.route, error.status, error.request.path) == ("GET /items/:id", 500, "/items/7?a=1")
            counted = read_requests(json.dumps(app.of("requests")[0]).encode())
            assert counted is not None
            assert counted.routes["GET /items/:id"].errors == 1
            pending = read_pending(json.dumps(app.of("pending")[0]).encode())
            assert pending is not None
            assert (pending.path, pending.count) == ("/wait", 1)
            assert pending.age_ms > 1000
            assert read_loop(json.dumps(app.of("loop")[0]).encode()) is not None
            del reader

    asyncio.run(story())


@pytest.mark.parametrize("node", NODES)
def test_a_worker_of_a_cluster_tells_for_itself_and_its_parent_still_hears_it(node: str, tmp_path: Path) -> None:
    """What a worker sends goes to the primary as it did, and to the supervisor, with the worker's number."""
    text = (
        "const cluster = require('node:cluster');\n"
        "if (cluster.isPrimary) {\n"
        "  const heard = []; cluster.fork();\n"
        "  cluster.on('message', (worker, message) => {\n"
        "    if (message.port) console.log(message.port); else require('fs').writeFileSync('heard', message.message);\n"
        "  });\n"
        "} else {\n"
        + SEED.replace("console.log(server.address().port)", "process.send({ port: server.address().port })")
        + "}\n"
    )

    async def story() -> None:
        async with started([node, program(tmp_path, text)], directory=tmp_path) as app:
            await fetch(app.port, "GET", "/items/7")
            await app.counted(1)
            (told,) = app.of("route_error")
            assert told["worker"] == 1
            assert told["pid"] != app.process.pid
            assert (tmp_path / "heard").read_text() == told["message"]
            app.process.terminate()

    asyncio.run(story())


def test_an_error_in_a_timer_is_a_crash_and_no_route_error(tmp_path: Path) -> None:
    """Nobody caught it: the process dies, and tells once."""
    text = SEED.replace('"/silent")', '"/silent") return setTimeout(() => { null.y; }, 5); if (false)')

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, text)], directory=tmp_path) as app:
            await fetch(app.port, "GET", "/silent")
            await app.process.wait()
            await eventually_async(lambda: app.of("crash"))
            assert [line["type"] for line in app.lines if line["type"] in ("crash", "route_error")] == ["crash"]

    asyncio.run(story())


def test_a_server_in_a_worker_thread_is_heard(tmp_path: Path) -> None:
    """A thread with a server of its own has the reporter too; its errors are told like any other's."""
    text = (
        "const { Worker, isMainThread } = require('node:worker_threads');\n"
        "if (isMainThread) { new Worker(__filename); } else {\n" + SEED + "}\n"
    ).replace("process.send(", "(() => {})(")

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, text)], directory=tmp_path) as app:
            await fetch(app.port, "GET", "/before")
            await app.counted(1)
            assert [each["path"] for each in app.of("route_error")] == ["/before"]

    asyncio.run(story())


def test_a_client_that_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its request is no error and is not in flight for long."""

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, SEED)], directory=tmp_path) as app:
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", app.port)
                writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
                await writer.drain()
                writer.close()
            await eventually_async(lambda: len(app.of("loop")) >= 3, within_s=10)
            assert app.of("route_error") == app.of("pending") == []

    asyncio.run(story())


def test_a_storm_is_bounded_and_counted(tmp_path: Path) -> None:
    """More errors than may be told in a second are counted; the rest of the protocol goes on."""

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, SEED)], directory=tmp_path) as app:
            for _ in range(10):
                await asyncio.gather(*(fetch(app.port, "GET", f"/items/{n}") for n in range(20)))
            await app.counted(200)
            dropped = sum(line["dropped"] for line in app.of("requests"))
            told = len(app.of("route_error"))
            assert dropped + told == 200
            assert 40 <= told <= 80

    asyncio.run(story())


def test_a_supervisor_that_does_not_read_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    """Its socket's buffer is full: requests are answered as quickly, what cannot be told is dropped."""

    async def story() -> None:
        silent: set[asyncio.StreamWriter] = set()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            silent.add(writer)
            reader._transport.pause_reading()  # type: ignore[attr-defined]

        path = tmp_path / "deaf.sock"
        server = await asyncio.start_unix_server(deaf, path)
        environment = {"NODE_OPTIONS": f"--require {REPORTER}", "WOLVERINE_REPORT_SOCKET": str(path)}
        async with started(
            [NODES[0], program(tmp_path, SEED)], directory=tmp_path, supervised=False, environment=environment
        ) as app:
            before = rss_kib(app.process.pid)
            for _ in range(10):
                answers = await asyncio.gather(*(fetch(app.port, "GET", f"/items/{n}") for n in range(50)))
                assert all(answer.endswith(b"caught") for answer in answers)
            assert rss_kib(app.process.pid) - before < 40 * 1024
        server.close()
        for writer in silent:
            writer.close()

    asyncio.run(story())


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def test_a_supervisor_that_comes_back_is_found_again(tmp_path: Path) -> None:
    """The connection ends and the socket is made anew: within seconds the process reports to the new one."""

    async def story() -> None:
        path = tmp_path / "again.sock"
        environment = {"NODE_OPTIONS": f"--require {REPORTER}", "WOLVERINE_REPORT_SOCKET": str(path)}
        async with started(
            [NODES[0], program(tmp_path, SEED)], directory=tmp_path, supervised=False, environment=environment
        ) as app:
            for _ in range(2):
                async with collecting(path) as lines:
                    await eventually_async(lambda: lines, within_s=10)
                    await fetch(app.port, "GET", "/items/7")
                    await eventually_async(
                        lambda: [each for each in lines if each["type"] == "route_error"],
                        within_s=10,
                    )

    asyncio.run(story())


@pytest.mark.parametrize(
    "text", ["console.log(typeof process.send);", "console.log(Object.keys(require.cache).length);"]
)
def test_without_a_supervisor_the_reporter_is_not_there(text: str, tmp_path: Path) -> None:
    """No variable, no change: nothing is supplied, wrapped or loaded."""

    async def output(options: dict[str, str]) -> bytes:
        process = await asyncio.create_subprocess_exec(
            NODES[0],
            program(tmp_path, text),
            cwd=tmp_path,
            env={"PATH": os.defpath, **options},
            stdout=asyncio.subprocess.PIPE,
        )
        return (await process.communicate())[0]

    async def story() -> None:
        plain, loaded = await output({}), await output({"NODE_OPTIONS": f"--require {REPORTER}"})
        if "cache" in text:
            assert int(loaded) <= int(plain) + 1  # the reporter's own file
        else:
            assert loaded == plain

    asyncio.run(story())


REJECTS = """\
const http = require("node:http");
LISTEN
const server = http.createServer((request, response) => {
  if (request.url === "/drop") process.removeAllListeners("unhandledRejection");
  Promise.reject(new RangeError("nobody waits"));
  setTimeout(() => response.end("fine"), 20);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


def test_a_rejection_that_the_application_listens_for_is_told_and_it_lives_on(tmp_path: Path) -> None:
    """As a crash that is handled, with the request; once its listener is gone the process dies as without us."""
    text = REJECTS.replace("LISTEN", "process.on('unhandledRejection', () => {});")

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, text)], directory=tmp_path) as app:
            assert (await fetch(app.port, "GET", "/a")).endswith(b"fine")
            await eventually_async(lambda: app.of("crash"))
            (told,) = app.of("crash")
            assert (told["name"], told["handled"], told["requests"][0]["path"]) == ("RangeError", True, "/a")
            await fetch(app.port, "GET", "/drop")
            assert await asyncio.wait_for(app.process.wait(), 10) == 1

    asyncio.run(story())


def test_a_rejection_that_nobody_listens_for_ends_the_process(tmp_path: Path) -> None:
    """Our own listening must not be what keeps it alive."""
    text = REJECTS.replace("LISTEN", "")

    async def story() -> None:
        async with started([NODES[0], program(tmp_path, text)], directory=tmp_path) as app:
            await fetch(app.port, "GET", "/a")
            assert await asyncio.wait_for(app.process.wait(), 10) == 1
            await eventually_async(lambda: app.of("crash"))
            assert [told["handled"] for told in app.of("crash")] == [False]

    asyncio.run(story())
