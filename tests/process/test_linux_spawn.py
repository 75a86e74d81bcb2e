# SPDX-License-Identifier: MIT
"""What a program is born with: its leaf, its user, no power, its own environment and files, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leaves import PATH, cgroup_hierarchy, group_hierarchy, output_of, python, read_all, start
from support.places import IS_ROOT, eventually, eventually_async, public_tmp, unused_user

from wolverined.errors import SpawnError
from wolverined.linux.leaf import Leaf
from wolverined.linux.process import Credentials, ExitStatus, spawn

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root to change the user")

# Prints what a process can know of itself, as JSON.
REPORT = """
import json, os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
mask = os.umask(0)
print(json.dumps({
    "caps": {key: int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no_new_privs": status["NoNewPrivs"].strip(), "umask": mask, "uid": os.getresuid(), "gid": os.getresgid(),
    "groups": os.getgroups(), "session": os.getsid(0) == os.getpid(), "group": os.getpgrp() == os.getpid(),
    "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "stdin": os.readlink("/proc/self/fd/0"),
    "env": dict(os.environ), "cwd": os.getcwd(), "oom": open("/proc/self/oom_score_adj").read().strip(),
    "cgroup": open("/proc/self/cgroup").read(), "argv": os.sys.argv,
}))
"""


@pytest.fixture(params=["cgroup", "group"])
def leaf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Leaf]:
    """A leaf of each kind in turn."""
    kind = cgroup_hierarchy if request.param == "cgroup" else group_hierarchy
    with kind(tmp_path) as hierarchy:
        yield hierarchy.leaf("app-1")


@pytest.fixture
def group_leaf(tmp_path: Path) -> Iterator[Leaf]:
    """A leaf that any user can have, for tests in which the kind does not matter."""
    with group_hierarchy(tmp_path) as hierarchy:
        yield hierarchy.leaf("app-1")


def open_files() -> int:
    """How many file descriptors we have open."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1


def wait_for(argv: list[str], leaf: Leaf, **more: object) -> ExitStatus:
    """Start a program and tell how it ended."""

    async def run() -> ExitStatus:
        with start(argv, leaf, **more) as child:  # type: ignore[arg-type]
            return await asyncio.wait_for(child.wait(), 20)

    return asyncio.run(run())


def test_a_child_has_no_power(leaf: Leaf) -> None:
    """Every capability set is empty and no new privileges can be had, even for root's own children."""
    report = json.loads(output_of(python(REPORT), leaf))
    assert {key: value for key, value in report["caps"].items() if key != "CapBnd"} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapAmb"), 0
    )
    assert report["no_new_privs"] == "1"
    if IS_ROOT:
        assert report["caps"]["CapBnd"] == 0


@needs_root
def test_a_child_is_the_user_it_was_given(leaf: Leaf) -> None:
    """Real, effective and saved ids and the groups are those of the user, and nothing of root's remains."""
    user = unused_user()
    report = json.loads(output_of(python(REPORT), leaf, user="nobody"))
    assert report["uid"] == [user.pw_uid] * 3
    assert report["gid"] == [user.pw_gid] * 3
    assert set(report["groups"]) == set(os.getgrouplist("nobody", user.pw_gid))
    assert set(report["caps"].values()) == {0}


@needs_root
def test_a_uid_without_a_name_has_no_groups(leaf: Leaf) -> None:
    """A bare uid that no database knows is usable, with itself as its only group."""
    report = json.loads(output_of(python(REPORT), leaf, user="61999"))
    assert report["uid"] == [61999] * 3
    assert report["groups"] == []


def test_the_environment_is_exactly_what_was_given(leaf: Leaf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours leaks in, strange values arrive unharmed, and the shim adds nothing."""
    monkeypatch.setenv("WOLVERINE_TEST_SECRET", "leaked")
    given = {**PATH, "EMPTY": "", "LINES": "a\nb", "QUOTES": "'\"$(id)`id`\\", "UNICODE": "Grüße"}
    report = json.loads(output_of(python(REPORT), leaf, env=given))
    # Python itself adds LC_CTYPE when it coerces the C locale (PEP 538).
    assert {key: value for key, value in report["env"].items() if key != "LC_CTYPE"} == {**given, **leaf.mark}


def test_a_variable_that_no_shell_would_keep_arrives(leaf: Leaf) -> None:
    """Names such as `spring.profiles.active` reach the program, with the same walls around it."""
    given = {**PATH, "spring.profiles.active": "prod", "PWD": "/nowhere"}
    report = json.loads(output_of(python(REPORT), leaf, env=given))
    assert report["env"]["spring.profiles.active"] == "prod"
    assert report["umask"] == 0o022
    assert report["stdin"] == "/dev/null"
    assert report["caps"]["CapEff"] == 0


def test_no_file_descriptor_leaks(leaf: Leaf, tmp_path: Path) -> None:
    """A child has stdin from nowhere and its two pipes; neither `cgroup.procs` nor a file of ours."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        report = json.loads(output_of(python(REPORT), leaf))
    assert report["fds"] == [0, 1, 2]
    assert report["stdin"] == "/dev/null"


def test_a_kept_file_descriptor_arrives_under_its_number(leaf: Leaf) -> None:
    """A socket in keep_fds is open in the child under the same number, and works."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).sendall(b'hello')"
        assert wait_for(python(program, theirs.fileno()), leaf, keep_fds=[theirs.fileno()]).code == 0
        theirs.close()
        assert ours.recv(100) == b"hello"


def test_a_child_starts_clean(leaf: Leaf) -> None:
    """Umask 0022, OOM score 0, a session and process group of its own, the working directory, its arguments."""
    before = os.umask(0o077)
    try:
        report = json.loads(output_of(python(REPORT, "one two", "$HOME", "*"), leaf, cwd="/usr"))
    finally:
        os.umask(before)
    assert report["umask"] == 0o022
    assert report["oom"] == "0"
    assert report["session"]
    assert report["group"]
    assert report["cwd"] == "/usr"
    assert report["argv"][1:] == ["one two", "$HOME", "*"]


def test_a_child_is_born_in_its_leaf(tmp_path: Path) -> None:
    """The first instruction of the program already runs in the leaf's cgroup."""
    with cgroup_hierarchy(tmp_path, "born") as hierarchy:
        report = json.loads(output_of(python(REPORT), hierarchy.leaf("app-7")))
    assert "/wolverine-born/app-7\n" in report["cgroup"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", ExitStatus(code=0, signal=None)),
        ("exit 3", ExitStatus(code=3, signal=None)),
        ("kill -TERM $$", ExitStatus(code=None, signal=signal.SIGTERM)),
        ("exit 127", ExitStatus(code=127, signal=None)),
        ("exit 126", ExitStatus(code=126, signal=None)),
        ("exit 125", ExitStatus(code=125, signal=None)),
    ],
)
def test_the_end_is_told_as_it_was(group_leaf: Leaf, script: str, expected: ExitStatus) -> None:
    """Codes and signals are the program's own, even those that a shell would use for itself."""
    assert wait_for(["sh", "-c", script], group_leaf) == expected


def test_a_program_that_vanishes_is_told_from_its_own_127(group_leaf: Leaf, tmp_path: Path) -> None:
    """An exec that fails after all our checks is not taken for an exit of the program."""
    script = tmp_path / "app"
    script.write_text("#!/bin/sh\nexit 127\n")
    script.chmod(0o755)
    assert wait_for([str(script)], group_leaf) == ExitStatus(code=127, signal=None)
    # A file that says `#!` with an interpreter that is a directory passes our look and fails the kernel's.
    script.write_text("#!/tmp\n")
    status = wait_for([str(script)], group_leaf)
    assert status.never_ran
    assert status.code in {126, 127}


def test_a_leaf_that_has_gone_is_a_spawn_error(tmp_path: Path) -> None:
    """A program is not started outside of its leaf when the leaf has been removed."""
    with cgroup_hierarchy(tmp_path) as hierarchy:
        leaf = hierarchy.leaf("app-1")
        leaf.remove()
        with pytest.raises(SpawnError):
            start(["true"], leaf)


def test_core_dumps_are_told(group_leaf: Leaf) -> None:
    """A death with a core dump says so, where the kernel writes one."""
    program = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()"
    status = wait_for(python(program), group_leaf)
    assert status.signal == signal.SIGABRT
    assert not status.core


def bad_commands(place: Path) -> list[tuple[list[str], Path, str]]:
    """Commands that cannot start, each with a word that the message must hold."""
    plain = place / "plain.txt"
    plain.write_text("text")
    lost = place / "lost"
    lost.write_text("#!/opt/gone/python\n")
    windows = place / "windows"
    windows.write_bytes(b"#!/bin/sh\r\ntrue\r\n")
    for script in (lost, windows):
        script.chmod(0o755)
    return [
        (["no-such-program-anywhere"], place, "no-such-program-anywhere"),
        ([str(place / "missing")], place, "does not exist"),
        (["./missing"], place, "./missing"),
        ([str(plain)], place, "not executable"),
        ([str(place)], place, "not a file"),
        ([str(lost)], place, "/opt/gone/python"),
        ([str(windows)], place, "Windows"),
        (["true"], place / "nowhere", "nowhere"),
        (["true"], plain, "not a directory"),
        ([], place, "empty"),
        ([""], place, "empty"),
    ]


def test_what_cannot_start_says_why(group_leaf: Leaf) -> None:
    """A missing program, file, interpreter or directory is a SpawnError with a hint, before anything runs."""
    with public_tmp() as place:
        for argv, cwd, word in bad_commands(place):
            with pytest.raises(SpawnError) as caught:
                start(argv, group_leaf, cwd=cwd)
            assert word in caught.value.message
            assert caught.value.hint
    assert not group_leaf.populated()


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        (["true", "a\0b"], PATH),
        (["true"], {**PATH, "A": "b\0c"}),
        (["true"], {**PATH, "A=B": "c"}),
        (["true", "x" * 3_000_000], PATH),
    ],
)
def test_what_no_kernel_takes_is_a_spawn_error(group_leaf: Leaf, argv: list[str], env: dict[str, str]) -> None:
    """NUL bytes, impossible names and too long commands are answered with words."""
    with pytest.raises(SpawnError) as caught:
        start(argv, group_leaf, env=env)
    assert caught.value.hint


@needs_root
def test_what_the_user_may_not_reach_is_said_before_it_fails(group_leaf: Leaf) -> None:
    """A program or directory that is closed to the app's user is named, with the place that closes it."""
    with public_tmp() as place:
        private = place / "private"
        private.mkdir(mode=0o700)
        program = private / "app"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        with pytest.raises(SpawnError, match=r"nobody may not execute .*private is closed"):
            start([str(program)], group_leaf, user="nobody")
        with pytest.raises(SpawnError, match=r"nobody may not enter .*private"):
            start(["true"], group_leaf, cwd=private, user="nobody")
        program.chmod(0o700)
        private.chmod(0o755)
        with pytest.raises(SpawnError, match="nobody may not execute"):
            start([str(program)], group_leaf, user="nobody")


def test_another_user_needs_root(group_leaf: Leaf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the capability to change the user, a program of another user is refused with words."""
    monkeypatch.setattr("wolverined.linux.proc.effective_capabilities", lambda: 0)
    with pytest.raises(SpawnError, match="that takes CAP_SETUID"):
        start(["true"], group_leaf, user=str(os.geteuid() + 12345))


def test_an_unknown_user_is_a_spawn_error() -> None:
    """A user that does not exist is answered with a hint."""
    for name in ("no-such-user-here", "99999999999", "-1", ""):
        with pytest.raises(SpawnError):
            Credentials.of_user(name)


def test_ones_own_credentials_are_complete() -> None:
    """Name, home and shell of a user come from the user database."""
    own = Credentials.own()
    assert own.uid == os.geteuid()
    assert own.home.startswith("/")
    assert own.gid in own.groups()


@needs_root
def test_another_user_can_open_its_standard_output_again(leaf: Leaf) -> None:
    """A program of another user may open /dev/stdout, as logging configurations make it do."""
    assert output_of(["sh", "-c", "echo through >/dev/stdout"], leaf, user="nobody") == "through\n"


def test_output_that_is_not_captured_goes_where_ours_goes(group_leaf: Leaf) -> None:
    """Without capture there is nothing to read, and no pipe."""

    async def run() -> None:
        with start(["true"], group_leaf, capture_output=False) as child:
            assert child.stdout is None
            assert child.stderr is None
            assert (await child.wait()).code == 0

    asyncio.run(run())


def test_both_pipes_are_separate_and_never_block(group_leaf: Leaf) -> None:
    """Stdout and stderr arrive apart; an empty pipe says so at once."""

    async def run() -> None:
        with start(["sh", "-c", "echo out; echo err >&2; exec sleep 60"], group_leaf) as child:
            out, err = child.take_output()
            assert out is not None
            assert err is not None
            assert child.stdout is None
            seen = [b"", b""]

            def read() -> bool:
                for number, fd in enumerate((out, err)):
                    try:
                        seen[number] += os.read(fd, 100)
                    except BlockingIOError:
                        continue
                return seen == [b"out\n", b"err\n"]

            eventually(read)
            with pytest.raises(BlockingIOError):
                os.read(out, 1)
            child.signal(signal.SIGKILL)
            await child.wait()
            os.close(out)
            os.close(err)

    asyncio.run(run())


def test_many_tasks_may_wait(group_leaf: Leaf) -> None:
    """Every waiter gets the same answer, one that was cancelled harms no other, and so does a late one."""

    async def run() -> None:
        with start(["sleep", "60"], group_leaf) as child:
            waiters = [asyncio.create_task(child.wait()) for _ in range(3)]
            await asyncio.sleep(0)
            waiters[0].cancel()
            await asyncio.sleep(0)
            assert child.status is None
            assert child.signal(signal.SIGTERM)
            expected = ExitStatus(code=None, signal=signal.SIGTERM)
            assert await asyncio.gather(*waiters[1:]) == [expected, expected]
            assert await child.wait() == expected
            assert child.status == expected
            assert not child.signal(signal.SIGTERM)
        assert not child.signal(signal.SIGTERM)

    asyncio.run(run())


def test_a_cancelled_wait_can_be_taken_up_again(group_leaf: Leaf) -> None:
    """A timeout around wait() leaves the child waitable."""

    async def run() -> None:
        with start(["sleep", "60"], group_leaf) as child:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(child.wait(), 0.01)
            child.signal(signal.SIGKILL)
            assert (await child.wait()).signal == signal.SIGKILL

    asyncio.run(run())


def test_leaving_the_with_block_kills_and_reaps(group_leaf: Leaf) -> None:
    """A child that is given up is killed, reaped, and its file descriptors are closed; with and without a loop."""
    before = open_files()

    async def run() -> None:
        with start(["sleep", "60"], group_leaf) as child:
            place = Path(f"/proc/{child.pid}")
        await eventually_async(lambda: not place.exists())

    asyncio.run(run())
    with start(["sleep", "60"], group_leaf) as child:
        pass
    assert not Path(f"/proc/{child.pid}").exists()
    child.close()
    assert open_files() == before


def test_failed_starts_leak_nothing(group_leaf: Leaf) -> None:
    """A hundred starts that fail in the kernel leave no file descriptor open."""
    before = open_files()
    for _ in range(100):
        with pytest.raises(SpawnError):
            start(["true", "a\0b"], group_leaf)
    assert open_files() == before


def test_without_file_descriptors_nothing_is_started(group_leaf: Leaf) -> None:
    """Running out of file descriptors anywhere in a start is a SpawnError, and no process stays behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_files()
    try:
        for spare in range(9):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
            try:
                child = start(["sleep", "60"], group_leaf)
            except SpawnError:
                continue
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            child.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: not group_leaf.populated())
    assert open_files() == used


PARENT = """
import asyncio, os, pathlib, sys
from wolverined.linux.group import GroupHierarchy
from wolverined.linux.process import spawn
hierarchy = GroupHierarchy("parent", state_dir=pathlib.Path(sys.argv[1]), reason="test")
child = spawn(["sleep", "60"], leaf=hierarchy.leaf("app-1"), cwd="/", env={"PATH": "/usr/bin:/bin"}, credentials=None,
              die_with_parent=True)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_child_dies_with_its_parent_when_asked(tmp_path: Path) -> None:
    """The kernel ends a die_with_parent child when the supervisor is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        parent.kill()
        parent.wait()
        eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z (zombie)" in Path(f"/proc/{pid}/status").read_text())


def test_a_directory_only_the_user_may_enter_is_entered_as_that_user(
    group_leaf: Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the supervisor may not enter the working directory, the program changes there by itself."""
    monkeypatch.setattr("wolverined.linux.program._directory", lambda *_: None)
    assert output_of(["pwd"], group_leaf, cwd="/usr/lib").strip() == "/usr/lib"
    status = wait_for(["pwd"], group_leaf, cwd="/nowhere/at/all")
    assert status.never_ran


def test_spawn_takes_a_path_and_keeps_argv(group_leaf: Leaf) -> None:
    """The working directory may be a Path, the program relative to it."""

    async def run() -> None:
        with spawn(["./true"], leaf=group_leaf, cwd=Path("/usr/bin"), env={}, credentials=None) as child:
            assert (await child.wait()).code == 0
            assert child.stdout is not None
            assert read_all(child.stdout) == b""

    asyncio.run(run())
