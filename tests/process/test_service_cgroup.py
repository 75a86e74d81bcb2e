# SPDX-License-Identifier: MIT
"""A unit's cgroup as the place for leaves, on the real kernel: moving in, leftovers, strangers in it, going."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.leaves import FOREST, python
from support.places import eventually, public_tmp

from wolverined.linux import proc
from wolverined.linux.cgroup import CgroupHierarchy, CgroupLeaf, remove_tree
from wolverined.linux.hierarchy import locate, parse_mounts, parse_own_cgroup
from wolverined.linux.unit import SPARED, unit_of

# Lives in a unit's cgroup as wolverined does: moves in, starts a forest if it is told to, says where it is,
# and ends in order at the end of its input.
SUPERVISOR = """
import asyncio, json, pathlib, sys
from wolverined.linux.process import spawn
from wolverined.linux.unit import open_unit
state, *argv = sys.argv[1:]
async def main():
    hierarchy = open_unit("test", state_dir=pathlib.Path(state))
    stale = [leaf.name for leaf in hierarchy.stale()]
    for leaf in hierarchy.stale():
        leaf.kill()
        await leaf.wait_empty(timeout_s=5)
        leaf.remove()
    leaf = hierarchy.leaf("app-1") if argv else None
    child = spawn(argv, leaf=leaf, cwd="/", env={"PATH": "/usr/bin:/bin"}, credentials=None) if argv else None
    own = pathlib.Path("/proc/self/cgroup").read_text()
    said = {"own": own, "stale": stale, "contained": hierarchy.contained, "weak": list(hierarchy.weaknesses)}
    print(json.dumps(said), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    if child is not None:
        child.close()
    hierarchy.close()
asyncio.run(main())
"""


class Unit:
    """A cgroup in the shape of a service's, and supervisors that are started in it as PID 1 would."""

    def __init__(self, directory: Path, place: Path) -> None:
        self.directory = directory
        self.place = place
        self.state = place / "state"
        self.state.mkdir()

    def start(self, *argv: str, inside: str = "") -> tuple[subprocess.Popen[str], dict[str, Any]]:
        """Start a supervisor; gives it, and what it says once it has moved in."""
        at = self.directory / inside
        command = [sys.executable, "-P", "-c", SUPERVISOR, str(self.state), *argv]
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'echo 0 > {at}/cgroup.procs && exec "$@"', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the supervisor did not start"
        said: dict[str, Any] = json.loads(line)
        return process, said

    def leaves(self) -> list[str]:
        """What there is in the unit's cgroup."""
        return sorted(path.name for path in self.directory.iterdir() if path.is_dir())

    def end(self, process: subprocess.Popen[str], number: int | None = None) -> None:
        """Have a supervisor end in order, or by a signal."""
        if number is not None:
            process.send_signal(number)
        process.communicate("", timeout=30)


@pytest.fixture
def unit() -> Iterator[Unit]:
    """A unit's cgroup, gone at the end with all that lives in it."""
    own = parse_own_cgroup(proc.read("/proc/self/cgroup") or "")
    if own is None:
        pytest.skip("needs cgroup v2")
    _, parent = locate(parse_mounts(proc.read("/proc/self/mountinfo") or ""), own)
    directory = parent / f"test-{secrets.token_hex(4)}.service"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"needs a writable cgroup v2: {error}")
    with public_tmp(mode=0o777) as place, _emptied(directory):
        yield Unit(directory, place)


@contextmanager
def _emptied(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        leaf = CgroupLeaf(directory)
        leaf.kill()
        eventually(lambda: remove_tree(directory), within_s=10)


def family(place: Path) -> list[int]:
    """The pids that the forest wrote down."""
    eventually((place / "ready").exists, within_s=10)
    return [int((place / name).read_text()) for name in ("plain", "setsid", "daemon")]


def test_it_moves_into_a_cgroup_of_its_own_before_anything_is_started(unit: Unit) -> None:
    """Nothing is left in the unit's own cgroup, which hands controllers on; leaves stand directly in it."""
    process, said = unit.start(*python(FOREST, unit.place))
    assert said["own"].rstrip().endswith(f"{unit.directory.name}/supervisor")
    assert (said["contained"], said["stale"]) == (True, [])
    pids = family(unit.place)
    assert (unit.directory / "cgroup.procs").read_text() == ""
    assert unit.leaves() == ["app-1", "supervisor"]
    assert set(pids) <= set(map(int, (unit.directory / "app-1" / "cgroup.procs").read_text().split()))
    unit.end(process)


def test_an_end_in_order_leaves_no_leaf_and_no_controller(unit: Unit) -> None:
    """A controller that stays on would make the next start fail with 219/CGROUP."""
    process, _ = unit.start(*python(FOREST, unit.place))
    pids = family(unit.place)
    unit.end(process)
    assert process.returncode == 0
    assert unit.leaves() == ["supervisor"]
    eventually(lambda: not any(map(proc.command_line, pids)), within_s=10)  # dead at once, reaped by init
    assert (unit.directory / "cgroup.subtree_control").read_text().split() == []


def test_what_a_killed_predecessor_left_is_ended_first(unit: Unit) -> None:
    """Should PID 1 have been told to leave it alive (KillMode=process)."""
    process, _ = unit.start(*python(FOREST, unit.place))
    pids = family(unit.place)
    unit.end(process, signal.SIGKILL)
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    successor, said = unit.start()
    assert said["stale"] == ["app-1"]
    eventually(lambda: not any(map(proc.command_line, pids)), within_s=10)
    unit.end(successor)


def test_one_that_is_in_its_cgroup_already_stays_there(unit: Unit) -> None:
    """As after a re-exec, or where the service manager puts it there (DelegateSubgroup=)."""
    (unit.directory / "supervisor").mkdir()
    process, said = unit.start(inside="supervisor")
    assert said["own"].rstrip().endswith(f"{unit.directory.name}/supervisor")
    assert said["stale"] == []
    unit.end(process)


def test_a_second_supervisor_of_the_same_state_is_refused(unit: Unit) -> None:
    """Two would fight over the app and the store."""
    process, _ = unit.start()
    command = [sys.executable, "-P", "-c", SUPERVISOR, str(unit.state)]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "Conflict" in done.stderr
    unit.end(process)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to take a cgroup away from somebody")
def test_a_unit_that_delegates_nothing_makes_it_process_groups_and_says_so(unit: Unit) -> None:
    """Supervision goes on with what there is; the operator is told which line is missing."""
    unit.state.chmod(0o777)
    inside = f'echo 0 > {unit.directory}/cgroup.procs && exec "$@"'
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    command = [*as_nobody, sys.executable, "-P", "-c", SUPERVISOR, str(unit.state)]
    done = subprocess.run(
        ["/bin/sh", "-c", inside, "sh", *command], input="", stdout=subprocess.PIPE, text=True, check=True, timeout=30
    )
    said = json.loads(done.stdout)
    assert said["contained"] is False
    assert "Delegate=yes" in said["weak"][0]


def test_what_stands_beside_the_leaves_is_no_leaf(tmp_path: Path) -> None:
    """Neither wolverined itself nor what PID 1 runs for an operator is ever ended, or taken for the app's."""
    for name in ("supervisor", ".control", "app-3"):
        (tmp_path / name).mkdir()
    at = "/system.slice/wolverine@x.service"
    hierarchy = CgroupHierarchy(tmp_path, own=at, locks=[], places=[tmp_path], spared=SPARED)
    assert [leaf.name for leaf in hierarchy.stale()] == ["app-3"]
    known = {at: False, f"{at}/supervisor": False, f"{at}/.control": False, f"{at}/app-3/deep": True}
    known |= {f"{at}/.control/x": False, f"{at}2/app-3": False, f"{at}/supervisors": True, "/": False}
    assert {cgroup: hierarchy.owns(cgroup=cgroup, pid=1) for cgroup in known} == known


def test_the_unit_of_a_cgroup() -> None:
    """Whether we have moved or not."""
    assert unit_of("/system.slice/wolverine@x.service") == "/system.slice/wolverine@x.service"
    assert unit_of("/system.slice/wolverine@x.service/supervisor") == "/system.slice/wolverine@x.service"
