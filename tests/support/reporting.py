# SPDX-License-Identifier: MIT
"""A small application with the reporters in it, and somebody who hears what they tell."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

import wolverined
from wolverined.model import Request
from wolverined.sense.reports import CrashLine, CrashReport, ReportServer, read_crash

HOOKS = Path(wolverined.__file__).parent / "hooks"


class App(msgspec.Struct):
    """A started application: its port, how to wait for its end, and what was heard of it."""

    port: int
    process: asyncio.subprocess.Process
    reports: list[CrashReport]
    server: ReportServer

    async def end(self) -> tuple[int, str]:
        """Wait until it has ended; return its code and what it wrote to stderr."""
        _, stderr = await asyncio.wait_for(self.process.communicate(), 20)
        await self.server.settle()
        assert self.process.returncode is not None
        return self.process.returncode, stderr.decode()

    async def kill(self) -> None:
        """End it from outside."""
        self.process.kill()
        await self.end()


def unredacted(request: Request) -> Request:
    """Stand in for a redactor: requests are compared with what was sent."""
    return request


@contextlib.asynccontextmanager
async def listening(directory: Path, reports: list[CrashReport]) -> AsyncIterator[ReportServer]:
    """Serve `report.sock` in a directory for processes of our own uid."""
    path = directory / "report.sock"

    def read(told: CrashLine) -> None:
        report = read_crash(told, redact=unredacted)
        assert report is not None
        reports.append(report)

    async with ReportServer(path, app_uid=os.geteuid(), on_crash=read) as server:
        yield server


@contextlib.asynccontextmanager
async def running(
    directory: Path, argv: list[str], *, environment: Mapping[str, str], report_socket: str | None = None
) -> AsyncIterator[App]:
    """Run a program that prints the port that it listens on, with a listener for its reports."""
    reports: list[CrashReport] = []
    async with listening(directory, reports) as server:
        socket_path = str(directory / "report.sock") if report_socket is None else report_socket
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=directory,
            env={"PATH": os.defpath, "WOLVERINE_REPORT_SOCKET": socket_path, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            port = int(await asyncio.wait_for(process.stdout.readline(), 20) or b"0")
            yield App(port=port, process=process, reports=reports, server=server)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def ask(port: int, head: str, body: bytes = b"") -> bytes:
    """Send one request as bytes and return all that comes back until the other end hangs up (it may crash)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
