# SPDX-License-Identifier: MIT
"""Leaves made of cgroups (v2, pure or hybrid hosts): nothing that forks out of one can escape it.

A child is born in its leaf (see `clone`), or its own first act is to join it (see `process`), so that no
fork can slip away between start and move.
Whether a leaf is empty is told by the kernel (POLLPRI on `cgroup.events`), never found by looking again.
Sources: Documentation/admin-guide/cgroup-v2.rst, cgroups(7).
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from wolverined.errors import AccessDenied, Conflict, SpawnError
from wolverined.linux import limits, proc
from wolverined.linux.handover import HandedCgroups
from wolverined.linux.leaf import Leaf, LeafStats, Stuck

_GONE = (errno.ENOENT, errno.ENODEV)  # the cgroup was removed before, or while, we looked
_FREEZE_WAIT_S = 0.5
_REMOVE_TRIES = 3
_PIDFD_BATCH = 128  # far below the usual RLIMIT_NOFILE of 1024
_NO_MARK: Mapping[str, str] = MappingProxyType({})


class CgroupLeaf:
    """One cgroup below ours.

    Args:
        path: The cgroup's directory; it exists.
        busy: Told the path when it could not be removed yet.
        kill_file: Name of the kill file; only tests name one that no kernel has.
    """

    contained = True
    mark = _NO_MARK

    def __init__(
        self, path: Path, *, busy: Callable[[Path], None] = lambda _: None, kill_file: str = "cgroup.kill"
    ) -> None:
        self.path = path
        self.name = path.name
        self._busy = busy
        self._kill_file = kill_file

    def cradle(self) -> int:
        """The cgroup's directory, for clone3(2)."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def entrance(self) -> int:
        """The cgroup's `cgroup.procs`: the kernel checks the rights of us who opened it, not of who writes."""
        return os.open(self.path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def admit(self, pid: int) -> None:
        """Put a child that was not born in it in from outside as well, so that it is in when this returns.

        The shim joins by itself, before anything can fork; but until it has run that far, a kill would
        miss it and the leaf would look empty. Whoever moves first after a quiet time waits for a grace
        period of the kernel (8 to 20 ms), which is why children are born here where that is possible.
        """
        with suppress(ProcessLookupError):  # it has ended already
            _write(self.path / "cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """Every process in it and in cgroups that the program made below it."""
        return [pid for directory in _tree(self.path) for pid in _pids_of(directory)]

    def populated(self) -> bool:
        """Whether any process lives in it or below it."""
        return _flag(proc.read(self.path / "cgroup.events"), "populated")

    def signal(self, signum: int) -> int:
        """Send a signal to every process that is in it now; those that we may not signal are not counted."""
        pids = self.pids()
        batches = (pids[start : start + _PIDFD_BATCH] for start in range(0, len(pids), _PIDFD_BATCH))
        return sum(self._signal_batch(batch, signum) for batch in batches)

    def _signal_batch(self, pids: Iterable[int], signum: int) -> int:
        # A pid may have been reused between the list and the pidfd; but who is still listed *after* the
        # pidfd was taken is the process that the pidfd holds.
        fds = {pid: fd for pid in pids if (fd := _pidfd(pid)) is not None}
        try:
            still = set(self.pids())
            return sum(_send(fd, signum) for pid, fd in fds.items() if pid in still)
        finally:
            for fd in fds.values():
                os.close(fd)

    def kill(self) -> None:
        """SIGKILL all of it at once, forks in progress included; without `cgroup.kill` (< 5.14), frozen first."""
        try:
            _write(self.path / self._kill_file, "1")
        except OSError as error:
            if error.errno not in _GONE:
                raise AccessDenied(
                    f"cannot kill the processes in {self.path}: {error.strerror}",
                    hint="a supervisor of another user left them; run this one as that user or as root",
                ) from error
            if self.path.is_dir():
                self._kill_frozen()

    def _kill_frozen(self) -> None:
        # Whoever is frozen cannot fork, so the list is complete; SIGKILL reaches a frozen process in v2.
        # Thawed in any case: a frozen leaf that we forget would be worse than one that we failed to kill.
        freezer = self.path / "cgroup.freeze"
        try:
            _write(freezer, "1")
            _wait_flag(self.path, "frozen", wanted=True, timeout_s=_FREEZE_WAIT_S)
            self.signal(signal.SIGKILL)
        finally:
            _write(freezer, "0")

    async def wait_empty(self, *, timeout_s: float) -> bool:
        """Wait until the kernel says that nothing lives in it; False after `timeout_s`."""
        try:
            with _events(self.path) as (epoll, read_flag):
                if not read_flag("populated"):
                    return True
                return await _wait_in_loop(epoll, lambda: not read_flag("populated"), timeout_s)
        except FileNotFoundError:
            return True

    def stuck(self) -> list[Stuck]:
        """The processes in uninterruptible sleep."""
        found = ((pid, proc.stuck_thread(pid)) for pid in self.pids())
        return [Stuck(pid=pid, name=thread[0], wchan=thread[1]) for pid, thread in found if thread]

    def limit(self, to: limits.Limits) -> tuple[str, ...]:
        """Set what it may use; the controllers that are wanting for that."""
        return limits.hold(self.path, to)

    def oom_kills(self) -> int:
        """The counter of `memory.events`; 0 where the memory controller is not on."""
        return _field(proc.read(self.path / "memory.events"), "oom_kill") or 0

    def watch_memory(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Watch `memory.events`; nothing is told where the memory controller is not on."""
        try:
            return limits.Watch(self.path / "memory.events", changed).close
        except OSError:
            return _nothing

    def stats(self) -> LeafStats:
        """Memory, CPU and number of processes."""
        pids = self.pids()
        memory = proc.read(self.path / "memory.current")
        return LeafStats(
            memory_bytes=int(memory) if memory else sum(map(proc.resident_bytes, pids)),
            memory_max_bytes=limits.number(self.path / "memory.max"),
            memory_peak_bytes=limits.number(self.path / "memory.peak"),
            cpu_usec=_field(proc.read(self.path / "cpu.stat"), "usage_usec"),
            processes=len(pids),
        )

    def remove(self) -> None:
        """Remove the cgroup and those below it; what is still busy is handed to the hierarchy."""
        for _ in range(_REMOVE_TRIES):
            if remove_tree(self.path):
                return
        self._busy(self.path)


class CgroupHierarchy:
    """The leaves of one supervisor, in one directory.

    Args:
        directory: Where the leaves are made; exists and is writable.
        own: That cgroup as /proc/PID/cgroup shows it.
        locks: File descriptors that lock the places against another supervisor; closed with the hierarchy.
        places: `directory`, and that of a predecessor which lived in another cgroup, if any.
        spared: Names of cgroups in it that are no leaves, under a service manager, whose directory it is then.
    """

    contained = True

    def __init__(
        self, directory: Path, *, own: str, locks: list[int], places: list[Path], spared: frozenset[str] = frozenset()
    ) -> None:
        self.directory = directory
        self.weaknesses = limits.weaknesses(directory)
        self._own = own
        self._locks = locks
        self._places = places
        self._spared = spared
        self._leftovers: list[Path] = []
        self._stale = [self._leaf_at(path) for path in self._all()]

    def _all(self) -> list[Path]:
        """Every leaf that there is, whoever made it."""
        return [path for place in self._places for path in _children(place) if path.name not in self._spared]

    def _leaf_at(self, path: Path) -> CgroupLeaf:
        return CgroupLeaf(path, busy=self._leftovers.append)

    def leaf(self, name: str) -> CgroupLeaf:
        """Make a leaf; an empty one of a predecessor is made anew, so that its counters start at zero."""
        self._sweep()
        path = self.directory / name
        if path.is_dir() and not remove_tree(path):
            raise Conflict(
                f"the leaf {name} of a predecessor is still alive",
                hint="end what lives in it first: the stale leaves are listed",
            )
        path.mkdir()
        return self._leaf_at(path)

    @classmethod
    def resume(cls, handed: HandedCgroups) -> CgroupHierarchy:
        """Take over what another program of this very process had; nothing is tried, locked or made."""
        return cls(
            Path(os.fsdecode(handed.directory)),
            own=handed.own,
            locks=list(handed.locks),
            places=[Path(os.fsdecode(place)) for place in handed.places],
            spared=frozenset(handed.spared),
        )

    def hand_over(self) -> HandedCgroups:
        """What `resume` needs; all of it stays ours as long as there is no successor."""
        return HandedCgroups(
            directory=os.fsencode(self.directory),
            own=self._own,
            places=tuple(os.fsencode(place) for place in self._places),
            spared=tuple(sorted(self._spared)),
            locks=tuple(self._locks),
        )

    def adopt(self, name: str) -> CgroupLeaf:
        """Take over a leaf that was here before us: it is no stale one any more."""
        for leaf in self._stale:
            if leaf.path == self.directory / name and leaf.path.is_dir():
                self._stale.remove(leaf)
                return leaf
        raise SpawnError(f"the leaf {name} is not there")

    def disown(self, leaf: Leaf) -> None:
        """Take `adopt` back: it is a stale one after all."""
        self._stale += [one for one in (leaf,) if isinstance(one, CgroupLeaf)]

    def stale(self) -> list[Leaf]:
        """The leaves that were here before us and still are."""
        return [leaf for leaf in self._stale if leaf.path.is_dir()]

    def owns(self, *, cgroup: str, pid: int | None) -> bool:  # noqa: ARG002 - the protocol's other half finds by pid
        """Whether that cgroup is one of our leaves or lies below one."""
        below = f"{cgroup}/".removeprefix(f"{self._own}/")
        if below == f"{cgroup}/":
            return False
        # A directory of the service manager's holds more than leaves: us, and what an operator's reload runs.
        return not self._spared or below.partition("/")[0] not in {"", *self._spared}

    def close(self) -> None:
        """Kill what is left, wait up to two seconds until it is gone, and give the directories back."""
        if not self._locks:
            return
        deadline = time.monotonic() + 2.0
        for path in self._all():
            leaf = CgroupLeaf(path)
            with suppress(AccessDenied):  # another user's: said when it was found, and nobody is left to tell
                leaf.kill()
            _wait_flag(path, "populated", wanted=False, timeout_s=max(0.0, deadline - time.monotonic()))
            leaf.remove()
        if self._spared:
            # A unit's cgroup with controllers on takes no process in itself: the next start would fail with
            # 219/CGROUP should anything keep this one from being removed (systemd issue 23164).
            switch_controllers(self.directory, on=False)
        else:
            for place in self._places:
                remove_tree(place)
        while self._locks:
            os.close(self._locks.pop())

    def _sweep(self) -> None:
        self._leftovers[:] = [path for path in self._leftovers if not remove_tree(path)]


def switch_controllers(directory: Path, *, on: bool) -> None:
    """Turn on what our parent lets us have, for memory and OOM figures, or off what is on; having none is no error."""
    known = (proc.read(directory / ("cgroup.controllers" if on else "cgroup.subtree_control")) or "").split()
    for controller in sorted({"memory", "pids", "cpu"}.intersection(known)):
        # A predecessor's processes, or rights, may forbid it: then the figures come from /proc.
        with suppress(OSError):
            _write(directory / "cgroup.subtree_control", f"{'+' if on else '-'}{controller}")


def remove_tree(path: Path) -> bool:
    """Remove an empty cgroup and those below it, deepest first; False when something is still busy."""
    for directory in reversed(list(_tree(path))):
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno not in _GONE:
                return False
    return True


def _tree(path: Path) -> Iterator[Path]:
    yield path
    for child in _children(path):
        yield from _tree(child)


def _children(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def _pids_of(directory: Path) -> list[int]:
    # 0 stands for a process outside of our PID namespace. A threaded cgroup answers EOPNOTSUPP: its
    # processes are listed by the domain above it, which we read as well.
    text = proc.read(directory / "cgroup.procs") or ""
    return [pid for pid in map(int, text.split()) if pid]


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _field(text: str | None, key: str) -> int | None:
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def _nothing() -> None:
    """There is nothing to end."""


def _flag(text: str | None, key: str) -> bool:
    return _field(text, key) == 1


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # it ended between the list and now


def _send(fd: int, signum: int) -> int:
    try:
        signal.pidfd_send_signal(fd, signum)
    except OSError:
        return 0  # ended, or of another user and we lack CAP_KILL: not counted
    return 1


@contextmanager
def _events(path: Path) -> Iterator[tuple[select.epoll, Callable[[str], bool]]]:
    """Watch `cgroup.events`: an epoll that turns readable at a change, and a reader of one flag.

    kernfs tells of changes by POLLPRI, which asyncio cannot ask for; so an epoll of our own asks, and
    its file descriptor, which is readable when it has something, is what the loop watches. The flag must
    be read through the same open file, because a read is what arms the next POLLPRI.
    """
    fd = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def read_flag(key: str) -> bool:
        try:
            return _flag(os.pread(fd, 4096, 0).decode(), key)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    try:
        with select.epoll() as epoll:
            epoll.register(fd, select.EPOLLPRI | select.EPOLLERR)
            yield epoll, read_flag
    finally:
        os.close(fd)


async def _wait_in_loop(epoll: select.epoll, done: Callable[[], bool], timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        epoll.poll(0)
        if done() and not finished.done():
            finished.set_result(None)

    loop.add_reader(epoll.fileno(), look)
    try:
        await asyncio.wait_for(finished, timeout_s)
    except TimeoutError:
        return done()
    finally:
        loop.remove_reader(epoll.fileno())
    return True


def _wait_flag(path: Path, key: str, *, wanted: bool, timeout_s: float) -> bool:
    """The same wait without a loop, for the end of the process and for the freeze of old kernels."""
    deadline = time.monotonic() + timeout_s
    try:
        with _events(path) as (epoll, read_flag):
            while read_flag(key) is not wanted:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                epoll.poll(left)
    except FileNotFoundError:
        return not wanted
    return True
