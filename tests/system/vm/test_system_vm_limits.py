# SPDX-License-Identifier: MIT
"""Limits, and deaths for want of memory, in an emulated machine whose cgroup v2 has all its controllers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.lab_deb import ensure_installed
from support.lab_vm import EmulatedMachine, ensure_kernel, why_no_vm

MIB = 1 << 20

SLOW_S = 120
"""How long anything may take at an emulated processor's pace."""

SERVER = """
import http.server, json, os, sys, time

def rest():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)

def fork_until_refused(most):
    for made in range(most):
        try:
            if os.fork() == 0:
                time.sleep(3600)
                os._exit(0)
        except BlockingIOError:
            return made
    return most

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/eat":
            kept = []
            while True:
                kept.append(b"x" * (1 << 20))
        answer = {"/leave": rest, "/fork": lambda: fork_until_refused(1000), "/": os.getpid}[self.path]()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *args):
        pass

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class App(NamedTuple):
    """One supervised application in the emulated machine."""

    vm: EmulatedMachine
    name: str
    port: int

    @property
    def unit(self) -> str:
        """Its unit."""
        return f"wolverine@{self.name}.service"

    @property
    def group(self) -> str:
        """Its unit's cgroup."""
        return f"/sys/fs/cgroup{self.vm.run(['systemctl', 'show', '-P', 'ControlGroup', self.unit]).stdout.strip()}"

    def install(self, more: str = "") -> None:
        """Put it there, with a user of its own, and start its unit."""
        self.vm.run(f"id {self.name} >/dev/null 2>&1 || useradd --system --user-group {self.name}")
        self.vm.write(f"/srv/{self.name}/app.py", SERVER)
        self.vm.run(f"chown -R {self.name}: /srv/{self.name}")
        head = f'[app]\ncommand = ["python3", "app.py"]\ndirectory = "/srv/{self.name}"\nport = {self.port}\n'
        self.vm.write(f"/etc/wolverine/{self.name}.toml", f'{head}[heal]\npolicy = "off"\n{more}')
        self.vm.run(f"systemctl restart {self.unit}")
        self.healthy()

    def healthy(self) -> None:
        """Wait until it answers."""
        self.vm.until(f"wolverinectl is-healthy {self.name}", within_s=SLOW_S)

    def get(self, path: str) -> str:
        """What it answers to a request; empty when it went away."""
        return self.vm.run(["curl", "-s", f"http://127.0.0.1:{self.port}{path}"], check=False).stdout

    def status(self) -> dict[str, Any]:
        """Its status."""
        found: dict[str, Any] = json.loads(self.vm.run(["wolverinectl", "--json", "status", self.name]).stdout)
        return found

    def exits(self) -> list[dict[str, Any]]:
        """The events of its exits."""
        lines = self.vm.run(["wolverinectl", "--json", "events", self.name]).stdout.splitlines()
        return [event for line in lines if (event := json.loads(line))["name"] == "app.exit"]

    def limit(self, **properties: str) -> None:
        """Set limits of the unit, as a drop-in would; "" takes one back."""
        words = [f"{name}={value}" for name, value in properties.items()]
        self.vm.run(["systemctl", "set-property", "--runtime", self.unit, *words])

    def wait_exit(self, *, after: int) -> dict[str, Any]:
        """The next event of an exit, when there were `after`."""
        self.vm.until(lambda: len(self.exits()) > after, within_s=SLOW_S)
        return self.exits()[after]


@pytest.fixture(scope="module")
def vm(base: Path, deb: Path) -> Iterator[EmulatedMachine]:
    """An emulated machine with the .deb."""
    if reason := why_no_vm():
        pytest.skip(reason)
    kernel = ensure_kernel(lower=[base])
    with EmulatedMachine([ensure_installed(deb, lower=[kernel, base]), kernel, base]) as booted:
        yield booted


@pytest.fixture(scope="module")
def app(vm: EmulatedMachine) -> App:
    """An application that is held to 64 MiB."""
    one = App(vm, "held", 3001)
    one.install("[resources]\nmemory_max_mb = 64\n")
    return one


def test_controllers_reach_the_leaf(app: App) -> None:
    """The app's leaf has the controllers of memory and processes, the limit is set, and nothing is told as weaker."""
    leaf = f"{app.group}/app-{app.status()['generation']}"
    assert {"memory", "pids"} <= set(app.vm.read(f"{leaf}/cgroup.controllers").split())
    assert int(app.vm.read(f"{leaf}/memory.max")) == 64 * MIB
    assert app.vm.read(f"{leaf}/memory.oom.group").strip() == "1"
    weaker = app.vm.run(["wolverinectl", "status", app.name]).stdout
    assert not re.search(r"weaker +(cgroup|resources)", weaker), weaker


def test_an_app_over_its_memory_is_told_as_out_of_memory(app: App) -> None:
    """It ends with all of its leaf, the exit says why and at what limit, and the next generation serves."""
    app.get("/leave")
    before = app.status()
    exits = len(app.exits())
    app.get("/eat")
    told = app.wait_exit(after=exits)
    assert "out of memory" in told["message"]
    assert "64 MiB" in json.dumps(told)
    app.healthy()
    after = app.status()
    assert after["generation"] == before["generation"] + 1
    assert app.vm.run(["pgrep", "-c", "-u", app.name]).stdout.strip() == "1"
    [incident] = json.loads(app.vm.run(["wolverinectl", "--json", "incidents", app.name]).stdout)
    assert incident["kind"] == "oom"
    assert app.vm.run(["systemctl", "show", "-P", "NRestarts", app.unit]).stdout.strip() == "0"


def test_memory_of_the_whole_unit_holds_too(app: App) -> None:
    """With MemoryMax= of the unit below the app's own limit the app is what dies; its supervisor lives on."""
    supervisor = app.vm.run(["systemctl", "show", "-P", "MainPID", app.unit]).stdout
    used = int(app.vm.read(f"{app.group}/memory.current"))
    app.limit(MemoryMax=str(used + 16 * MIB), MemorySwapMax="0")
    exits = len(app.exits())
    app.get("/eat")
    assert "out of memory" in app.wait_exit(after=exits)["message"]
    app.limit(MemoryMax="infinity")
    app.healthy()
    assert app.vm.run(["systemctl", "show", "-P", "MainPID", app.unit]).stdout == supervisor


def test_a_fork_bomb_meets_the_units_limit(app: App) -> None:
    """With TasksMax=100 an app that forks a thousand times gets less; its supervisor answers and can restart it."""
    app.limit(TasksMax="100")
    app.vm.run(["wolverinectl", "restart", app.name])
    app.healthy()
    made = int(app.get("/fork"))
    assert 20 < made < 100
    assert app.status()["state"] == "ready"
    app.vm.run(["wolverinectl", "restart", app.name])
    app.healthy()
    assert app.vm.run(["pgrep", "-c", "-u", app.name]).stdout.strip() == "1"
    app.limit(TasksMax="infinity")


def test_processors_of_the_unit_are_held(app: App) -> None:
    """With CPUQuota=20% the app is throttled, by the unit's own count."""
    app.limit(CPUQuota="20%")
    app.vm.until(lambda: [app.get("/") for _ in range(5)] and _throttled(app) > 0, within_s=SLOW_S)
    app.limit(CPUQuota="")


def _throttled(app: App) -> int:
    found = re.search(r"nr_throttled (\d+)", app.vm.read(f"{app.group}/cpu.stat"))
    return int(found[1]) if found else 0


@pytest.mark.timeout(1800)
def test_fifty_restarts_leave_nobody_and_find_their_cgroup(app: App) -> None:
    """Two units, each restarted 25 times with a tree that hides: no survivor, no 219/CGROUP, no restart by systemd."""
    other = App(app.vm, "twin", 3002)
    other.install()
    pair = (app, other)
    # READY=1, for which `restart` waits, says that the app answers; one process of the user is left then.
    get = "curl -sfo /dev/null {url}"
    each = f"{get}/leave && systemctl restart {{unit}} && {get}/ && pgrep -c -u {{name}}"
    for one in pair:
        one.healthy()
    for _ in range(25):
        script = " & ".join(
            f"({each}) > /run/{one.name}".format(url=f"http://127.0.0.1:{one.port}", unit=one.unit, name=one.name)
            for one in pair
        )
        app.vm.run(f"{script} & wait", timeout_s=SLOW_S)
        for one in pair:
            assert app.vm.read(f"/run/{one.name}") == "1\n"
    for one in pair:
        assert app.vm.run(["systemctl", "show", "-P", "NRestarts", one.unit]).stdout.strip() == "0"
        assert not [entry for entry in app.vm.journal(one.unit) if "219" in str(entry["MESSAGE"])]
        app.vm.run(["systemctl", "stop", one.unit])
        assert app.vm.run(["pgrep", "-u", one.name], check=False).returncode == 1


@pytest.mark.timeout(600)
def test_a_killed_supervisor_finds_its_cgroup_again(app: App) -> None:
    """The one that was killed could not switch the unit's controllers off; PID 1 starts the next all the same."""
    app.vm.run(["systemctl", "restart", app.unit])
    app.healthy()
    assert "memory" in app.vm.read(f"{app.group}/cgroup.subtree_control")
    app.vm.run(["systemctl", "kill", "--kill-who=main", "--signal=KILL", app.unit])
    app.vm.until(f"test $(systemctl show -P NRestarts {app.unit}) = 1", within_s=SLOW_S)
    app.healthy()
    assert app.vm.run(["pgrep", "-c", "-u", app.name]).stdout.strip() == "1"
    assert not [entry for entry in app.vm.journal(app.unit) if "219" in str(entry["MESSAGE"])]
