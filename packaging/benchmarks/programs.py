# SPDX-License-Identifier: MIT
"""The programs that are compared, each driven through its own API, so that no client's start is in a figure.

Every one runs with its defaults, but for what makes its `stop` reach further, so that each is shown at its
best: `stopasgroup` and `killasgroup` (supervisor), `stop_children` (circus).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

START_S = 30.0
STOP_S = 30.0


class Program(Protocol):
    """One supervisor that runs one application called `app`."""

    name: str
    detect_source: str

    def launch(self, command: Sequence[str]) -> None:
        """Start the supervisor, and the application with it."""

    def pids(self) -> list[int]:
        """The processes of the supervisor itself."""

    def stop(self) -> int:
        """Stop the application; gives the monotonic nanosecond at which that was asked for."""

    def start(self) -> None:
        """Start the application again."""

    def status_command(self) -> list[str]:
        """The command line that a person types to see how the application is."""

    def exit_noticed(self, after: float) -> float | None:
        """The wall time at which it noticed an exit that happened after `after`; None: it does not tell."""

    def close(self) -> None:
        """End the supervisor and the application."""


class Process:
    """The supervisor's own process: started with its output in a log, ended by its pid."""

    def __init__(self, argv: Sequence[str], *, place: Path, environment: dict[str, str] | None = None) -> None:
        with (place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def close(self) -> None:
        """Ask it to end, and wait."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


def until(ready: Any, *, within_s: float = START_S) -> Any:
    """Wait until `ready()` answers something true; OSError and the like mean "not yet"."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if answer := ready():
                return answer
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    raise TimeoutError(f"waited in vain: {ready}")


class Wolverined:
    """Ourselves, as `wolverined run`."""

    name = "wolverined"
    detect_source = "the time in its `app.exit` event"

    def __init__(self, place: Path) -> None:
        from wolverined.control.client import Client  # noqa: PLC0415 - peers do without it

        self._place = place
        self._run = place / "run"
        self._client = Client(str(self._run))
        self._process: Process | None = None

    def launch(self, command: Sequence[str]) -> None:
        """Write the configuration, start, wait until the application is ready."""
        source = self._place / "src"
        source.mkdir()
        if os.geteuid() == 0:  # an application of root's is refused, and rightly
            nobody = pwd.getpwnam("nobody")
            os.chown(source, nobody.pw_uid, nobody.pw_gid)
        words = ", ".join(f'"{word}"' for word in command)
        # Each kill shall be the first after a quiet time, as a crash in real life is; not a crash loop.
        (self._place / "app.toml").write_text(
            f'[app]\ncommand = [{words}]\ndirectory = "{source}"\n[restart]\nreset_s = 0.5\n'
        )
        argv = [*_ours("wolverined", "wolverined"), "run", "--config", str(self._place / "app.toml")]
        argv += ["--runtime-dir", str(self._run), "--state-dir", str(self._place / "state")]
        self._process = Process(argv, place=self._place)
        until(self._is_ready)

    def _is_ready(self) -> bool:
        from wolverined.errors import Unreachable  # noqa: PLC0415 - beside its only use

        try:
            return bool(self._client.get("/v1/status")["state"] == "ready")
        except Unreachable:
            return False

    def pids(self) -> list[int]:
        """One process."""
        assert self._process is not None
        return [self._process.pid]

    def stop(self) -> int:
        """By the control socket."""
        asked = time.monotonic_ns()
        self._change("stop")
        return asked

    def start(self) -> None:
        """By the control socket."""
        self._change("start")

    def _change(self, action: str) -> None:
        change = self._client.post(f"/v1/{action}")["id"]
        self._client.get(f"/v1/changes/{change}/wait?timeout={STOP_S:.0f}", extra_s=STOP_S)

    def status_command(self) -> list[str]:
        """`wolverinectl status`."""
        return [*_ours("wolverinectl", "wolverined.cli"), "--runtime-dir", str(self._run), "status"]

    def exit_noticed(self, after: float) -> float | None:
        """From its events, which are stored before they are told."""

        def told() -> list[float]:
            events = self._client.get("/v1/events?n=200")
            noticed = [one["fields"]["noticed_at"] for one in events if one["name"] == "app.exit"]
            return [at for at in noticed if at >= after]

        noticed: float = until(told)[0]
        return noticed

    def close(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.close()


class Supervisor:
    """supervisord, of PyPI."""

    name = "supervisor"
    detect_source = "the time of the line in its log, whole milliseconds"
    _EXITED = re.compile(r"^(\S+ \S+),(\d{3}) \w+ exited: app ", re.MULTILINE)

    def __init__(self, place: Path) -> None:
        self._place = place
        self._process: Process | None = None

    def launch(self, command: Sequence[str]) -> None:
        """Write the configuration, start, wait for its socket."""
        self._socket = self._place / "s.sock"
        (self._place / "s.conf").write_text(
            f"[unix_http_server]\nfile={self._socket}\n"
            f"[supervisord]\nlogfile={self._place}/s.log\npidfile={self._place}/s.pid\nnodaemon=true\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{self._socket}\n"
            f"[program:app]\ncommand={' '.join(command)}\nstopasgroup=true\nkillasgroup=true\n"
        )
        self._process = Process([_which("supervisord"), "-c", str(self._place / "s.conf")], place=self._place)
        until(self._socket.exists)

    def pids(self) -> list[int]:
        """One process."""
        assert self._process is not None
        return [self._process.pid]

    def _call(self, method: str) -> None:
        import xmlrpc.client  # noqa: PLC0415 - so are all clients of peers: a run without peers needs none

        from supervisor.xmlrpc import SupervisorTransport  # noqa: PLC0415

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)("app")

    def stop(self) -> int:
        """By XML-RPC."""
        asked = time.monotonic_ns()
        self._call("stopProcess")
        return asked

    def start(self) -> None:
        """By XML-RPC."""
        self._call("startProcess")

    def status_command(self) -> list[str]:
        """`supervisorctl status`."""
        return [_which("supervisorctl"), "-c", str(self._place / "s.conf"), "status"]

    def exit_noticed(self, after: float) -> float | None:
        """From its log."""

        def told() -> list[float]:
            found = self._EXITED.findall((self._place / "s.log").read_text())
            times = [datetime.fromisoformat(day).timestamp() + int(ms) / 1000 for day, ms in found]
            return [at for at in times if at >= after - 0.001]  # it cuts off what is below a millisecond

        noticed: float = until(told)[0]
        return noticed

    def close(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.close()


class Circus:
    """circusd, of PyPI."""

    name = "circus"
    detect_source = "the time in its `reap` message"

    def __init__(self, place: Path) -> None:
        self._place = place
        self._process: Process | None = None

    def launch(self, command: Sequence[str]) -> None:
        """Write the configuration, start, wait until it answers."""
        import zmq  # noqa: PLC0415

        self._endpoint, pubsub = (f"ipc://{self._place}/{name}.sock" for name in ("c", "p"))
        (self._place / "c.ini").write_text(
            f"[circus]\nendpoint = {self._endpoint}\npubsub_endpoint = {pubsub}\n"
            f"[watcher:app]\ncmd = {command[0]}\nargs = {' '.join(command[1:])}\nstop_children = true\n"
        )
        self._process = Process([_which("circusd"), str(self._place / "c.ini")], place=self._place)
        until((self._place / "c.sock").exists)
        self._context = zmq.Context()
        self._events = self._context.socket(zmq.SUB)
        self._events.connect(pubsub)
        self._events.subscribe(b"watcher.app.reap")

    def pids(self) -> list[int]:
        """One process."""
        assert self._process is not None
        return [self._process.pid]

    def _call(self, command: str) -> None:
        from circus.client import CircusClient  # noqa: PLC0415

        client = CircusClient(endpoint=self._endpoint, timeout=STOP_S)
        try:
            client.send_message(command, name="app", waiting=True)
        finally:
            client.stop()

    def stop(self) -> int:
        """By its ZeroMQ endpoint."""
        asked = time.monotonic_ns()
        self._call("stop")
        return asked

    def start(self) -> None:
        """By its ZeroMQ endpoint."""
        self._call("start")

    def status_command(self) -> list[str]:
        """`circusctl status`."""
        return [_which("circusctl"), "--endpoint", self._endpoint, "status"]

    def exit_noticed(self, after: float) -> float | None:
        """From the message that it publishes."""
        import json  # noqa: PLC0415

        deadline = time.monotonic() + START_S
        while (left := deadline - time.monotonic()) > 0:
            if self._events.poll(left * 1000):
                _, message = self._events.recv_multipart()
                at = float(json.loads(message)["time"])
                if at >= after:
                    return at
        return None

    def close(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.close()
            self._events.close(0)
            self._context.term()


def _ours(script: str, module: str) -> list[str]:
    """The installed command, or the module where this is a checkout that was not installed."""
    path = Path(sys.executable).with_name(script)
    return [str(path)] if path.exists() else [sys.executable, "-P", "-m", module]


def _which(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed; packaging/bench installs it")
    return found
