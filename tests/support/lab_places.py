# SPDX-License-Identifier: MIT
"""Where the lab keeps things: one cache for all who use it, one run directory and one cgroup per machine.

A run directory is locked for as long as its owner lives. A lock that can be taken therefore tells the
leavings of a dead owner from a living machine, which a pid in a name could not: pids are used again.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

RUN = Path("/run/wolverine-lab")
GROUP_PREFIX = "wlab-"

CGROUP2 = """
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
"""
"""Shows the whole v2 hierarchy at the usual place, whether the host is v1, hybrid or pure v2."""

END_GROUP = f"""{CGROUP2}
cd "/sys/fs/cgroup/$1" 2>/dev/null || exit 0
echo 1 > cgroup.kill
for _ in $(seq 1000); do grep -q 'populated 0' cgroup.events && break; sleep 0.01; done
cd /
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {{}} ';'
"""

END_STRAYS = f"""{CGROUP2}
cd /sys/fs/cgroup
for group in $(ls -d {GROUP_PREFIX}* 2>/dev/null); do
    case " $1 " in *" ${{group#{GROUP_PREFIX}}} "*) continue ;; esac
    # Whoever shares the hierarchy but not our /run may have machines in it: those live, ours are empty.
    ! grep -q 'populated 0' "$group/cgroup.events" || find "$group" -depth -type d -exec rmdir {{}} ';'
done
"""


def cache() -> Path:
    """The directory of what is built once: `$WOLVERINE_CACHE/lab`, shared by every user of this host."""
    path = Path(os.environ.get("WOLVERINE_CACHE") or "/var/cache/wolverine-dev") / "lab"
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path`.lock: only one process at a time builds what will stand at `path`."""
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def in_private(
    script: str, *args: str, stdin: int | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own: whatever it mounts goes with it.

    Raises:
        RuntimeError: The script failed; the message ends with what it printed.
    """
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", *args]
    done = subprocess.run(argv, stdin=stdin, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a step of the lab failed ({done.returncode}):\n{(done.stdout + done.stderr)[-4000:]}")
    return done


class Place:
    """One machine's own run directory, held by a lock until `close`, and the name of its cgroup."""

    def __init__(self, *, name: str) -> None:
        RUN.mkdir(mode=0o755, exist_ok=True)
        self.token = f"{name}-{secrets.token_hex(4)}"
        self.path = RUN / self.token
        # Made and locked under the lock of all: a sweep in between would take it for a dead owner's.
        with locked(RUN / "all"):
            self.path.mkdir(mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def group(self) -> str:
        """The name of the machine's cgroup, at the top of the v2 hierarchy."""
        return GROUP_PREFIX + self.token

    def close(self) -> None:
        """End whatever still runs in the machine's cgroup, and remove both."""
        end_group(self.group)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def end_group(name: str) -> None:
    """Kill everything in the cgroup `name` at the top of the hierarchy, and remove it; nothing if it is gone."""
    in_private(END_GROUP, name)


def groups() -> list[str]:
    """Names of the machines' cgroups that exist now, dead owners' included."""
    return in_private(f"{CGROUP2}\ncd /sys/fs/cgroup; ls -d {GROUP_PREFIX}* 2>/dev/null || :").stdout.split()


def sweep() -> list[str]:
    """Remove what machines left behind whose owner was killed; their names.

    Their processes are gone already (the kernel takes them along with the owner): what stays is an empty
    cgroup and a run directory.
    """
    RUN.mkdir(mode=0o755, exist_ok=True)
    with locked(RUN / "all"):
        dead = [name for name in _run_directories() if _is_dead(RUN / name)]
        for name in dead:
            end_group(GROUP_PREFIX + name)
            shutil.rmtree(RUN / name, ignore_errors=True)
        in_private(END_STRAYS, " ".join(_run_directories()))
    return dead


def _run_directories() -> Sequence[str]:
    return [entry.name for entry in os.scandir(RUN) if entry.is_dir(follow_symlinks=False)]


def _is_dead(path: Path) -> bool:
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
