# SPDX-License-Identifier: MIT
"""Leaves on the real kernel, cgroups and process groups alike: what must die dies, what lives is told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leaves import FOREST, RUNAWAY, cgroup_hierarchy, group_hierarchy, python, start
from support.places import eventually_async, public_tmp

from wolverined.errors import Conflict
from wolverined.linux.leaf import Hierarchy, Leaf


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any user may write to."""
    with public_tmp(mode=0o777) as path:
        yield path


@pytest.fixture(params=["cgroup", "group"])
def hierarchy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hierarchy]:
    """Each kind of hierarchy in turn."""
    kind = cgroup_hierarchy if request.param == "cgroup" else group_hierarchy
    with kind(tmp_path) as made:
        yield made


@pytest.fixture
def leaf(hierarchy: Hierarchy) -> Leaf:
    """One leaf."""
    return hierarchy.leaf("app-1")


def pid_of(place: Path, name: str) -> int:
    """The pid that a descendant of the forest wrote down."""
    return int((place / name).read_text())


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_whole_forest_dies_on_kill(leaf: Leaf, place: Path) -> None:
    """Plain, setsid'd and double-forked descendants are listed, and none survives a kill."""

    async def scenario() -> None:
        with start(python(FOREST, place), leaf) as child:
            await eventually_async((place / "ready").exists)
            family = {pid_of(place, name) for name in ("plain", "setsid", "daemon")}
            assert family | {child.pid} == set(leaf.pids())
            assert leaf.populated()
            leaf.kill()
            assert await leaf.wait_empty(timeout_s=5)
            assert (await child.wait()).signal == signal.SIGKILL
            assert not any(map(alive, family))
            assert leaf.pids() == []

    asyncio.run(scenario())


def test_descendants_of_a_dead_main_process_keep_the_leaf_populated(leaf: Leaf, place: Path) -> None:
    """The main process has ended, its daemons live: populated stays true until a kill empties the leaf."""

    async def scenario() -> None:
        with start(python(FOREST, place, 7), leaf) as child:
            assert (await child.wait()).code == 7
            assert leaf.populated()
            assert set(leaf.pids()) == {pid_of(place, name) for name in ("plain", "setsid", "daemon")}
            assert not await leaf.wait_empty(timeout_s=0.05)
            leaf.kill()
            assert await leaf.wait_empty(timeout_s=5)
            assert not leaf.populated()

    asyncio.run(scenario())


def test_an_ignored_sigterm_does_not_save_it(leaf: Leaf, place: Path) -> None:
    """A program that ignores SIGTERM lives on after signal() and dies on kill()."""
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open(sys.argv[1] + '/ready', 'w').close(); time.sleep(60)"
    )

    async def scenario() -> None:
        with start(python(program, place), leaf) as child:
            await eventually_async((place / "ready").exists)
            assert leaf.signal(signal.SIGTERM) == 1
            assert not await leaf.wait_empty(timeout_s=0.1)
            leaf.kill()
            assert await leaf.wait_empty(timeout_s=5)
            assert (await child.wait()).signal == signal.SIGKILL

    asyncio.run(scenario())


def test_a_signal_reaches_every_process_once(leaf: Leaf, place: Path) -> None:
    """SIGTERM to a leaf ends the whole forest when nobody ignores it."""

    async def scenario() -> None:
        with start(python(FOREST, place), leaf) as child:
            await eventually_async((place / "ready").exists)
            assert leaf.signal(signal.SIGTERM) == 4
            assert await leaf.wait_empty(timeout_s=5)
            assert (await child.wait()).signal == signal.SIGTERM
            assert leaf.signal(signal.SIGTERM) == 0

    asyncio.run(scenario())


def test_a_runaway_forker_dies(hierarchy: Hierarchy, place: Path) -> None:
    """Processes that only fork their successor in a new session and end are caught in the act, by a cgroup.

    A process group cannot promise it: there the test asks only that nothing outlives the program's own end.
    """
    leaf = hierarchy.leaf("app-1")

    async def scenario() -> None:
        with start(python(RUNAWAY, place, 2), leaf):
            await eventually_async((place / "ready").exists)
            leaf.kill()
            assert await leaf.wait_empty(timeout_s=0.7 if leaf.contained else 10)

    asyncio.run(scenario())


def test_empty_is_told_when_the_last_process_ends(leaf: Leaf, place: Path) -> None:
    """wait_empty returns when a program ends by itself, long before its timeout."""
    program = "import os, sys; os.read(os.open(sys.argv[1], os.O_RDONLY), 1)"
    os.mkfifo(place / "gate")
    (place / "gate").chmod(0o666)

    async def scenario() -> None:
        with start(python(program, place / "gate"), leaf) as child:
            empty = asyncio.create_task(leaf.wait_empty(timeout_s=30))
            gate = await asyncio.to_thread(os.open, place / "gate", os.O_WRONLY)
            assert not empty.done()
            os.close(gate)
            assert await asyncio.wait_for(empty, 5)
            assert (await child.wait()).code == 0

    asyncio.run(scenario())


def test_an_empty_leaf_is_empty_at_once(leaf: Leaf) -> None:
    """Waiting for a leaf that nothing ever lived in does not wait, nor does one that was removed."""

    async def scenario() -> None:
        assert await leaf.wait_empty(timeout_s=0)
        leaf.kill()
        leaf.remove()
        assert await leaf.wait_empty(timeout_s=0)
        leaf.kill()
        leaf.remove()
        assert not leaf.populated()
        assert leaf.stuck() == []
        assert leaf.signal(signal.SIGTERM) == 0

    asyncio.run(scenario())


def test_a_leaf_that_lives_cannot_be_made_again(hierarchy: Hierarchy, place: Path) -> None:
    """A second leaf of the same name is a conflict while the first lives, and made anew when it is empty."""
    leaf = hierarchy.leaf("app-1")

    async def scenario() -> None:
        with start(python(FOREST, place), leaf):
            await eventually_async((place / "ready").exists)
            with pytest.raises(Conflict):
                hierarchy.leaf("app-1")
            leaf.kill()
            assert await leaf.wait_empty(timeout_s=5)
        assert hierarchy.leaf("app-1").pids() == []

    asyncio.run(scenario())


def test_figures_are_given(leaf: Leaf, place: Path) -> None:
    """Memory, CPU and the number of processes are known; OOM kills are zero."""

    async def scenario() -> None:
        with start(python(FOREST, place), leaf):
            await eventually_async((place / "ready").exists)
            stats = leaf.stats()
            assert stats.processes == 4
            assert stats.memory_bytes is not None
            assert stats.memory_bytes > 1 << 20
            assert stats.cpu_usec is not None
            assert leaf.oom_kills() == 0

    asyncio.run(scenario())


def test_a_process_in_the_kernel_is_named(leaf: Leaf, place: Path) -> None:
    """A process in uninterruptible sleep (a vfork whose child never executes) is told with its name and place."""
    program = (
        "import os, sys; os.posix_spawn('/bin/true', ['true'], {},"
        " file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])"
    )
    os.mkfifo(place / "gate")
    (place / "gate").chmod(0o666)

    async def scenario() -> None:
        with start(python(program, place / "gate"), leaf) as child:
            # The shim itself may be in the kernel for a moment, on its way into the cgroup.
            found = await eventually_async(lambda: [each for each in leaf.stuck() if each.name.startswith("python3")])
            assert [stuck.pid for stuck in found] == [child.pid]
            assert found[0].wchan
            leaf.kill()
            assert await leaf.wait_empty(timeout_s=5)

    asyncio.run(scenario())


def test_ours_are_known_from_strangers(hierarchy: Hierarchy, place: Path) -> None:
    """A process in a leaf is ours, by its cgroup or by its pid; the one that runs the tests is not."""
    leaf = hierarchy.leaf("app-1")

    def owned(pid: int) -> bool:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        return hierarchy.owns(cgroup=next((line[3:] for line in lines if line.startswith("0::")), ""), pid=pid)

    async def scenario() -> None:
        with start(python(FOREST, place), leaf) as child:
            await eventually_async((place / "ready").exists)
            assert owned(child.pid)
            assert owned(pid_of(place, "daemon"))
            assert not owned(os.getpid())
            assert not owned(1)

    asyncio.run(scenario())


def test_closing_leaves_nothing(tmp_path: Path, place: Path) -> None:
    """A hierarchy that is closed kills what still lives in it; closing again is nothing."""
    for kind in (cgroup_hierarchy, group_hierarchy):
        for mark in place.iterdir():
            mark.unlink()

        async def scenario(kind: Any = kind) -> None:
            with kind(tmp_path) as hierarchy:
                child = start(python(FOREST, place), hierarchy.leaf("app-1"))
                await eventually_async((place / "ready").exists)
                family = [pid_of(place, name) for name in ("plain", "setsid", "daemon")]
                hierarchy.close()
                assert not any(map(alive, family))
                assert (await child.wait()).signal == signal.SIGKILL
                child.close()

        asyncio.run(scenario())


def test_a_program_is_in_its_leaf_when_spawn_returns(leaf: Leaf) -> None:
    """A kill right after a start misses nothing: the leaf is populated by then, however slow the shim is."""

    async def scenario() -> None:
        for _ in range(20):
            with start(["sleep", "60"], leaf) as child:
                assert leaf.pids() == [child.pid]
                leaf.kill()
                assert await leaf.wait_empty(timeout_s=5)
                assert (await child.wait()).signal == signal.SIGKILL

    asyncio.run(scenario())
