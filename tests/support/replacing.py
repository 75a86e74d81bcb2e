# SPDX-License-Identifier: MIT
"""A daemon that is replaced in its own process, and ways to act in the moment between the two programs.

with Replaced(at_exec="os.kill(os.getpid(), signal.SIGTERM)") as daemon:
    daemon.until_state("ready")
    daemon.reexec()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from support.places import IS_ROOT, eventually
from support.watching import OBEDIENT, PROBED, WITHIN_S, Watched

from wolverined.control.client import Client
from wolverined.errors import Unreachable

HOOK = """
import os, signal, sys, time
told = os.environ.get("WOLVERINE_HANDOVER", "")
place = {place!r}
if told.startswith("check:"):
{at_check}
elif told.startswith("exec:"):
{at_exec}
"""
"""What every interpreter executes first that finds it in its path: the daemon's successors do."""

WITHOUT_CGROUPS = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'for each in $(grep -o "/[^ ]* cgroup2" /proc/mounts | cut -d" " -f1); do umount -l "$each"; done; exec "$@"',
    "sh",
)
"""Put before a command, root's alone: it finds no cgroup v2."""


class Replaced(Watched):
    """A daemon over an app.

    Args:
        source: The app's.
        tables: Of its configuration.
        environment: Added to the daemon's.
        at_check: Python that a new program executes when it is asked whether it could take over.
        at_exec: Python that it executes when it takes over, before anything else.
        before: A command that executes the daemon.
        interpreter: What runs it.
    """

    def __init__(
        self,
        source: str = OBEDIENT,
        *,
        tables: str = PROBED,
        environment: Mapping[str, str] | None = None,
        at_check: str = "pass",
        at_exec: str = "pass",
        before: tuple[str, ...] = (),
        interpreter: str = sys.executable,
    ) -> None:
        super().__init__(source, tables=tables, environment=environment)
        hooks = self.place / "hooks"
        hooks.mkdir()
        indented = {"at_check": _indented(at_check), "at_exec": _indented(at_exec), "place": str(self.place)}
        (hooks / "sitecustomize.py").write_text(HOOK.format(**indented))
        # Also for an interpreter that does not know by itself where our libraries lie.
        self._environment["PYTHONPATH"] = os.pathsep.join([str(hooks), *(path for path in sys.path if path)])
        self._before = before
        self._interpreter = interpreter
        self._read = 0

    def start(self) -> None:
        """Start the daemon."""
        argv = [*self._before, self._interpreter, "-P", "-m", "wolverined", "run", "--config", str(self.config)]
        argv += ["--runtime-dir", str(self.runtime), "--state-dir", str(self.state)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def begin(self) -> str:
        """Ask for a re-exec; the change's id."""
        return str(self.client.post("/v1/reexec")["id"])

    def ended(self, change: str) -> dict[str, Any]:
        """The change once it has ended, whichever program tells of it."""

        def look() -> dict[str, Any] | None:
            try:
                now: dict[str, Any] = self.client.get(f"/v1/changes/{change}/wait?timeout=5", extra_s=5)
            except Unreachable:
                return None  # its connection was in the middle of a request
            return now if now["state"] != "doing" else None

        found = eventually(look, within_s=WITHIN_S)
        assert found is not None
        return found

    def reexec(self, *, well: bool = True) -> dict[str, Any]:
        """Ask for a re-exec and wait for its end."""
        found = self.ended(self.begin())
        assert (found["state"] == "done") is well, found
        return found

    def signalled(self, count: int = 1) -> None:
        """Ask for a re-exec by SIGUSR2, and wait until so many were done in all."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2)
        self.until_event("reexec.done", count=count)

    def open_files(self) -> int:
        """How many file descriptors the daemon has; none for a plain user, to whom it does not show them."""
        return super().open_files() if IS_ROOT else 0

    def lines(self) -> list[str]:
        """The lines of the app that came since this was asked last, oldest first."""
        found: list[str] = []
        cursor = self._read
        while more := Client(str(self.runtime)).get(f"/v1/logs?after={cursor}&n=1000"):
            cursor = more[-1]["cursor"]
            found += [line["text"] for line in more]
        self._read = cursor
        return found


def _indented(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.strip("\n").split("\n"))


def steady(every_s: float, count: int = 1 << 40) -> str:
    """An app that obeys and besides writes a numbered line every so often, on each of its two streams."""
    return f"""
import threading
def write():
    number = 0
    while number < {count}:
        number += 1
        os.write(1, b"out %d\\n" % number)
        os.write(2, b"err %d\\n" % number)
        time.sleep({every_s})
threading.Thread(target=write, daemon=True).start()
{OBEDIENT}""".replace("import threading\n", "import os, sys, time, threading\n", 1)
