# SPDX-License-Identifier: MIT
"""Hierarchies over the life of a supervisor: killed predecessors, second supervisors, old kernels, no cgroup at all."""

from __future__ import annotations

import asyncio
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
from support.leaves import FOREST, RUNAWAY, cgroup_hierarchy, group_hierarchy, python, start
from support.places import eventually, eventually_async, public_tmp

from wolverined.errors import Conflict, UsageError
from wolverined.linux import group, proc
from wolverined.linux import hierarchy as module
from wolverined.linux.cgroup import CgroupHierarchy, CgroupLeaf, remove_tree
from wolverined.linux.group import GroupHierarchy, GroupLeaf
from wolverined.linux.hierarchy import Unavailable, open_hierarchy
from wolverined.linux.leaf import Leaf

KINDS = {"cgroup": cgroup_hierarchy, "group": group_hierarchy}

# A supervisor that starts a forest in a leaf and then waits to be killed.
SUPERVISOR = """
import pathlib, sys
from wolverined.linux.group import GroupHierarchy, GroupLeaf
from wolverined.linux.hierarchy import open_cgroup_hierarchy
from wolverined.linux.process import spawn
kind, name, state, *argv = sys.argv[1:]
if kind == "cgroup":
    hierarchy = open_cgroup_hierarchy(name, state_dir=pathlib.Path(state))
else:
    hierarchy = GroupHierarchy(name, state_dir=pathlib.Path(state), reason="test")
child = spawn(argv, leaf=hierarchy.leaf("app-3"), cwd="/", env={"PATH": "/usr/bin:/bin"}, credentials=None)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any user may write to."""
    with public_tmp(mode=0o777) as path:
        yield path


@pytest.fixture
def name() -> str:
    """The name of an application that nobody else uses."""
    return f"test-{secrets.token_hex(4)}"


@contextmanager
def other_supervisor(kind: str, name: str, state: Path, place: Path, *, cgroup: Path | None = None) -> Iterator[int]:
    """Another supervisor process with a forest of its own; yields its pid, and ends it at the end."""
    argv = [sys.executable, "-c", SUPERVISOR, kind, name, str(state), *python(FOREST, place)]
    if cgroup:
        argv = ["/bin/sh", "-c", f'echo 0 > {cgroup}/cgroup.procs && exec "$@"', "sh", *argv]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        eventually((place / "ready").exists, within_s=10)
        yield process.pid
        process.kill()


def family(place: Path) -> list[int]:
    """The pids that the forest wrote down."""
    return [int((place / name).read_text()) for name in ("plain", "setsid", "daemon")]


def gone(pids: list[int]) -> bool:
    """Whether none of them lives (a zombie that waits for its new parent does not)."""
    return not any("State:\tZ" not in status for pid in pids if (status := _status(pid)))


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def cgroup_of(pid: int) -> str:
    """The path of a process's cgroup."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


async def empty(leaf: Leaf) -> None:
    """Kill what lives in a leaf, wait, and give it back."""
    leaf.kill()
    assert await leaf.wait_empty(timeout_s=5)
    leaf.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_a_successor_finds_and_ends_what_a_killed_supervisor_left(
    kind: str, name: str, tmp_path: Path, place: Path
) -> None:
    """Kill -9 of a supervisor leaves its leaf; the successor lists it, empties it and gives it back."""
    with KINDS[kind](tmp_path, "probe"):
        pass  # skips here when there is no cgroup
    with other_supervisor(kind, name, tmp_path, place) as pid:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: gone([pid]))
        assert not gone(family(place))
        with KINDS[kind](tmp_path, name) as successor:
            assert [leaf.name for leaf in successor.stale()] == ["app-3"]
            stale = successor.stale()[0]
            assert set(family(place)) <= set(stale.pids())
            with pytest.raises(Conflict):
                successor.leaf("app-3")
            asyncio.run(empty(stale))
            assert gone(family(place))
            assert successor.stale() == []
            assert successor.leaf("app-3").pids() == []


@pytest.mark.parametrize("kind", KINDS)
def test_closing_ends_what_a_predecessor_left(kind: str, name: str, tmp_path: Path, place: Path) -> None:
    """A successor that closes without looking at stale leaves leaves nothing of them either."""
    with KINDS[kind](tmp_path, "probe"):
        pass
    with other_supervisor(kind, name, tmp_path, place) as pid:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: gone([pid]))
        with KINDS[kind](tmp_path, name):
            pass
        assert gone(family(place))


@pytest.mark.parametrize("kind", KINDS)
def test_two_supervisors_of_one_application_do_not_fight(kind: str, name: str, tmp_path: Path, place: Path) -> None:
    """A second supervisor is refused with a hint, and the first one's processes are untouched."""
    with KINDS[kind](tmp_path, "probe"):
        pass
    with other_supervisor(kind, name, tmp_path, place):
        with pytest.raises(Conflict, match="another supervisor") as caught, KINDS[kind](tmp_path, name):
            pass
        assert caught.value.hint
        assert not gone(family(place))
    with KINDS[kind](tmp_path, name):
        pass


def test_two_applications_of_one_name_live_side_by_side(name: str, tmp_path: Path) -> None:
    """Same name, other state directory: another application, which gets leaves of its own."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with cgroup_hierarchy(tmp_path / "a", name) as first, cgroup_hierarchy(tmp_path / "b", name) as second:
        assert first.leaf("app-1").pids() == []
        leaf = second.leaf("app-1")

        async def scenario() -> None:
            with start(["sleep", "60"], leaf) as child:
                cgroup = cgroup_of(child.pid)
                assert second.owns(cgroup=cgroup, pid=child.pid)
                assert not first.owns(cgroup=cgroup, pid=child.pid)
                first.close()
                assert leaf.pids() == [child.pid]

        asyncio.run(scenario())


def own_cgroup(tmp_path: Path) -> Path:
    """The directory of our own cgroup."""
    with cgroup_hierarchy(tmp_path, "probe") as hierarchy:
        assert isinstance(hierarchy, CgroupHierarchy)
        return hierarchy.directory.parent


def test_a_predecessor_that_lived_in_another_cgroup_is_found(name: str, tmp_path: Path, place: Path) -> None:
    """What was started from another terminal's cgroup is found through the note in the state directory."""
    elsewhere = own_cgroup(tmp_path) / f"elsewhere-{secrets.token_hex(4)}"
    elsewhere.mkdir()
    try:
        with other_supervisor("cgroup", name, tmp_path, place, cgroup=elsewhere) as pid:
            with pytest.raises(Conflict), cgroup_hierarchy(tmp_path, name):
                pass
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: gone([pid]))
            with cgroup_hierarchy(tmp_path, name) as successor:
                assert [leaf.name for leaf in successor.stale()] == ["app-3"]
                asyncio.run(empty(successor.stale()[0]))
            assert gone(family(place))
            assert not (elsewhere / f"wolverine-{name}").exists()
    finally:
        eventually(lambda: not elsewhere.rmdir())


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"null",
        b'{"boot_id": "%BOOT%", "path": 3}',
        b'{"boot_id": "another", "path": "%ELSEWHERE%/wolverine-%NAME%"}',
        b'{"boot_id": "%BOOT%", "path": "%ELSEWHERE%"}',
        b'{"boot_id": "%BOOT%", "path": "%ELSEWHERE%/wolverine-%NAME%-other"}',
        b'{"boot_id": "%BOOT%", "path": "%TMP%/wolverine-%NAME%"}',
        b'{"boot_id": "%BOOT%", "path": "%MOUNT%/../../../..%TMP%/wolverine-%NAME%"}',
        b"\xff" * 5000,
    ],
)
def test_a_broken_or_hostile_note_is_not_followed(name: str, tmp_path: Path, record: bytes) -> None:
    """A note that is half-written, of another boot, or points anywhere else is ignored and replaced."""
    mount = own_cgroup(tmp_path)
    elsewhere = mount / f"elsewhere-{secrets.token_hex(4)}"
    victims = [
        top / f"wolverine-{name}{suffix}" / "app-1" for top in (elsewhere, tmp_path) for suffix in ("", "-other")
    ]
    for victim in victims:
        victim.mkdir(parents=True)
    values = {"ELSEWHERE": elsewhere, "MOUNT": mount, "TMP": tmp_path, "NAME": name, "BOOT": proc.boot_id()}
    for key, value in values.items():
        record = record.replace(f"%{key}%".encode(), str(value).encode())
    (tmp_path / "cgroup.json").write_bytes(record)
    try:
        with cgroup_hierarchy(tmp_path, name) as hierarchy:
            assert hierarchy.stale() == []
            assert json.loads((tmp_path / "cgroup.json").read_bytes())["path"] == str(mount / f"wolverine-{name}")
        assert all(victim.is_dir() for victim in victims)
    finally:
        assert remove_tree(elsewhere)


@pytest.mark.parametrize("record", [b"", b"[]", b'{"boot_id": 3}', b"\0" * 100])
def test_a_broken_list_of_processes_is_no_obstacle(name: str, tmp_path: Path, record: bytes) -> None:
    """The fallback starts with nothing when its note cannot be read."""
    (tmp_path / "processes.json").write_bytes(record)
    with group_hierarchy(tmp_path, name) as hierarchy:
        assert hierarchy.stale() == []


def test_a_reused_pid_is_not_a_stale_process(name: str, tmp_path: Path) -> None:
    """A note whose pid lives, but started at another time, does not make an innocent process ours."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as innocent:
        record = {"boot_id": boot, "leaves": {"app-1": {"mark": "app-1:x", "members": [[innocent.pid, 1]]}}}
        (tmp_path / "processes.json").write_text(json.dumps(record))
        with group_hierarchy(tmp_path, name) as hierarchy:
            assert hierarchy.stale() == []
        assert innocent.poll() is None
        innocent.kill()


def test_a_process_belongs_to_a_leaf_by_parent_mark_or_session(name: str, tmp_path: Path) -> None:
    """Each of the three suffices, also through others; a pid with another start, and our own session, do not."""

    def seen(ppid: int, session: int, mark: str = "") -> group._Seen:
        return group._Seen(start_ticks=7, ppid=ppid, session=session, zombie=False, mark=mark)

    first = 2**22
    main, child, mate, marked, grandchild, reused, ours, stranger = range(first, first + 8)
    processes = {
        main: seen(1, main), child: seen(main, child), mate: seen(1, child), marked: seen(1, marked, "m"),
        grandchild: seen(marked, grandchild), reused: seen(1, reused), ours: seen(1, os.getsid(0)),
        stranger: seen(1, stranger, "other"),
    }  # fmt: skip
    members = (group._Member(main, 7), group._Member(reused, 6))
    with group_hierarchy(tmp_path, name) as hierarchy:
        assert isinstance(hierarchy, GroupHierarchy)
        leaf = GroupLeaf("app-1", mark="m", members=members, hierarchy=hierarchy)
        assert {member.pid for member in group._grow(leaf, processes)} == {main, child, mate, marked, grandchild}


def test_init_and_those_above_us_are_never_in_a_leaf(name: str, tmp_path: Path) -> None:
    """Even a note that names them, with the right start, puts neither init nor our parents into a leaf.

    It asks the decision and kills nothing: were it wrong, a kill would end everything on the machine.
    """
    init, parent, us, child, other = 1, 10, os.getpid(), 2**22 + 1, 2**22 + 2

    def seen(ppid: int) -> group._Seen:
        return group._Seen(start_ticks=7, ppid=ppid, session=ppid + 2**23, zombie=False, mark="m")

    processes = {init: seen(0), parent: seen(init), us: seen(parent), child: seen(us), other: seen(init)}
    members = tuple(group._Member(pid, 7) for pid in processes)
    with group_hierarchy(tmp_path, name) as hierarchy:
        assert isinstance(hierarchy, GroupHierarchy)
        leaf = GroupLeaf("app-1", mark="m", members=members, hierarchy=hierarchy)
        assert {member.pid for member in group._grow(leaf, processes)} == {child, other}
        nothing = GroupLeaf("app-1", mark="x", members=(group._Member(init, 7),), hierarchy=hierarchy)
        assert group._grow(nothing, processes) == set()


@pytest.mark.parametrize("program", [FOREST, RUNAWAY])
def test_a_kernel_without_cgroup_kill_freezes_first(tmp_path: Path, place: Path, program: str) -> None:
    """Without `cgroup.kill` (< 5.14) the leaf is frozen, killed and thawed, and a runaway forker dies, too."""
    with cgroup_hierarchy(tmp_path) as hierarchy:
        made = hierarchy.leaf("app-1")
        assert isinstance(made, CgroupLeaf)
        leaf = CgroupLeaf(made.path, kill_file="cgroup.no-such-file")

        async def scenario() -> None:
            with start(python(program, place, *([2] if program == RUNAWAY else [])), leaf):
                await eventually_async((place / "ready").exists)
                leaf.kill()
                assert await leaf.wait_empty(timeout_s=0.7)
                assert "frozen 0" in (leaf.path / "cgroup.events").read_text()

        asyncio.run(scenario())


def test_a_leaf_with_cgroups_of_its_own_goes_as_a_whole(tmp_path: Path) -> None:
    """A program that makes cgroups below its leaf is listed, killed and removed with them."""
    with cgroup_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")
        assert isinstance(leaf, CgroupLeaf)
        (leaf.path / "inner" / "deep").mkdir(parents=True)
        deep = CgroupLeaf(leaf.path / "inner" / "deep")

        async def scenario() -> None:
            with start(["sleep", "60"], deep) as child:
                assert leaf.populated()
                await eventually_async(lambda: leaf.pids() == [child.pid])
                await empty(leaf)
            assert not leaf.path.exists()

        asyncio.run(scenario())


def test_a_leaf_that_is_busy_goes_later(tmp_path: Path) -> None:
    """remove() of a leaf that still lives harms nothing; it goes with the next leaf that is made, or at the end."""
    with cgroup_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")
        assert isinstance(leaf, CgroupLeaf)

        async def scenario() -> None:
            with start(["sleep", "60"], leaf) as child:
                leaf.remove()
                assert leaf.path.exists()
                child.signal(signal.SIGKILL)
                await child.wait()
                assert await leaf.wait_empty(timeout_s=5)
            hierarchy.leaf("app-2")
            assert not leaf.path.exists()

        asyncio.run(scenario())


def test_a_thousand_processes_are_signalled_with_few_descriptors(tmp_path: Path, place: Path) -> None:
    """A tree that is bigger than a batch of pidfds is signalled to the last process."""
    program = (
        "import os, sys, time\nfor _ in range(300):\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "open(sys.argv[1] + '/ready', 'w').close()\ntime.sleep(60)"
    )
    with cgroup_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")

        async def scenario() -> None:
            with start(python(program, place), leaf):
                await eventually_async((place / "ready").exists, within_s=20)
                assert leaf.signal(signal.SIGTERM) == 301
                assert await leaf.wait_empty(timeout_s=10)

        asyncio.run(scenario())


def test_without_a_cgroup_there_is_a_fallback_that_says_what_is_weaker(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_hierarchy falls back to process groups, names the reason and every weakness; a cgroup only lacks limits."""

    def unavailable(*_: Any) -> Any:
        raise Unavailable("cgroup v2 is not mounted")

    with cgroup_hierarchy(tmp_path) as contained:
        assert contained.contained
        assert all("controller" in weakness for weakness in contained.weaknesses)
    monkeypatch.setattr(module, "locate", unavailable)
    hierarchy = open_hierarchy(name, state_dir=tmp_path)
    try:
        assert isinstance(hierarchy, GroupHierarchy)
        assert not hierarchy.contained
        assert "cgroup v2 is not mounted" in hierarchy.weaknesses[0]
        assert len(hierarchy.weaknesses) > 3
        assert not hierarchy.leaf("app-1").contained
    finally:
        hierarchy.close()


def test_where_no_cgroup_can_be_made_it_is_unavailable(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent that has gone, is no cgroup, or takes no directory leads to the fallback, not to a crash."""
    mount = module.Mount(root="/", point=str(tmp_path), writable=True)
    for parent in (tmp_path / "gone", tmp_path, Path("/proc/1")):
        monkeypatch.setattr(module, "locate", lambda *_, parent=parent: (mount, parent))
        with pytest.raises(Unavailable):
            module.open_cgroup_hierarchy(name, state_dir=tmp_path)
    read_only = module.Mount(root="/", point=str(tmp_path), writable=False)
    monkeypatch.setattr(module, "locate", lambda *_: (read_only, tmp_path))
    with pytest.raises(Unavailable, match="read-only"):
        module.open_cgroup_hierarchy(name, state_dir=tmp_path)


def test_the_fallback_claims_orphans_that_hide(tmp_path: Path, place: Path) -> None:
    """A daemon with a cleared environment and a session of its own becomes our child, is claimed, killed and reaped."""
    program = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        'code = \'import sys, time; open(sys.argv[1] + "/ready", "w").close(); time.sleep(60)\'\n'
        "os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', code, sys.argv[1]], {})\n"
    )
    with group_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")

        async def scenario() -> None:
            with start(python(program, place), leaf) as child:
                assert (await child.wait()).code == 0
                await eventually_async((place / "ready").exists)
                hidden = leaf.pids()
                assert len(hidden) == 1
                await empty(leaf)
                await eventually_async(lambda: not _status(hidden[0]))

        asyncio.run(scenario())


def test_the_fallback_leaves_other_children_alone(tmp_path: Path) -> None:
    """A child that somebody else started is neither listed, nor killed, nor reaped away."""
    with group_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")
        with subprocess.Popen(["sleep", "60"]) as other:
            assert leaf.pids() == []
            hierarchy.close()
            assert other.poll() is None
            other.kill()
            assert other.wait() == -signal.SIGKILL


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "-x", "a" * 65, "a b", "a\n", "ä", "a\0"])
def test_a_name_that_is_no_name_is_refused(bad: str, tmp_path: Path) -> None:
    """Nothing that could leave its directory becomes the name of a cgroup."""
    with pytest.raises(UsageError):
        open_hierarchy(bad, state_dir=tmp_path)
