# SPDX-License-Identifier: MIT
"""A network of machines that the host takes no part in: a bridge in a network namespace of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from support.lab_launch import LIFELINE, environment, in_namespaces

if TYPE_CHECKING:
    from support.lab_machine import Machine

BRIDGE = "br0"


class Switch:
    """Machines that are given it reach each other, and the switch's own address, and nothing else.

    It ends with the process that made it. Use it as a context manager, or `close` it after its machines.
    """

    def __init__(self, *, net: str = "10.99.0") -> None:
        self.net = net
        self._holder = subprocess.Popen(
            [*LIFELINE, "unshare", "-n", "sleep", "infinity"], env=environment(), stdin=subprocess.DEVNULL
        )
        self._wait_apart()
        self.run(
            f"ip link set lo up; ip link add {BRIDGE} type bridge; "
            f"ip addr add {net}.254/24 dev {BRIDGE}; ip link set {BRIDGE} up"
        )

    def _wait_apart(self) -> None:
        deadline = time.monotonic() + 10
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == own:
            if time.monotonic() > deadline or self._holder.poll() is not None:
                raise RuntimeError("no network namespace for the switch")
            time.sleep(0.002)

    @property
    def prefix(self) -> list[str]:
        """Words that run what follows at the switch: curl, a browser, a server of the test's own."""
        return in_namespaces(self._holder.pid, "-n")

    def run(self, script: str, *, check: bool = True, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a shell script at the switch, with the switch's network and the host's files."""
        argv = [*self.prefix, "sh", "-ec", script]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
        if check and done.returncode:
            raise AssertionError(f"at the switch: {script!r} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def cut(self, machine: Machine) -> None:
        """Pull the machine's cable."""
        self.run(f"ip link set vb-{machine.name} down")

    def mend(self, machine: Machine) -> None:
        """Put the machine's cable back."""
        self.run(f"ip link set vb-{machine.name} up")

    def close(self) -> None:
        """End the network."""
        self._holder.kill()
        self._holder.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
