# SPDX-License-Identifier: MIT
"""A hostile application does its worst on the report socket and in its output; the supervisor stays small and answers.

The bounds are far above what is measured: they tell a supervisor that holds from one that grows or hangs.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.attacks import APP, ATTACK, NAMES
from support.daemons import PYTHON, Running
from support.places import IS_ROOT, eventually, unused_user

LOG = logging.getLogger(__name__)
ATTACK_S = 1.5
ANSWER_S = 3.0
"""Within which `status` is answered at the worst, on a machine that has other things to do."""
GROWTH_MIB = 24
"""What all attacks together may add to the supervisor's memory."""

EXAMPLE = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as sender:
    sender.connect(sys.argv[1])
    report = {"type": "route_error", "path": sys.argv[2], "statusCode": 500, "name": "OneError", "message": "one"}
    sender.sendall(json.dumps(report).encode() + b"\\n")
    sender.shutdown(socket.SHUT_WR)
    sender.settimeout(10)
    sender.recv(1)
"""


@pytest.fixture(scope="module")
def hostile() -> Iterator[Running]:
    """The application under a real daemon that heals nothing."""
    running = Running(
        files={"app.py": APP, "attack.py": ATTACK},
        command=[PYTHON, "-I", "app.py", "PORT"],
        tables='[heal]\npolicy = "off"\n',
    )
    running.config.write_text(running.config.read_text().replace('"PORT"', f'"{running.port}"'))
    with running:
        running.until_healthy()
        yield running


def _memory_kib(running: Running, key: str = "VmRSS") -> int:
    assert running.process is not None
    for line in Path(f"/proc/{running.process.pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise AssertionError(key)


def _ask(running: Running) -> tuple[dict[str, Any], float]:
    begun = time.monotonic()
    return running.status(), time.monotonic() - begun


def _attacked(running: Running, name: str) -> tuple[list[float], int]:
    """How long each `status` took during an attack, and the most memory that was seen."""
    assert running.get(f"/attack/{name}?{ATTACK_S}").status == 200
    until = time.monotonic() + ATTACK_S
    took: list[float] = []
    most = 0
    while time.monotonic() < until:
        status, seconds = _ask(running)
        took.append(seconds)
        most = max(most, _memory_kib(running))
        assert status["generation"] == 1
    return took, most


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_neither_delays_nor_fattens_the_supervisor(hostile: Running, name: str) -> None:
    """While it lasts `status` is answered and memory holds; nothing of it ends the app or the supervisor."""
    before = _memory_kib(hostile)
    took, most = _attacked(hostile, name)
    # Shown by `pytest -o log_cli=true --log-cli-level=info`.
    middle_ms, worst_ms = sorted(took)[len(took) // 2] * 1e3, max(took) * 1e3
    LOG.info("%s: status in %.1f ms, at worst %.0f ms; %d -> %d KiB", name, middle_ms, worst_ms, before, most)
    assert max(took) < ANSWER_S
    assert most - before < GROWTH_MIB << 10
    _wait_for_the_end(hostile)


def _wait_for_the_end(running: Running) -> None:
    """Wait for the attacker's end: what it holds open is gone then."""
    where = str(running.app)

    def over() -> bool:
        return not any(_is_attacker(entry, where) for entry in Path("/proc").iterdir() if entry.name.isdecimal())

    eventually(over, within_s=20)


def _is_attacker(process: Path, where: str) -> bool:
    try:
        is_one = b"attack.py" in (process / "cmdline").read_bytes()
        return is_one and str((process / "cwd").readlink()) == where
    except OSError:
        return False  # it has ended


def _report(running: Running, path: str) -> None:
    argv = [PYTHON, "-I", "-c", EXAMPLE, str(running.runtime / "app" / "report.sock"), path]
    user = unused_user()
    who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if IS_ROOT else {}
    subprocess.run(argv, check=True, timeout=30, cwd="/", **who)


def test_after_all_of_it_an_honest_report_is_heard(hostile: Running) -> None:
    """The next error that is told as agreed is counted, and its incident opened or waiting for its turn."""
    before = hostile.status()["reports"]["caught"]
    _report(hostile, "/honest")
    eventually(lambda: hostile.status()["reports"]["caught"] > before, within_s=20)


def test_what_was_dropped_was_counted(hostile: Running) -> None:
    """Status tells that lines were malformed; a store full of incidents was not made of the flood."""
    reports = hostile.status()["reports"]
    assert reports["malformed"] > 0
    assert len(hostile.incidents()) < 200


@pytest.mark.skipif(not IS_ROOT, reason="becoming another user needs root")
def test_another_user_is_not_heard(hostile: Running) -> None:
    """A connection of another uid is hung up on, whatever it writes."""
    before = hostile.status()["reports"]["caught"]
    line = json.dumps({"type": "route_error", "path": "/forged", "statusCode": 500, "message": "x"}).encode() + b"\n"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
            sender.settimeout(10)
            sender.connect(str(hostile.runtime / "app" / "report.sock"))
            try:
                sender.sendall(line)
                assert sender.recv(1) == b""
            except ConnectionError:
                pass  # it hung up before it was written to
    _report(hostile, "/after")
    eventually(lambda: hostile.status()["reports"]["caught"] == before + 1, within_s=20)
    assert all("/forged" not in one["route"] for one in hostile.incidents())
