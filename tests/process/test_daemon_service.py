# SPDX-License-Identifier: MIT
"""The real daemon under a service manager, with a store that somebody locks, and with sockets that somebody removes."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemons import PYTHON
from support.places import IS_ROOT, eventually, public_tmp
from support.watching import OBEDIENT, PROBED, QUICK, Watched

from wolverined.store.database import BUSY_S


class Manager:
    """Takes the place of a service manager and keeps all that it is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def listen(self) -> list[str]:
        """Everything heard so far."""
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def until(self, word: str, count: int = 1) -> list[str]:
        """Wait until a message that begins so was heard so often."""
        eventually(lambda: sum(each.startswith(word) for each in self.listen()) >= count, within_s=30)
        return self.heard

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@contextmanager
def managed(watchdog_s: float = 0.6) -> Iterator[tuple[Manager, dict[str, str]]]:
    """A service manager, and what it puts into the daemon's environment."""
    with public_tmp() as place:
        manager = Manager(place / "notify")
        try:
            yield manager, {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        finally:
            manager.close()


def test_the_manager_hears_ready_state_reload_watchdog_and_stop() -> None:
    """READY=1 once, when the app is; a beat several times a period; a reload between RELOADING=1 and READY=1."""
    with managed() as (manager, environment), Watched(environment=environment) as daemon:
        daemon.until_state("ready")
        heard = manager.until("WATCHDOG=1", 3)
        assert any(each.startswith("STATUS=starting") for each in heard)
        assert heard.count("READY=1") == 1
        assert heard.index("READY=1") > heard.index(next(each for each in heard if each.startswith("STATUS=ready")))
        daemon.do("reload")
        heard = manager.until("READY=1", 2)
        assert [each[:9] for each in heard if each.startswith(("RELOADING", "READY"))] == [
            "READY=1", "RELOADING", "READY=1",
        ]  # fmt: skip
        daemon.ask("exit/3")
        daemon.until_state("ready", generation=2)
        assert daemon.kill(signal.SIGTERM) == 0
        assert "STOPPING=1" in manager.listen()
        assert manager.heard.count("READY=1") == 2


def test_the_manager_is_asked_for_the_time_that_a_stop_takes() -> None:
    """An app that does not end at once: a request for more time at the end's beginning, and then at each beat."""
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    tables = "[stop]\ntimeout_s = 1.0\n[probe]\ntcp = true\nstartup_s = 0.3\n"
    with managed() as (manager, environment), Watched(deaf, tables=tables, environment=environment) as daemon:
        manager.until("READY=1")
        assert daemon.kill(signal.SIGTERM) == 0
        heard = manager.listen()
        after = [each.split("=")[0] for each in heard[heard.index("STOPPING=1") + 1 :]]
        assert after[0] == "EXTEND_TIMEOUT_USEC"
        assert after.count("EXTEND_TIMEOUT_USEC") >= 3  # the period is 0.2 s


def test_a_watchdog_hears_nothing_while_the_loop_stands_still() -> None:
    """Only the loop that supervises beats: a daemon that is stopped is silent."""
    with managed(watchdog_s=0.3) as (manager, environment), Watched(environment=environment) as daemon:
        manager.until("WATCHDOG=1", 3)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{daemon.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        manager.listen()
        manager.heard.clear()
        time.sleep(0.4)  # longer than the period: the absence of an event
        assert manager.listen() == []
        daemon.process.send_signal(signal.SIGCONT)
        manager.until("WATCHDOG=1")


def test_an_app_that_cannot_boot_is_ready_for_the_manager_at_its_first_incident() -> None:
    """Else the manager would end the daemon, and the heal with it, when the time to start is over."""
    broken = "raise SystemExit(5)"
    with managed() as (manager, environment), Watched(broken, environment=environment) as daemon:
        heard = manager.until("READY=1")
        assert any(each.startswith("EXTEND_TIMEOUT_USEC=") for each in heard)
        assert not any(each.startswith("STATUS=ready") for each in heard)
        assert daemon.status()["state"] != "ready"


def test_an_app_that_does_not_become_ready_in_time_is_ready_for_the_manager() -> None:
    """When the startup grace ends."""
    tables = QUICK + "[probe]\ntcp = true\ninterval_s = 0.1\nstartup_s = 0.5\n"
    deaf = "import time; time.sleep(60)"
    with managed() as (manager, environment), Watched(deaf, tables=tables, environment=environment) as daemon:
        manager.until("READY=1")
        assert daemon.status()["state"] == "starting"


def test_a_locked_store_delays_neither_restart_nor_status_and_nothing_is_lost() -> None:
    """Another process is in the middle of a write: the app is back, asked about and told of all the same."""
    with Watched() as daemon:
        daemon.until_state("ready")
        other = sqlite3.connect(daemon.state / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            began = time.monotonic()
            daemon.ask("exit/3")
            daemon.until_state("ready", generation=2)
            for _ in range(5):
                daemon.status()
            daemon.client.get("/v1/incidents")
            took_s = time.monotonic() - began
            incidents = eventually(daemon.incidents, within_s=30)
            assert took_s < BUSY_S * 0.8, "a patient store waits so long for its first write alone"
            assert [event["name"] for event in daemon.events() if event["name"] == "app.exit"] == ["app.exit"]
        finally:
            other.execute("ROLLBACK")
        written = "SELECT count(*) FROM incidents"
        eventually(lambda: other.execute(written).fetchone()[0] == len(incidents), within_s=30)
        other.close()
        assert daemon.status()["store_lost"] == 0


FLOODING = """
import socket, threading
def flood():
    data = b'{"type":"crash","stack":"' + b"password=hunter22 " * 3000 + b'"}\\n'
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as out:
                out.connect(os.environ["WOLVERINE_REPORT_SOCKET"])
                while True:
                    out.sendall(data)
        except OSError:
            pass
""" + "\n".join(
    line.replace(
        'if word == "hang":', 'if word == "hang":\n        threading.Thread(target=flood).start()\n        return "on"'
    )
    for line in ("import os", *OBEDIENT.splitlines())
)


def test_an_app_that_floods_its_report_socket_does_not_delay_its_supervisor() -> None:
    """Twenty connections that never stop: `status` answers, and the app's end is seen to."""
    with Watched(FLOODING) as daemon:
        daemon.until_state("ready")
        for _ in range(20):
            assert daemon.ask("hang") == "on"
        slowest_s = 0.0
        for _ in range(20):
            began = time.monotonic()
            daemon.status()
            slowest_s = max(slowest_s, time.monotonic() - began)
        assert slowest_s < 1.0
        assert daemon.process is not None
        os.kill(daemon.status()["pid"], signal.SIGKILL)
        daemon.until_state("ready", generation=2)
        daemon.until_event("app.exit")


def test_a_report_socket_that_was_removed_or_replaced_is_made_anew() -> None:
    """Only that file is gone, or another's stands in its place: a reload (or five seconds) later it is ours again."""
    with Watched() as daemon:
        daemon.until_state("ready")
        place = daemon.runtime / "app" / "report.sock"
        for _ in range(2):
            place.unlink(missing_ok=True)
            place.write_text("not a socket")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)
            eventually(place.is_socket, within_s=30)
        assert daemon.names().count("daemon.mended") == 2


HEARD_AGAIN = """
import os, socket, time
def say(text):
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(os.environ["NOTIFY_SOCKET"])
            out.send(text.encode())
    except OSError:
        pass
say("READY=1")
number = 0
while True:
    number += 1
    say(f"STATUS=round {number}\\nWATCHDOG=1")
    time.sleep(0.1)
"""


def test_a_notify_socket_that_was_removed_is_made_anew_and_the_silence_is_excused() -> None:
    """The app goes on beating; it is heard again, and was never taken for hung."""
    tables = QUICK + "[probe]\nnotify = true\ninterval_s = 0.5\nfailures = 2\nstartup_s = 10\n"
    with Watched(HEARD_AGAIN, tables=tables) as daemon:
        pid = daemon.until_state("ready")["pid"]
        said = daemon.status()["app_says"]
        place = daemon.runtime / "app" / "notify.sock"
        place.unlink()
        eventually(place.exists, within_s=30)
        eventually(lambda: daemon.status()["app_says"] != said, within_s=30)
        assert daemon.status()["pid"] == pid


@pytest.mark.skipif(IS_ROOT, reason="a plain user is needed: the app of root has a user of its own")
def test_a_plain_user_is_told_that_the_app_has_the_same_uid() -> None:
    """What is weaker is said once, at start, and in `status`."""
    with Watched(command=(PYTHON, "app.py"), tables=PROBED) as daemon:
        daemon.until_state("ready")
        assert any("user of wolverined itself" in each for each in daemon.status()["weaknesses"])
