# SPDX-License-Identifier: MIT
"""A re-exec of the real daemon: the app, its output and its sockets do not notice."""

from __future__ import annotations

import http.client
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from support.places import IS_ROOT, eventually
from support.replacing import WITHOUT_CGROUPS, Replaced, steady
from support.watching import OBEDIENT, QUICK, alive

from wolverined.control.client import Client
from wolverined.errors import WolverineError

SAME = ("pid", "generation", "state", "restarts", "ready_since", "tree", "failures", "last_exit", "command", "policy")

TALKER = """
import os, socket
line = b'{"type": "crash", "name": "Boom", "message": "told in two halves", "stack": "", "requests": '
line += b'[{"method": "GET", "path": "/told", "headers": {}, "body": ""}], "timestamp": 1}\\n'
reporter = socket.socket(socket.AF_UNIX)
reporter.connect(os.environ["WOLVERINE_REPORT_SOCKET"])
reporter.sendall(line[:60])
""" + OBEDIENT.replace(
    'if word == "exit":', 'if word == "tell":\n        reporter.sendall(line[60:])\n    if word == "exit":'
)

BEATING = """
import os, socket, threading, time
socket_path = os.environ["NOTIFY_SOCKET"]
beats = True
def say(words):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(words, socket_path)
def beat():
    while beats:
        say(b"WATCHDOG=1")
        time.sleep(0.05)
say(b"READY=1\\nSTATUS=at work")
threading.Thread(target=beat, daemon=True).start()
""" + OBEDIENT.replace(
    'if word == "exit":', 'if word == "quiet":\n        global beats\n        beats = False\n    if word == "exit":'
)


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """What an operator sees of the app must not have changed."""
    assert {key: after[key] for key in SAME} == {key: before[key] for key in SAME}
    assert after["uptime_s"] >= before["uptime_s"]


def test_the_app_keeps_its_process_and_everything_that_is_known_of_it() -> None:
    """Same pid, generation, counters and uptime; the daemon is the same process, too, with no file left open."""
    with Replaced() as daemon:
        daemon.until_state("ready")
        daemon.ask("exit/3")
        before = daemon.until_state("ready", generation=2)
        files, memory, incidents = daemon.open_files(), daemon.rss_kib(), daemon.incidents()
        for number in range(1, 4):
            ended = daemon.reexec()
            assert "runs in the place of" in ended["result"]["said"]
            assert int(ended["id"][1:]) == number
        after = daemon.status()
        same(before, after)
        eventually(lambda: daemon.open_files() <= files)
        assert daemon.rss_kib() < memory + 1024
        assert [one["id"] for one in daemon.incidents()] == [one["id"] for one in incidents]
        assert daemon.process is not None
        assert daemon.process.poll() is None
        done = daemon.until_event("reexec.done", count=3)
        assert "generation 2 goes on" in done["message"]
        assert "config.reloaded" not in daemon.names()
        assert daemon.names().count("app.started") == 2
        daemon.ask("exit/4")
        daemon.until_state("ready", generation=3)
        daemon.do("stop")
        assert not alive(before["pid"])


def test_no_line_is_lost_over_twenty_re_execs() -> None:
    """A steady writer: every number is there once, in order, on both pipes; cursors have no gap."""
    with Replaced(steady(0.002)) as daemon:
        daemon.until_state("ready")
        lines = daemon.lines()
        for _ in range(20):
            daemon.reexec()
            lines += daemon.lines()
        for stream in ("out", "err"):
            numbers = [int(line.split()[1]) for line in lines if line.startswith(f"{stream} ")]
            assert numbers[-1] > 20
            assert numbers == list(range(1, numbers[-1] + 1))


def test_a_flood_is_delayed_and_not_cut() -> None:
    """More than the kernel keeps in a pipe is written while nobody reads: the app waits, and nothing is missing."""
    with Replaced(steady(0.0, 40_000)) as daemon:
        daemon.until_state("ready")
        for _ in range(3):
            daemon.reexec()
        # All that was ever written is in the cursor, though the oldest lines are forgotten.
        eventually(lambda: daemon.client.get("/v1/logs?n=1")[-1]["cursor"] == 80_001, within_s=60)


def test_nobody_who_asks_the_daemon_is_refused() -> None:
    """Two clients ask without a pause while it is replaced again and again."""
    errors: list[WolverineError] = []
    over = threading.Event()
    asked = [0, 0]

    def ask(which: int, path: str) -> None:
        while not over.is_set():
            try:
                Client(path).get("/v1/status")
            except WolverineError as error:
                errors.append(error)
            asked[which] += 1

    with Replaced() as daemon:
        daemon.until_state("ready")
        clients = [threading.Thread(target=ask, args=(which, str(daemon.runtime))) for which in range(2)]
        for client in clients:
            client.start()
        try:
            for count in range(1, 6):
                daemon.signalled(count)
        finally:
            over.set()
            for client in clients:
                client.join()
    assert not errors
    assert min(asked) > 10


def test_a_connection_between_two_requests_is_kept() -> None:
    """A client that keeps its connection open asks the successor on it."""
    with Replaced() as daemon:
        daemon.until_state("ready")
        kept = http.client.HTTPConnection("localhost", timeout=20)
        with socket.socket(socket.AF_UNIX) as kept.sock:
            kept.sock.settimeout(20)
            kept.sock.connect(str(daemon.runtime / "control.sock"))
            for count in (1, 2, 3):
                kept.request("GET", "/v1/status", headers={"Host": "localhost"})
                answer = kept.getresponse()
                assert (answer.status, answer.read()[:15]) == (200, b'{"type":"sync",')
                if count < 3:
                    daemon.signalled(count)


def test_who_follows_the_log_is_told_to_ask_again_and_misses_nothing() -> None:
    """The stream ends with the cursor of its last line."""
    with Replaced(steady(0.01)) as daemon:
        daemon.until_state("ready")
        cursors: list[int] = []
        after = "n=0"
        for count in (1, 2):
            with daemon.client.stream(f"/v1/logs?follow=true&{after}") as stream:
                records = iter(stream)
                begun = [next(records) for _ in range(5)]
                daemon.signalled(count)
                rest = list(records)
            assert rest[-1]["type"] == "again"
            after = f"after={rest[-1]['cursor']}"
            cursors += [record["cursor"] for record in (*begun, *rest) if record["type"] == "line"]
        assert cursors == list(range(cursors[0], cursors[-1] + 1))


def test_a_report_told_in_two_halves_reaches_the_incident() -> None:
    """The app's connection to the report socket, and what was read of it, go on."""
    with Replaced(TALKER) as daemon:
        daemon.until_state("ready")
        daemon.reexec()
        daemon.ask("tell")
        daemon.ask("exit/1")
        daemon.until_event("incident.opened")
        incident = daemon.client.get(f"/v1/incidents/{daemon.incidents()[0]['id']}")
        assert incident["request"]["path"] == "/told"


def test_an_app_that_speaks_for_itself_is_heard_on() -> None:
    """Its notify socket is the same; its silence after a re-exec is a hang as before."""
    tables = QUICK + "[probe]\nnotify = true\ninterval_s = 0.3\nfailures = 3\n"
    with Replaced(BEATING, tables=tables) as daemon:
        daemon.until_state("ready")
        socket_path = daemon.runtime / "app" / "notify.sock"
        inode = socket_path.stat().st_ino
        before = daemon.status()
        daemon.reexec()
        daemon.reexec()
        assert socket_path.stat().st_ino == inode
        same(before, daemon.status())
        assert daemon.status()["app_says"] == "at work"
        daemon.ask("quiet")
        daemon.until_event("incident.opened")
        assert daemon.incidents()[0]["kind"] == "hang"
        daemon.until_state("ready", generation=2)


def test_what_an_operator_decided_stays_decided() -> None:
    """A stop, a hold, and the answer to a key that was used."""
    with Replaced() as daemon:
        daemon.until_state("ready")
        held = daemon.do("hold", {"for_s": 600})["result"]["held_until"]
        stop = daemon.client.post("/v1/stop", idempotency_key="once")
        assert daemon.ended(stop["id"])["state"] == "done"
        daemon.reexec()
        status = daemon.status()
        assert status["state"] == "stopped"
        assert abs(status["held_until"] - held) < 1.0
        again = daemon.client.post("/v1/stop", idempotency_key="once")
        assert (again["id"], again["state"]) == (stop["id"], "done")
        daemon.do("start")
        assert daemon.status()["generation"] == 2


def test_a_wait_between_two_starts_is_not_cut_short() -> None:
    """The backoff's record and its timer are those of before."""
    tables = '[heal]\npolicy = "off"\n[restart]\ninitial_s = 7.0\nmax_s = 8.0\njitter = 0.0\n'
    with Replaced("raise SystemExit(5)", tables=tables) as daemon:
        before = daemon.until_state("backoff")
        daemon.reexec()
        after = daemon.status()
        assert after["state"] == "backoff"
        assert after["failures"] == before["failures"]
        assert abs(after["backoff_until"] - before["backoff_until"]) < 0.5
        daemon.until_event("app.started", count=2)


def test_a_generation_that_is_not_ready_yet_becomes_ready() -> None:
    """The startup grace goes on from its beginning; the app is not started a second time."""
    source = "import time; time.sleep(2.5)\n" + OBEDIENT
    with Replaced(source) as daemon:
        daemon.until_state("starting")
        eventually(lambda: daemon.status()["pid"])
        daemon.signalled()
        status = daemon.until_state("ready")
        assert (status["generation"], status["restarts"]) == (1, 0)
        assert daemon.names().count("app.ready") == 1


def test_a_probe_that_is_a_program_is_not_cut_off() -> None:
    """It ends before the daemon is another, and is asked again afterwards; none is left, and nothing was a hang."""
    daemon = Replaced(tables=QUICK)
    asked = daemon.place / "asked" / "by"
    asked.parent.mkdir()
    asked.parent.chmod(0o777)
    probe = daemon.app / "probe.sh"
    probe.write_text(f"#!/bin/sh\nsleep 0.3\necho asked >> {asked}\n")
    probe.chmod(0o755)
    daemon.rewrite(lambda text: f"{text}[probe]\nexec = ['{probe}']\ninterval_s = 0.2\ntimeout_s = 9\n")
    with daemon:
        before = daemon.until_state("ready")
        for _ in range(3):
            daemon.reexec()
        count = len(asked.read_text().splitlines())
        eventually(lambda: len(asked.read_text().splitlines()) > count + 1, within_s=20)
        same(before, daemon.status())
        assert daemon.incidents() == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can take a mount away")
def test_without_cgroups_it_is_the_same() -> None:
    """Processes that were found by looking are remembered, and those that left their parents are still ended."""
    with Replaced(before=WITHOUT_CGROUPS) as daemon:
        daemon.until_state("ready")
        assert any("no cgroup" in one for one in daemon.status()["weaknesses"])
        daemon.ask("children")
        before = eventually(lambda: daemon.status() if len(daemon.status()["tree"]) >= 4 else None)
        daemon.reexec()
        daemon.reexec()
        same(before, daemon.status())
        daemon.do("stop")
        assert not any(alive(pid) for pid in before["tree"])


def test_keys_leave_the_environment_and_are_still_there() -> None:
    """While the app runs no program of ours shows a key in /proc; the adviser is given it all the same."""
    with Replaced(environment={"OPENAI_API_KEY": "sk-of-nobody", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}) as daemon:
        daemon.until_state("ready")
        assert daemon.process is not None
        environ = Path(f"/proc/{daemon.process.pid}/environ")
        if IS_ROOT:
            assert b"sk-of-nobody" in environ.read_bytes()
        daemon.reexec()
        daemon.reexec()
        if IS_ROOT:
            assert b"sk-of-nobody" not in environ.read_bytes()
            assert b"WOLVERINE_HANDOVER" not in daemon.ask("environ").encode()
        daemon.do("restart")
        assert "sk-of-nobody" not in daemon.ask("environ")
