# SPDX-License-Identifier: MIT
"""Children that are born in a cgroup: where they are, what they inherit, and every way that it cannot be done."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leaves import cgroup_hierarchy
from support.places import eventually

from wolverined.linux import clone
from wolverined.linux.cgroup import CgroupLeaf

SLEEP = "/bin/sleep"


@pytest.fixture
def leaf(tmp_path: Path) -> Iterator[CgroupLeaf]:
    """A new cgroup leaf."""
    with cgroup_hierarchy(tmp_path) as hierarchy:
        yield hierarchy.leaf("app-1")  # type: ignore[misc]


def program(*argv: str, cwd: str | None = None, keep_fds: tuple[int, ...] = ()) -> clone.Program:
    """A program that says nothing."""
    return clone.Program(argv=argv, env={}, cwd=cwd, stdout=None, stderr=None, keep_fds=keep_fds)


def started(leaf: CgroupLeaf, what: clone.Program) -> tuple[int, int] | None:
    """Start it in the leaf."""
    cradle = leaf.cradle()
    try:
        return clone.start(what, cgroup=cradle)
    finally:
        os.close(cradle)


def end(made: tuple[int, int]) -> None:
    """Kill and reap a child."""
    pid, pidfd = made
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pidfd)


def born(leaf: CgroupLeaf, what: clone.Program) -> tuple[int, int]:
    """Start it in the leaf, or skip where the kernel does not let anything be born there."""
    made = started(leaf, what)
    if made is None:
        pytest.skip("this kernel, or what contains us, refuses clone3 into a cgroup here")
    return made


def open_files() -> int:
    """How many file descriptors we have open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_child_is_in_the_cgroup_before_anyone_looks(leaf: CgroupLeaf) -> None:
    """When start returns, the leaf lists the child, and the child is the program already."""
    made = born(leaf, program(SLEEP, "60"))
    try:
        assert leaf.pids() == [made[0]]
        assert Path(f"/proc/{made[0]}/comm").read_text().strip() == "sleep"
    finally:
        end(made)


def test_a_child_ignores_blocks_and_catches_no_signal(leaf: CgroupLeaf) -> None:
    """Neither Python's own ignored signals nor our mask nor a handler is inherited."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    made = born(leaf, program(SLEEP, "60"))
    try:
        lines = Path(f"/proc/{made[0]}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        masks = {name: int(fields[name], 16) for name in ("SigBlk", "SigCgt", "SigIgn")}
        assert masks["SigBlk"] == masks["SigCgt"] == 0
        assert not masks["SigIgn"] & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
    finally:
        signal.signal(signal.SIGUSR1, before)
        end(made)


def test_our_own_signals_are_as_before(leaf: CgroupLeaf) -> None:
    """The mask that keeps signals from the child is ours for that moment only."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    end(born(leaf, program(SLEEP, "60")))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_a_kept_descriptor_arrives_between_closed_ones(leaf: CgroupLeaf) -> None:
    """Only what is kept is open, whatever lies below and above it."""
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        made = born(leaf, program(SLEEP, "60", keep_fds=(fds[3], fds[1])))
        try:
            # The program itself opens and closes its libraries when it starts.
            there = Path(f"/proc/{made[0]}/fd")
            eventually(lambda: {int(path.name) for path in there.iterdir()} == {0, 1, 2, fds[1], fds[3]})
        finally:
            end(made)
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize(
    ("what", "number"),
    [
        (program("/no/such/program"), errno.ENOENT),
        (program("/etc/passwd"), errno.EACCES),
        (program(SLEEP, "60", cwd="/no/such/directory"), errno.ENOENT),
        (program(SLEEP, "x" * (1 << 20)), errno.E2BIG),
    ],
)
def test_what_the_kernel_says_to_the_child_is_raised_here(leaf: CgroupLeaf, what: clone.Program, number: int) -> None:
    """A failed exec or chdir is an OSError with its number, and leaves no process and no descriptor."""
    end(born(leaf, program(SLEEP, "60")))
    before = open_files()
    with pytest.raises(OSError) as told:  # noqa: PT011 - its number is what matters
        started(leaf, what)
    assert told.value.errno == number
    assert open_files() == before
    assert leaf.pids() == []


def test_a_nul_byte_is_refused_before_anything_is_started(leaf: CgroupLeaf) -> None:
    """What no exec could take raises in the parent."""
    before = open_files()
    with pytest.raises(ValueError, match="null"):
        started(leaf, program(SLEEP, "6\x000"))
    assert open_files() == before


def test_without_a_cgroup_it_says_so_instead_of_failing(tmp_path: Path) -> None:
    """A directory that is no cgroup gives None: the caller starts the child another way."""
    fd = os.open(tmp_path, os.O_RDONLY)
    before = open_files()
    try:
        assert clone.start(program(SLEEP, "60"), cgroup=fd) is None
        assert open_files() == before
    finally:
        os.close(fd)


def test_only_the_main_thread_makes_such_a_child(leaf: CgroupLeaf) -> None:
    """Another thread gets None, because the child could not put its signals in order."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(started(leaf, program(SLEEP, "60"))))
    thread.start()
    thread.join()
    assert answers == [None]


def test_a_child_that_is_killed_at_birth_is_started_another_way(leaf: CgroupLeaf) -> None:
    """In a leaf that was killed before, some kernels kill what is born there: never mistaken for a start."""
    end(born(leaf, program(SLEEP, "60")))
    leaf.kill()
    made = started(leaf, program(SLEEP, "60"))
    if made is not None:
        assert Path(f"/proc/{made[0]}/comm").read_text().strip() == "sleep"
        end(made)
    assert leaf.pids() == []
