# SPDX-License-Identifier: MIT
"""The documented protocol is the spoken one: every example of hooks/README.md runs, every number in it is in force."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from support import node_reports, python_reports
from support.places import node_path, public_tmp
from support.reporting import HOOKS, ask, unredacted

from wolverined.sense import reports
from wolverined.sense.reports import CrashLine, ReportServer, read_crash
from wolverined.sense.route_error import read_loop, read_pending, read_requests, read_route_error

README = (HOOKS / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PROGRAMS = {language: text for language, text in BLOCKS if language != "json"}
OBJECTS = [text for language, text in BLOCKS if language == "json"]
DOCUMENTED = {told["type"]: told for told in map(json.loads, OBJECTS)}
SECONDS = 90.0  # a Go compiler that has compiled nothing yet compiles its library first
NODE = node_path()


class Heard(ReportServer):
    """A server that also keeps every line that it read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, app_uid=os.geteuid(), on_crash=lambda _: None)
        self.told: list[dict[str, Any]] = []

    def take(self, line: bytes, peer: Any) -> bool:
        """Keep it."""
        self.told.append(json.loads(line))
        return super().take(line, peer)


async def _run(argv: list[str], directory: Path, *, where: Path | None) -> tuple[int, str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)}
    if where is not None:
        environment["WOLVERINE_REPORT_SOCKET"] = str(where)
    # Go keeps what it compiled where it is told to.
    environment |= {"GOCACHE": str(directory / "go"), "GO111MODULE": "off", "GOFLAGS": "-p=1"}
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=directory,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode is not None
    return process.returncode, said.decode()


def _argv(language: str, directory: Path) -> list[str]:
    """How an example is run, or a skip for want of what runs it."""
    program = PROGRAMS[language]
    if language == "sh":
        return ["/bin/sh", "-ec", program]
    found = {"python": sys.executable, "js": str(NODE) if NODE else None, "go": shutil.which("go")}[language]
    if found is None:
        pytest.skip(f"no {language} on this machine")
    path = directory / f"example.{ {'python': 'py'}.get(language, language) }"
    path.write_text(program)
    return [found, *{"python": ["-I"], "js": [], "go": ["run"]}[language], str(path)]


def _tell(language: str) -> tuple[list[dict[str, Any]], reports.Counts]:
    async def scenario(directory: Path) -> tuple[list[dict[str, Any]], reports.Counts]:
        async with Heard(directory / "report.sock") as server:
            code, said = await _run(_argv(language, directory), directory, where=directory / "report.sock")
            assert (code, said) == (0, "")
            await server.settle()
            return server.told, server.counts

    with public_tmp() as directory:
        return asyncio.run(scenario(directory))


def test_every_language_that_is_promised_has_an_example() -> None:
    """A shell with what Debian has, Python and Node without our reporters, Go."""
    assert set(PROGRAMS) == {"sh", "python", "js", "go"}


@pytest.mark.parametrize("language", sorted(PROGRAMS))
def test_an_example_tells_one_error(language: str) -> None:
    """As it stands in the document it tells one error, with what the document says is needed."""
    (told,), counts = _tell(language)
    assert told["type"] == "route_error"
    assert told["path"].startswith("/")
    assert told["message"]
    assert told["statusCode"] == 500
    read = read_route_error(json.dumps(told).encode())
    assert read is not None
    assert (read.status, read.chain[0].message) == (500, told["message"])
    assert counts.malformed == counts.unknown == counts.too_long == counts.hung_up == 0


@pytest.mark.parametrize(("language", "name"), [("python", "KeyError"), ("js", "SyntaxError")])
def test_an_example_tells_what_a_replay_needs(language: str, name: str) -> None:
    """The error's type, its stack, and the request with its query."""
    (told,), _ = _tell(language)
    assert told["name"] == name
    assert name in told["stack"]
    assert "?" not in told["path"]
    assert told["request"]["path"].startswith(told["path"] + "?")


@pytest.mark.parametrize("language", sorted(PROGRAMS))
@pytest.mark.parametrize("somewhere", [True, False])
def test_an_example_is_silent_when_nobody_listens(language: str, *, somewhere: bool) -> None:
    """Neither without a supervisor nor with one that has just ended does it fail or say a word."""

    async def scenario(directory: Path) -> tuple[int, str]:
        where = directory / "gone.sock" if somewhere else None
        return await _run(_argv(language, directory), directory, where=where)

    with public_tmp() as directory:
        assert asyncio.run(scenario(directory)) == (0, "")


def test_the_documented_socat_does_the_same() -> None:
    """The other tool that the document names delivers the same line."""
    socat = shutil.which("socat")
    if socat is None:
        pytest.skip("no socat on this machine")
    (words,) = re.findall(r"`(socat [^`]+)`", README)
    line = PROGRAMS["sh"].partition("||\n")[2].partition("|\n")[0]
    both = f"{line} | {words}"

    async def scenario(directory: Path) -> list[dict[str, Any]]:
        async with Heard(directory / "report.sock") as server:
            assert await _run(["/bin/sh", "-ec", both], directory, where=directory / "report.sock") == (0, "")
            await server.settle()
            return server.told

    with public_tmp() as directory:
        (told,) = asyncio.run(scenario(directory))
    assert told["message"] == "the import failed"


@pytest.mark.parametrize("text", OBJECTS, ids=[json.loads(text)["type"] for text in OBJECTS])
def test_a_documented_object_is_understood(text: str) -> None:
    """Every object in the document is JSON of a type that the server knows, and its fields stand in the text."""
    line = json.dumps(json.loads(text)).encode() + b"\n"

    async def scenario(directory: Path) -> reports.Counts:
        async with Heard(directory / "report.sock") as server:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
                sender.connect(str(directory / "report.sock"))
                sender.sendall(line)
            await server.settle()
            return server.counts

    with public_tmp() as directory:
        counts = asyncio.run(scenario(directory))
    assert (counts.lines, counts.malformed, counts.unknown) == (1, 0, 0)
    assert [field for field in json.loads(text) if f"`{field}`" not in README] == []


def _read(told: dict[str, Any]) -> object:
    line = json.dumps(told).encode()
    if told["type"] == "crash":
        return read_crash(CrashLine(line=line), redact=unredacted)
    readers = {"route_error": read_route_error, "requests": read_requests, "pending": read_pending, "loop": read_loop}
    return readers[told["type"]](line)


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_a_documented_object_is_read(kind: str) -> None:
    """Whoever reads the reports takes what the document shows; a value of the wrong type makes it worthless."""
    assert _read(DOCUMENTED[kind]) is not None
    if kind != "crash":
        field = {"route_error": "path", "requests": "count", "pending": "age_ms", "loop": "lag_ms"}[kind]
        assert _read({**DOCUMENTED[kind], field: []}) is None


def _strange(told: Any, shown: Any, where: str) -> list[str]:
    """What a reporter tells and the document does not show, or shows as another type."""
    if isinstance(shown, dict) and isinstance(told, dict):
        free = next(iter(shown.values()), None) if where.endswith(("headers", "routes", "histogram")) else None
        found = [f"{where}.{name}" for name in told if name not in shown and free is None]
        known = {name: shown.get(name, free) for name in told if name in shown or free is not None}
        return found + [odd for name, each in known.items() for odd in _strange(told[name], each, f"{where}.{name}")]
    if isinstance(shown, list) and isinstance(told, list):
        return [odd for each in told for odd in _strange(each, shown[0], where)]
    if where.endswith(".worker"):
        return [] if told is None or isinstance(told, int | str) else [where]
    same = type(told) is type(shown) or (isinstance(told, int | float) and isinstance(shown, int | float))
    return [] if same else [f"{where}: {told!r}"]


async def _node_tells(directory: Path) -> list[dict[str, Any]]:
    argv = [str(NODE), str(node_reports.APPS / "http.cjs")]
    async with node_reports.started(argv, directory=directory) as app:
        await node_reports.fetch(app.port, "GET", "/shop/type?a=1")
        await node_reports.fetch(app.port, "GET", "/")
        await app.counted(2)
        return app.lines


async def _python_tells(directory: Path) -> list[dict[str, Any]]:
    argv = [sys.executable, str(python_reports.APPS / "stdlib_app.py")]
    async with python_reports.serving(directory, argv) as app:
        await ask(app.port, "GET /fail/plain?a=1 HTTP/1.0")
        await ask(app.port, "GET / HTTP/1.0")
        await app.counted(2)
        return app.lines


@pytest.mark.parametrize("tells", [_node_tells, _python_tells], ids=["node", "python"])
def test_our_reporters_tell_what_is_documented(
    tells: Callable[[Path], Coroutine[Any, Any, list[dict[str, Any]]]],
) -> None:
    """Not a field more than the document shows, each of the type that it shows, and all of it is read."""
    with public_tmp() as directory:
        lines = asyncio.run(tells(directory))
    kinds = {line["type"] for line in lines}
    assert {"route_error", "requests"} <= kinds <= set(DOCUMENTED)
    assert [odd for line in lines for odd in _strange(line, DOCUMENTED[line["type"]], line["type"])] == []
    assert [line for line in lines if _read(line) is None] == []


def test_the_documented_numbers_are_in_force() -> None:
    """Sizes and rates of the document are those of the server."""
    assert f"at most {reports.MAX_LINE} bytes" in README
    burst, per_second = reports.LINES
    assert f"at most {per_second:.0f} lines a second, after a burst of {burst}" in README
    assert f"at most {reports.MAX_CONNECTIONS} connections at a time, {reports.ARRIVALS[1]:.0f} new ones" in README
