# SPDX-License-Identifier: MIT
"""The recommended number of workers follows limits, not the host's size."""

from __future__ import annotations

from pathlib import Path

import pytest

from wolverined.supervise.workers import quota_of, recommended_workers, workers_for

GIB = 1 << 30


@pytest.mark.parametrize(
    ("affinity", "quotas", "memory", "workers"),
    [
        (8, [], 64 * GIB, 8),
        (8, [2.0], 64 * GIB, 2),
        (8, [1.5], 64 * GIB, 2),
        (8, [4.0, 0.5], 64 * GIB, 1),
        (8, [], GIB, 4),
        (8, [], 1 << 20, 1),
        (2, [16.0], None, 2),
    ],
)
def test_the_smallest_limit_decides(affinity: int, quotas: list[float], memory: int | None, workers: int) -> None:
    """CPUs, quota and memory each can be the narrow place; one worker is the least."""
    assert workers_for(affinity=affinity, quotas=quotas, memory_bytes=memory) == workers


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("", None), ("junk", None), ("1 0", None), ("1 x", None)],
)
def test_cpu_max_is_read_or_ignored(text: str, quota: float | None) -> None:
    """A limit is a number of CPUs; anything else is none."""
    assert quota_of(text) == quota


def test_limits_of_every_cgroup_above_count(tmp_path: Path) -> None:
    """A quota set on a parent holds for the app too."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("1:name=systemd:/x\n0::/system.slice/shop.service\n")
    (proc / "meminfo").write_text("MemTotal:       65536000 kB\n")
    leaf = root / "system.slice/shop.service"
    leaf.mkdir(parents=True)
    (leaf.parent / "cpu.max").write_text("50000 100000\n")
    (leaf / "cpu.max").write_text("max 100000\n")
    (leaf / "memory.max").write_text("max\n")
    assert recommended_workers(proc=proc, cgroup_root=root) == 1


def test_nothing_to_read_still_gives_an_answer(tmp_path: Path) -> None:
    """Without /proc and cgroups the affinity decides."""
    assert recommended_workers(proc=tmp_path, cgroup_root=tmp_path) >= 1
