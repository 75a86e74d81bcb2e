# SPDX-License-Identifier: MIT
"""The Node reporter inside real frameworks: one report for each caught 5xx, and every answer stays as it was."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.node_reports import Running, fetch, frameworks, lay, started
from support.places import node_path

NODES = sorted({str(path) for path in (node_path(), shutil.which("node")) if path})

FRAMEWORKS: dict[str, tuple[str, dict[str, str]]] = {
    "http": ("http.cjs", {}),
    "express4": ("express.cjs", {"express": "express4"}),
    "express4 esm": ("express.mjs", {"express": "express4"}),
    "express5": ("express.cjs", {"express": "express5"}),
    "express5 esm": ("express.mjs", {"express": "express5"}),
    "fastify4": ("fastify.cjs", {"fastify": "fastify4"}),
    "fastify4 esm": ("fastify.mjs", {"fastify": "fastify4"}),
    "fastify5": ("fastify.cjs", {"fastify": "fastify5"}),
    "fastify5 esm": ("fastify.mjs", {"fastify": "fastify5"}),
    "koa": ("koa.cjs", {"koa": "koa", "@koa/router": "@koa/router"}),
    "koa esm": ("koa.mjs", {"koa": "koa", "@koa/router": "@koa/router"}),
    "nest": (
        "nest.cjs",
        {name: name for name in ("@nestjs/common", "@nestjs/core", "@nestjs/platform-express", "reflect-metadata")},
    ),
}

SECRETS = "Authorization: Bearer s3cr3t\r\nCookie: sid=s3cr3t\r\nX-Api-Key: s3cr3t\r\nX-Kept: yes\r\n"

pytestmark = pytest.mark.skipif(not NODES, reason="no Node here")

# Method, target, headers, body, and what is due: (status, route, name, message) or None.
Case = tuple[str, str, str, bytes, tuple[int, str, str, str] | None]

CASES: list[Case] = [
    ("GET", "/ok", "", b"", None),
    ("GET", "/shop/items/42?q=1", "", b"", None),
    ("GET", "/nowhere/17", "", b"", None),
    ("POST", "/json", "Content-Type: application/json\r\n", b'{"fine": 1}', None),
    ("POST", "/json", "Content-Type: application/json\r\n", b'{"broken": ', None),
    ("GET", "/shop/client/7", "", b"", None),
    ("GET", "/calm/told/7", "", b"", None),
    ("GET", "/shop/type/7?a=b", SECRETS, b"", (500, "/shop/type/:id", "TypeError", "Cannot read properties")),
    (
        "POST",
        "/shop/type/8",
        "Content-Type: application/json\r\n",
        b'{"n": 1}',
        (500, "/shop/type/:id", "TypeError", "Cannot read"),
    ),
    ("GET", "/shop/later/7", "", b"", (500, "/shop/later/:id", "RangeError", "too late")),
    ("GET", "/shop/text/7", "", b"", (500, "/shop/text/:id", "NonError", "only words")),
    ("GET", "/shop/circular/7", "", b"", (500, "/shop/circular/:id", "Error", "round")),
    ("GET", "/shop/huge/7", "", b"", (500, "/shop/huge/:id", "Error", "xxxx")),
    ("GET", "/shop/unavailable/7", "", b"", (503, "/shop/unavailable/:id", "Error", "come again")),
    ("GET", "/shop/worker/7", "", b"", (500, "/shop/worker/:id", "SyntaxError", "in a thread")),
    ("GET", "/calm/7", "", b"", (500, "/calm/:id", "TypeError", "Cannot read")),
    ("GET", "/angry/handler", "", b"", (500, "/angry/handler", "EvalError", "the handler fails, too")),
    ("GET", "/stream", "", b"", (500, "/stream", "Error", "the disk is gone")),
    ("GET", "/half", "", b"", None),
]


def due(framework: str, case: Case) -> tuple[int, str, str, str] | None:
    """What one case has to tell in one framework."""
    _, target, _, _, told = case
    if framework == "http":
        if target in ("/angry/handler", "/stream"):
            return None
        if told is not None and told[2] == "NonError":
            return (500, told[1], "Error", told[3])
    if framework.startswith("koa") and target == "/stream":
        return None  # it hangs up
    return told


async def ask_all(app: Running) -> list[bytes]:
    """Every case, one after the other."""
    return [await fetch(app.port, method, target, headers=h, body=b) for method, target, h, b, _ in CASES]


def major(node: str) -> int:
    """The major version of an interpreter."""
    return int(
        subprocess.run([node, "-p", "process.versions.node"], capture_output=True, check=True).stdout.split(b".")[0]
    )


def described(report: dict[str, Any]) -> tuple[str, str, str]:
    """What makes a report known again."""
    return report["method"], report["path"], report["message"][:12]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_caught_5xx_is_told_once_and_every_answer_stays_as_it_was(name: str, node: str, tmp_path: Path) -> None:
    """The hard cases, in a real server: the right status, route, frame and request; answers byte for byte the same."""
    file, modules = FRAMEWORKS[name]
    if modules and frameworks() is None:
        pytest.skip("the locked frameworks are not installed (WOLVERINE_NODE_FRAMEWORKS)")
    if name.startswith("koa") and major(node) < 20:
        pytest.skip("the locked router of Koa needs Node 20")
    app_dir = lay(tmp_path, modules=modules)

    async def story() -> None:
        async with started([node, file], directory=app_dir, supervised=False) as alone:
            expected = await ask_all(alone)
        async with started([node, file], directory=app_dir) as app:
            answers = await ask_all(app)
            await app.counted(sum(answer != b"" for answer in answers))
            for case, ours, plain in zip(CASES, answers, expected, strict=True):
                assert ours == plain, (name, case[1])
            check(name, app_dir, app)

    asyncio.run(story())


def check(name: str, app_dir: Path, app: Running) -> None:
    """Compare the reports with what is due."""
    told = app.of("route_error")
    wanted = [(case, what) for case in CASES if (what := due(name, case)) is not None]
    assert [described(report)[:2] for report in told] == [(case[0], case[1].split("?")[0]) for case, _ in wanted]
    for report, (case, (status, route, kind, message)) in zip(told, wanted, strict=True):
        assert (report["statusCode"], report["route"]) == (status, route), case[1]
        assert report["message"].startswith(message), case[1]
        assert report["name"] == kind, case[1]
        if kind not in ("SyntaxError", "NonError"):  # a thread's own source has no file; words have no stack
            assert report["file"] in (str(app_dir / "faults.cjs"), str(app_dir / file_of(name)), None), case[1]
        assert report["request"]["method"] == case[0]
        assert report["request"]["path"] == case[1]
        assert "s3cr3t" not in str(report)
    assert told[0]["file"] == str(app_dir / "faults.cjs")
    assert told[0]["line"] == 10
    assert told[0]["request"]["headers"]["x-kept"] == "yes"
    assert told[1]["request"]["body"] == '{"n": 1}'
    assert told[2]["chain"][0]["message"] == "the root"
    assert not app.of("crash")


def file_of(name: str) -> str:
    """Where the routes of an application are written."""
    file = FRAMEWORKS[name][0]
    return file if file in ("http.cjs", "nest.cjs") else f"routes_{file.split('.')[0]}.cjs"


@pytest.mark.parametrize("name", ["express5", "fastify5", "koa", "nest"])
def test_clients_that_go_and_a_storm_of_client_errors_tell_nothing(name: str, tmp_path: Path) -> None:
    """A request whose client has gone is no error; nor are a hundred answers of 4xx, and all of them are counted."""
    file, modules = FRAMEWORKS[name]
    if frameworks() is None:
        pytest.skip("the locked frameworks are not installed (WOLVERINE_NODE_FRAMEWORKS)")
    app_dir = lay(tmp_path, modules=modules)

    async def story() -> None:
        async with started([NODES[-1], file], directory=app_dir) as app:
            for _ in range(10):
                _, writer = await asyncio.open_connection("127.0.0.1", app.port)
                writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
                await writer.drain()
                writer.close()
            for _ in range(5):
                targets = [f"/shop/client/{n}" for n in range(10)] + [f"/nowhere/{n}" for n in range(10)]
                await asyncio.gather(*(fetch(app.port, "GET", target) for target in targets))
            await app.counted(100)
            assert app.of("route_error") == []
            assert sum(line["errors"] for line in app.of("requests")) == 0

    asyncio.run(story())


@pytest.mark.parametrize("stored", ["fastify4", "fastify5"])
def test_a_handler_that_calls_everything_500_does_not_make_a_clients_error_ours(stored: str, tmp_path: Path) -> None:
    """What it sends and what we see is one report; a body that is no JSON is none, whatever it was answered with."""
    if frameworks() is None:
        pytest.skip("the locked frameworks are not installed (WOLVERINE_NODE_FRAMEWORKS)")
    app_dir = lay(tmp_path, modules={"fastify": stored})

    async def story() -> None:
        async with started([NODES[-1], "sends.cjs"], directory=app_dir) as app:
            kind = "Content-Type: application/json\r\n"
            bad = await fetch(app.port, "POST", "/json", headers=kind, body=b'{"broken": ')
            assert b" 500 " in bad.splitlines()[0]
            await fetch(app.port, "GET", "/items/7")
            await app.counted(2)
            (told,) = app.of("route_error")
            assert (told["route"], told["name"], told["line"]) == ("/items/:id", "TypeError", 10)

    asyncio.run(story())
