# SPDX-License-Identifier: MIT
"""What this room gives to a successor that takes over by execve(2): numbers and names, no objects.

File descriptors are those of this very process, which keeps its pid; whoever composes the handover makes
them survive the exec.
"""

from __future__ import annotations

import msgspec


class HandedChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child of ours. `start_ticks` (since boot) tells it from another process of the same pid."""

    pid: int
    start_ticks: int
    name: str


class HandedCgroups(msgspec.Struct, frozen=True, kw_only=True, tag="cgroups"):
    """Leaves that are cgroups.

    Attributes:
        directory: Where they are made.
        own: That cgroup as /proc/PID/cgroup shows it.
        places: `directory`, and that of a predecessor, if any.
        spared: What is no leaf in them.
        locks: File descriptors that lock the places.
    """

    directory: bytes
    own: str
    places: tuple[bytes, ...]
    spared: tuple[str, ...]
    locks: tuple[int, ...]


class HandedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf without a cgroup: its mark, and its processes as (pid, start in ticks since boot)."""

    name: str
    mark: str
    members: tuple[tuple[int, int], ...]


class HandedGroups(msgspec.Struct, frozen=True, kw_only=True, tag="groups"):
    """Leaves that are process groups.

    Attributes:
        weaknesses: What is weaker than with cgroups.
        leaves: All of them.
        children: The pids of the children that we started.
        lock: The file descriptor that locks the state directory.
    """

    weaknesses: tuple[str, ...]
    leaves: tuple[HandedGroup, ...]
    children: tuple[int, ...]
    lock: int


HandedHierarchy = HandedCgroups | HandedGroups
"""What a `Hierarchy` hands over."""
