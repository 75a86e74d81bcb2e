# SPDX-License-Identifier: MIT
"""The real daemon under the app's output: floods, followers, a terminal that stops taking anything."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from support.places import eventually
from support.watching import OBEDIENT, PROBED, WITHIN_S, Watched

FLOOD = """
import os, sys
block = (b"0123456789" * 100 + b"\\n") * 60
for _ in range(int(sys.argv[1]) * 1_000_000 // len(block)):
    os.write(1, block)
os.write(1, b"the end\\n")
import time; time.sleep(60)
"""


def test_a_flood_of_output_costs_no_memory_and_no_answer() -> None:
    """500 MB through the pipe: the daemon stays small and answers `status` all along."""
    with Watched(FLOOD, command=("/usr/bin/python3", "app.py", "500"), tables="[heal]\npolicy='off'\n") as daemon:
        daemon.status()
        slowest, largest = 0.0, 0
        while daemon.last_line() != "the end":
            began = time.monotonic()
            assert daemon.status()["state"] in {"starting", "ready"}
            slowest = max(slowest, time.monotonic() - began)
            largest = max(largest, daemon.rss_kib())
            time.sleep(0.2)  # not waiting for anything: an operator who looks again and again
        assert slowest < 1.0
        assert largest < 60 * 1024


def test_lines_without_end_and_without_ends_are_cut_and_counted() -> None:
    """A line of 10 MB, binary rubbish, and escape sequences: the log and the terminal stay readable."""
    source = OBEDIENT.replace(
        'print("listening", flush=True)',
        'sys.stdout.write("x" * 10_000_000 + "\\n");'
        'os.write(2, bytes(range(256)) + b"\\n\\x1b[2J\\x1b]0;owned\\x07\\n");'
        'print("listening", flush=True)',
    )
    with Watched(source) as daemon:
        daemon.until_state("ready")
        eventually(lambda: daemon.status()["dropped_bytes"] > 9_000_000, within_s=WITHIN_S)
        eventually(lambda: "listening" in daemon.said(), within_s=WITHIN_S)
        assert "\x1b" not in daemon.said()
        assert "\x1b" not in daemon.ctl("logs", "-n", "100").out


def test_logs_and_events_are_followed_over_a_restart_of_the_app() -> None:
    """Two followers see the end of one generation and the beginning of the next, each line once."""
    with Watched() as daemon:
        daemon.until_state("ready")
        argv = [sys.executable, "-P", "-m", "wolverined.cli", "--runtime-dir", str(daemon.runtime), "--json"]
        followers = [
            subprocess.Popen([*argv, what, "-f", "-n", "0"], stdout=subprocess.PIPE, text=True)
            for what in ("logs", "events")
        ]
        try:
            logs, events = (follower.stdout for follower in followers)
            assert logs is not None
            assert events is not None
            assert json.loads(logs.readline())["type"] == "start"
            assert json.loads(events.readline())["type"] == "start"
            daemon.ask("say/50")
            daemon.ask("exit/4")
            lines = [json.loads(logs.readline()) for _ in range(51)]
            assert [line["text"] for line in lines] == [*(f"line {n}" for n in range(50)), "listening"]
            assert [lines[0]["generation"], lines[-1]["generation"]] == [1, 2]
            names = []
            while "app.ready" not in names:
                names.append(json.loads(events.readline()).get("name"))
            assert names.count("app.exit") == names.count("app.started") == 1
        finally:
            for follower in followers:
                follower.send_signal(signal.SIGINT)
                follower.communicate(timeout=WITHIN_S)


def test_a_chatty_app_does_not_push_out_our_events() -> None:
    """An app that writes a thousand lines a second: every event of ours is kept and on the console."""
    source = OBEDIENT.replace(
        "while True:",
        "import threading\n"
        "def chatter():\n"
        "    number = 0\n"
        "    while True:\n"
        "        for _ in range(20):\n"
        "            number += 1\n"
        "            print('chatter', number)\n"
        "        sys.stdout.flush()\n"
        "        time.sleep(0.02)\n"
        "threading.Thread(target=chatter, daemon=True).start()\n"
        "while True:",
    )
    with Watched(source) as daemon:
        for generation in range(1, 6):
            daemon.until_state("ready", generation=generation)
            eventually(lambda: daemon.last_line().startswith("chatter"), within_s=WITHIN_S)
            daemon.ask("exit/1")
        daemon.until_state("ready", generation=6)
        names = daemon.names()
        assert names.count("app.exit") == names.count("incident.opened") + names.count("incident.repeated") == 5
        assert names.count("app.started") == 6
        eventually(lambda: daemon.said().count("app.exit ") == 5, within_s=WITHIN_S)


def test_a_stopped_terminal_stops_nothing() -> None:
    """Ctrl-S: the console's lines wait and are then left out; the app goes on, and the end is a clean one."""
    with Watched(tables=PROBED + "[heal]\npolicy='off'\n") as daemon:
        daemon.until_state("ready")
        daemon.kill(signal.SIGTERM)
        read, write = os.pipe()
        argv = [sys.executable, "-P", "-m", "wolverined", "run", "--config", str(daemon.config)]
        argv += ["--runtime-dir", str(daemon.runtime), "--state-dir", str(daemon.state)]
        # With buffered streams, as usual: their lock must not be held by the thread that waits for the terminal.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        daemon.process = subprocess.Popen(argv, stdout=write, stderr=write, start_new_session=True, env=environment)
        os.close(write)
        try:
            daemon.until_state("ready")
            for _ in range(10):
                daemon.ask("say/2000")  # far more than a pipe that nobody reads can hold
            daemon.ask("exit/1")
            daemon.until_state("ready", generation=2)
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(WITHIN_S) == 0
        finally:
            os.close(read)


def test_on_a_terminal_there_are_colours_and_one_line_an_event() -> None:
    """What an operator sees: marks, times, names in a column; the app's lines behind a bar."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.kill(signal.SIGTERM)
        ours, theirs = os.openpty()
        argv = [sys.executable, "-P", "-m", "wolverined", "run", "--config", str(daemon.config)]
        argv += ["--runtime-dir", str(daemon.runtime), "--state-dir", str(daemon.state)]
        environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}
        environment.pop("NO_COLOR", None)
        seen = bytearray()
        reader = threading.Thread(target=_read_all, args=(ours, seen))
        daemon.process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
        )
        os.close(theirs)
        reader.start()
        daemon.until_state("ready")
        daemon.kill(signal.SIGINT)
        reader.join(WITHIN_S)
        os.close(ours)
        text = seen.decode()
        assert "\033[32m✓\033[0m" in text
        plain = [line for line in text.replace("\r", "").split("\n") if line]
        assert all(line.startswith("\033[2m") for line in plain), plain
        assert any(line.endswith("listening") and "│" in line for line in plain)
        assert "app.stopped" in plain[-1]


def test_the_json_log_is_one_object_a_line() -> None:
    """Events and the app's lines, for programs."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.kill(signal.SIGTERM)
        daemon.log.write_bytes(b"")
        argv = [sys.executable, "-P", "-m", "wolverined", "run", "--json-log", "--config", str(daemon.config)]
        argv += ["--runtime-dir", str(daemon.runtime), "--state-dir", str(daemon.state)]
        with daemon.log.open("ab") as log:
            daemon.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        daemon.until_state("ready")
        daemon.kill(signal.SIGTERM)
        records = [json.loads(line) for line in daemon.said().splitlines()]
        assert {"daemon.started", "app.started", "app.ready", "app.line", "app.stopped"} <= {
            one["name"] for one in records
        }
        assert [one["event"] for one in records if one["name"] == "app.line"] == ["listening"]


def _read_all(fd: int, into: bytearray) -> None:
    with suppress(OSError):  # EIO: nobody holds the other end any more
        while True:
            select.select([fd], [], [])
            into += os.read(fd, 65536)
