# SPDX-License-Identifier: MIT
"""Applications under `wolverine@NAME` in a machine, for tests of the service: enrolled, started, asked, looked at.

    with Machine(...) as machine:
        shop = Service(machine, "shop", port=3000)
        shop.systemctl("start")
        assert shop.run("answer = os.getuid()") == str(shop.uid)

The usual application runs whatever Python it is sent over a socket of its own: a compromised app, so to speak.
"""

from __future__ import annotations

import json
import socket
from functools import cached_property
from pathlib import Path
from typing import Any

from support.lab import Machine

from wolverined.control.client import Client
from wolverined.errors import WolverineError

SERVER = """
import http.server, os, socket, threading, time, traceback

def obey():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("ask.sock")
    listener.listen()
    while True:
        peer, _ = listener.accept()
        with peer, peer.makefile("rw") as stream:
            scope = {"os": os, "socket": socket, "time": time}
            try:
                exec(stream.read(), scope)
                stream.write(str(scope.get("answer")))
            except BaseException:
                stream.write(traceback.format_exc(limit=1).splitlines()[-1])

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

if os.path.exists("ask.sock"):
    os.unlink("ask.sock")
threading.Thread(target=obey, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""

# What a supervisor that signals pids, or groups of them, leaves behind: deaf to SIGTERM, one in a session of its
# own, one that was forked twice, and walkers, each of which forks its successor into a new session and ends.
HOSTILE = (
    """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def rest():
    while True:
        time.sleep(60)
if os.fork() == 0:
    rest()
if os.fork() == 0:
    os.setsid()
    rest()
middle = os.fork()
if middle == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        rest()
    os._exit(0)
os.waitpid(middle, 0)
for _ in range(3):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.005)
"""
    + SERVER
)


class Service:
    """One enrolled application.

    Args:
        machine: Where.
        name: The instance; its user is `app-NAME`, its directory /srv/NAME (0700).
        port: Its port.
        app: Its program.
        tables: More of its configuration.
        lines: More lines of `[app]`.
        unit: Lines of `[Service]` that go into a drop-in.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        *,
        port: int,
        app: str = SERVER,
        tables: str = "",
        lines: str = "",
        unit: str = "",
    ) -> None:
        self.machine = machine
        self.name = name
        self.unit = f"wolverine@{name}.service"
        self.user = f"app-{name}"
        self.directory = f"/srv/{name}"
        self.file = f"/etc/wolverine/{name}.toml"
        self.text = (
            f'[app]\ncommand = ["/usr/bin/python3", "app.py"]\ndirectory = "{self.directory}"\nport = {port}\n'
            f"{lines}\n[probe]\ninterval_s = 0.2\n{tables}\n"
        )
        # Not by useradd, which a small Debian 13 lacks.
        machine.run(["systemd-sysusers", "--inline", f"u {self.user} - - {self.directory} /bin/sh"])
        machine.run(["install", "-d", "-m", "0700", "-o", self.user, "-g", self.user, self.directory])
        machine.write(f"{self.directory}/app.py", app, owner=self.user)
        machine.write(self.file, self.text)
        if unit:
            machine.write(f"/etc/systemd/system/{self.unit}.d/test.conf", f"[Service]\n{unit}\n")
            machine.run("systemctl daemon-reload")

    def systemctl(self, verb: str, *, check: bool = True) -> Any:
        """One verb on the unit."""
        return self.machine.run(["systemctl", verb, self.unit], check=check)

    def show(self, *properties: str) -> dict[str, str]:
        """What PID 1 says of the unit."""
        done = self.machine.enter("systemctl", "show", f"--property={','.join(properties)}", self.unit)
        return dict(line.split("=", 1) for line in done.stdout.decode().splitlines())

    @property
    def pid(self) -> int:
        """The main process, as the machine counts; 0: there is none."""
        return int(self.show("MainPID")["MainPID"])

    def restarted_at(self) -> float:
        """When PID 1 began the newest start, by the monotonic clock, which is one for all machines."""
        return int(self.show("InactiveExitTimestampMonotonic")["InactiveExitTimestampMonotonic"]) / 1e6

    @cached_property
    def uid(self) -> int:
        """The uid of the app's user."""
        return int(self.machine.enter("id", "-u", self.user).stdout)

    @property
    def runtime(self) -> Path:
        """Its runtime directory, as the host sees it."""
        return self.machine.path(f"/run/wolverine/{self.name}")

    def status(self) -> dict[str, Any]:
        """What wolverined says; an empty answer while it does not listen."""
        try:
            answer: dict[str, Any] = Client(str(self.runtime)).get("/v1/status")
        except WolverineError:
            return {}
        return answer

    def until_state(self, *states: str, within_s: float = 20) -> dict[str, Any]:
        """Wait until the app is in one of these states."""
        answer: dict[str, Any] = self.machine.until(
            lambda: status if (status := self.status()).get("state") in states else None, within_s=within_s
        )
        return answer

    def run(self, code: str) -> str:
        """Have the app run Python; what it calls `answer`, or the error's last line."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            peer.connect(str(self.machine.path(f"{self.directory}/ask.sock")))
            peer.sendall(code.encode())
            peer.shutdown(socket.SHUT_WR)
            with peer.makefile() as stream:
                return stream.read()

    def facts(self) -> dict[str, Any]:
        """What the app sees of itself."""
        code = (
            "import json; read = lambda name: open('/proc/self/' + name).read();"
            "answer = json.dumps({'status': dict(line.split(':\\t', 1) for line in read('status').splitlines()),"
            "'environment': dict(os.environ), 'cgroup': read('cgroup'), 'oom': read('oom_score_adj'),"
            "'open': {fd: os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd')"
            " if os.path.exists('/proc/self/fd/' + fd)}, 'parent': os.getppid()})"
        )
        facts: dict[str, Any] = json.loads(self.run(code))
        return facts

    @property
    def cgroup(self) -> Path:
        """The unit's cgroup, as the host sees it."""
        return self.machine.path(f"/sys/fs/cgroup/system.slice/system-wolverine.slice/{self.unit}")

    def leaves(self) -> dict[str, list[int]]:
        """Who lives where in the unit's cgroup: processes as the host counts them; nothing when there is none."""
        found: dict[str, list[int]] = {}
        for directory in (self.cgroup, *(path for path in self.cgroup.glob("*") if path.is_dir())):
            try:
                pids = (directory / "cgroup.procs").read_text().split()
            except OSError:
                continue  # it went meanwhile
            found["" if directory == self.cgroup else directory.name] = list(map(int, pids))
        return found

    def said(self) -> list[str]:
        """Every line of the unit's journal, PID 1's included."""
        return [str(entry.get("MESSAGE", "")) for entry in self.machine.journal(self.unit)]


def process_facts(pid: int) -> dict[str, str]:
    """/proc/PID/status of a process, as the host counts it; empty when it has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def started_at(pid: int) -> int:
    """When a process was started, in ticks since boot; 0 when it has gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0
