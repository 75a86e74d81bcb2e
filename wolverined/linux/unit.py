# SPDX-License-Identifier: MIT
"""The place for leaves under a service manager: our unit's own cgroup, which it delegates to us (DESIGN 5).

We move into `supervisor/` first, because a cgroup that hands controllers on may hold no process itself, and
because PID 1 runs an operator's reload in `.control/` beside it. Leaves stand directly in the unit's cgroup.
Source: systemd's CGROUP_DELEGATION document, cgroup-v2.rst ("No Internal Process Constraint").
"""

from __future__ import annotations

import os
from pathlib import Path

from wolverined.linux import proc
from wolverined.linux.cgroup import CgroupHierarchy, switch_controllers
from wolverined.linux.hierarchy import Unavailable, locate, parse_mounts, parse_own_cgroup, try_to_join
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.runtime import check_name, lock_state

SUPERVISOR = "supervisor"
"""Where we live in the unit's cgroup; `DelegateSubgroup=` of newer managers may put us there from the start."""

SPARED = frozenset({SUPERVISOR, ".control"})
"""What is no leaf in a unit's cgroup."""


def open_unit(name: str, *, state_dir: Path) -> Hierarchy:
    """Move into `supervisor/` of our unit's cgroup, and give what surrounds it as the place for leaves.

    What is no cgroup of ours to use (no `Delegate=`, no cgroup v2) makes it process groups, as in a terminal.

    Args:
        name: The application's name.
        state_dir: Claimed against another supervisor; exists.

    Raises:
        Conflict: Another supervisor of the same application is alive.
        UsageError: The name is not fit for a path.
    """
    check_name(name)
    lock = lock_state(state_dir, name)
    try:
        return _open(lock)
    except Unavailable as reason:
        os.close(lock)
        from wolverined.linux.group import GroupHierarchy  # noqa: PLC0415 - psutil comes with it

        return GroupHierarchy(name, state_dir=state_dir, reason=f"{reason} (the unit needs Delegate=yes)")
    except BaseException:
        os.close(lock)
        raise


def _open(lock: int) -> CgroupHierarchy:
    own = parse_own_cgroup(proc.read("/proc/self/cgroup") or "")
    if own is None:
        raise Unavailable("this kernel has no cgroup v2")
    unit = unit_of(own)
    mount, directory = locate(parse_mounts(proc.read("/proc/self/mountinfo") or ""), unit)
    if not mount.writable:
        raise Unavailable(f"{mount.point} is mounted read-only")
    if own == unit:
        _move(directory / SUPERVISOR)
    switch_controllers(directory, on=True)
    try_to_join(directory)
    return CgroupHierarchy(directory, own=unit, locks=[lock], places=[directory], spared=SPARED)


def unit_of(cgroup: str) -> str:
    """The cgroup of our unit, of which we may have moved, or been put, into `supervisor/` already."""
    unit, _, last = cgroup.rpartition("/")
    return unit if last == SUPERVISOR else cgroup


def _move(directory: Path) -> None:
    try:
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.procs").write_text("0", encoding="ascii")
    except OSError as error:
        raise Unavailable(f"cannot make cgroups in {directory.parent}: {error.strerror}") from error
