# SPDX-License-Identifier: MIT
"""Real Python servers with the reporter in them, and somebody who keeps every line that they tell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from support.places import eventually_async

import wolverined

HOOKS = Path(wolverined.__file__).parent / "hooks" / "python"
APPS = Path(__file__).parent / "python_apps"


def frameworks() -> str:
    """The interpreter that has the locked web frameworks; skips the test where there is none."""
    python = os.environ.get("WOLVERINE_FRAMEWORKS_PYTHON", "")
    if not python or not Path(python).exists():
        pytest.skip("the web frameworks are not installed (packaging/test sets WOLVERINE_FRAMEWORKS_PYTHON)")
    return python


class Ear:
    """Listens as the supervisor does, without its bounds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._hear, self.path, limit=1 << 20)
        return self

    async def __aexit__(self, *_told: object) -> None:
        """Hang up on everybody."""
        assert self._server is not None
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def hang_up(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                assert len(line) <= 64 << 10
                self.lines.append(json.loads(line))


class Served(msgspec.Struct):
    """A started server: where it listens, its process, what was heard of it."""

    port: int
    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]]
    ear: Ear

    async def hang_up(self) -> None:
        """Break every connection, as a supervisor that dies does."""
        await self.ear.hang_up()

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one type."""
        return [line for line in self.lines if line["type"] == kind]

    async def counted(self, number: int) -> dict[str, Any]:
        """Wait until so many requests were counted; all errors told before them are there then.

        Reports of one process come in the order in which they were made, and what is held back is sent
        before the count.
        """
        await eventually_async(lambda: sum(line["count"] for line in self.told("requests")) >= number, within_s=20)
        return self.told("requests")[-1]


@contextlib.asynccontextmanager
async def serving(
    directory: Path, argv: list[str], *, supervised: bool = True, printed: str = "stdout"
) -> AsyncIterator[Served]:
    """Run a server that prints its port; without supervision it is the server that answers are compared with."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(directory),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([*([str(HOOKS)] if supervised else []), str(APPS)]),
        **({"WOLVERINE_REPORT_SOCKET": str(directory / "report.sock")} if supervised else {}),
    }
    async with Ear(directory / "report.sock") as ear:
        with (directory / "stderr").open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=APPS,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if printed == "stderr" else stderr,
            )
        stream = process.stderr if printed == "stderr" else process.stdout
        assert stream is not None
        try:
            yield Served(port=await _port(stream), process=process, lines=ear.lines, ear=ear)
        finally:
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), 10)
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def _port(stream: asyncio.StreamReader) -> int:
    seen = b""
    while line := await asyncio.wait_for(stream.readline(), 30):
        seen += line
        if found := re.search(rb"^(\d+)$|127\.0\.0\.1:(\d+)", line.strip()):
            return int(found[1] or found[2])
    raise AssertionError(f"no port: {seen.decode()}")


SERVERS: dict[str, list[str]] = {
    "flask": ["flask_app.py"],
    "flask on gunicorn": ["-m", "gunicorn", "-b", "127.0.0.1:0", "flask_app:app"],
    "flask on gunicorn threads": [
        "-m",
        "gunicorn",
        "-k",
        "gthread",
        "--threads",
        "4",
        "-b",
        "127.0.0.1:0",
        "flask_app:app",
    ],
    "flask on wsgiref": ["serve_wsgiref.py", "flask_app:app"],
    "django on wsgiref": ["serve_wsgiref.py", "django_app:application"],
    "django on gunicorn": ["-m", "gunicorn", "-b", "127.0.0.1:0", "django_app:application"],
    "django on uvicorn": ["serve_uvicorn.py", "django_app:asgi"],
    "fastapi on uvicorn": ["serve_uvicorn.py", "fastapi_app:app"],
    "fastapi on uvloop": ["serve_uvicorn.py", "fastapi_app:app", "uvloop"],
    "fastapi on gunicorn": [
        "-m",
        "gunicorn",
        "-k",
        "uvicorn.workers.UvicornWorker",
        "-b",
        "127.0.0.1:0",
        "fastapi_app:app",
    ],
    "fastapi on gunicorn asgi": ["-m", "gunicorn", "-k", "asgi", "-b", "127.0.0.1:0", "fastapi_app:app"],
    "aiohttp": ["aiohttp_app.py"],
    "http.server": ["stdlib_app.py"],
}
"""What is served how; each has the same routes with the same troubles."""


def command(name: str) -> tuple[list[str], str]:
    """How one of SERVERS is started, and where it prints its port."""
    python = sys.executable if name == "http.server" else frameworks()
    return [python, *SERVERS[name]], "stderr" if "gunicorn" in name else "stdout"
