# SPDX-License-Identifier: MIT
"""pm2, of npm: driven through its JavaScript API by a small agent that lives as long as the run."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from programs import START_S, until

AGENT = Path(__file__).with_name("pm2_agent.cjs")
MS_PER_S = 1000


class Pm2:
    """Its daemon, with a home of its own.

    Args:
        place: Where that home is made.
        package: The directory of the npm package.
        node: The interpreter.
    """

    name = "pm2"
    detect_source = "the time in its `process:event`, whole milliseconds"

    def __init__(self, place: Path, *, package: Path, node: str) -> None:
        self._place = place
        self._package = package
        self._client = [node, str(package / "bin" / "pm2")]
        self._node = node
        self._home = place / "home"
        self._environment = {**os.environ, "PM2_HOME": str(self._home), "PM2_DISABLE_VERSION_CHECK": "true"}
        self._agent: subprocess.Popen[str] | None = None
        self._told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._exits: queue.SimpleQueue[float] = queue.SimpleQueue()

    def _run(self, *words: str) -> None:
        subprocess.run(
            [*self._client, *words], env=self._environment, cwd=self._place, capture_output=True, check=True, timeout=60
        )

    def launch(self, command: Sequence[str]) -> None:
        """Start the daemon and the application, then the agent."""
        self._run("start", command[0], "--name", "app", "--interpreter", "none", "--", *command[1:])
        self._agent = subprocess.Popen(
            [self._node, str(AGENT), str(self._package)],
            env=self._environment,
            cwd=self._place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._answer("ready")

    def _listen(self) -> None:
        assert self._agent is not None
        assert self._agent.stdout is not None
        for line in self._agent.stdout:
            if not line.startswith("{"):
                continue  # pm2 prints for people as well
            told = json.loads(line)
            if "exit" in told:
                self._exits.put(told["exit"] / MS_PER_S)
            else:
                self._told.put(told)

    def _answer(self, key: str) -> Any:
        told = self._told.get(timeout=START_S)
        if key not in told:
            raise RuntimeError(f"pm2 said {told}, not {key}")
        return told[key]

    def _ask(self, word: str) -> int:
        assert self._agent is not None
        assert self._agent.stdin is not None
        self._agent.stdin.write(f"{word}\n")
        self._agent.stdin.flush()
        sent = int(self._answer("sent"))
        self._answer("done")
        return sent

    def pids(self) -> list[int]:
        """One process: the daemon."""
        return [int(until((self._home / "pm2.pid").read_text))]

    def stop(self) -> int:
        """By its API."""
        return self._ask("stop")

    def start(self) -> None:
        """By its API, which calls it a restart."""
        self._ask("restart")

    def status_command(self) -> list[str]:
        """`pm2 status`."""
        return ["/usr/bin/env", f"PM2_HOME={self._home}", *self._client, "status"]

    def exit_noticed(self, after: float) -> float | None:
        """From the event on its bus."""
        while (at := self._exits.get(timeout=START_S)) < after - 1 / MS_PER_S:
            pass
        return at

    def close(self) -> None:
        """`pm2 kill`."""
        if self._agent is not None:
            self._agent.communicate()
        self._run("kill")
