# SPDX-License-Identifier: MIT
"""The recommended number of workers: the table, and the limits it is fed with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.linux.workers import Capacity, parse_bytes, parse_cpu_max, read_capacity, recommend

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (0.1, 1), (1, 1), (1.9, 1), (2, 2), (2.9, 2), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (8, 6),
        (9, 4), (16, 8), (31, 15), (32, 16), (64, 16), (1024, 16),
    ],
)  # fmt: skip
def test_the_table(cores: float, expected: int) -> None:
    """One on a small machine, then all but one, then half, never more than sixteen."""
    assert recommend(Capacity(cores=cores, memory_bytes=8 * GIB)) == expected


def test_little_memory_means_one_worker() -> None:
    """Below 1 GiB there is one worker however many cores there are; unknown memory limits nothing."""
    assert recommend(Capacity(cores=16, memory_bytes=GIB - 1)) == 1
    assert recommend(Capacity(cores=16, memory_bytes=GIB)) == 8
    assert recommend(Capacity(cores=16, memory_bytes=None)) == 8


@given(st.floats(min_value=0, max_value=4096), st.none() | st.integers(min_value=0, max_value=1 << 50))
def test_there_is_always_a_worker_and_never_more_than_cores(cores: float, memory: int | None) -> None:
    """Between one and sixteen, and not more than the cores there are."""
    workers = recommend(Capacity(cores=cores, memory_bytes=memory))
    assert 1 <= workers <= max(1, min(16, int(cores)))


@given(st.text())
def test_no_text_breaks_the_limits(text: str) -> None:
    """A limit that is not understood is no limit."""
    quota = parse_cpu_max(text)
    assert quota is None or quota > 0
    parse_bytes(text)


def test_limits_are_read() -> None:
    """Quotas are CPUs; `max`, -1 and v1's huge numbers are no limits."""
    assert parse_cpu_max("150000 100000\n") == 1.5
    assert parse_cpu_max("max 100000") is None
    assert parse_cpu_max("-1 100000") is None
    assert parse_bytes("1073741824\n") == GIB
    assert parse_bytes("max\n") is None
    assert parse_bytes("9223372036854771712") is None


def make_proc(tmp_path: Path, *, cgroup: str, mounts: str, memory_kib: int = 8 << 20) -> Path:
    """A /proc with one machine's memory, our cgroups and the mounts of a host."""
    root = tmp_path / "proc"
    (root / "self").mkdir(parents=True)
    (root / "meminfo").write_text(f"MemTotal:       {memory_kib} kB\n")
    (root / "self/cgroup").write_text(cgroup)
    (root / "self/mountinfo").write_text(mounts)
    return root


def limit(directory: Path, **files: str) -> None:
    """Write the limits of one cgroup."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def test_the_tightest_limit_up_the_tree_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota on a slice far above us binds us as well as one on our own cgroup."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    mount = tmp_path / "cg"
    limit(mount / "a.slice", cpu__max="400000 100000", memory__max="max")
    limit(mount / "a.slice/b.service", cpu__max="max 100000", memory__max=str(2 * GIB))
    limit(mount / "other.slice", cpu__max="1000 100000", memory__max="1")
    proc = make_proc(tmp_path, cgroup="0::/a.slice/b.service\n", mounts=f"30 23 0:26 / {mount} rw - cgroup2 c rw\n")
    assert read_capacity(proc_dir=proc) == Capacity(cores=4.0, memory_bytes=2 * GIB)


def test_the_old_hierarchies_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a hybrid host limits are in cgroup v1, of which a container sees only its own part."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    limit(tmp_path / "cpu", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    limit(tmp_path / "memory", memory__limit_in_bytes=str(GIB))
    mounts = (
        f"1 2 0:1 /docker/ab {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"1 2 0:2 /docker/ab {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
    )
    proc = make_proc(tmp_path, cgroup="4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n0::/\n", mounts=mounts)
    assert read_capacity(proc_dir=proc) == Capacity(cores=2.5, memory_bytes=GIB)


def test_affinity_and_memory_of_the_machine_are_the_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any limit it is the CPUs we may run on and the memory that there is; without /proc, the CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    proc = make_proc(tmp_path, cgroup="", mounts="", memory_kib=1024)
    assert read_capacity(proc_dir=proc) == Capacity(cores=2.0, memory_bytes=1 << 20)
    assert read_capacity(proc_dir=tmp_path / "none") == Capacity(cores=2.0, memory_bytes=None)


def test_this_machine_is_read() -> None:
    """The real /proc gives a sensible answer."""
    capacity = read_capacity()
    assert 0 < capacity.cores <= len(os.sched_getaffinity(0))
    assert capacity.memory_bytes
