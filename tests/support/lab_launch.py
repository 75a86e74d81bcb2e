# SPDX-License-Identifier: MIT
"""Starts the outer process of a machine: systemd-nspawn in mount and PID namespaces of its own.

The PID namespace is what makes a machine end with its owner. nspawn alone, when killed, leaves the systemd
that it booted and all its services running; when the first process of a PID namespace ends, the kernel ends
the rest. So: owner dies -> setpriv's signal ends unshare -> --kill-child ends the shell -> nothing is left.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from support.lab_places import CGROUP2, Place

BOOT = f"""{CGROUP2}
group=/sys/fs/cgroup/$1 place=$2 lower=$3 disk=$4 name=$5
shift 5
mkdir -p "$group/outer" "$group/inner"
echo $$ > "$group/outer/cgroup.procs"
# A pure v2 host hands its controllers on; where v1 holds them there are none to hand on.
for one in $(cat "$group/cgroup.controllers"); do echo "+$one" > "$group/cgroup.subtree_control" || :; done 2>/dev/null
# nspawn writes below /run/systemd: out of the host's sight, so that equal names meet nowhere.
mkdir -p /run/systemd "$place/fs"
mount -t tmpfs tmpfs /run/systemd
mount -t tmpfs -o size=4g tmpfs "$place/fs"
mkdir "$place/fs/disk" "$place/fs/root"
[ -z "$disk" ] || mount -o loop,commit=300 "$disk" "$place/fs/disk"
mkdir -p "$place/fs/disk/up" "$place/fs/disk/work"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$place/fs/disk/up,workdir=$place/fs/disk/work" "$place/fs/root"
while :; do
    status=0
    sh -ec 'echo $$ > "$0/inner/cgroup.procs"; exec "$@"' "$group" systemd-nspawn -q -D "$place/fs/root" \
        --machine="$name" --boot --register=no --keep-unit --link-journal=no --notify-ready=yes --console=pipe \
        --timezone=off --resolv-conf=off --suppress-sync=no \
        --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" "$@" || status=$?
    # With --keep-unit a reboot inside makes nspawn end with this status.
    [ "$status" = 133 ] || exit "$status"
done
"""

LIFELINE = ["setpriv", "--pdeathsig", "KILL"]
NAMESPACES = ["unshare", "-m", "--propagation", "private", "-p", "--fork", "--kill-child=KILL", "--mount-proc"]


def environment(notify: Path | None = None) -> dict[str, str]:
    """What the lab's own processes get to see of our environment: nothing but PATH."""
    names = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}
    return names | ({"NOTIFY_SOCKET": str(notify)} if notify else {})


class Outer:
    """The process that holds one booted machine, and the socket on which nspawn tells how far it is."""

    def __init__(
        self,
        place: Place,
        *,
        name: str,
        layers: Sequence[Path],
        disk: Path | None,
        prefix: Sequence[str],
        nspawn: Sequence[str],
    ) -> None:
        self.group = place.group
        self.console = place.path / "console"
        notify = place.path / "notify"
        notify.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(notify))
        lower = ":".join(map(str, layers))
        words = [place.group, str(place.path), lower, str(disk or ""), name, *nspawn]
        with self.console.open("w") as console:
            self.process = subprocess.Popen(
                [*prefix, *LIFELINE, *NAMESPACES, "sh", "-ec", BOOT, "sh", *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=environment(notify),
            )

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def path(self, inside: Path) -> Path:
        """A path of the outer process's own mount namespace, as seen from ours."""
        return Path(f"/proc/{self.process.pid}/root{inside}")

    def words(self, *, within_s: float) -> Sequence[str]:
        """What nspawn tells next, as lines.

        Raises:
            RuntimeError: The process ended, or nothing came in time; with the console's end.
        """
        deadline = time.monotonic() + within_s
        self._socket.settimeout(0.1)
        while True:
            try:
                return self._socket.recv(4096).decode(errors="replace").splitlines()
            except TimeoutError:
                if not self.alive or time.monotonic() > deadline:
                    said = self.console.read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"the machine did not boot; its console:\n{said}") from None

    def drain(self) -> None:
        """Take what nspawn told meanwhile: it would block on a full queue."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(4096)

    def leader(self) -> int:
        """The pid of the machine's first process, by our counting (nspawn tells it by that of its namespace)."""
        group = self.path(Path("/sys/fs/cgroup") / self.group / "inner/payload")
        for place in (group / "init.scope", group):
            with suppress(OSError, IndexError):
                return int((place / "cgroup.procs").read_text().split()[0])
        raise RuntimeError("the machine has no first process")

    def close(self) -> None:
        """Kill the process, and with it the machine."""
        self.process.kill()
        self.process.wait()
        self._socket.close()


def in_namespaces(pid: int, *kinds: str) -> list[str]:
    """Words that run what follows in namespaces of the process `pid` (`-a`: all of them)."""
    return ["nsenter", "-t", str(pid), *(kinds or ("-a",)), "--"]


def mapping_args(binds: Mapping[Path, str]) -> list[str]:
    """Words for nspawn: directories of the host that a machine sees read-only."""
    return [f"--bind-ro={path}:{inside}" for path, inside in binds.items()]
