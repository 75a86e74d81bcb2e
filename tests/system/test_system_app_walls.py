# SPDX-License-Identifier: MIT
"""The app's side of the walls, tried from inside an app that does as it is told, and who may operate its supervisor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.lab import Machine
from support.services import Service, process_facts

from wolverined.config.facts import PREPARED

NO_POWER = "0000000000000000"
SECRET = "swordfish-1234"
OURS = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_", "JOURNAL_", "INVOCATION_ID", "RUNTIME_", "STATE_")
OURS += ("OPENAI_", "MAINPID", "SYSTEMD_", "MONITOR_")


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Iterator[Service]:
    """An application whose environment file is root's alone, in a directory that is its own alone."""
    machine.write("/etc/wolverine/shop.env", f"TOKEN={SECRET}\n", 0o600)
    service = Service(
        machine,
        "shop",
        port=3000,
        lines='environment_file = "/etc/wolverine/shop.env"',
        tables="[heal]\npolicy = 'off'\n",
        unit='Environment="OPENAI_API_KEY=sk-of-the-supervisor" "WOLVERINE_CLUSTER=true"',
    )
    service.systemctl("start")
    yield service
    service.systemctl("stop")


def test_the_app_has_no_capability_and_nothing_of_ours(shop: Service) -> None:
    """Its own uid and groups, the environment that was written for it, no descriptor but the usual three."""
    facts = shop.facts()
    status = facts["status"]
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {NO_POWER}
    assert status["NoNewPrivs"] == "1"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(shop.uid)}
    assert status["Groups"].split() == [str(shop.uid)]
    assert status["Umask"] == "0022"
    assert facts["oom"].strip() == "0"
    assert facts["cgroup"].rstrip().endswith(f"{shop.unit}/app-1")
    assert facts["environment"]["TOKEN"] == SECRET
    assert [name for name in facts["environment"] if name.startswith(OURS)] == []
    assert "WOLVERINE_CLUSTER" not in facts["environment"]
    inherited = {fd: target for fd, target in facts["open"].items() if int(fd) <= 2}
    assert inherited["0"] == "/dev/null"
    assert all(target.startswith("pipe:") for fd, target in inherited.items() if fd != "0")
    assert not any("control" in target or "store.db" in target for target in facts["open"].values())


def test_an_app_that_is_root_has_no_capability_either(machine: Machine) -> None:
    """An operator who allowed it gets a root that owns root's files and can do no more than their owner."""
    lines = 'user = "root"\nallow_root = true'
    king = Service(machine, "king", port=3001, lines=lines, tables="[heal]\npolicy = 'off'\n")
    machine.run(["chown", "root:", king.directory])
    king.systemctl("start")
    status = king.facts()["status"]
    assert status["Uid"].split()[0] == "0"
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {NO_POWER}
    assert "PermissionError" in king.run(f"os.kill({king.pid}, 0)")
    king.systemctl("stop")


def test_a_supervisor_has_what_it_needs_and_no_more(shop: Service) -> None:
    """Three capabilities and no way to gain one; its words about what it ignores."""
    status = process_facts(shop.leaves()["supervisor"][0])
    power = f"{1 << 5 | 1 << 6 | 1 << 7:016x}"  # CAP_KILL, CAP_SETGID, CAP_SETUID
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb", "Bnd")} == {power}
    assert status["NoNewPrivs"] == "1"
    assert shop.status()["weaknesses"][-2:] == [
        line
        for line in shop.status()["weaknesses"]
        if line.startswith(("OPENAI_API_KEY in the environment is ignored", "WOLVERINE_CLUSTER in the environment"))
    ]


ATTEMPTS: dict[str, tuple[str, str]] = {
    "signal its supervisor": ("os.kill({pid}, 0)", "PermissionError"),
    "read its supervisor's environment": ("open('/proc/{pid}/environ').read()", "PermissionError"),
    "write its supervisor's memory": ("open('/proc/{pid}/mem', 'r+b')", "PermissionError"),
    "read its supervisor's state": ("os.listdir('/var/lib/wolverine/shop')", "PermissionError"),
    "read what root prepared": ("os.listdir('{prepared}/shop')", "PermissionError"),
    "read keys": ("os.listdir('/etc/wolverine/ai')", "PermissionError"),
    "read credentials": ("os.listdir('/etc/wolverine/credentials')", "PermissionError"),
    "leave its cgroup": ("open('/sys/fs/cgroup{unit}/cgroup.procs', 'w').write('0')", "PermissionError"),
    "join its supervisor": ("open('/sys/fs/cgroup{unit}/supervisor/cgroup.procs', 'w').write('0')", "PermissionError"),
    "make a cgroup of its own": ("os.mkdir('/sys/fs/cgroup{unit}/app-1/own')", "PermissionError"),
    "become root": ("os.setuid(0)", "PermissionError"),
    "become its supervisor": ("os.setuid({uid})", "PermissionError"),
    "ask a model": ("socket.socket(1).connect('/run/wolverine-sockets/adviser-shop.sock')", "PermissionError"),
    "run a trial": ("socket.socket(1).connect('/run/wolverine-sockets/trial-shop:candidate.sock')", "PermissionError"),
    "command PID 1": ("socket.socket(1).connect('/run/systemd/private')", "Error"),
    "reach the bus": ("socket.socket(1).connect('/run/dbus/system_bus_socket')", "Error"),
    "write to the system": ("open('/usr/local/own', 'w')", "Read-only file system"),
    "replace the control socket": ("os.unlink('/run/wolverine/shop/control.sock')", "PermissionError"),
    "list what its supervisor listens on": ("os.listdir('/run/wolverine/shop')", "PermissionError"),
}


@pytest.fixture(scope="module")
def outcomes(shop: Service) -> dict[str, str]:
    """Every attempt in one question to the app: what came of each."""
    unit = f"/system.slice/system-wolverine.slice/{shop.unit}"
    uid = shop.machine.enter("id", "-u", "wolverine").stdout.decode().strip()
    words = {"pid": shop.pid, "prepared": PREPARED, "unit": unit, "uid": uid}
    code = "answer = {}\n"
    for name, (attempt, _) in ATTEMPTS.items():
        code += f"try:\n    {attempt.format(**words)}\n    answer[{name!r}] = 'done'\n"
        code += f"except Exception as error:\n    answer[{name!r}] = f'{{type(error).__name__}}: {{error}}'\n"
    told = shop.run(f"{code}import json\nanswer = json.dumps(answer)")
    answer: dict[str, str] = json.loads(told)
    return answer


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_app_cannot(outcomes: dict[str, str], attempt: str) -> None:
    """Whatever it tries, the kernel says no."""
    assert ATTEMPTS[attempt][1] in outcomes[attempt], outcomes[attempt]


def test_the_app_s_own_user_is_refused_at_the_control_socket(shop: Service) -> None:
    """Before a byte of it is read."""
    told = shop.run(
        "peer = socket.socket(1); peer.connect('/run/wolverine/shop/control.sock'); answer = peer.recv(4096).decode()"
    )
    assert "403" in told.splitlines()[0]
    assert "own user" in told


@pytest.fixture(scope="module")
def people(machine: Machine) -> Machine:
    """A stranger, and one member of each group."""
    words = ["u stranger -", "u viewer -", "u admin -", "m viewer wolverine-view", "m admin wolverine-admin"]
    machine.run(["systemd-sysusers", "--inline", *words])
    return machine


def test_groups_decide_who_operates(people: Machine, shop: Service) -> None:
    """Readers read, admins act, others are told which group may; wolverined's own uid, that of heals, is refused."""

    def ctl(user: str, *words: str) -> Any:
        # `setpriv` as login does it, for `run` gives no groups
        return people.run(
            ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "wolverinectl", *words], check=False
        )

    assert shop.status()["state"] == "ready"
    stranger = ctl("stranger", "status", "shop")
    assert stranger.returncode == 6
    assert "wolverine-view" in stranger.stderr
    assert ctl("viewer", "status", "shop").returncode == 0
    acting = ctl("viewer", "reload", "shop")
    assert acting.returncode == 6
    assert "wolverine-admin" in acting.stderr
    assert ctl("admin", "reload", "shop").returncode == 0
    assert ctl("wolverine", "status", "shop").returncode == 6
    assert ctl(shop.user, "status", "shop").returncode == 6


def test_whoever_is_wolverine_without_its_power_cannot_read_it(shop: Service) -> None:
    """A heal has the supervisor's uid: the supervisor's capabilities keep its memory from whoever lacks them."""
    pid = shop.pid
    for what in ("environ", "mem", "maps"):
        done = shop.machine.run(f"head -c1 /proc/{pid}/{what}", user="wolverine", check=False)
        assert done.returncode != 0, what
        assert "Permission denied" in done.stderr
