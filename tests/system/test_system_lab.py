# SPDX-License-Identifier: MIT
"""The lab itself: machines boot whole, keep what they ought to, reach each other, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Machine, Switch, ensure_base, ensure_layer, groups, installing, make_disk, sweep
from support.lab_places import RUN
from support.places import eventually

TESTS = Path(__file__).resolve().parents[1]

# Appends numbered lines, one each millisecond, and syncs each (or none) before it says so.
WRITER = """
import os, sys, time
synced, path = sys.argv[1] == "synced", sys.argv[2]
out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(100000):
    os.write(out, b"%08d\\n" % number)
    if synced:
        os.fdatasync(out)
        if number == 0:
            os.fsync(os.open(os.path.dirname(path), os.O_RDONLY))
    with open(f"/run/{os.path.basename(path)}", "w") as told:
        told.write(str(number))
    time.sleep(0.001)
"""

OWNER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.lab import Machine, Switch
switch = Switch()
machine = Machine([Path(sys.argv[2])], name="orphan", switch=switch, address="10.99.0.7").boot()
machine.run("systemd-run -q sleep 4711")
print(machine.leader, flush=True)
sys.stdin.read()
"""


INNER = """
import sys
sys.path.insert(0, "/lab/tests")
from pathlib import Path
from support.lab import Machine, why_not
assert not why_not(), why_not()
with Machine([Path("/lab/base")], name="inner") as machine:
    machine.reboot()
    print(machine.run("systemctl is-system-running --wait; stat -fc %T /sys/fs/cgroup").stdout)
"""


def test_boots_to_running(bare: Machine) -> None:
    """A machine comes up with no failed unit, Node and Python in it, and no host but itself on its network."""
    assert bare.run("systemctl is-system-running --wait").stdout.strip() == "running"
    assert bare.run("node --version").stdout.startswith("v18.")
    assert bare.run("python3 -c 'import sys; print(sys.version_info[:2])'").stdout.strip() == "(3, 11)"
    links = bare.run("ip -o link").stdout.splitlines()
    assert len(links) == 1
    assert ": lo:" in links[0]


def test_run_tells_what_the_program_told(bare: Machine) -> None:
    """Output, errors, status, user, input and dollar signs arrive as they are."""
    done = bare.run("echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert bare.run("id -un", user="nobody").stdout.strip() == "nobody"
    assert bare.run("cat", input_text="given\n").stdout == "given\n"
    assert bare.run(["printf", "%s|%s", "$HOME $$", "100%"]).stdout == "$HOME $$|100%"
    with pytest.raises(AssertionError, match=r"-> 3\nsaid first"):
        bare.run("echo said first; exit 3")


def test_run_ends_what_takes_too_long(bare: Machine) -> None:
    """A command over its time is ended inside, with what it started, and told as a timeout."""
    with pytest.raises(TimeoutError):
        bare.run("sleep 4712 & sleep 4712", timeout_s=1)
    assert bare.run("pgrep -f '[s]leep 4712'", check=False).returncode == 1


def test_files_go_in_and_out(bare: Machine, tmp_path: Path) -> None:
    """Texts, files and trees arrive with their modes, owned by whom the caller says."""
    bare.write("/srv/deep/er/note", "text ä\n", 0o640, owner="daemon")
    assert bare.read("/srv/deep/er/note") == "text ä\n"
    assert bare.path("/srv/deep/er/note").read_text() == "text ä\n"
    assert bare.run("stat -c '%a %U' /srv/deep/er/note").stdout == "640 daemon\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/bin/sh\necho worked\n")
    (tmp_path / "bin/tool").chmod(0o750)
    bare.push(tmp_path, "/opt/tree", owner="daemon")
    bare.push(tmp_path / "bin/tool", "/opt/alone/tool")
    assert bare.run("stat -c '%a %U' /opt/tree/bin/tool /opt/alone/tool").stdout == "750 daemon\n750 root\n"
    assert bare.run("/opt/alone/tool").stdout == "worked\n"
    with pytest.raises(FileNotFoundError):
        bare.read("/srv/none")


def test_journal_has_a_units_lines(bare: Machine) -> None:
    """What a unit prints is found in the machine's own journal."""
    bare.run("systemd-run -q --wait --unit=talker echo a line of its own")
    assert "a line of its own" in bare.until(lambda: [entry["MESSAGE"] for entry in bare.journal("talker")])


@pytest.fixture(scope="module")
def own(base: Path) -> Iterator[Machine]:
    """A machine that these tests reboot and leave things in."""
    with Machine([base], name="own") as booted:
        yield booted


def test_reboots_inside_and_keeps_its_files(own: Machine) -> None:
    """A reboot, from within or without, is a new boot of the same machine, known to its journal."""
    own.write("/etc/kept", "yes")
    first = own.read("/proc/sys/kernel/random/boot_id"), own.leader
    own.reboot()
    own.enter("systemctl", "--no-block", "reboot")
    own.wait_booted()
    assert own.leader != first[1]
    assert own.read("/etc/kept") == "yes"
    assert len(own.run("journalctl --list-boots -q --no-pager").stdout.splitlines()) >= 3


def test_a_machine_is_pristine(base: Path, own: Machine) -> None:
    """What one machine writes reaches neither the base nor another machine, not even under the same name."""
    own.write("/etc/only-here", "yes")
    with Machine([base], name=own.name) as other:
        assert other.run("test -e /etc/only-here", check=False).returncode == 1
        assert other.read("/etc/machine-id") != own.read("/etc/machine-id")
    assert not (base / "etc/only-here").exists()
    assert own.read("/etc/only-here") == "yes"


def test_a_disk_outlives_a_shutdown(base: Path, tmp_path: Path) -> None:
    """With a disk a machine finds at its next boot what it wrote before."""
    machine = Machine([base], name="disk", disk=tmp_path / "disk.img")
    with machine:
        machine.write("/srv/kept", "yes")
        machine.shutdown()
        machine.boot()
        assert machine.read("/srv/kept") == "yes"


def test_a_power_cut_loses_what_was_not_synced(base: Path, tmp_path: Path) -> None:
    """After a power cut every synced line is there, and of the others hardly any."""
    machine = Machine([base], name="cut", disk=tmp_path / "disk.img")
    with machine:
        machine.write("/srv/writer.py", WRITER)
        machine.run("sync")
        for kind in ("synced", "unsynced"):
            machine.run(f"systemd-run -q python3 /srv/writer.py {kind} /srv/{kind}")
        machine.until(lambda: all(_told(machine, kind) > 50 for kind in ("synced", "unsynced")))
        told = _told(machine, "synced")
        machine.power_cut()
        machine.boot()
        assert len(machine.read("/srv/synced").splitlines()) > told
        left = machine.run("cat /srv/unsynced", check=False).stdout
        assert len(left.splitlines()) < 50


def _told(machine: Machine, kind: str) -> int:
    return int(machine.enter("cat", f"/run/{kind}").stdout or -1)


def test_hosts_on_a_switch_reach_each_other(base: Path) -> None:
    """Two machines talk over their switch; a cut cable parts them, a mended one joins them; the host sees nothing."""
    before = Path("/proc/net/dev").read_text().count("\n")
    with (
        Switch() as switch,
        Machine([base], name="h1", switch=switch, address="10.99.0.1") as one,
        Machine([base], name="h2", switch=switch, address="10.99.0.2") as two,
    ):
        two.run("systemd-run -q python3 -m http.server --directory /etc 80")
        fetch = "curl -sf --max-time 1 http://10.99.0.2/debian_version"
        one.until(fetch)
        assert switch.run(fetch).stdout == one.run(fetch).stdout
        switch.cut(two)
        assert one.run(fetch, check=False).returncode == 28
        switch.mend(two)
        one.until(fetch)
        two.reboot()
        assert "10.99.0.2" in two.run("ip -o addr").stdout
        assert Path("/proc/net/dev").read_text().count("\n") == before


def test_nothing_is_left_of_a_killed_owner(base: Path) -> None:
    """A kill -9 of the process that booted a machine ends all that ran in it; a sweep removes the empty rest."""
    argv = [sys.executable, "-c", OWNER, str(TESTS), str(base)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        leader = int(owner.stdout.readline())
        group = next(name for name in groups() if name.startswith("wlab-orphan-"))
        place = RUN / group.removeprefix("wlab-")
        assert group.removeprefix("wlab-") not in sweep()
        assert Path(f"/proc/{leader}").exists()
        members = _descendants(owner.pid)
        assert leader in members
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        eventually(lambda: not [pid for pid in members if Path(f"/proc/{pid}").exists()], within_s=10)
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    sweep()
    assert group not in groups()
    assert not place.exists()


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        todo += (new := children.get(todo.pop(), []))
        found += new
    return found


def test_a_machine_that_cannot_boot_says_why(tmp_path: Path, base: Path) -> None:
    """A root without an init is refused with nspawn's own words, and nothing is left of the attempt."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr").mkdir()
    with pytest.raises(RuntimeError, match=r"did not boot"):
        Machine([tmp_path, tmp_path / "etc"], name="broken").boot()
    assert not [name for name in groups() if name.startswith("wlab-broken-")]
    assert not list(RUN.glob("broken-*"))


def test_names_are_checked(base: Path) -> None:
    """A name that no network interface could carry is refused before anything starts."""
    with pytest.raises(ValueError, match="at most 11"):
        Machine([base], name="twelveletter")


def test_boots_within_a_machine_of_pure_v2(base: Path) -> None:
    """Where cgroup v2 stands alone (as within a machine) the lab boots a machine as well."""
    outer = ensure_layer("nspawn", lower=[base], script=installing("systemd-container", "mmdebstrap", "e2fsprogs"))
    with Machine([outer, base], name="outer", binds={TESTS: "/lab/tests", base: "/lab/base"}) as machine:
        done = machine.run(["python3", "-B", "-c", INNER])
        assert done.stdout.split() == ["running", "cgroup2fs"]
        assert machine.run("ls -d /sys/fs/cgroup/wlab-*", check=False).returncode == 2
        assert machine.run("systemctl is-system-running").stdout.strip() == "running"


def test_layers_stack(base: Path) -> None:
    """A layer shows what its script made, above what lies below, and is made once."""
    lower = ensure_layer("one", lower=[base], script="echo below > /etc/below; echo below > /etc/both")
    upper = ensure_layer("two", lower=[lower, base], script="echo above > /etc/both")
    assert ensure_layer("two", lower=[lower, base], script="echo above > /etc/both") == upper
    with Machine([upper, lower, base], name="stack") as machine:
        assert (machine.read("/etc/below"), machine.read("/etc/both")) == ("below\n", "above\n")


def test_a_layer_whose_script_fails_is_not_kept(base: Path) -> None:
    """A script that fails is told with its output, and leaves nothing that the next run would trust."""
    with pytest.raises(RuntimeError, match="went wrong here"):
        ensure_layer("failing", lower=[base], script="echo went wrong here; exit 3")
    assert not [path for path in base.parent.iterdir() if "layer-failing" in path.name and path.is_dir()]


def test_trixie_boots_too(base: Path) -> None:
    """A machine of the next Debian comes up whole, with its own Python."""
    with Machine([ensure_base(suite="trixie")], name="trixie") as machine:
        assert machine.run("systemctl is-system-running --wait").stdout.strip() == "running"
        assert machine.run("python3 -c 'import sys; print(sys.version_info[:2])'").stdout.strip() == "(3, 13)"


def test_a_disk_may_be_made_before(base: Path, tmp_path: Path) -> None:
    """An image is sparse: it takes little room until a machine writes."""
    make_disk(tmp_path / "disk.img", size="1G")
    assert (tmp_path / "disk.img").stat().st_size == 1 << 30
    assert (tmp_path / "disk.img").stat().st_blocks * 512 < 50 << 20
