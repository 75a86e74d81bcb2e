# SPDX-License-Identifier: MIT
"""How many workers an application should run here: by what it may use, not by what the machine has.

A container with a quota of two CPUs on a host of 64 must not start 64 workers. `recommend` is the
decision, `read_capacity` reads quota, affinity and memory limits, of cgroup v2 and v1.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import msgspec

from wolverined.linux import proc

_GIB = 1 << 30
_V1_UNLIMITED = 1 << 62  # v1 writes "no limit" as the biggest multiple of a page below 2**63


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What this process, and so the application, may use. `cores` may be a fraction."""

    cores: float
    memory_bytes: int | None


def recommend(capacity: Capacity) -> int:
    """The number of workers: one on a small machine, then a core is left over, then half of many cores."""
    cores = int(capacity.cores)
    if cores <= 1 or (capacity.memory_bytes is not None and capacity.memory_bytes < _GIB):
        return 1
    if cores == 2:  # noqa: PLR2004 - the table of the function's docstring
        return 2
    if cores <= 4:  # noqa: PLR2004
        return cores - 1
    if cores <= 8:  # noqa: PLR2004
        return min(cores - 1, 6)
    return min(cores // 2, 16)


def parse_cpu_max(text: str) -> float | None:
    """CPUs out of `cpu.max` ("QUOTA PERIOD", microseconds); None: no limit, or not understood."""
    fields = text.split()
    try:
        quota, period = int(fields[0]), int(fields[1])
    except (IndexError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def parse_bytes(text: str) -> int | None:
    """Bytes out of `memory.max` or `memory.limit_in_bytes`; None: no limit, or not understood."""
    value = text.strip()
    return int(value) if value.isdecimal() and int(value) < _V1_UNLIMITED else None


def read_capacity(*, proc_dir: Path = Path("/proc")) -> Capacity:
    """What the kernel lets this process use now; limits anywhere up the tree count.

    Args:
        proc_dir: Where /proc is mounted; tests bring one of their own.
    """
    places = _places(proc_dir)
    cpus = [float(len(os.sched_getaffinity(0)))]
    memory = [_total_memory(proc_dir)]
    for place in places:
        cpus += [quota for text in _cpu_texts(place) if (quota := parse_cpu_max(text))]
        texts = (proc.read(place / name) for name in ("memory.max", "memory.limit_in_bytes"))
        memory += [parse_bytes(text) for text in texts if text]
    known = [value for value in memory if value]
    return Capacity(cores=min(cpus), memory_bytes=min(known) if known else None)


def _cpu_texts(place: Path) -> list[str]:
    quota, period = proc.read(place / "cpu.cfs_quota_us"), proc.read(place / "cpu.cfs_period_us")
    v1 = [f"{quota.strip()} {period.strip()}"] if quota and period else []
    v2 = proc.read(place / "cpu.max")
    return [*v1, v2] if v2 else v1


def _total_memory(proc_dir: Path) -> int | None:
    for line in (proc.read(proc_dir / "meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _places(proc_dir: Path) -> list[Path]:
    """The directories of our cgroups and of all above them, in every mounted hierarchy."""
    ours = {}
    for line in (proc.read(proc_dir / "self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        ours.update(dict.fromkeys(controllers.split(","), path))
    places: list[Path] = []
    for root, point, kind, options in _mounts(proc.read(proc_dir / "self/mountinfo") or ""):
        key = "" if kind == "cgroup2" else next((option for option in options if option in ours), None)
        if key is None or key not in ours:
            continue
        # What the mount does not show (a container sees only its own part) has its limits at the mount's root.
        inside = PurePosixPath(ours[key])
        relative = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
        if ".." not in relative.parts:
            places += [Path(point, *relative.parts[:depth]) for depth in range(len(relative.parts) + 1)]
    return places


def _mounts(mountinfo: str) -> list[tuple[str, str, str, list[str]]]:
    """Root, mount point, type and super options of each cgroup mount, both versions."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, last = head.split(), tail.split()
        if last and last[0] in {"cgroup", "cgroup2"} and len(fields) > 4:  # noqa: PLR2004 - the mount point is the fifth
            found.append((fields[3], fields[4], last[0], last[-1].split(",")))
    return found
