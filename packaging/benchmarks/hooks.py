# SPDX-License-Identifier: MIT
"""What the reporters cost an application that has no errors: each server beside itself without, in one run.

    cpu_us      processor time of the server's processes for one GET, without the reporter
    extra_us    what the reporter adds to it: the median of the rounds' differences
    per_s       GETs a second without the reporter, by wrk
    loss_pct    how many of a hundred of these are lost with it: the median of the rounds' ratios
    start_mib   what the reporter adds to the memory of the server's processes before the first request
    after_mib   the same after all rounds: also garbage that was not collected yet
    lines       reports that were heard in the whole run
    again_us, again_pct, again_mib    extra_us, loss_pct, after_mib of a second server without the reporter: the
                noise of this run, below which the other figures say nothing

The three servers of a kind stand side by side and are asked in turns, in another order each round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import machine

import wolverined

APPS = Path(__file__).with_name("apps")
HOOKS = Path(wolverined.__file__).parent / "hooks"
COLUMNS = (
    "cpu_us",
    "extra_us",
    "again_us",
    "per_s",
    "loss_pct",
    "again_pct",
    "start_mib",
    "after_mib",
    "again_mib",
    "lines",
)
TARGETS = {"extra_us": "<= 20", "loss_pct": "<= 1", "start_mib": "<= 3", "after_mib": "<= 3"}
PATIENCE_S = 30.0
TICKS = os.sysconf("SC_CLK_TCK")
NODE_FRAMEWORKS = {"fastify": "fastify5", "express": "express5"}
"""What a server asks for -> under which name the lock installs it."""

KINDS = ("bare", "again", "hooked")

Argv = Callable[[int], list[str]]
"""A port -> the command that listens on it."""


class Ear:
    """Listens on a report socket, counts what it hears and throws it away."""

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                made, _ = self._socket.accept()
            except OSError:
                return  # closed: the run is over
            threading.Thread(target=self._hear, args=(made,), daemon=True).start()

    def _hear(self, made: socket.socket) -> None:
        with made:
            while data := made.recv(1 << 16):
                self.lines += data.count(b"\n")

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class Server:
    """One server in a session of its own; a context manager."""

    def __init__(self, argv: Argv, *, path: str, place: Path, environment: Mapping[str, str]) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}{path}"
        self._process = subprocess.Popen(
            argv(self.port),
            cwd=place,
            env={**environment, "PORT": str(self.port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Wait until it listens."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        self.__exit__()
        raise SystemExit(f"error: {self._process.args} does not listen")

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself, which has been said
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def pids(self) -> list[int]:
        """Its processes."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and self._ours(entry)]

    def _ours(self, entry: Path) -> bool:
        try:
            return os.getsid(int(entry.name)) == self._process.pid
        except OSError:
            return False

    def cpu_s(self) -> float:
        """Processor time that its processes have used (utime and stime of proc(5))."""
        used = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / TICKS

    def rss_mib(self) -> float:
        """Memory of its processes."""
        return machine.resident_mib(self.pids())


class Round:
    """What one load of one server gave."""

    def __init__(self, server: Server, *, seconds: int, connections: int) -> None:
        before = server.cpu_s()
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", server.url]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        answered = re.search(r"(\d+) requests in", said)
        rate = re.search(r"Requests/sec: +([\d.]+)", said)
        if not answered or not rate or "Non-2xx" in said:
            raise SystemExit(f"error: wrk was not answered as it should be; hint: {said}")
        self.per_s = float(rate[1])
        self.cpu_us = (server.cpu_s() - before) / max(1, int(answered[1])) * 1e6


def measure(argv: Argv, *, path: str, place: Path, rounds: int, seconds: int, connections: int) -> dict[str, Any]:
    """Measure one program: without, without once more, and with the reporter."""
    _lay(place)
    ear = Ear(place / "report.sock")
    plain = {"PATH": os.environ["PATH"], "HOME": str(place)}
    # What wolverined gives its application.
    hooked = {
        **plain,
        "WOLVERINE_REPORT_SOCKET": str(place / "report.sock"),
        "NODE_OPTIONS": f"--require {HOOKS / 'node' / 'reporter.cjs'}",
        "PYTHONPATH": str(HOOKS / "python"),
    }
    found: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        stack.callback(ear.close)
        environments = {"bare": plain, "again": plain, "hooked": hooked}
        servers = {
            kind: stack.enter_context(Server(argv, path=path, place=place, environment=environments[kind]))
            for kind in KINDS
        }
        time.sleep(1.0)
        start = {kind: server.rss_mib() for kind, server in servers.items()}
        for number in range(-1, rounds):
            for at in range(len(KINDS)):
                kind = KINDS[(at + number) % len(KINDS)]
                each = Round(servers[kind], seconds=seconds, connections=connections)
                if number >= 0:  # the first makes them warm
                    found[kind].append(each)
        after = {kind: server.rss_mib() for kind, server in servers.items()}
    return {**_summary(found), **_memory(start, after), "lines": ear.lines}


def _summary(found: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    triples = list(zip(*(found[kind] for kind in KINDS), strict=True))
    return {
        "cpu_us": machine.median([bare.cpu_us for bare, _, _ in triples]),
        "extra_us": machine.median([hooked.cpu_us - bare.cpu_us for bare, _, hooked in triples]),
        "again_us": machine.median([again.cpu_us - bare.cpu_us for bare, again, _ in triples]),
        "per_s": machine.median([bare.per_s for bare, _, _ in triples], 0),
        "loss_pct": machine.median([(1 - hooked.per_s / bare.per_s) * 100 for bare, _, hooked in triples]),
        "again_pct": machine.median([(1 - again.per_s / bare.per_s) * 100 for bare, again, _ in triples]),
    }


def _memory(start: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    return {
        "start_mib": round(start["hooked"] - (start["bare"] + start["again"]) / 2, 1),
        "after_mib": round(after["hooked"] - after["bare"], 1),
        "again_mib": round(after["again"] - after["bare"], 1),
    }


def _lay(place: Path) -> None:
    """Put the servers into a directory, with the frameworks under the names by which they are asked for."""
    for app in APPS.glob("hooks_*"):
        shutil.copy(app, place)
    modules = place / "node_modules"
    modules.mkdir()
    for name, stored in NODE_FRAMEWORKS.items():
        if (installed := _installed(stored)) is not None:
            (modules / name).symlink_to(installed)


def _installed(name: str) -> Path | None:
    where = os.environ.get("WOLVERINE_NODE_FRAMEWORKS", "")
    module = Path(where, "node_modules", name)
    return module if where and module.is_dir() else None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def programs() -> dict[str, tuple[str, Argv]]:
    """What can be measured here: name -> path and command."""
    found: dict[str, tuple[str, Argv]] = {}
    if node := shutil.which("node"):
        found["node:http"] = "/", lambda _: [node, "hooks_http.cjs"]
        if all(_installed(stored) for stored in NODE_FRAMEWORKS.values()):
            found["fastify 5"] = "/items/7", lambda _: [node, "hooks_fastify.cjs"]
            found["express 5"] = "/items/7", lambda _: [node, "hooks_express.cjs"]
    if (python := os.environ.get("WOLVERINE_FRAMEWORKS_PYTHON", "")) and Path(python).exists():
        found["flask, gunicorn"] = (
            "/items/7",
            lambda port: [
                python,
                "-m",
                "gunicorn",
                "--log-level=warning",
                "-w1",
                f"-b127.0.0.1:{port}",
                "hooks_flask:app",
            ],
        )
        found["fastapi, uvicorn"] = (
            "/items/7",
            lambda port: [
                python,
                "-m",
                "uvicorn",
                "--no-access-log",
                "--log-level=warning",
                f"--port={port}",
                "hooks_fastapi:app",
            ],
        )
    return found


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="packaging/bench hooks", description="what the reporters cost")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="loads of each server (9)")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="how long a load lasts (2)")
    parser.add_argument("--connections", type=int, default=8, metavar="N", help="of wrk (8)")
    parser.add_argument("--programs", default="", metavar="A;B", help="only these")
    parser.add_argument("--work", default=None, metavar="DIR", help="where directories are made; they are removed")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("error: wrk is missing; hint: apt install wrk")
    wanted = {name: each for name, each in programs().items() if not args.programs or name in args.programs.split(";")}
    before = machine.load()
    result: dict[str, Any] = {}
    for name, (path, argv) in wanted.items():
        print(f"-- {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="wolverine-bench-", dir=args.work) as directory:
            about = {"rounds": args.rounds, "seconds": args.seconds, "connections": args.connections}
            result[name] = measure(argv, path=path, place=Path(directory), **about)
    load = [round(before, 2), round(machine.load(), 2)]
    if args.json:
        print(json.dumps({**result, "floor": {"machine": machine.described(), "load": load}}, indent=1))
        return
    print(machine.table(COLUMNS, {**result, "target": TARGETS}))
    print(f"\n{machine.described()}; load {load[0]} before, {load[1]} after; medians of {args.rounds}")


if __name__ == "__main__":
    main()
