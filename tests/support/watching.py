# SPDX-License-Identifier: MIT
"""`support.daemons.Running` for tests of the daemon itself: asks in this process, and apps that do as they are told.

with Watched() as daemon:
    daemon.until_state("ready")
    daemon.ask("exit/3")
    daemon.until_event("app.exit")
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.daemons import PYTHON, Running
from support.places import eventually

from wolverined.control.client import Client
from wolverined.errors import Unreachable

WITHIN_S = 30.0

OBEDIENT = '''
import os, signal, socket, sys, time

def children():
    """One plain, one setsid'd, one double-forked."""
    def rest():
        time.sleep(120)
        os._exit(0)
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

def obey(word, argument):
    if word == "exit":
        os._exit(int(argument))
    if word == "abort":
        os.abort()
    if word == "hang":
        time.sleep(120)
    if word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if word == "children":
        children()
    if word == "say":
        for number in range(int(argument)):
            print("line", number)
        sys.stdout.flush()
    if word == "environ":
        return "\\n".join(f"{name}={value}" for name, value in os.environ.items())
    if word == "try":
        return attempt(*argument.replace("%2F", "/").split(",", 1))
    return "ok"

def attempt(what, argument):
    try:
        if what == "read":
            return "read " + str(len(open(argument, "rb").read()))
        if what == "signal":
            os.kill(int(argument), signal.SIGUSR1)
            return "sent"
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(argument)
        return peer.recv(4096).decode()
    except OSError as error:
        return type(error).__name__

server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
print("listening", flush=True)
while True:
    client, _ = server.accept()
    data = client.recv(65536)
    if data.startswith(b"GET /"):
        word, _, argument = data.split(b" ")[1].decode()[1:].partition("/")
        answer = obey(word, argument).encode()
        client.sendall(b"HTTP/1.1 200 X\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
    client.close()
'''
"""Does what the path of a request says: /exit/3, /abort, /hang, /deaf, /children, /say/100, /environ, /try/..."""

QUICK = """
[restart]
initial_s = 0.05
max_s = 0.1
crash_loop_s = 0.4
jitter = 0.0
"""

PROBED = QUICK + "[probe]\ntcp = true\ninterval_s = 0.2\ntimeout_s = 0.5\nfailures = 2\nstartup_s = 10\n"


class Watched(Running):
    """A daemon over an app; what is asked of it is asked by this process."""

    def __init__(
        self,
        source: str = OBEDIENT,
        *,
        command: Sequence[str] = (PYTHON, "app.py"),
        tables: str = PROBED,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # A name of its own: tests run side by side, and who is killed must not be cleaned up by a namesake.
        super().__init__(
            files={"app.py": source},
            command=command,
            tables=tables,
            environment=environment,
            probe="",
            name=f"app-{secrets.token_hex(3)}",
        )
        self.client = Client(str(self.runtime))

    def status(self) -> dict[str, Any]:
        """The status, as soon as it answers."""
        answer: dict[str, Any] = eventually(self._status, within_s=WITHIN_S)
        return answer

    def _status(self) -> Any:
        with suppress(Unreachable):
            return self.client.get("/v1/status")
        return None

    def incidents(self) -> list[dict[str, Any]]:
        """Every incident, the newest first."""
        found: list[dict[str, Any]] = self.client.get("/v1/incidents")
        return found

    def events(self) -> list[dict[str, Any]]:
        """The newest thousand events, oldest first."""
        with suppress(Unreachable):
            found: list[dict[str, Any]] = self.client.get("/v1/events?n=1000")
            return found
        return []

    def names(self) -> list[str]:
        """The names of those events."""
        return [event["name"] for event in self.events()]

    def until_state(self, *states: str, generation: int = 0) -> dict[str, Any]:
        """Wait for one of these states (and that generation or a later one), and give the status."""

        def look() -> dict[str, Any] | None:
            found = self.status()
            return found if found["state"] in states and found["generation"] >= generation else None

        found = eventually(look, within_s=WITHIN_S)
        assert found is not None
        return found

    def until_closed(self, kind: str) -> dict[str, Any]:
        """Wait until there is an incident of that kind and it is closed."""

        def look() -> list[dict[str, Any]]:
            return [each for each in self.incidents() if each["kind"] == kind and each["state"] == "closed"]

        return eventually(look, within_s=WITHIN_S)[0]

    def do(self, action: str, body: Mapping[str, Any] | None = None, *, well: bool = True) -> dict[str, Any]:
        """Begin an operation and wait for its end."""
        change = self.client.post(f"/v1/{action}", body)
        ended: dict[str, Any] = self.client.get(f"/v1/changes/{change['id']}/wait?timeout=40", extra_s=40)
        assert (ended["state"] == "done") is well, ended
        return ended

    def ask(self, what: str) -> str:
        """Send the app a word; what it answers, or nothing."""
        return self.get(f"/{what}").body.decode()

    def last_line(self) -> str:
        """The newest line of the app."""
        lines = self.client.get("/v1/logs?n=1")
        return str(lines[0]["text"]) if lines else ""

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Edit the configuration file."""
        self.config.write_text(change(self.config.read_text()))

    def said(self) -> str:
        """What the daemon wrote on its terminal."""
        return self.log.read_text(errors="replace")

    def first_exit(self) -> int:
        """Start it, and wait for an end that is expected at once; the code."""
        self.start()
        assert self.process is not None
        return self.process.wait(WITHIN_S)

    def others(self) -> list[int]:
        """Every process of the app that lives."""
        assert self.process is not None
        return [pid for pid in self.survivors() if pid != self.process.pid]

    def rss_kib(self) -> int:
        """How much memory the daemon itself has."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def open_files(self) -> int:
        """How many file descriptors the daemon itself has."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process of ours that does nothing in here."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
