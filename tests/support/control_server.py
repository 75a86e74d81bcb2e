# SPDX-License-Identifier: MIT
"""A real control server around a fake instance, in a loop of its own thread, and raw clients for it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from support.fake_instance import FakeInstance
from support.places import eventually, public_python

from wolverined.clock import Clock
from wolverined.control.access import Access, GroupIds
from wolverined.control.server import SOCKET_NAME, Limits, Server

APP_UID = 61_001
ADMIN_GID = 61_901
VIEW_GID = 61_902
OWN_UID = 61_002
STRANGER_UID = 61_003

T = TypeVar("T")


def operator_access() -> Access:
    """The access of `wolverined run` in whoever's terminal runs the tests."""
    uid = os.getuid()
    return Access(
        app_uid=uid or APP_UID,
        own_uid=uid,
        run_as_user=uid != 0,
        in_app_tree=lambda _pid: False,
        groups=GroupIds(admin=ADMIN_GID, view=VIEW_GID),
    )


def system_access() -> Access:
    """The access of a system instance: an app, a daemon and two groups of their own."""
    return Access(
        app_uid=APP_UID,
        own_uid=OWN_UID,
        run_as_user=False,
        in_app_tree=lambda _pid: False,
        groups=GroupIds(admin=ADMIN_GID, view=VIEW_GID),
    )


class Served:
    """A running server: `directory` is the runtime directory, `instance` the fake behind it."""

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.directory = directory
        self.path = directory / SOCKET_NAME
        self._loop = loop
        self.instance: FakeInstance
        self.server: Server

    def do(self, action: Callable[[], T]) -> T:
        """Run `action` in the server's loop, where alone the fake may be touched."""

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    def until(self, condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
        """Return when `condition` holds in the server's loop."""
        eventually(lambda: self.do(condition), within_s=within_s)

    def connections(self) -> int:
        """How many connections are served."""
        return self.do(lambda: len(self.server._served))

    def connect(self, *, timeout_s: float = 10.0) -> socket.socket:
        """A raw client."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(self.path))  # before the timeout: a full backlog is waited for
        except BaseException:
            sock.close()
            raise
        sock.settimeout(timeout_s)
        return sock

    def raw(self, data: bytes) -> bytes:
        """Send bytes, say that there are no more, and read everything that comes."""
        with self.connect() as sock:
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(sock)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """One request and its answer: the status and the envelope."""
        return parse(self.raw(request(method, path, body, **headers)))


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """The bytes of one request that ends its connection."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(payload)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def read_all(sock: socket.socket) -> bytes:
    """Everything until the peer ends, or resets, the connection."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def parse(answer: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of one whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


_SPEAKER = """
import json, socket, sys
path, requests = json.load(sys.stdin)
for data in requests:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        try:
            sock.sendall(data.encode())
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while piece := sock.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        print(answer.decode().replace("\\n", " ").replace("\\r", " "))
"""


def speak_as(
    path: Path, requests: Sequence[bytes], *, uid: int, gid: int | None = None, groups: Sequence[int] = ()
) -> list[tuple[int, str]]:
    """Send requests as another user, which takes root; status and text of each answer."""
    supplementary = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid if gid is None else gid}", supplementary, "--"]
    done = subprocess.run(
        [*command, public_python(), "-I", "-c", _SPEAKER],
        input=json.dumps([str(path), [data.decode() for data in requests]]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd="/",
    )
    lines = done.stdout.splitlines()
    return [(int(line.split()[1]), line) for line in lines]


@contextmanager
def serving(
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    keep: int = 1000,
    directory: Path | None = None,
) -> Iterator[Served]:
    """A server in a directory that every user may enter; gone without a trace afterwards."""
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="wv-control-", dir="/tmp"))
    directory.chmod(0o711)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    served = Served(directory, loop)

    async def start() -> None:
        served.instance = FakeInstance(keep=keep)
        served.server = Server(served.instance, served.path, access or operator_access(), limits=limits, clock=clock)
        await served.server.start()

    async def stop() -> None:
        await served.server.close()
        await served.instance.changes.close()
        await asyncio.sleep(0)

    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=10)
        yield served
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
        shutil.rmtree(directory)
