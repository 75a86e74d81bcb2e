# SPDX-License-Identifier: MIT
"""The contract of a leaf: the closed box that one started program and every descendant of it live in.

`cgroup.py` makes it out of a cgroup, `group.py` out of a session and a scan where no cgroup is to be
had. Callers hold only these protocols, and read `contained` when the difference matters to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from wolverined.linux.handover import HandedHierarchy
from wolverined.linux.limits import Limits


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """A process that no signal reaches now: it is in uninterruptible sleep, in the kernel's `wchan`."""

    pid: int
    name: str
    wchan: str


class LeafStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaf uses. None: not known here.

    `memory_bytes` is the kernel's account of the cgroup where the memory controller is on, else the sum
    of resident pages (which counts shared pages once for each process). `memory_max_bytes` is the limit of
    this leaf, `memory_peak_bytes` the most that it ever used.
    """

    memory_bytes: int | None = None
    memory_max_bytes: int | None = None
    memory_peak_bytes: int | None = None
    cpu_usec: int | None = None
    processes: int | None = None


class Leaf(Protocol):
    """One program and all of its descendants, however they fork."""

    @property
    def name(self) -> str:
        """What the leaf was made as: `app-7`, `heal-3`."""
        ...

    @property
    def contained(self) -> bool:
        """True: a cgroup that nothing escapes. False: a process group and a scan (weaker)."""
        ...

    @property
    def mark(self) -> Mapping[str, str]:
        """Variables that a program started here must carry so that it can be found again; often none."""
        ...

    def cradle(self) -> int | None:
        """A cgroup's open directory that a child can be born in; the caller closes it. None: there is none."""
        ...

    def entrance(self) -> int | None:
        """A file descriptor through which a child joins by writing `0`; the caller closes it. None: no need."""
        ...

    def admit(self, pid: int) -> None:
        """Take note of a program that was just started for this leaf."""
        ...

    def pids(self) -> list[int]:
        """Every process in it now, zombies not counted."""
        ...

    def populated(self) -> bool:
        """Whether any process lives in it; zombies do not count."""
        ...

    def signal(self, signum: int) -> int:
        """Send a signal to every process that is in it now; returns how many got it."""
        ...

    def kill(self) -> None:
        """SIGKILL all of it, forks in progress included. Does not wait: see `wait_empty`."""
        ...

    async def wait_empty(self, *, timeout_s: float) -> bool:
        """Wait until nothing lives in it; False when something still does after `timeout_s`."""
        ...

    def stuck(self) -> list[Stuck]:
        """The processes in it that are in uninterruptible sleep, which even SIGKILL must wait for."""
        ...

    def limit(self, to: Limits) -> tuple[str, ...]:
        """Set what it may use, before anything runs in it; the names of what cannot be held here."""
        ...

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for want of memory; 0 where nobody counts."""
        ...

    def watch_memory(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called in the running loop when `oom_kills` may have grown; the result ends that."""
        ...

    def stats(self) -> LeafStats:
        """What it uses now."""
        ...

    def remove(self) -> None:
        """Give the empty leaf back; one that is busy for another moment goes with the next that is removed."""
        ...


class Hierarchy(Protocol):
    """All leaves of one supervisor, and what a killed predecessor left."""

    @property
    def contained(self) -> bool:
        """Whether its leaves are cgroups."""
        ...

    @property
    def weaknesses(self) -> tuple[str, ...]:
        """What is weaker here than it could be, one line each, said once at start; empty when nothing is."""
        ...

    def leaf(self, name: str) -> Leaf:
        """Make a leaf; a `Conflict` when one of that name is still alive."""
        ...

    def adopt(self, name: str) -> Leaf:
        """Take over a leaf of a predecessor in this process; it is no stale one then. SpawnError: it is not there."""
        ...

    def disown(self, leaf: Leaf) -> None:
        """Take `adopt` back: it is a stale one after all."""
        ...

    def hand_over(self) -> HandedHierarchy:
        """What a successor in this process needs to go on with the same places."""
        ...

    def stale(self) -> list[Leaf]:
        """The leaves that a killed predecessor of the same application left behind."""
        ...

    def owns(self, *, cgroup: str, pid: int | None) -> bool:
        """Whether a process (by its cgroup's path as /proc/PID/cgroup shows it, or its pid) is one of ours."""
        ...

    def close(self) -> None:
        """Kill and remove what is left of ours; waits up to two seconds for the kernel."""
        ...
