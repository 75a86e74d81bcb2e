# SPDX-License-Identifier: MIT
"""Limits of a cgroup, and deaths for want of memory, as far as its controllers are on (cgroup-v2.rst).

Where a controller is not to be had (a hybrid host keeps them in v1) nothing is limited, and who asked is told.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from pathlib import Path

import msgspec

from wolverined.linux import proc

WANTED = ("memory", "pids")
_MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one leaf may use; None: nothing of ours holds it.

    `memory_bytes` ends all of the leaf together when the kernel finds no more for it: half an app serves
    nobody. `spared_processes` keeps so many of what the cgroups above allow away from it, so that an app
    that forks without end leaves us room to end and heal it.
    """

    memory_bytes: int | None = None
    processes: int | None = None
    spared_processes: int | None = None


def hold(directory: Path, limits: Limits) -> tuple[str, ...]:
    """Set the limits of a cgroup; returns the controllers that were needed and are not on."""
    missing = []
    if limits.memory_bytes is not None:
        group = _write(directory / "memory.oom.group", "1")
        if not (_write(directory / "memory.max", str(limits.memory_bytes)) and group):
            missing.append("memory")
    processes = limits.processes
    if limits.spared_processes is not None and (above := _processes_above(directory)) is not None:
        left = max(above - limits.spared_processes, above // 2)
        processes = left if processes is None else min(processes, left)
    if processes is not None and not _write(directory / "pids.max", str(processes)):
        missing.append("pids")
    return tuple(missing)


def weaknesses(directory: Path) -> tuple[str, ...]:
    """What does not hold in the leaves made in a cgroup, for a person; its controllers have been turned on."""
    on = (proc.read(directory / "cgroup.subtree_control") or "").split()
    lost = {
        "memory": "resources.memory_max_mb limits nothing, and a death for want of memory looks like any SIGKILL",
        "pids": "no limit of ours keeps an app from forking without end",
    }
    gone = [name for name in WANTED if name not in on]
    if not gone:
        return ()
    what = f"cgroup v2 has no {' and no '.join(gone)} controller for us"
    mend = "on a hybrid host boot with systemd.unified_cgroup_hierarchy=1"
    return (f"{what}: {'; '.join(lost[name] for name in gone)} ({mend})",)


def number(path: Path) -> int | None:
    """A number in a file of a cgroup; None for "max" and for no such file."""
    text = (proc.read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def memory_words(limit_bytes: int | None, peak_bytes: int | None) -> str:
    """The limit of a leaf and the most that it used, as far as they are known, for a person."""
    limit = "no limit of its own" if limit_bytes is None else f"limit {_mib(limit_bytes)}"
    if peak_bytes is None:
        return "" if limit_bytes is None else limit  # where nothing is known, nothing is claimed
    return f"{limit}, peak {_mib(peak_bytes)}"


class Watch:
    """Tells when a number of a cgroup's file has grown; the kernel notifies, nobody looks again and again.

    Args:
        path: `memory.events`, of which every change is told by POLLPRI.
        grown: Called in the running loop; may be called without need.
    """

    def __init__(self, path: Path, grown: Callable[[], None]) -> None:
        self._grown = grown
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # asyncio cannot ask for POLLPRI; an epoll of our own can, and is readable when it has something.
        self._epoll = select.epoll()
        self._epoll.register(self._fd, select.EPOLLPRI | select.EPOLLERR)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._look)
        self._arm()

    def close(self) -> None:
        """Stop watching."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._fd)
        self._fd = -1

    def _look(self) -> None:
        self._epoll.poll(0)
        if self._arm():
            self._grown()

    def _arm(self) -> bool:
        """Read the file, which is what arms the next notice; False, and closed, once the cgroup is gone."""
        try:
            os.pread(self._fd, 4096, 0)
        except OSError:
            self.close()
            return False
        return True


def _processes_above(directory: Path) -> int | None:
    """The smallest `pids.max` of the cgroups above, as far as they show one."""
    found = [number(above / "pids.max") for above in directory.parents if (above / "cgroup.procs").exists()]
    return min((one for one in found if one is not None), default=None)


def _write(path: Path, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _mib(size_bytes: int) -> str:
    return f"{round(size_bytes / _MIB)} MiB"
