# SPDX-License-Identifier: MIT
"""What is compared on a machine that systemd runs: `wolverine@bench`, and a plain unit with Restart=always."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from programs import Wolverined

NAME = "bench"
CONFIGURATION = Path("/etc/wolverine") / f"{NAME}.toml"
PLAIN = Path("/run/systemd/system/bench-plain.service")


def systemctl(*words: str) -> str:
    """Run it to its end; gives what it printed."""
    return subprocess.run(["systemctl", *words], check=True, text=True, stdout=subprocess.PIPE).stdout


class WolverineUnit(Wolverined):
    """Ourselves, as `systemctl start wolverine@bench`, out of the installed package."""

    name = "wolverine@"

    def __init__(self, place: Path) -> None:
        from wolverined.control.client import Client  # noqa: PLC0415 - the plain unit does without it

        super().__init__(place)
        self._client = Client(f"/run/wolverine/{NAME}")

    def launch(self, command: Sequence[str]) -> None:
        """Write the configuration, start the unit, wait until the application is ready."""
        source = self._place / "src"
        source.mkdir()
        nobody = pwd.getpwnam("nobody")
        os.chown(source, nobody.pw_uid, nobody.pw_gid)
        words = ", ".join(f'"{word}"' for word in command)
        # Each kill shall be the first after a quiet time, as a crash in real life is; not a crash loop.
        CONFIGURATION.write_text(
            f'[app]\ncommand = [{words}]\ndirectory = "{source}"\nuser = "nobody"\n[restart]\nreset_s = 0.5\n'
        )
        systemctl("start", f"wolverine@{NAME}")

    def pids(self) -> list[int]:
        """One process."""
        return [int(systemctl("show", "--value", "-p", "MainPID", f"wolverine@{NAME}"))]

    def status_command(self) -> list[str]:
        """`wolverinectl status`."""
        return ["wolverinectl", "status", NAME]

    def close(self) -> None:
        """Stop the unit, and leave no configuration."""
        systemctl("stop", f"wolverine@{NAME}")
        CONFIGURATION.unlink(missing_ok=True)


class PlainUnit:
    """The same application as a unit of its own: what systemd does without anybody's help."""

    name = "plain-unit"
    detect_source = "it does not tell"

    def __init__(self, place: Path) -> None:
        self._place = place

    def launch(self, command: Sequence[str]) -> None:
        """Write the unit and start it."""
        PLAIN.write_text(
            f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nUser=nobody\nRestart=always\nRestartSec=0\n"
            f"ExecStart={' '.join(command)}\nTasksMax=infinity\n"
        )
        systemctl("daemon-reload")
        systemctl("start", PLAIN.name)

    def pids(self) -> list[int]:
        """PID 1, which does much else."""
        return [1]

    def stop(self) -> int:
        """`systemctl stop`: the only way there is."""
        asked = time.monotonic_ns()
        systemctl("stop", PLAIN.name)
        return asked

    def start(self) -> None:
        """`systemctl start`."""
        systemctl("start", PLAIN.name)

    def status_command(self) -> list[str]:
        """`systemctl status`."""
        return ["systemctl", "--no-pager", "status", PLAIN.name]

    def exit_noticed(self, after: float) -> float | None:  # noqa: ARG002 - as every program has it
        """It does not tell when it noticed."""
        return None

    def close(self) -> None:
        """Stop it, and leave no unit."""
        systemctl("stop", PLAIN.name)
        PLAIN.unlink(missing_ok=True)
        systemctl("daemon-reload")
