# SPDX-License-Identifier: MIT
"""Node applications in real frameworks, with the reporter in them and somebody who keeps every line it writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from support.places import eventually_async
from support.reporting import HOOKS

APPS = Path(__file__).parent / "node_apps"
REPORTER = HOOKS / "node" / "reporter.cjs"


def frameworks() -> Path | None:
    """Where the locked frameworks were installed (packaging/setup.sh tells), if they were."""
    told = os.environ.get("WOLVERINE_NODE_FRAMEWORKS", "")
    return Path(told) if told and Path(told, "node_modules").is_dir() else None


class Running(msgspec.Struct):
    """A started application: its port, and the lines that it reported (none when unsupervised)."""

    port: int
    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one type."""
        return [line for line in self.lines if line["type"] == kind]

    async def counted(self, total: int) -> None:
        """Wait until so many requests have been counted: whatever they had to tell was told before."""
        await eventually_async(lambda: sum(line["count"] for line in self.of("requests")) >= total, within_s=10)


def lay(directory: Path, *, modules: dict[str, str]) -> Path:
    """Put the applications into a directory, with frameworks under the names by which they are asked for."""
    app = directory / "app"
    shutil.copytree(APPS, app)
    (app / "node_modules").mkdir()
    installed = frameworks()
    for name, stored in modules.items():
        assert installed is not None
        target = app / "node_modules" / name
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(installed / "node_modules" / stored)
    return app


@contextlib.asynccontextmanager
async def collecting(path: Path) -> AsyncIterator[list[dict[str, Any]]]:
    """Listen on a socket, and keep each line as an object."""
    lines: list[dict[str, Any]] = []
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                lines.append(json.loads(line))
        writer.close()

    server = await asyncio.start_unix_server(serve, path, limit=64 << 10)
    try:
        yield lines
    finally:
        server.close()
        for writer in open_now:
            writer.close()


@contextlib.asynccontextmanager
async def started(
    argv: list[str], *, directory: Path, supervised: bool = True, environment: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run a program that prints its port; it is ended at the end."""
    path = directory / "report.sock"
    ours = {"NODE_OPTIONS": f"--require {REPORTER}", "WOLVERINE_REPORT_SOCKET": str(path)} if supervised else {}
    async with collecting(path) as lines:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=directory,
            env={"PATH": os.defpath, **ours, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            port = int(await asyncio.wait_for(process.stdout.readline(), 30) or b"0")
            yield Running(port=port, process=process, lines=lines)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def fetch(port: int, method: str, target: str, *, headers: str = "", body: bytes = b"") -> bytes:
    """Send one request and return all bytes of the answer, but for the date."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{headers}\r\n".encode() + body)
    try:
        answer = await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", answer)
