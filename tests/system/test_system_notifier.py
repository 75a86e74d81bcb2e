# SPDX-License-Identifier: MIT
"""The notifier behind PID 1's walls: who may speak to it, what it reaches, what it does without addresses."""

from __future__ import annotations

import json

import pytest
from support.lab import Machine
from support.services import Service

from wolverined.alerts import letter as letters
from wolverined.alerts.letter import Letter, Receipt

SOCKET = "/run/wolverine-sockets/notifier.sock"
LETTER = Letter(
    app="shop",
    host="web1",
    type="awaiting_approval",
    severity="warn",
    event="heal.approval",
    message="r1 waits",
    at=1.0,
)
ASK = f"""
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect({SOCKET!r})
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    sys.stdout.write(b"".join(iter(lambda: s.recv(65536), b"")).decode())
"""
HOOK = """
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/run/letters", "ab") as log:
            log.write(body + b"\\n")
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Hook).serve_forever()
"""


@pytest.fixture(scope="module")
def listening(machine: Machine) -> Machine:
    """A machine on which the notifier's socket listens, and a web server that keeps what it is told."""
    machine.write("/opt/ask.py", ASK)
    machine.write("/opt/hook.py", HOOK)
    machine.run("systemd-run -q --unit=hook /usr/bin/python3 /opt/hook.py")
    machine.run("systemctl start wolverine-notifier.socket")
    machine.until("curl -s -o /dev/null http://127.0.0.1:8099/", within_s=10)
    return machine


def ask(machine: Machine, user: str | None = "wolverine") -> Receipt:
    """Hand over a letter as the supervisor would."""
    told = machine.run(["python3", "/opt/ask.py"], user=user, input_text=letters.encode(LETTER).decode())
    return letters.decode_receipt(told.stdout.encode())


def test_without_addresses_nobody_is_told_and_nothing_fails(listening: Machine) -> None:
    """A machine where nobody wrote notify-urls."""
    assert ask(listening) == Receipt(sent=0)
    assert listening.run("systemctl --failed --no-legend --plain", check=False).stdout == ""


def test_a_letter_reaches_the_address_of_the_credential(listening: Machine) -> None:
    """Root's file, 0600, is read by PID 1 and by nobody else."""
    listening.write("/etc/wolverine/credentials/notify-urls", "http://127.0.0.1:8099/ops\n", 0o600)
    assert ask(listening) == Receipt(sent=1)
    [told] = [json.loads(line) for line in listening.read("/run/letters").splitlines()]
    assert told["message"] == "r1 waits"


def test_only_the_supervisors_may_speak_to_it(listening: Machine) -> None:
    """An app's user is refused by the socket's mode."""
    refused = listening.run(["python3", "/opt/ask.py"], user="nobody", check=False, input_text="{}\n")
    assert refused.returncode != 0
    assert "PermissionError" in refused.stderr


def test_a_wrong_address_is_said_by_its_line_and_never_shown(listening: Machine) -> None:
    """Whoever reads the journal must not read a password."""
    listening.write("/etc/wolverine/credentials/notify-urls", "# ours\nhook:hunter2\n", 0o600)
    assert "line 2" in ask(listening).error
    told = " ".join(str(entry.get("MESSAGE")) for entry in listening.journal())
    assert "hunter2" not in told
    assert "notify-urls, line 2" in told


def test_a_human_hears_of_a_unit_that_failed_and_not_of_its_restarts(listening: Machine) -> None:
    """A supervisor that was killed is back by itself; one whose configuration cannot be used is not: one letter."""
    listening.write("/etc/wolverine/credentials/notify-urls", "http://127.0.0.1:8099/ops\n", 0o600)
    fallen = Service(listening, "fallen", port=3000, tables="[heal]\npolicy = 'off'\n")
    fallen.systemctl("start")
    before = fallen.pid
    listening.enter("kill", "-KILL", str(before))
    listening.until(lambda: fallen.pid not in (0, before), within_s=20)
    fallen.until_state("ready")
    listening.write(fallen.file, fallen.text.replace("port = 3000", "port = 80"))
    assert fallen.systemctl("restart", check=False).returncode != 0
    listening.until("grep -q unit.failed /run/letters", within_s=20)
    told = [json.loads(line) for line in listening.read("/run/letters").splitlines()]
    [letter] = [one for one in told if one["event"] == "unit.failed"]
    assert (letter["app"], letter["type"], letter["severity"]) == ("fallen", "human_needed", "critical")
    assert "exit-code, exited 78: its configuration cannot be used" in letter["message"]
    assert "journalctl -b -e -u wolverine@fallen.service" in letter["message"]
    listening.until("! systemctl is-active wolverine-failure@fallen.service", within_s=10)
    assert "wolverine-failure" not in listening.run("systemctl --failed --no-legend --plain", check=False).stdout
