# SPDX-License-Identifier: MIT
"""How many workers an app should run here: what this process may use, not what the host has.

A container or a unit with half a CPU still sees every core of the host; a cluster sized by that number
spends its time in the throttle. Sources: cgroup-v2.rst (cpu.max, memory.max), sched_getaffinity(2).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

WORKER_BYTES = 256 << 20
"""What one worker of a usual server takes; fewer fit into less memory."""


def workers_for(*, affinity: int, quotas: list[float], memory_bytes: int | None) -> int:
    """The smallest of CPUs allowed, CPU quota (rounded up) and what memory holds; at least 1.

    Args:
        affinity: CPUs that we may run on.
        quotas: CPU quotas, in CPUs, of every cgroup above us that has one.
        memory_bytes: The memory that we may use; None: not known.
    """
    limits = [affinity, *(math.ceil(quota) for quota in quotas)]
    if memory_bytes is not None:
        limits.append(memory_bytes // WORKER_BYTES)
    return max(1, min(limits))


def quota_of(cpu_max: str) -> float | None:
    """The quota in CPUs that a `cpu.max` file states; None: no limit, or not understood."""
    quota, _, period = cpu_max.strip().partition(" ")
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def recommended_workers(*, proc: Path = Path("/proc"), cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """Look at this process's affinity, its cgroups and the machine's memory."""
    root = cgroup_root / "unified" if (cgroup_root / "unified").is_dir() else cgroup_root
    directories = _own_cgroups(_text(proc / "self/cgroup"), root)
    quotas = [quota for path in directories if (quota := quota_of(_text(path / "cpu.max"))) is not None]
    memory = [int(text) for path in directories if (text := _text(path / "memory.max").strip()).isdecimal()]
    total = _total_memory(_text(proc / "meminfo"))
    if total is not None:
        memory.append(total)
    return workers_for(
        affinity=len(os.sched_getaffinity(0)), quotas=quotas, memory_bytes=min(memory) if memory else None
    )


def _own_cgroups(own: str, root: Path) -> list[Path]:
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/").strip("/")
    directory = root / path
    # In a cgroup namespace the path may lead out of what is mounted; the root is then all that we see.
    return [directory, *(parent for parent in directory.parents if parent.is_relative_to(root))]


def _total_memory(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal" and value.split()[:1]:
            kibibytes = value.split()[0]
            return int(kibibytes) * 1024 if kibibytes.isdecimal() else None
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
