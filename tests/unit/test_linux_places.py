# SPDX-License-Identifier: MIT
"""What is read out of /proc: mounts, cgroups, processes, sockets; and where files of an instance belong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import AccessDenied, Conflict, UsageError
from wolverined.linux import hierarchy, proc, runtime
from wolverined.linux.hierarchy import Mount, Unavailable, locate, parse_mounts, parse_own_cgroup
from wolverined.linux.ports import parse_net_tcp

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
PURE = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = "30 23 0:26 /docker/ab /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


def test_the_mount_of_each_kind_of_host_is_found() -> None:
    """Pure, hybrid and container mounts are told, with what they show and whether they can be written."""
    assert parse_mounts(PURE) == [Mount(root="/", point="/sys/fs/cgroup", writable=True)]
    assert parse_mounts(HYBRID) == [Mount(root="/", point="/sys/fs/cgroup/unified", writable=True)]
    assert parse_mounts(CONTAINER) == [Mount(root="/docker/ab", point="/sys/fs/cgroup", writable=False)]
    assert parse_mounts("") == []
    assert parse_mounts("30 23 0:26 / /a\\040b rw - cgroup2 c rw\n")[0].point == "/a b"


@given(st.text())
def test_no_text_breaks_the_reading_of_mounts(text: str) -> None:
    """Whatever stands there, it is read or passed over."""
    for mount in parse_mounts(text):
        assert mount.point
    parse_own_cgroup(text)


def test_our_cgroup_is_the_line_of_version_two() -> None:
    """Hybrid hosts list the old hierarchies first; only `0::` counts."""
    assert parse_own_cgroup("9:name=systemd:/a\n4:memory:/b\n0::/user.slice/x\n") == "/user.slice/x"
    assert parse_own_cgroup("4:memory:/b\n") is None
    assert parse_own_cgroup("") is None


def test_a_cgroup_is_located_below_its_mount() -> None:
    """The path below the mount is what the mount's root leaves of our cgroup's."""
    whole, part = Mount(root="/", point="/cg", writable=True), Mount(root="/docker/ab", point="/c2", writable=True)
    assert locate([whole], "/")[1] == Path("/cg")
    assert locate([whole], "/a/b")[1] == Path("/cg/a/b")
    assert locate([part], "/docker/ab")[1] == Path("/c2")
    assert locate([part], "/docker/ab/x")[1] == Path("/c2/x")
    read_only = Mount(root="/", point="/ro", writable=False)
    assert locate([read_only, whole], "/a")[1] == Path("/cg/a")
    for mounts, cgroup in (([], "/"), ([part], "/docker/abc"), ([part], "/"), ([whole], "/../outside")):
        with pytest.raises(Unavailable):
            locate(mounts, cgroup)


def test_a_process_may_bear_any_name() -> None:
    """Blanks, brackets and newlines in a name do not shift the fields of /proc/PID/stat."""
    numbers = " ".join(str(number) for number in range(4, 53))
    for name in ("a", "a b", ")", "((", ") R 1 1 1", "a\nb", ""):
        found = proc.parse_stat(f"77 ({name}) D {numbers}\n")
        assert (found.name, found.state, found.ppid, found.session, found.start_ticks) == (name, "D", 4, 6, 22)
        assert found.cpu_ticks == 14 + 15


def test_a_process_that_is_not_there_is_no_error() -> None:
    """Every fact about a process that has gone is none, zero or empty."""
    gone = 2**22 + 5  # above the kernel's PID_MAX_LIMIT
    assert proc.stat(gone) is None
    assert proc.stuck_thread(gone) is None
    assert proc.resident_bytes(gone) == 0
    assert proc.cpu_usec(gone) == 0
    assert proc.command_line(gone) == ""


def test_our_own_facts_are_known() -> None:
    """Name, memory and command of this very process."""
    found = proc.stat(os.getpid())
    assert found
    assert found.ppid == os.getppid()
    assert proc.resident_bytes(os.getpid()) > 1 << 20
    assert "pytest" in proc.command_line(os.getpid())
    assert len(proc.boot_id()) == 36


NET_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0 100 0 0 10 0
   2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4244 1 0 100 0 0 10 0
"""


def test_only_listening_sockets_of_the_port_count() -> None:
    """A connection from or to the port holds nothing; a listener on another port neither."""
    assert [(row.uid, row.inode) for row in parse_net_tcp(NET_TCP, 8080)] == [(1000, 4242)]
    assert parse_net_tcp(NET_TCP, 50000) == []
    assert parse_net_tcp("", 8080) == []


def test_places_of_root_and_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An explicit directory wins; then the user's own; then the system's for root."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    opened = tmp_path / "open"
    opened.mkdir()
    opened.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runtime.runtime_dir("x", Path("/given")) == Path("/given")
    assert runtime.runtime_dir("x", environ={"XDG_RUNTIME_DIR": str(closed)}) == closed / "wolverine/x"
    assert runtime.runtime_dir("x", environ={"XDG_RUNTIME_DIR": "relative"}).name == "x"
    assert "wolverine-1000" in str(runtime.runtime_dir("x", environ={}))
    assert runtime.state_dir("x", environ={"XDG_STATE_HOME": "/s"}) == Path("/s/wolverine/x")
    assert runtime.state_dir("x", environ={}) == Path.home() / ".local/state/wolverine/x"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert runtime.runtime_dir("x", environ={}) == Path("/run/wolverine/x")
    assert runtime.runtime_dir("x", environ={"XDG_RUNTIME_DIR": str(opened)}) == opened / "wolverine/x"
    # Applications of other users could not reach their sockets there.
    assert runtime.runtime_dir("x", environ={"XDG_RUNTIME_DIR": str(closed)}) == Path("/run/wolverine/x")
    assert runtime.state_dir("x", environ={"XDG_STATE_HOME": "/s"}) == Path("/var/lib/wolverine/x")
    assert runtime.state_dir("x", Path("rel")).is_absolute()


@pytest.mark.parametrize("name", ["..", "a/b", "", "-a", "a" * 65])
def test_a_name_cannot_leave_its_directory(name: str) -> None:
    """A name that is no name is refused before it becomes part of a path."""
    for function in (runtime.runtime_dir, runtime.state_dir):
        with pytest.raises(UsageError):
            function(name)


def test_a_private_directory_has_exactly_its_mode(tmp_path: Path) -> None:
    """Made with its parents, whatever the umask; one that was there is brought to the mode."""
    path = tmp_path / "a" / "b" / "c"
    before = os.umask(0o077)
    try:
        runtime.make_private_dir(path, 0o711)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o711
    runtime.make_private_dir(path, 0o700)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_parents_of_a_private_directory_can_be_entered(tmp_path: Path) -> None:
    """Parents that are made on the way are 0755 even under umask 0077: the app must reach its sockets."""
    before = os.umask(0o077)
    try:
        runtime.make_private_dir(tmp_path / "wolverine" / "x", 0o711)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "wolverine").stat().st_mode) == 0o755


def test_a_directory_that_others_made_or_can_swap_is_refused(tmp_path: Path) -> None:
    """A link, a file, another user's directory and one below a world-writable directory are not used."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").touch()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    for path in (tmp_path / "link", tmp_path / "file", tmp_path / "file/below", tmp_path / "shared/x"):
        with pytest.raises(AccessDenied) as caught:
            runtime.make_private_dir(path, 0o700)
        assert caught.value.hint
    if os.geteuid() == 0:
        os.chown(tmp_path / "target", 65534, 65534)
        for path in (tmp_path / "target", tmp_path / "target" / "below"):
            with pytest.raises(AccessDenied):
                runtime.make_private_dir(path, 0o700)


@pytest.mark.parametrize("below", ["x", "x/y", "x/y/z"])
def test_a_name_that_is_swapped_while_it_is_made_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """Whoever puts a link in the place of what was just made does not get the link's target a new mode."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (tmp_path / "home").mkdir()
    make = os.mkdir

    def swapped(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        os.symlink(victim, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises(AccessDenied):
        runtime.make_private_dir(tmp_path / "home" / below, 0o711)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o700
    assert list(victim.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to give a directory away")
def test_nothing_is_made_below_a_directory_of_another_user(tmp_path: Path) -> None:
    """It is looked at before anything is made in it."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    with pytest.raises(AccessDenied):
        runtime.make_private_dir(home / "a" / "b" / "c", 0o700)
    assert list(home.iterdir()) == []


def test_one_state_has_one_supervisor(tmp_path: Path) -> None:
    """The lock of a state directory is given once, and again after it was closed."""
    fd = runtime.lock_state(tmp_path, "x")
    with pytest.raises(Conflict):
        runtime.lock_state(tmp_path, "x")
    os.close(fd)
    os.close(runtime.lock_state(tmp_path, "x"))


@pytest.mark.parametrize("what", ["a link", "a directory", "a lost state directory"])
def test_a_lock_that_cannot_be_had_is_told_with_its_place(tmp_path: Path, what: str) -> None:
    """In words for an operator, as no bug of ours; a link is not followed."""
    lock = tmp_path / "supervisor.lock"
    if what == "a link":
        lock.symlink_to("/etc/passwd")
    elif what == "a directory":
        lock.mkdir()
    else:
        lock = tmp_path / "gone" / "supervisor.lock"
    with pytest.raises(AccessDenied, match="cannot open") as caught:
        runtime.lock_state(lock.parent, "x")
    assert str(lock) in caught.value.message
    assert str(lock) in caught.value.hint


def test_unavailable_says_why() -> None:
    """The reason for the fallback is words for an operator."""
    with pytest.raises(Unavailable, match="not mounted"):
        hierarchy.locate([], "/")
