# SPDX-License-Identifier: MIT
"""What stands in the journal of a real systemd: fields, floods, forgeries, and the queries that the manual names."""

from __future__ import annotations

import functools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.lab import Machine
from support.services import SERVER, Service

from wolverined.daemon.messageids import MESSAGE_IDS

MANUAL = Path(__file__).resolve().parents[2] / "packaging" / "man" / "wolverined.8"
FLOOD = 125_000  # lines of each stream, in each generation: half a million while it is healed
BURST, SPAN_S = 1000, 5

# A server that dies of one request (its own fault, which a remedy mends), writes a flood while /run/flood is there, and
# obeys whoever speaks to its socket, as `SERVER` does.
APP = (
    """
import os, sys, threading, urllib.parse
def average(values):
    total = sum(values)
    return totl / len(values)
done = []
def flood(stream):
    for number in range(FLOOD // 1000):
        stream.write("".join(f"{stream.name} {number * 1000 + each}\\n" for each in range(1000)))
    stream.flush()
    done.append(stream)
if os.path.exists("/run/flood"):
    for stream in (sys.stdout, sys.stderr):
        threading.Thread(target=flood, args=[stream], daemon=True).start()
""".replace("FLOOD", str(FLOOD))
    + SERVER.replace(
        """        self.send_response(200)
        self.end_headers()
""",
        """        if self.path == "/average":
            try:
                average([1, 2])
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        self.send_response(200)
        self.end_headers()
""",
    )
)
TABLES = "[restart]\ninitial_s = 0.05\n[heal]\npolicy = 'auto'\nprobation_s = 0.5\n"
ALL_READ = (
    "import __main__, fcntl, struct, termios\n"
    "left = [struct.unpack('i', fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0] for fd in (1, 2)]\n"
    "answer = len(__main__.done) == 2 and left == [0, 0]\n"
)
UNIT = f"LogRateLimitIntervalSec={SPAN_S}s\nLogRateLimitBurst={BURST}"


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Service:
    """A shop that runs, under a measure that a flood is soon over."""
    service = Service(machine, "shop", port=3000, app=APP, tables=TABLES, unit=UNIT)
    age(service)
    service.systemctl("start")
    return service


def age(shop: Service) -> None:
    """Make the source old: what changed a moment ago is left alone."""
    shop.machine.run(f"touch -d '1 hour ago' {shop.directory}/app.py {shop.directory}")


def entries(shop: Service, *words: str) -> list[dict[str, Any]]:
    """Entries of the unit that wolverined has written."""
    own = shop.machine.enter("id", "-u", "wolverine").stdout.decode().strip()
    return shop.machine.journal(shop.unit, f"_UID={own}", *words)


def events(shop: Service) -> list[dict[str, Any]]:
    """What the store knows."""
    said = shop.machine.run(f"wolverinectl --json events {shop.name} -n 1000").stdout
    return [json.loads(line) for line in said.splitlines()]


def message(entry: dict[str, Any]) -> bytes:
    """The message as it was stored; journalctl gives what is not printable as numbers."""
    told = entry["MESSAGE"]
    return bytes(told) if isinstance(told, list) else str(told).encode()


def line_of(shop: Service, words: str) -> dict[str, Any]:
    """The entry of a line of the app that begins so."""
    found: dict[str, Any] = shop.machine.until(
        lambda: next(
            (one for one in entries(shop, "-n", "500") if message(one).startswith(words.encode())),
            None,
        )
    )
    return found


def test_events_and_lines_are_entries_of_their_own(shop: Service) -> None:
    """With the fields that the manual names, and those that journald itself vouches for."""
    ready = entries(shop, "WOLVERINE_EVENT=app.ready")[-1]
    assert ready["MESSAGE_ID"] == MESSAGE_IDS["app.ready"]
    expected = {"SYSLOG_IDENTIFIER": "shop", "WOLVERINE_APP": "shop", "WOLVERINE_GENERATION": "1", "PRIORITY": "6"}
    assert expected.items() <= ready.items()
    assert ready["_SYSTEMD_CGROUP"].endswith(f"{shop.unit}/supervisor")
    cursors = {event["cursor"] for event in events(shop)}
    assert int(ready["WOLVERINE_CURSOR"]) in cursors
    shop.run("import sys; print('to stdout', flush=True); print('to stderr', file=sys.stderr, flush=True)")
    out, err = line_of(shop, "to stdout"), line_of(shop, "to stderr")
    assert (out["WOLVERINE_STREAM"], out["PRIORITY"]) == ("stdout", "6")
    assert (err["WOLVERINE_STREAM"], err["PRIORITY"]) == ("stderr", "4")
    assert out["_SYSTEMD_UNIT"] == shop.unit
    assert int(out["WOLVERINE_APP_PID"]) == shop.status()["pid"]
    assert "WOLVERINE_EVENT" not in out


def test_strange_lines_are_stored_as_they_are(shop: Service) -> None:
    """The longest, a longer one that is cut, control characters, a NUL; of invalid UTF-8 what can be read."""
    shop.run(
        "import os\n"
        "os.write(1, b'long ' + b'x' * 65531 + b'\\n')\n"
        "os.write(1, b'cut ' + b'y' * 70000 + b'\\n')\n"
        "os.write(1, b'control \\x1b[31m \\x07 \\x00 \\r in it\\n')\n"
        "os.write(1, b'invalid \\xff\\xfe \\xc3\\xbc\\n')\n"
        "os.write(1, b'wide ' + b'\\xff' * 65531 + b'\\n')\n"
        "os.write(1, b'A=b\\nMESSAGE=b\\n')\n"
    )
    assert len(message(line_of(shop, "long "))) == 65_536
    assert "WOLVERINE_TRUNCATED" not in line_of(shop, "long ")
    cut = line_of(shop, "cut ")
    assert (len(message(cut)), cut["WOLVERINE_TRUNCATED"]) == (65_536, "1")
    assert message(line_of(shop, "control ")) == b"control \x1b[31m \x07 \x00 \r in it"
    assert message(line_of(shop, "invalid ")) == "invalid \ufffd\ufffd ü".encode()
    assert message(line_of(shop, "wide ")) == b"wide " + "\ufffd".encode() * 65_531  # 190 kB: more than the line had
    assert message(line_of(shop, "A=b")) == b"A=b"
    assert message(line_of(shop, "MESSAGE=b")) == b"MESSAGE=b"


def test_a_heal_under_a_flood_loses_no_event(shop: Service) -> None:
    """Half a million lines meanwhile: every event arrives, every line is stored or counted, the loop has time."""
    machine = shop.machine
    machine.run("touch /run/flood")
    began, used = uptime_s(machine), supervisor_cpu_s(shop)
    machine.run("curl -s -m 5 http://127.0.0.1:3000/average; true")
    machine.until(lambda: any(event["name"] == "repair.verified" for event in events(shop)), within_s=60)
    machine.until(lambda: shop.run(ALL_READ) == "True", within_s=60)
    assert (supervisor_cpu_s(shop) - used) / (uptime_s(machine) - began) < 0.8
    machine.run("rm /run/flood")
    kept = [json.loads(line) for line in machine.run("wolverinectl --json logs shop -n 1000").stdout.splitlines()]
    assert {line["text"].split()[1] for line in kept} & {str(FLOOD - 1)}, "the newest lines are not kept"
    newest = kept[-1]["cursor"]
    assert newest > 2 * FLOOD
    machine.until(lambda: stored_and_left_out(shop) == newest, within_s=3 * SPAN_S)
    told = {int(one["WOLVERINE_CURSOR"]) for one in entries(shop) if "WOLVERINE_CURSOR" in one}
    missing = [event for event in events(shop) if event["cursor"] not in told]
    assert missing == []
    suppressed = [one for one in machine.journal("systemd-journald") if "Suppressed" in str(one["MESSAGE"])]
    assert suppressed == []


def stored_and_left_out(shop: Service) -> int:
    """Lines of the app in the journal, and those that were counted instead."""
    machine = shop.machine
    own = machine.enter("id", "-u", "wolverine").stdout.decode().strip()
    words = f"journalctl -q -o cat --output-fields=WOLVERINE_STREAM -u {shop.unit} _UID={own} "
    stored = int(machine.run(f"{words} WOLVERINE_STREAM=stdout WOLVERINE_STREAM=stderr | grep -c '^std'").stdout)
    told = [event["fields"]["lines"] for event in events(shop) if event["name"] == "output.limited"]
    return stored + sum(sum(streams.values()) for streams in told)


def uptime_s(machine: Machine) -> float:
    """Seconds since boot."""
    return float(machine.read("/proc/uptime").split()[0])


def supervisor_cpu_s(shop: Service) -> float:
    """What wolverined itself has used of the processor."""
    text = (shop.cgroup / "supervisor" / "cpu.stat").read_text()
    return int(re.search(r"usage_usec (\d+)", text)[1]) / 1e6  # type: ignore[index]


def test_a_crash_names_the_line_and_a_deploy_that_loses_its_repair_is_told(shop: Service) -> None:
    """Where it broke, in the journal's own fields; and after the deploy how to get the repair back."""
    opened = entries(shop, f"MESSAGE_ID={MESSAGE_IDS['incident.opened']}")[-1]
    assert (opened["CODE_FILE"], opened["CODE_FUNC"], opened["WOLVERINE_KIND"]) == ("app.py", "average", "crash")
    assert APP.splitlines()[int(opened["CODE_LINE"]) - 1].strip() == "return totl / len(values)"
    shop.machine.write(f"{shop.directory}/app.py", APP, owner=shop.user)
    age(shop)
    shop.systemctl("restart")
    (lost,) = shop.machine.until(lambda: entries(shop, "WOLVERINE_EVENT=repair.lost"), within_s=20)
    assert (lost["WOLVERINE_REPAIR"], lost["PRIORITY"]) == ("r1", "4")
    assert "wolverinectl repairs shop show r1 --patch | git am" in lost["MESSAGE"]
    assert "lost" in shop.machine.run("wolverinectl repairs shop").stdout


def test_the_queries_of_the_manual_find_what_they_say_and_no_forgery(shop: Service) -> None:
    """An app that writes entries of its own under our unit deceives no query that names our user."""
    shop.run(
        "import socket\n"
        "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:\n"
        "    journal.connect('/run/systemd/journal/socket')\n"
        "    for event in ('repair.applied', 'repair.lost', 'incident.opened'):\n"
        "        words = f'MESSAGE=forged\\nWOLVERINE_EVENT={event}\\nWOLVERINE_INCIDENT=i1\\nWOLVERINE_REPAIR=r1\\n'\n"
        "        more = f'PRIORITY=2\\nWOLVERINE_STREAM=stderr\\nWOLVERINE_GENERATION=1\\n_UID=0\\n'\n"
        f"        more += 'MESSAGE_ID={MESSAGE_IDS['incident.opened']}\\n'\n"
        "        journal.send((words + more).encode())\n"
    )
    machine = shop.machine
    machine.until(f"journalctl -q -u {shop.unit} WOLVERINE_EVENT=repair.applied | grep -q forged")
    queries = manual_queries()
    assert len(queries) >= 8
    for query in queries:
        # What follows is cut off after a second, which a busy machine may need before its first word.
        found = machine.until(functools.partial(answer, machine, query), within_s=20)
        assert "forged" not in found or "-f" in shlex.split(query), query
    explained = machine.run("journalctl -x -u wolverine@shop _UID=$(id -u wolverine) WOLVERINE_REPAIR=r1").stdout
    assert "Subject: A repair of shop was applied" in explained
    assert "wolverinectl diff shop r1" in explained


def answer(machine: Machine, query: str) -> str:
    """What a query prints."""
    return machine.run(query).stdout.strip()


def manual_queries() -> list[str]:
    """The commands of wolverined(8), for this app and what it went through; one that follows ends at once."""
    text = MANUAL.read_text().replace(r"\-", "-")
    found = re.findall(r"^journalctl .*$", text, re.MULTILINE)
    told = {
        "@myapp": "@shop",
        "=i3": "=i1",
        "=r2": "=r1",
        "GENERATION=7": "GENERATION=1",
        " -f ": " -f -n 1 --no-tail ",
    }
    for old, new in told.items():
        found = [query.replace(old, new) for query in found]
    return [f"timeout 1 {query}; true" if " -f " in query else query for query in found]


def test_a_journal_that_restarts_or_is_away_delays_nothing_and_gets_every_event(shop: Service) -> None:
    """An operator's restart takes as long as ever, and what was told meanwhile arrives when journald is back."""
    machine = shop.machine
    before = events(shop)[-1]["cursor"]
    machine.run("systemctl restart systemd-journald")
    machine.run("wolverinectl restart shop")
    units = (
        "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald.service"
    )
    machine.run(f"systemctl stop {units}", check=False)
    began = uptime_s(machine)
    machine.run("rm -f /run/systemd/journal/socket; wolverinectl restart shop")
    assert uptime_s(machine) - began < 5
    assert shop.status()["state"] == "ready"
    machine.run("systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service")

    def told() -> bool:
        found = {int(one["WOLVERINE_CURSOR"]) for one in entries(shop) if "WOLVERINE_CURSOR" in one}
        return all(event["cursor"] in found for event in events(shop) if event["cursor"] > before)

    machine.until(told, within_s=15)
