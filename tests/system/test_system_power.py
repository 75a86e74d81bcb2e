# SPDX-License-Identifier: MIT
"""A machine that loses its current while a repair is written, or is rebooted while a heal thinks."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.healing import KEY, MODEL, PYTHON_BILL, block, mend, reply
from support.lab import Machine
from support.services import Service

SUPPORT = Path(__file__).resolve().parents[1] / "support"
MODEL_PORT = 8098
PORT = 3020
MODEL_SERVER = f"""
import os, sys, time
sys.path.insert(0, "/opt")
from model_server import ModelServer, answer, hang
def reply(request):
    open("/opt/asked", "a").write("once\\n")
    return hang() if os.path.exists("/opt/hang") else answer(open("/opt/answer").read(), model="{MODEL}")
with ModelServer(port={MODEL_PORT}) as server:
    server.script(reply)
    while True:
        time.sleep(60)
"""
WIDE = reply(
    block("shares.py", "", "def each(total, people):\n    return total / len(people) if people else 0\n"),
    block("bill.py", "def share(total, people):\n", "from shares import each\n\n\ndef share(total, people):\n"),
    block("bill.py", "    return total / len(people)\n", "    return each(total, people)\n"),
    block("app.py", '        return self.say(404, b"no")\n', '        return self.say(404, b"not here")\n'),
)
"""A right repair over three files, one of them new: half of it would not run."""

STEPS = ("staged", "swapped", "staged", "later")
AT_MOST = 12


@pytest.fixture
def bill(installed: list[Path], tmp_path: Path) -> Iterator[Service]:
    """A machine with a disk of its own, on which an app runs that a model can mend; all of it starts at boot."""
    with Machine(installed, name="power", disk=tmp_path / "disk.img") as machine:
        machine.push(SUPPORT / "model_server.py", "/opt/model_server.py")
        machine.write("/opt/model.py", MODEL_SERVER)
        machine.write(
            "/etc/systemd/system/model.service",
            "[Service]\nExecStart=/usr/bin/python3 /opt/model.py\n[Install]\nWantedBy=multi-user.target\n",
        )
        machine.write(
            "/etc/wolverine/ai/bill.toml",
            f'base_url = "http://127.0.0.1:{MODEL_PORT}/v1"\nkey = "{KEY}"\nmodels = {{fast = "{MODEL}"}}\n'
            f'prices = {{"{MODEL}" = {{input = 1.0, output = 2.0}}}}\n',
            0o600,
        )
        service = Service(
            machine,
            "bill",
            port=PORT,
            app=PYTHON_BILL.files["app.py"],
            tables='http = "/health"\n[heal]\nprobation_s = 0.5\nmax_attempts = 1\n',
        )
        machine.write(f"{service.directory}/bill.py", PYTHON_BILL.files["bill.py"], owner=service.user)
        # A source that changed a moment ago is left alone: this one is old.
        machine.run(f"find {service.directory} -exec touch -d '1 hour ago' {{}} +")
        machine.run("systemctl daemon-reload; systemctl enable --now model.service")
        yield service


def crash(service: Service) -> None:
    """Send the request that ends the app."""
    service.machine.until("wolverinectl is-healthy bill", within_s=30)
    service.machine.run(f"curl -s -o /dev/null http://127.0.0.1:{PORT}{PYTHON_BILL.trigger}", check=False)


def repairs(service: Service) -> list[dict[str, Any]]:
    """What `repairs` lists; nothing while wolverined does not answer."""
    done = service.machine.run(["wolverinectl", "--json", "repairs", "bill"], check=False)
    return json.loads(done.stdout) if done.returncode == 0 else []


def tree(service: Service) -> dict[str, str]:
    """The source: name -> text."""
    place = service.machine.path(service.directory)
    return {file.name: file.read_text() for file in sorted(place.glob("*.py"))}


def settled(service: Service) -> str:
    """The state of the one repair once nothing is under way; empty until then."""
    found = repairs(service)
    busy = not found or service.status().get("healing") or found[0]["state"] == "probation"
    return "" if busy else found[0]["state"]


class Written:
    """What a surgery has come to, by the files that it leaves; ours are those before it began."""

    def __init__(self, service: Service) -> None:
        self._place = service.machine.path(service.directory)
        self._before = self._inodes()

    def wait_for(self, step: str, *, within_s: float = 10.0) -> None:
        """Return when new files lie beside the old ones (staged), when one stands in its place (swapped), or later."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            now = self._inodes()
            staged = any(name.startswith(".wolverine-") for name in now)
            swapped = any(self._before.get(name) != inode for name, inode in now.items() if name.endswith(".py"))
            if swapped or (staged and step == "staged"):
                break
        if step == "later":
            time.sleep(0.02)  # a surgery's end is no event that could be waited for from outside

    def _inodes(self) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self._place) if entry.is_file()}


def test_a_power_cut_while_files_are_written_leaves_the_old_tree_or_the_new(bill: Service) -> None:
    """Approve and roll back, the current fails at each step: the app runs whole on what is there, the record fits."""
    machine, rng, cut_off = bill.machine, random.Random(7), 0
    machine.write("/opt/answer", WIDE)
    machine.run(f"systemctl enable --now {bill.unit}")
    old = tree(bill)
    crash(bill)
    machine.until(lambda: settled(bill) == "approval", within_s=60)
    machine.run("wolverinectl approve bill r1")
    machine.until(lambda: settled(bill) in ("verified", "applied"), within_s=30)
    new = tree(bill)
    assert new.keys() - old.keys() == {"shares.py"}
    for number in range(AT_MOST):
        if number >= len(STEPS) and cut_off:
            break
        machine.run("sync")  # what a test writes must not be what is lost
        word = "rollback" if tree(bill) == new else "approve"
        written = Written(bill)
        machine.run(f"systemd-run -q wolverinectl {word} bill r1")
        written.wait_for(STEPS[number % len(STEPS)])
        time.sleep(rng.uniform(0.0, 0.004))  # the current fails at no agreed moment
        machine.power_cut()
        machine.boot()
        state = machine.until(lambda: settled(bill), within_s=60)
        told = [entry.get("WOLVERINE_EVENT") for entry in machine.journal(bill.unit, "-b")]
        cut_off += "heal.recovered" in told
        found = tree(bill)
        assert found in (old, new), f"cut {number}: a mixture"
        expected = (
            {"probation", "verified", "applied"} if found == new else {"approval", "rolled_back", "failed", "proposed"}
        )
        assert state in expected, f"cut {number}: {state}"
        machine.until("wolverinectl is-healthy bill", within_s=30)
        body = machine.run(f"curl -s http://127.0.0.1:{PORT}/nowhere").stdout
        assert body == ("not here" if found == new else "no"), f"cut {number}: it does not run what is there"
    assert cut_off, "no cut came in the middle of anything"


def test_a_heal_that_a_reboot_cut_off_begins_again(bill: Service) -> None:
    """The model thinks, the machine is rebooted: nothing was touched, and after the boot the app is healed."""
    machine = bill.machine
    machine.write("/opt/answer", mend(PYTHON_BILL, PYTHON_BILL.right))
    machine.write("/opt/hang", "")
    machine.run(f"systemctl enable --now {bill.unit}")
    old = tree(bill)
    crash(bill)
    machine.until("test -s /opt/asked", within_s=60)
    machine.run("rm /opt/hang")
    machine.reboot()
    machine.until(lambda: settled(bill) in ("verified", "stable"), within_s=60)
    assert tree(bill).keys() == old.keys()
    assert PYTHON_BILL.right in tree(bill)["bill.py"]
    answer = machine.run(
        f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{PORT}{PYTHON_BILL.trigger}"
    ).stdout
    assert answer == "200"
