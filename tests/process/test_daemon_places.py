# SPDX-License-Identifier: MIT
"""The real daemon on bad ground: full, read-only and removed directories, a damaged store; and its walls to the app."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemons import NODE
from support.places import IS_ROOT, eventually
from support.watching import PROBED, WITHIN_S, Watched

from wolverined.errors import Unreachable

NEEDS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="needs root to mount")
SECRET = "sk-a-key-of-the-operator-0123456789"


@contextmanager
def tmpfs(path: Path, *, size: str = "1m") -> Iterator[None]:
    """A small file system of its own at `path`; what it lies in is removed with it at the end."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        shutil.rmtree(path.parent, ignore_errors=True)  # a mounted directory could not be removed before


def fill(directory: Path) -> None:
    """Leave no byte free."""
    with (directory / "ballast").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def until_supervised(daemon: Watched) -> None:
    """It is started, killed, and started again."""
    pid = daemon.until_state("ready")["pid"]
    os.kill(pid, signal.SIGKILL)
    daemon.until_state("ready", generation=2)


@NEEDS_ROOT
def test_a_full_disk_under_the_state_stops_no_supervision_and_is_said() -> None:
    """The disk fills up while it runs: the app is restarted all the same, events go on, losses are counted."""
    daemon = Watched()
    with tmpfs(daemon.state), daemon:
        daemon.until_state("ready")
        fill(daemon.state)
        until_supervised(daemon)
        assert daemon.status()["store_lost"] > 0
        assert "app.exit" in daemon.names()
        eventually(lambda: "daemon.fault" in daemon.said() or "store.lost" in daemon.said(), within_s=WITHIN_S)
        (daemon.state / "ballast").unlink()
        daemon.ask("abort")
        daemon.until_closed("crash")


@NEEDS_ROOT
def test_a_start_on_a_full_disk_supervises_and_says_so() -> None:
    """Not one file can be made: nothing is kept, the app runs, `status` and the console say it."""
    daemon = Watched()
    with tmpfs(daemon.state):
        fill(daemon.state)
        with daemon:
            until_supervised(daemon)
            assert any("written to disk" in words for words in daemon.status()["weaknesses"])
            assert "written to disk" in daemon.said()


@NEEDS_ROOT
def test_a_start_on_a_read_only_disk_supervises_and_says_so() -> None:
    """The same where the file system is read-only; what was kept before is still there afterwards."""
    daemon = Watched()
    with tmpfs(daemon.state, size="8m"), daemon:
        daemon.until_state("ready")
        daemon.ask("abort")
        daemon.until_closed("crash")
        daemon.kill(signal.SIGTERM)
        subprocess.run(["mount", "-o", "remount,ro", daemon.state], check=True)
        daemon.start()
        until_supervised(daemon)
        assert any("written to disk" in words for words in daemon.status()["weaknesses"])
        daemon.kill(signal.SIGTERM)
        subprocess.run(["mount", "-o", "remount,rw", daemon.state], check=True)
        daemon.start()
        daemon.until_state("ready")
        assert daemon.incidents()[-1]["error"] == "SIGABRT"


def test_a_damaged_store_is_moved_aside_and_said() -> None:
    """Half of the file is rubbish: a new one is begun, the old one is kept, a critical event tells it."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.kill(signal.SIGTERM)
        store = daemon.state / "store.db"
        store.write_bytes(store.read_bytes()[:5000] + b"\xff" * 60000)
        daemon.start()
        daemon.until_state("ready")
        assert "store.corrupt" in daemon.names()
        assert "store.corrupt" in daemon.said()
        assert (daemon.state / "store.db.corrupt-1").exists()


def test_a_runtime_directory_that_was_removed_is_made_anew() -> None:
    """Somebody tidies /run: a reload (or five seconds) later the sockets are there again, the app never stopped."""
    with Watched() as daemon:
        pid = daemon.until_state("ready")["pid"]
        shutil.rmtree(daemon.runtime)
        with pytest.raises(Unreachable):
            daemon.client.get("/v1/status")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.status()["pid"] == pid
        assert "daemon.mended" in daemon.names()
        assert (daemon.runtime / "app" / "report.sock").exists()
        daemon.do("restart")


def test_an_app_starts_without_its_reporter_when_the_directory_is_gone_or_closed() -> None:
    """Node ends when it cannot read what it is told to preload: so it is not told to."""
    server = """
require("node:http").createServer((_, answer) => answer.end(process.env.NODE_OPTIONS || "none"))
  .listen(process.env.PORT, "127.0.0.1", () => console.log("listening"));
"""
    with Watched(server, command=(NODE, "app.py")) as daemon:
        daemon.until_state("ready")
        assert "reporter.cjs" in daemon.ask("")
        hooks = daemon.runtime / "app" / "hooks"
        hooks.chmod(0)
        daemon.do("restart")
        if IS_ROOT:
            assert daemon.ask("") == "none"
        hooks.chmod(0o755)
        reporter = hooks / "node" / "reporter.cjs"
        reporter.chmod(0)
        daemon.do("restart")
        assert daemon.ask("") == "none"
        shutil.rmtree(hooks)
        daemon.do("restart")
        assert daemon.ask("") == "none"


def test_the_app_is_refused_at_the_control_socket() -> None:
    """403 before a byte is read, told once as an event; it may not read our keys, nor our memory."""
    with Watched(environment={"OPENAI_API_KEY": SECRET}) as daemon:
        daemon.until_state("ready")
        assert daemon.process is not None
        pid = daemon.process.pid
        socket_path = str(daemon.runtime / "control.sock").replace("/", "%2F")
        for _ in range(3):
            assert daemon.ask(f"try/connect,{socket_path}").startswith("HTTP/1.1 403")
        denied = [event for event in daemon.events() if event["name"] == "audit.denied"]
        assert len(denied) == 1
        assert daemon.ask(f"try/read,%2Fproc%2F{pid}%2Fenviron") == "PermissionError"
        assert daemon.ask(f"try/read,%2Fproc%2F{pid}%2Fmem") == "PermissionError"
        assert SECRET not in daemon.ask("environ")
        if IS_ROOT:
            assert daemon.ask(f"try/signal,{pid}") == "PermissionError"
        assert daemon.status()["state"] == "ready"


def test_our_own_environment_does_not_reach_the_app() -> None:
    """What is the supervisor's (notify socket, credentials, keys, Python settings) is not the app's."""
    ours = {"NOTIFY_SOCKET": "", "CREDENTIALS_DIRECTORY": "/x", "LISTEN_PID": "1", "SECRET_OF_MINE": "1"}
    with Watched(environment=ours, tables=PROBED) as daemon:
        daemon.until_state("ready")
        names = {line.partition("=")[0] for line in daemon.ask("environ").splitlines()}
        assert not names & {*ours, "OPENAI_API_KEY", "PYTHONDONTWRITEBYTECODE"}
        assert {"PORT", "HOME", "USER", "WOLVERINE_MANAGED"} <= names
