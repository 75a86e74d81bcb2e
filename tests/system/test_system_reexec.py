# SPDX-License-Identifier: MIT
"""A supervisor replaces itself under systemd: to PID 1 the same process, with the same app, power and walls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Machine
from support.packages import next_version
from support.services import SERVER, Service, process_facts

TOP = Path(__file__).resolve().parents[2]
WORKER = """
import threading
def count():
    number = 0
    while True:
        number += 1
        print("number", number, flush=True)
        time.sleep(0.005)
threading.Thread(target=count, daemon=True).start()
"""
OFF = "[heal]\npolicy = 'off'\n"
POWER = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigIgn")


def counting() -> str:
    """The usual app, which besides writes a numbered line every few milliseconds."""
    head, _, rest = SERVER.partition("def obey():")
    return f"{head}{WORKER}\ndef obey():{rest}"


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Iterator[Service]:
    """An app that writes all the time, under a watchdog of a second."""
    service = Service(machine, "shop", port=3000, app=counting(), tables=OFF, unit="WatchdogSec=1")
    service.systemctl("start")
    yield service
    service.systemctl("stop")


def seen(service: Service) -> dict[str, Any]:
    """What PID 1, the kernel and an operator see that must not change."""
    status = service.status()
    host = service.leaves()["supervisor"]
    facts = process_facts(host[0])
    return {
        **service.show("MainPID", "ActiveState", "SubState", "NRestarts", "ExecMainStartTimestampMonotonic"),
        "leaves": sorted(service.leaves()),
        "supervisor": len(host),
        "app": (status["pid"], status["generation"], status["state"], status["restarts"]),
        "power": {key: facts[key].strip() for key in POWER},
        "environment": service.run("answer = sorted(os.environ)"),
    }


def reexec(service: Service, *, well: bool = True) -> str:
    """`wolverinectl reexec`; what it says."""
    done = service.machine.run(["wolverinectl", "reexec", service.name], check=False)
    assert (done.returncode == 0) is well, done
    return str(done.stdout + done.stderr)


def test_to_systemd_and_to_the_app_nothing_has_happened(shop: Service) -> None:
    """Main process, start time, capabilities, cgroups, the app's pid; the watchdog is fed over several periods."""
    shop.until_state("ready")
    before = seen(shop)
    for _ in range(3):
        assert "runs in the place of" in reexec(shop)
    assert seen(shop) == before
    entries = len(shop.said())
    shop.machine.until(lambda: len(shop.said()) > entries + 300)  # more than a second and a half of its lines
    assert seen(shop) == before
    told = shop.machine.journal(shop.unit, "WOLVERINE_EVENT=reexec.done")
    assert len(told) == 3
    assert {entry["_PID"] for entry in told} == {before["MainPID"]}


def test_no_line_is_lost_to_the_journal(shop: Service) -> None:
    """Every number is there once, in order, over the change of programs."""
    shop.until_state("ready")
    for _ in range(3):
        reexec(shop)
    lines = [line.split()[1] for line in shop.said() if line.startswith("number ")]
    numbers = list(map(int, lines))
    assert len(numbers) > 100
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_sigusr2_does_the_same(shop: Service) -> None:
    """As `systemctl kill -s USR2 --kill-whom=main` sends it."""
    shop.until_state("ready")
    before = seen(shop)
    told = len(shop.machine.journal(shop.unit, "WOLVERINE_EVENT=reexec.done"))
    shop.machine.run(["systemctl", "kill", "-s", "USR2", "--kill-who=main", shop.unit])
    shop.machine.until(lambda: len(shop.machine.journal(shop.unit, "WOLVERINE_EVENT=reexec.done")) > told)
    shop.until_state("ready")
    assert seen(shop) == before


def test_a_file_that_is_wrong_refuses_it(shop: Service) -> None:
    """With its words, on the terminal and in the journal; the unit and the app stay. Mended, it is done."""
    shop.until_state("ready")
    before = seen(shop)
    shop.machine.write(shop.file, shop.text + "[nonsense]\nx = 1\n")
    assert "systemctl reload" in reexec(shop, well=False), "root has not looked at it yet"
    shop.machine.run(["/usr/lib/wolverine/prepare", shop.name], check=False)
    assert "nonsense" in reexec(shop, well=False)
    shop.machine.write(shop.file, shop.text)
    shop.machine.run(["/usr/lib/wolverine/prepare", shop.name])
    assert seen(shop) == before
    reexec(shop)
    assert seen(shop) == before
    assert any("wolverined is not replaced, and goes on" in line for line in shop.said())


def test_what_comes_after_it_is_as_ever(shop: Service) -> None:
    """The app is restarted when it dies, in a leaf of its own; the supervisor's death is PID 1's business."""
    shop.until_state("ready")
    reexec(shop)
    generation = shop.status()["generation"]
    shop.machine.run(["kill", "-9", str(shop.status()["pid"])])
    shop.machine.until(lambda: shop.status().get("generation") == generation + 1)
    shop.until_state("ready")
    assert f"app-{generation + 1}" in shop.leaves()
    before = shop.pid
    shop.machine.run(["kill", "-9", str(before)])
    shop.machine.until(lambda: shop.pid not in {0, before})
    shop.until_state("ready")
    assert sorted(shop.leaves()) == ["", "app-1", "supervisor"]


@pytest.fixture(scope="module")
def healing(machine: Machine) -> Iterator[Service]:
    """A server with a fault that is mended without a model, and watched for a while afterwards."""
    source = TOP / "packaging/demo-apps/python"
    service = Service(
        machine,
        "orders",
        port=3040,
        app=(source / "app.py").read_text(),
        tables='http = "/health"\n[heal]\nprobation_s = 60\n',
    )
    for path in source.iterdir():
        if path.is_file():
            machine.write(f"{service.directory}/{path.name}", path.read_text(), owner=service.user)
    machine.run(f"find {service.directory} -exec touch -d '1 hour ago' {{}} +")
    service.systemctl("start")
    yield service
    service.systemctl("stop")


def test_an_upgrade_in_the_middle_of_a_heal_waits_for_it(
    healing: Service, shop: Service, deb: Path, tmp_path: Path
) -> None:
    """The package is installed at once; who heals is replaced when the repair has stood, others meanwhile."""
    machine = healing.machine
    healing.until_state("ready")
    shop.until_state("ready")
    version = healing.status()["version"]
    machine.push(next_version(deb, tmp_path, version="0.1.99"), "/root/next.deb")
    machine.run("curl -s -o /dev/null http://127.0.0.1:3040/average/north", check=False)
    machine.until(lambda: _repairs(healing) == ["probation"], within_s=90)
    during, other = healing.status()["pid"], shop.status()["pid"]
    said = machine.run("DEBIAN_FRONTEND=noninteractive dpkg -i /root/next.deb", timeout_s=120).stdout
    assert "shop goes on: wolverined 0.1.99 runs in the place of" in said
    assert "orders goes on with the new version as soon as it can: a heal of i" in said
    assert shop.status()["version"] == "0.1.99"
    assert shop.status()["pid"] == other
    assert (healing.status()["version"], _repairs(healing)) == (version, ["probation"]), "it is not cut off"
    machine.until(lambda: healing.status().get("version") == "0.1.99", within_s=120)
    assert _repairs(healing) == ["verified"]
    assert healing.status()["pid"] == during
    assert [entry["MESSAGE"] for entry in machine.journal(healing.unit, "WOLVERINE_EVENT=reexec.waits")]
    assert healing.show("NRestarts")["NRestarts"] == "0"


def _repairs(service: Service) -> list[str]:
    done = service.machine.run(["wolverinectl", "--json", "repairs", service.name], check=False)
    return [one["state"] for one in json.loads(done.stdout)] if done.returncode == 0 else []
