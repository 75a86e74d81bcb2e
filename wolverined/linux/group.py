# SPDX-License-Identifier: MIT
"""Leaves without a cgroup: session, descendants and a mark in the environment, found by looking (psutil).

For laptops and containers. It is weaker than a cgroup, and `WEAKNESSES` says how. What is found is
remembered as (pid, start time) in the state directory, so that a successor can end what a killed
supervisor left.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import starmap
from pathlib import Path

import msgspec

from wolverined.errors import Conflict, SpawnError
from wolverined.linux import proc
from wolverined.linux.handover import HandedGroup, HandedGroups
from wolverined.linux.leaf import Leaf, LeafStats, Stuck
from wolverined.linux.limits import WANTED, Limits
from wolverined.linux.runtime import lock_state

MARK = "WOLVERINE_LEAF"
WEAKNESSES = (
    "a process that leaves session and parents is claimed by its environment, or else counted to the oldest leaf",
    "of a killed supervisor's tree, such a process with a cleared environment escapes the successor",
    "a program that forks without end can outrun the kill, which looks and kills in rounds",
    "nobody tells a death for want of memory from another SIGKILL, and memory and CPU are sums over processes",
    "no limit holds: resources.memory_max_mb limits nothing",
    "that everything has ended is noticed by looking 50 times a second, not told by the kernel",
)
_RECORD = "processes.json"
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.02
_KILL_ROUNDS = 20


class _Member(msgspec.Struct, frozen=True, array_like=True):
    """A process for all time: a pid is reused, a pid and its start (ticks since boot) is not."""

    pid: int
    start_ticks: int


class _LeafRecord(msgspec.Struct, frozen=True, kw_only=True):
    mark: str
    members: tuple[_Member, ...]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """`processes.json`: what a successor in the same boot needs to find everything again."""

    boot_id: str
    leaves: dict[str, _LeafRecord]


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one look."""

    start_ticks: int
    ppid: int
    session: int
    zombie: bool
    mark: str


class GroupLeaf:
    """One program and what can be found of its descendants.

    Args:
        name: The leaf's name.
        mark: The value of `WOLVERINE_LEAF` in the environment of its processes.
        members: What a predecessor remembered.
        hierarchy: Whose leaf this is; it looks for all of them at once.
    """

    contained = False

    def __init__(self, name: str, *, mark: str, members: tuple[_Member, ...] = (), hierarchy: GroupHierarchy) -> None:
        self.name = name
        self.token = mark
        self.mark: Mapping[str, str] = {MARK: mark}
        self.members = set(members)
        self._hierarchy = hierarchy
        self._killing = False

    def cradle(self) -> None:
        """There is no cgroup to be born in."""

    def entrance(self) -> None:
        """There is nothing to join."""

    def admit(self, pid: int) -> None:
        """Remember the program that was started, on disk, before anything else happens."""
        found = proc.stat(pid)
        if found is None:  # our own unreaped child is always there: it is /proc that cannot be read
            raise OSError(errno.ESRCH, "what was just started cannot be found in /proc")
        self.members.add(_Member(pid, found.start_ticks))
        self._hierarchy.started(pid)

    def pids(self) -> list[int]:
        """Every process that can be found, zombies not counted."""
        seen = self._hierarchy.look()
        found = ((member.pid, seen.get(member.pid)) for member in self.members)
        return sorted(pid for pid, process in found if process and not process.zombie)

    def populated(self) -> bool:
        """Whether any process can be found."""
        return bool(self.pids())

    def signal(self, signum: int) -> int:
        """Send a signal to every process that is found now."""
        return sum(_signal(pid, signum) for pid in self.pids())

    def kill(self) -> None:
        """SIGKILL what is found, and look again until a look finds nothing new, twenty times at most."""
        self._killing = True
        before: list[int] = []
        for _ in range(_KILL_ROUNDS):
            pids = self.pids()
            if not set(pids) - set(before):
                return
            # Stopped first, all of them: who is stopped cannot fork while we kill its siblings.
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            before = pids

    async def wait_empty(self, *, timeout_s: float) -> bool:
        """Look until nothing is found any more; False after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.populated():
            if time.monotonic() >= deadline:
                return False
            if self._killing:
                self.kill()  # what was forked behind the back of the last round
            await asyncio.sleep(_LOOK_S)
        return True

    def stuck(self) -> list[Stuck]:
        """The processes in uninterruptible sleep."""
        found = ((pid, proc.stuck_thread(pid)) for pid in self.pids())
        return [Stuck(pid=pid, name=thread[0], wchan=thread[1]) for pid, thread in found if thread]

    def limit(self, to: Limits) -> tuple[str, ...]:
        """Nothing can be held here; what a program's own limits could do would end it in other ways."""
        wanted = (to.memory_bytes, to.processes or to.spared_processes)
        return tuple(name for name, value in zip(WANTED, wanted, strict=True) if value is not None)

    def oom_kills(self) -> int:
        """Always 0: nobody counts here."""
        return 0

    def watch_memory(self, changed: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002 - nobody counts here
        """Nothing is ever told."""
        return lambda: None

    def stats(self) -> LeafStats:
        """Memory as a sum of resident pages, CPU of those that live, and number of processes."""
        pids = self.pids()
        return LeafStats(
            memory_bytes=sum(map(proc.resident_bytes, pids)),
            cpu_usec=sum(map(proc.cpu_usec, pids)),
            processes=len(pids),
        )

    def remove(self) -> None:
        """Forget it, on disk, too."""
        self._hierarchy.forget(self)


class GroupHierarchy:
    """The leaves of one supervisor where there is no cgroup for them.

    Args:
        name: The application's name.
        state_dir: Where `processes.json` is kept for a successor.
        reason: Why there is no cgroup, for the operator.
        handed: What another program of this very process had: it is taken over.
    """

    contained = False
    weaknesses: tuple[str, ...]

    def __init__(self, name: str, *, state_dir: Path, reason: str = "", handed: HandedGroups | None = None) -> None:
        self._record = state_dir / _RECORD
        self._saved = b""
        if handed is not None:
            self._resume(handed)
            return
        self.weaknesses = (f"no cgroup for {name}: {reason}; so processes are found by looking", *WEAKNESSES)
        self._lock: int | None = lock_state(state_dir, name)
        seen, self._marks = _look({})
        # Whoever is our child before we adopt anyone was started by somebody else in this process.
        self._children = {pid for pid, process in seen.items() if process.ppid == os.getpid()}
        _become_subreaper(on=True)
        self._leaves = self._load()
        self._stale = [leaf for leaf in self._leaves if leaf.populated()]
        self._leaves = list(self._stale)
        self._save()

    def _resume(self, handed: HandedGroups) -> None:
        """Take over what another program of this very process had; it is the subreaper already."""
        self.weaknesses = handed.weaknesses
        self._lock = handed.lock
        self._marks = {}
        self._children = set(handed.children)
        self._leaves = [
            GroupLeaf(each.name, mark=each.mark, members=tuple(starmap(_Member, each.members)), hierarchy=self)
            for each in handed.leaves
        ]
        self._stale = list(self._leaves)

    def hand_over(self) -> HandedGroups:
        """What a successor needs; all of it stays ours as long as there is no successor."""
        assert self._lock is not None
        return HandedGroups(
            weaknesses=self.weaknesses,
            leaves=tuple(
                HandedGroup(
                    name=leaf.name,
                    mark=leaf.token,
                    members=tuple(sorted((each.pid, each.start_ticks) for each in leaf.members)),
                )
                for leaf in self._leaves
            ),
            children=tuple(sorted(self._children)),
            lock=self._lock,
        )

    def adopt(self, name: str) -> GroupLeaf:
        """Take over a leaf that was here before us: it is no stale one any more."""
        for leaf in self._stale:
            if leaf.name == name and leaf in self._leaves:
                self._stale.remove(leaf)
                return leaf
        raise SpawnError(f"the leaf {name} is not there")

    def disown(self, leaf: Leaf) -> None:
        """Take `adopt` back: it is a stale one after all."""
        self._stale += [one for one in (leaf,) if isinstance(one, GroupLeaf)]

    def leaf(self, name: str) -> GroupLeaf:
        """Make a leaf; a `Conflict` when one of that name still lives."""
        for leaf in [each for each in self._leaves if each.name == name]:
            if leaf.populated():
                raise Conflict(f"the leaf {name} of a predecessor is still alive", hint="end what lives in it first")
            self.forget(leaf)
        leaf = GroupLeaf(name, mark=f"{name}:{secrets.token_hex(8)}", hierarchy=self)
        self._leaves.append(leaf)
        self._save()  # before anything starts: a successor finds by the mark what we had no time to note
        return leaf

    def stale(self) -> list[Leaf]:
        """What a killed predecessor left and still lives."""
        return [leaf for leaf in self._stale if leaf in self._leaves]

    def owns(self, *, cgroup: str, pid: int | None) -> bool:  # noqa: ARG002 - the protocol's other half finds by cgroup
        """Whether that process is found in one of our leaves."""
        return pid is not None and any(pid in leaf.pids() for leaf in self._leaves)

    def close(self) -> None:
        """Kill what is left, wait up to two seconds, forget it."""
        if self._lock is None:
            return
        deadline = time.monotonic() + 2.0
        for leaf in self._leaves:
            leaf.kill()
        while any(leaf.populated() for leaf in self._leaves) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            for leaf in self._leaves:
                leaf.kill()
        self._leaves = [leaf for leaf in self._leaves if leaf.populated()]
        self._save()
        _become_subreaper(on=False)
        os.close(self._lock)
        self._lock = None

    def started(self, pid: int) -> None:
        """Told of each program that we start: its end is for its own pidfd, all other zombies are ours to reap."""
        self._children.add(pid)
        self._save()

    def forget(self, leaf: GroupLeaf) -> None:
        """Drop a leaf."""
        leaf.members = set()
        self._leaves = [each for each in self._leaves if each is not leaf]
        self._save()

    def look(self) -> dict[int, _Seen]:
        """Look at every process once, put the new ones into the leaves they belong to, reap adopted orphans."""
        seen, self._marks = _look(self._marks)
        for leaf in self._leaves:
            leaf.members = _grow(leaf, seen)
        self._children.intersection_update(seen)
        claimed = {member.pid for leaf in self._leaves for member in leaf.members}
        for pid in self._adopted(seen):
            if seen[pid].zombie:
                _reap(pid)
            elif pid not in claimed and self._leaves:
                self._leaves[0].members.add(_Member(pid, seen[pid].start_ticks))
        self._save()
        return seen

    def _adopted(self, seen: Mapping[int, _Seen]) -> list[int]:
        # Whoever became our child without being started by us is an orphan of one of our trees. It has a
        # session other than ours, as all that we start have; a child in our own session is somebody's
        # subprocess, and not for us to reap.
        ours = os.getsid(0)
        return [
            pid
            for pid, process in seen.items()
            if process.ppid == os.getpid() and pid not in self._children and process.session != ours
        ]

    def _load(self) -> list[GroupLeaf]:
        try:
            record = msgspec.json.decode(self._record.read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError):
            return []  # none, or half of one: nothing can be said of a predecessor
        if record.boot_id != proc.boot_id():
            return []
        return [
            GroupLeaf(name, mark=each.mark, members=each.members, hierarchy=self)
            for name, each in record.leaves.items()
        ]

    def _save(self) -> None:
        leaves = {
            leaf.name: _LeafRecord(mark=leaf.token, members=tuple(sorted(leaf.members, key=lambda each: each.pid)))
            for leaf in self._leaves
        }
        data = msgspec.json.encode(_Record(boot_id=proc.boot_id(), leaves=leaves))
        if data != self._saved:
            draft = self._record.with_suffix(".new")
            # A full disk keeps nobody from ending processes; the note is for a successor of ours.
            with suppress(OSError):
                draft.write_bytes(data)
                draft.replace(self._record)
                self._saved = data


def _look(known: Mapping[_Member, str]) -> tuple[dict[int, _Seen], dict[_Member, str]]:
    """Every process that is now, and the marks of their environments, of which only new ones are read."""
    import psutil  # noqa: PLC0415 - megabytes that a supervisor with a cgroup shall not carry

    seen, marks = {}, {}
    for process in psutil.process_iter():
        found = proc.stat(process.pid)
        if found is None:
            continue
        member = _Member(process.pid, found.start_ticks)
        if member not in known:
            try:
                marks[member] = process.environ().get(MARK, "")
            except (psutil.Error, OSError):
                marks[member] = ""  # another user's, and we are not root; or it has ended
        else:
            marks[member] = known[member]
        seen[process.pid] = _Seen(
            start_ticks=found.start_ticks,
            ppid=found.ppid,
            session=found.session,
            zombie=found.state in "ZX",
            mark=marks[member],
        )
    return seen, marks


def _grow(leaf: GroupLeaf, seen: Mapping[int, _Seen]) -> set[_Member]:
    """The members that still are, and those that belong to them: by mark, by parent, by session."""
    inside = {
        member.pid
        for member in leaf.members
        if member.pid in seen and seen[member.pid].start_ticks == member.start_ticks
    }
    # Whatever a note or a mark may say: init and those above us are never ours to kill, and through them
    # everything would be.
    never = {0, 1} | _line_of(os.getpid(), seen)
    inside -= never
    ours = os.getsid(0)
    while True:
        sessions = {seen[pid].session for pid in inside} - {ours}
        new = {
            pid
            for pid, process in seen.items()
            if pid not in inside
            and pid not in never
            and (process.mark == leaf.token or process.ppid in inside or process.session in sessions)
        }
        if not new:
            return {_Member(pid, seen[pid].start_ticks) for pid in inside}
        inside |= new


def _line_of(pid: int, seen: Mapping[int, _Seen]) -> set[int]:
    """A process and all above it."""
    line: set[int] = set()
    while pid in seen and pid not in line:
        line.add(pid)
        pid = seen[pid].ppid
    return line


def _signal(pid: int, signum: int) -> int:
    # Found a moment ago by its start time; to be reused in between, the pid counter would have to go round.
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return 0
    return 1


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # somebody else's after all


def _become_subreaper(*, on: bool) -> None:
    """With it, orphans of our trees become our children, whom we find and reap, and not those of init."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
