# SPDX-License-Identifier: MIT
"""`systemctl start wolverine@NAME` on a real systemd: when it is active, what ends and restarts it, what is left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.lab import Machine
from support.services import HOSTILE, SERVER, Service, started_at

QUICK = "[restart]\ninitial_s = 0.05\nmax_s = 0.2\n[heal]\npolicy = 'off'\n"
TROUBLE = ("219/", "left-over", "Failed", "timed out", "Timed out", "unexpected", "Traceback")


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Service:
    """An application that is well, with a watchdog that is quicker than the usual one."""
    service = Service(machine, "shop", port=3000, tables=QUICK, unit="WatchdogSec=1")
    service.systemctl("start")
    return service


def test_start_returns_when_the_app_answers(machine: Machine) -> None:
    """Not before: whoever is ordered after it finds it served."""
    slow = Service(machine, "slow", port=3001, app=f"import time\ntime.sleep(0.7)\n{SERVER}", tables=QUICK)
    slow.systemctl("start")
    assert slow.status()["state"] == "ready"
    assert slow.show("ActiveState", "StatusText") == {"ActiveState": "active", "StatusText": "ready"}
    slow.systemctl("stop")


def test_an_app_that_cannot_boot_is_active_and_the_status_says_so(machine: Machine) -> None:
    """Else PID 1 would end the heal with the start that it waits for."""
    broken = Service(machine, "broken", port=3002, app="raise SystemExit(5)", tables=QUICK)
    broken.systemctl("start")
    assert broken.show("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
    machine.until(lambda: broken.show("StatusText")["StatusText"].endswith("exit 5"))  # between two of its starts
    assert broken.status()["state"] != "ready"
    broken.systemctl("stop")


def test_a_configuration_that_cannot_be_used_is_said_once(machine: Machine) -> None:
    """Every problem with its line in the journal, status 78, and no second try."""
    wrong = Service(machine, "wrong", port=3003)
    machine.write(wrong.file, wrong.text.replace("port = 3003", "port = 80\nspeed = 3"))
    assert wrong.systemctl("start", check=False).returncode != 0
    shown = wrong.show("ActiveState", "ExecMainStatus", "NRestarts", "Result")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0", "Result": "exit-code"}
    said = [line for line in wrong.said() if f"{wrong.file}:" in line]
    assert any("app.port 80 is privileged" in line for line in said)
    assert any("unknown key 'speed'" in line for line in said)
    for socket in ("adviser@wrong", "trial@wrong:baseline", "trial@wrong:candidate"):  # nobody is left who may connect
        machine.until(f"! systemctl is-active wolverine-{socket}.socket", within_s=10)


def test_a_preparation_that_fails_is_tried_again_until_it_does_not(machine: Machine) -> None:
    """What may pass is no word about the configuration; nobody is woken for it, and not many times a second."""
    late = Service(machine, "late", port=3007, tables=QUICK)
    machine.write("/run/wolverine-prepared/late", "in the way\n")
    began = time.monotonic()
    assert late.systemctl("start", check=False).returncode != 0
    machine.until(lambda: int(late.show("NRestarts")["NRestarts"]) >= 2, within_s=30)
    assert time.monotonic() - began >= 2
    assert any("late could not be prepared: " in line and "tried again" in line for line in late.said())
    machine.run("rm /run/wolverine-prepared/late")
    late.until_state("ready")
    assert machine.journal("wolverine-failure@late.service") == []
    late.systemctl("stop")


def test_a_reload_with_a_bad_file_fails_with_the_words_and_changes_nothing(shop: Service) -> None:
    """A good one is in force when `systemctl reload` returns; the app goes on running in both cases."""
    pid = shop.status()["pid"]
    shop.machine.write(shop.file, shop.text + "[stop]\ntimeout_s = 'soon'\n")
    assert shop.systemctl("reload", check=False).returncode != 0
    assert any("stop.timeout_s" in line for line in shop.said())
    assert shop.show("ActiveState")["ActiveState"] == "active"
    shop.machine.write(shop.file, shop.text + "[stop]\ntimeout_s = 0.5\n")
    shop.systemctl("reload")
    assert any("stop.timeout_s 3.0 -> 0.5" in line for line in shop.said())
    assert shop.status()["pid"] == pid


def test_another_user_is_refused_by_a_reload_and_taken_by_a_start(machine: Machine) -> None:
    """What is another user's does not reach the app that runs; and a start forgets who was in force."""
    moved, heir = Service(machine, "moved", port=3005, tables=QUICK), Service(machine, "heir", port=3006)
    for one in (moved, heir):
        machine.write(f"{one.directory}/env", f"WHOSE={one.name}\n", owner=one.user)
    of_moved = f'port = 3005\nenvironment_file = "{moved.directory}/env"'
    machine.write(moved.file, moved.text.replace("port = 3005", of_moved))
    moved.systemctl("start")
    machine.write(moved.file, moved.text.replace("port = 3005", of_moved).replace(moved.directory, heir.directory))
    assert moved.systemctl("reload", check=False).returncode != 0
    assert any(f"app.user is now '{heir.user}', and '{moved.user}' is in force" in line for line in moved.said())
    assert machine.read("/run/wolverine-prepared/moved/environment") == "WHOSE=moved\n"
    moved.systemctl("restart")
    assert machine.read("/run/wolverine-prepared/moved/environment") == "WHOSE=heir\n"
    assert heir.run("answer = os.getuid()") == str(heir.uid)  # its directory has the socket now
    moved.systemctl("stop")


def test_a_loop_that_stands_still_is_aborted_and_started_anew(shop: Service) -> None:
    """Within the watchdog's period and half a second, with its stack in the journal and nothing left of before."""
    shop.until_state("ready")
    before, old = shop.pid, {pid for pids in shop.leaves().values() for pid in pids}
    began = time.monotonic()
    shop.machine.enter("kill", "-STOP", str(before))
    shop.machine.until(lambda: shop.pid not in (0, before), within_s=20)
    shop.until_state("ready")
    assert shop.restarted_at() - began < 1 + 0.5
    assert not any(Path(f"/proc/{pid}").exists() for pid in old)
    said = shop.said()
    assert "Fatal Python error: Aborted" in said
    assert any("in run_forever" in line for line in said)
    assert shop.show("NRestarts")["NRestarts"] == "1"


def test_a_killed_supervisor_is_back_at_once_and_clients_wait_for_it(shop: Service) -> None:
    """PID 1 ends what it left and starts the next; nobody who connects meanwhile is refused."""
    before, old = shop.pid, {pid for pids in shop.leaves().values() for pid in pids}
    shop.machine.enter("kill", "-KILL", str(before))
    assert shop.status()["app"] == "shop", "the control socket's queue was lost"
    assert shop.pid not in (0, before)
    shop.until_state("ready")
    assert not any(Path(f"/proc/{pid}").exists() for pid in old)
    assert sorted(shop.leaves()) == ["", "app-1", "supervisor"]
    assert shop.leaves()[""] == []


def test_a_stop_may_take_as_long_as_the_app_s_own(machine: Machine) -> None:
    """`[stop] timeout_s` is longer than what PID 1 grants: it is asked for more, and the app's last work is done."""
    last_work = "import signal, sys, time\ndef last(*_):\n    time.sleep(1.6)\n    print('all written', flush=True)\n"
    last_work += "    os._exit(0)\nimport os\nsignal.signal(signal.SIGTERM, last)\n"
    patient = Service(
        machine,
        "patient",
        port=3004,
        app=last_work + SERVER,
        tables=QUICK + "[stop]\ntimeout_s = 5\n",
        unit="TimeoutStopSec=1",
    )
    patient.systemctl("start")
    patient.systemctl("stop")
    assert patient.show("Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}
    assert "all written" in patient.said()


def test_fifty_restarts_of_hostile_trees_leave_nothing(machine: Machine) -> None:
    """Five apps at once, deaf, daemonised and forking without end: no process of before, and no start that fails."""
    services = [
        Service(machine, f"wild{number}", port=3010 + number, app=HOSTILE, tables=QUICK + "[stop]\ntimeout_s = 0.1\n")
        for number in range(5)
    ]
    units = [service.unit for service in services]
    machine.run(["systemctl", "start", *units])
    for _ in range(10):
        machine.run(["systemctl", "restart", *units])
        for service in services:
            leaves = service.leaves()
            assert sorted(leaves) == ["", "app-1", "supervisor"]
            supervisor = min(map(started_at, leaves["supervisor"]))
            assert len(leaves["app-1"]) >= 4
            ages = [started_at(pid) for pid in leaves["app-1"]]
            assert [age for age in ages if 0 < age < supervisor] == []
    machine.run(["systemctl", "stop", *units])
    left = machine.run(f"ps -o pid=,args= -u {','.join(service.user for service in services)}", check=False).stdout
    assert left == ""
    for service in services:
        assert service.leaves() == {}
        assert not service.runtime.exists()
        assert [line for line in service.said() if any(word in line for word in TROUBLE)] == []
