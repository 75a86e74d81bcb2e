# SPDX-License-Identifier: MIT
"""Limits of a leaf: what is written where there are controllers, what is said where there are none."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from support.leaves import cgroup_hierarchy, group_hierarchy, python, start
from support.places import eventually_async

from wolverined.linux import limits
from wolverined.linux.cgroup import CgroupLeaf
from wolverined.linux.limits import Limits, Watch, hold, memory_words, weaknesses

GIB = 1 << 30


def cgroup(place: Path, name: str, *, pids: str = "max", controllers: str = "memory pids") -> Path:
    """Plain files in the place of a cgroup with these controllers."""
    path = place / name
    path.mkdir()
    for file in ("cgroup.procs", "cgroup.events"):
        (path / file).write_text("")
    (path / "cgroup.subtree_control").write_text(f"{controllers}\n")
    if "memory" in controllers:
        (path / "memory.max").write_text("max\n")
        (path / "memory.oom.group").write_text("0\n")
        (path / "memory.current").write_text("5000\n")
        (path / "memory.peak").write_text("9000\n")
        (path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n")
    if "pids" in controllers:
        (path / "pids.max").write_text(f"{pids}\n")
    return path


def test_a_memory_limit_ends_the_whole_leaf(tmp_path: Path) -> None:
    """The limit in bytes, and all of it together: half an app serves nobody."""
    leaf = cgroup(tmp_path, "app-1")
    assert hold(leaf, Limits(memory_bytes=64 << 20)) == ()
    assert (leaf / "memory.max").read_text() == str(64 << 20)
    assert (leaf / "memory.oom.group").read_text().startswith("1")
    assert (leaf / "pids.max").read_text() == "max\n"


def test_without_a_limit_nothing_is_written(tmp_path: Path) -> None:
    """Nor is anything wanting."""
    leaf = cgroup(tmp_path, "app-1", controllers="")
    assert hold(leaf, Limits()) == ()
    assert not (leaf / "memory.max").exists()


def test_what_has_no_controller_is_said(tmp_path: Path) -> None:
    """A limit that is not held must never look like one."""
    leaf = cgroup(tmp_path, "app-1", controllers="")
    assert hold(leaf, Limits(memory_bytes=1, processes=2)) == ("memory", "pids")
    assert hold(cgroup(tmp_path, "app-2", controllers="pids"), Limits(memory_bytes=1, processes=2)) == ("memory",)


@pytest.mark.parametrize(
    ("unit", "asked", "pids"),
    [
        ("4915", Limits(spared_processes=128), "4787"),
        ("100", Limits(spared_processes=128), "50"),
        ("4915", Limits(spared_processes=128, processes=64), "64"),
        ("max", Limits(spared_processes=128), "max\n"),
        ("max", Limits(processes=64), "64"),
    ],
)
def test_room_is_kept_of_what_the_unit_may_have(tmp_path: Path, unit: str, asked: Limits, pids: str) -> None:
    """An app that forks without end leaves its supervisor room to end and heal it."""
    leaf = cgroup(cgroup(tmp_path, "wolverine@shop.service", pids=unit), "app-1")
    assert hold(leaf, asked) == ()
    assert (leaf / "pids.max").read_text().startswith(pids)


def test_the_smallest_limit_above_counts(tmp_path: Path) -> None:
    """In a terminal our own directory has none, and the session has."""
    session = cgroup(tmp_path, "session-1.scope", pids="1000")
    leaf = cgroup(cgroup(session, "wolverine-shop"), "app-1")
    hold(leaf, Limits(spared_processes=100))
    assert (leaf / "pids.max").read_text() == "900\n"  # of plain files the rest stays


def test_a_leaf_tells_limit_peak_and_kills(tmp_path: Path) -> None:
    """Out of the kernel's files; "max" is no limit."""
    path = cgroup(tmp_path, "app-1")
    leaf = CgroupLeaf(path)
    assert leaf.oom_kills() == 2
    assert (leaf.stats().memory_bytes, leaf.stats().memory_peak_bytes, leaf.stats().memory_max_bytes) == (
        5000, 9000, None,
    )  # fmt: skip
    assert leaf.limit(Limits(memory_bytes=GIB)) == ()
    assert leaf.stats().memory_max_bytes == GIB


def test_weaknesses_name_what_is_wanting_and_how_to_mend_it(tmp_path: Path) -> None:
    """One line, only of what is wanting."""
    assert weaknesses(cgroup(tmp_path, "a")) == ()
    (line,) = weaknesses(cgroup(tmp_path, "b", controllers=""))
    assert "no memory and no pids controller" in line
    assert "resources.memory_max_mb limits nothing" in line
    (line,) = weaknesses(cgroup(tmp_path, "c", controllers="memory cpu"))
    assert "no pids controller" in line
    assert "memory_max_mb" not in line


def test_limits_are_said_for_a_person() -> None:
    """As far as they are known."""
    assert memory_words(64 << 20, 63 << 20) == "limit 64 MiB, peak 63 MiB"
    assert memory_words(None, 63 << 20) == "no limit of its own, peak 63 MiB"
    assert memory_words(64 << 20, None) == "limit 64 MiB"
    assert memory_words(None, None) == ""


def test_a_process_group_holds_no_limit(tmp_path: Path) -> None:
    """It says which, and its hierarchy says it at start."""
    with group_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")
        assert leaf.limit(Limits(memory_bytes=1, spared_processes=5)) == ("memory", "pids")
        assert leaf.limit(Limits(processes=5)) == ("pids",)
        assert leaf.limit(Limits()) == ()
        assert any("memory_max_mb limits nothing" in line for line in hierarchy.weaknesses)
        leaf.watch_memory(lambda: None)()
        leaf.remove()


def test_a_real_leaf_holds_what_its_host_can(tmp_path: Path) -> None:
    """Held, or told as wanting at the call and at the start."""
    with cgroup_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")
        missing = leaf.limit(Limits(memory_bytes=GIB, processes=100))
        assert (leaf.stats().memory_max_bytes == GIB) is ("memory" not in missing)
        for name in limits.WANTED:
            assert (name in missing) is any(f"no {name}" in line for line in hierarchy.weaknesses)
        leaf.remove()


def test_a_change_is_told_by_the_kernel(tmp_path: Path) -> None:
    """Each one, in the loop, and none after the end or once the cgroup is gone."""

    async def scenario() -> None:
        with cgroup_hierarchy(tmp_path) as hierarchy:
            leaf = hierarchy.leaf("app-1")
            told: list[int] = []
            # The same notice as that of memory.events, which needs a controller.
            watch = Watch(leaf.path / "cgroup.events", lambda: told.append(1))  # type: ignore[attr-defined]
            with start(python("import time; time.sleep(60)"), leaf) as child:
                await eventually_async(lambda: told)
                seen = len(told)
                leaf.signal(signal.SIGKILL)
                await asyncio.wait_for(child.wait(), 10)
                await eventually_async(lambda: len(told) > seen)
            watch.close()
            watch.close()
            another = Watch(leaf.path / "cgroup.events", lambda: told.append(2))  # type: ignore[attr-defined]
            assert await leaf.wait_empty(timeout_s=5)
            leaf.remove()
            await asyncio.sleep(0)
            another.close()
            assert 2 not in told

    asyncio.run(scenario())


def test_where_nobody_counts_nothing_is_watched(tmp_path: Path) -> None:
    """No memory controller: no file, no fault."""

    async def scenario() -> None:
        with cgroup_hierarchy(tmp_path) as hierarchy:
            leaf = hierarchy.leaf("app-1")
            leaf.watch_memory(lambda: None)()
            leaf.remove()

    asyncio.run(scenario())
