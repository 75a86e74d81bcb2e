# SPDX-License-Identifier: MIT
"""A real `wolverined run` over a real application, for tests of the whole.

    with Running(files={"app.py": "..."}, command=[PYTHON, "app.py"]) as running:
        running.until_healthy()
        assert running.get("/boom").crashed
        event = running.until_event("repair.verified")
        assert running.repairs()[0]["state"] == "verified"

The app's directory and everything that another uid must read lie in a public temporary directory. As
root the app runs as `nobody`, as a plain user it runs as that user. Nothing is left at the end, which
`__exit__` asserts.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from support.places import IS_ROOT, eventually, node_path, public_python, public_tmp, unused_user

from wolverined.control.client import Client
from wolverined.errors import Unreachable

PYTHON = public_python()
NODE = str(node_path() or "node")
PATIENCE_S = 45.0
LONG_AGO = 3600.0


class Answer(NamedTuple):
    """What a request got; `crashed` when the connection ended without an answer."""

    status: int
    body: bytes

    @property
    def crashed(self) -> bool:
        """Whether there was no answer."""
        return self.status == 0

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Ctl(NamedTuple):
    """What one wolverinectl command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Running:
    """One application under `wolverined run`.

    Args:
        files: Relative path -> content of the app's source.
        command: Its argv.
        tables: TOML text appended to the configuration (`[heal]`, `[restart]`, …).
        environment: Added to wolverined's own environment (keys of the AI endpoint, say).
        probe: The path of the http probe; empty: the default probe.
        settled: Make the source look old, so that no heal waits for a deploy to end.
    """

    def __init__(
        self,
        *,
        files: Mapping[str, str | bytes],
        command: Sequence[str],
        tables: str = "",
        environment: Mapping[str, str] | None = None,
        probe: str = "/health",
        settled: bool = True,
        name: str = "app",
    ) -> None:
        self._stack = ExitStack()
        self.place = self._stack.enter_context(public_tmp())
        self.name = name
        self.app = self.place / "src"
        self.runtime = self.place / "run"
        self.state = self.place / "state"
        self.config = self.place / f"{name}.toml"
        self.port = free_port()
        self.log = self.place / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = {**_clean_environment(), **(environment or {})}
        self.write(files, settled=settled)
        words = ", ".join(json.dumps(word) for word in command)
        probe_table = f"[probe]\nhttp = {json.dumps(probe)}\n" if probe else ""
        self.config.write_text(
            f"[app]\ncommand = [{words}]\ndirectory = {json.dumps(str(self.app))}\nport = {self.port}\n"
            f"{probe_table}{tables}\n"
        )

    def write(self, files: Mapping[str, str | bytes], *, settled: bool = True) -> None:
        """Write source files, owned by the app's user, an hour old when settled."""
        self.app.mkdir(exist_ok=True)
        for relative, content in files.items():
            path = self.app / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for path in (self.app, *self.app.rglob("*")):
            if IS_ROOT:
                os.chown(path, unused_user().pw_uid, unused_user().pw_gid, follow_symlinks=False)
            if settled:
                then = time.time() - LONG_AGO
                os.utime(path, (then, then), follow_symlinks=False)

    def tree(self) -> dict[str, bytes]:
        """Every file of the source, byte for byte; what interpreters cache is left out."""
        return {
            path.relative_to(self.app).as_posix(): path.read_bytes()
            for path in sorted(self.app.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the daemon."""
        argv = [sys.executable, "-P", "-m", "wolverined", "run", "--config", str(self.config)]
        argv += ["--runtime-dir", str(self.runtime), "--state-dir", str(self.state)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send the daemon a signal and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if self.process is not None:
                if self.process.poll() is None:
                    self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                    raise
            if kind is not None:
                sys.stderr.write(f"--- what wolverined said\n{self.log.read_text(errors='replace')}\n---\n")
            else:
                assert self.survivors() == [], "processes were left"

    def survivors(self) -> list[int]:
        """Processes that still work in the app's directory or were started by this daemon."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                where = (entry / "cwd").readlink()
            except OSError:
                continue
            if str(self.place).encode() in command or where.is_relative_to(self.place):
                found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def ctl(self, *words: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> Ctl:
        """Run wolverinectl on this instance."""
        argv = [sys.executable, "-P", "-m", "wolverined.cli", "--runtime-dir", str(self.runtime), *words]
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, env=self._environment, check=False
        )
        return Ctl(done.returncode, done.stdout, done.stderr)

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        answer: dict[str, Any] = eventually(lambda: self._ask("/v1/status"), within_s=PATIENCE_S)
        return answer

    def incidents(self) -> list[dict[str, Any]]:
        """`incidents --json`, newest first."""
        answer: list[dict[str, Any]] = self.ctl("--json", "incidents").json
        return answer

    def repairs(self) -> list[dict[str, Any]]:
        """`repairs --json`, newest first."""
        answer: list[dict[str, Any]] = self.ctl("--json", "repairs").json
        return answer

    def events(self) -> list[dict[str, Any]]:
        """The newest thousand events, oldest first."""
        found: list[dict[str, Any]] = self._ask("/v1/events?n=1000") or []
        return found

    def _ask(self, path: str) -> Any:
        """What wolverinectl would be told, without a process for each look; None while nobody listens."""
        try:
            return Client(str(self.runtime)).get(path)
        except Unreachable:
            return None

    def until_event(self, *names: str, count: int = 1, within_s: float = PATIENCE_S, after: int = 0) -> dict[str, Any]:
        """Wait for the `count`-th event of one of these names after that cursor, and give it."""

        def found() -> list[dict[str, Any]]:
            fitting = [event for event in self.events() if event["name"] in names and event["cursor"] > after]
            return fitting[count - 1 : count]

        return eventually(found, within_s=within_s)[0]

    def cursor(self) -> int:
        """The cursor of the newest event."""
        events = self.events()
        return int(events[-1]["cursor"]) if events else 0

    def until_healthy(self, *, within_s: float = PATIENCE_S) -> None:
        """Wait until `is-healthy` says so."""
        eventually(lambda: self._looks_healthy() and self.ctl("is-healthy").code == 0, within_s=within_s)

    def _looks_healthy(self) -> bool:
        status = self._ask("/v1/status")
        return status is not None and status["ready_since"] is not None

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request to the app."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException):
            return Answer(0, b"")
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """GET one path of the app."""
        return self.request("GET", path)


def _clean_environment() -> dict[str, str]:
    """Ours without what would change a daemon's behaviour."""
    private = ("OPENAI_", "WOLVERINE_", "NOTIFY_SOCKET", "NODE_OPTIONS", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(private)}
