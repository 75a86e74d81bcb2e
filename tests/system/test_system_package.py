# SPDX-License-Identifier: MIT
"""The package's life on a machine: installed, upgraded under a running application, removed, purged."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lab import Machine
from support.packages import next_version, unpacked

APP = """
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"well")


HTTPServer(("127.0.0.1", 18000), Handler).serve_forever()
"""

CONFIG = """[app]
command = ["/usr/bin/python3", "app.py"]
directory = "/srv/shop"
port = 18000
[probe]
http = "/"
"""

APT = "apt-get -qq -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root"

# One that answers with poison to whoever looks for libraries where the whole machine has them.
POISON = "raise SystemExit('imported what was not ours')\n"


LIBRARIES = ("openai", "psutil", "pyroute2", "structlog", "tenacity", "tree_sitter_javascript", "tree_sitter_python")


@pytest.fixture(scope="module")
def installed(bare: Machine, deb: Path) -> Machine:
    """A machine on which somebody has just said `apt install ./wolverined.deb`."""
    bare.push(deb, "/root/wolverined.deb")
    bare.run(f"{APT} install -y --no-install-recommends /root/wolverined.deb", timeout_s=120)
    return bare


@pytest.fixture(scope="module")
def running(installed: Machine) -> Machine:
    """The same with an application that is supervised, and started at boot."""
    installed.run("useradd --system --user-group --home-dir /srv/shop shop")
    installed.write("/srv/shop/app.py", APP, owner="shop")
    installed.run("chown shop: /srv/shop")
    installed.write("/etc/wolverine/shop.toml", CONFIG)
    installed.run("systemctl enable --now wolverine@shop")
    installed.until("wolverinectl is-healthy shop")
    return installed


def pids(machine: Machine) -> tuple[str, str]:
    """Those of the supervisor and of the application, as the kernel has them in the unit's cgroup."""
    unit = "/sys/fs/cgroup/system.slice/system-wolverine.slice/wolverine@shop.service"
    supervisor, app = machine.run(f"cd {unit}; cat supervisor/cgroup.procs app-*/cgroup.procs").stdout.split()
    return supervisor, app


def upgrade(machine: Machine, deb: Path) -> str:
    """Install a newer package; what apt and the maintainer scripts said."""
    machine.push(deb, "/root/newer.deb")
    done = machine.run(f"{APT} install -y --no-install-recommends /root/newer.deb", check=False, timeout_s=120)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def names_left(machine: Machine) -> list[str]:
    """All files that have our name, below / and /run."""
    found = machine.run("find / /run -xdev -path /proc -prune -o -path /root -prune -o -iname '*wolverine*' -print")
    return sorted(set(found.stdout.split()))


def test_nothing_starts_by_being_installed(installed: Machine) -> None:
    """No unit of ours is enabled or runs: what is supervised is the operator's word."""
    units = installed.run("systemctl list-units --all --plain --no-legend 'wolverine*'").stdout
    assert units.split() == []
    assert "wolverine@.service" in installed.run("systemctl list-unit-files --no-legend 'wolverine*'").stdout
    enabled = installed.run("systemctl list-unit-files --no-legend --state=enabled 'wolverine*'", check=False)
    assert enabled.stdout == ""


def test_both_programs_and_their_pages_are_there(installed: Machine) -> None:
    """Each says its version; pages of the programs, the configuration and the unit; completion for bash."""
    assert installed.run("wolverinectl --version").stdout.startswith("wolverinectl ")
    assert installed.run("wolverined --version").stdout.startswith("wolverined ")
    pages = ("man1/wolverinectl.1", "man5/wolverine.toml.5", "man8/wolverined.8", "man8/wolverine@.service.8")
    installed.run("cd /usr/share/man && zcat " + " ".join(f"{page}.gz" for page in pages))
    installed.run("bash -n /usr/share/bash-completion/completions/wolverinectl")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/wolverine", "755 root:root"),
        ("/etc/wolverine/ai", "700 root:root"),
        ("/etc/wolverine/credentials", "700 root:root"),
        ("/var/spool/wolverine", "755 root:root"),
        ("/run/wolverine-sockets", "755 root:root"),
        ("/run/wolverine-prepared", "755 root:root"),
    ],
)
def test_directories_are_owned_and_moded_right(installed: Machine, path: str, expected: str) -> None:
    """What holds keys is root's alone; what holds sockets is entered by all and written by root."""
    assert installed.run(["stat", "-c", "%a %U:%G", path]).stdout.strip() == expected


def test_users_and_groups_are_made(installed: Machine) -> None:
    """One user without a shell for the daemon; groups for who looks, who acts and who drains the spool."""
    assert installed.run("getent passwd wolverine").stdout.strip().endswith(":/var/lib/wolverine:/usr/sbin/nologin")
    for group in ("wolverine-view", "wolverine-admin", "wolverine-spool"):
        installed.run(["getent", "group", group])


def test_everything_is_compiled_once(installed: Machine) -> None:
    """Byte code lies beside each module: the daemon may not write it, and would compile at each start."""
    missing = """cd /usr/lib/wolverine; find app vendor -name '*.py' | while read -r file; do
        name=${file##*/}
        [ -e "${file%/*}/__pycache__/${name%.py}.cpython-311.pyc" ] || echo "$file"
    done"""
    assert installed.run(missing).stdout == ""


def test_libraries_of_the_machine_are_none_of_ours(installed: Machine) -> None:
    """What an administrator installs for the whole machine is not imported, and ours are not seen by others."""
    place = installed.run("python3 -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'").stdout.strip()
    for name in ("msgspec.py", "h11.py", "psutil.py", "openai.py", "sitecustomize.py"):
        installed.write(f"{place}/{name}", POISON)
    installed.write(f"{place}/poison.pth", f"import sys; exec({POISON!r})\n")
    try:
        installed.run("wolverined --version; wolverinectl --version; wolverinectl doctor || [ $? = 1 ]")
        program = f"import sys\nsys.path[:0] = ['/usr/lib/wolverine/vendor']\nimport {', '.join(LIBRARIES)}\n"
        installed.write("/root/own.py", program)
        installed.run("python3 -IS /root/own.py")
    finally:
        installed.run(f"rm -r {place}/poison.pth {place}/*.py")
    assert installed.run("python3 -c 'import wolverined'", check=False).returncode == 1
    assert installed.run("python3 -c 'import openai'", check=False).returncode == 1


def test_a_version_that_does_not_run_takes_nobody_s_place(running: Machine, deb: Path, tmp_path: Path) -> None:
    """The installer fails and says so; the instances go on as they were."""
    before = pids(running)
    said = upgrade(running, next_version(deb, tmp_path, version="0.1.98", breaks="raise RuntimeError('broken')\n"))
    assert not said.startswith("0\n")
    assert "this version does not run" in said
    running.run("systemctl is-active wolverine@shop; curl -sf http://127.0.0.1:18000/")
    assert pids(running) == before


def test_an_upgrade_keeps_the_application_running(running: Machine, deb: Path, tmp_path: Path) -> None:
    """The supervisor goes on with the new code in its old process, and the application notices nothing."""
    before = pids(running)
    said = upgrade(running, next_version(deb, tmp_path, version="0.1.99"))
    assert said.startswith("0\n"), said
    assert "shop goes on: wolverined 0.1.99 runs in the place of" in said
    assert "0.1.99" in running.run("wolverinectl --json status shop").stdout
    assert pids(running) == before
    running.run("wolverinectl is-healthy shop; systemctl is-active wolverine@shop")


def test_an_upgrade_says_who_stays_behind_and_what_has_come_into_force(
    running: Machine, deb: Path, tmp_path: Path
) -> None:
    """A file that is wrong keeps the old program, with its words; one that is right and was edited is told."""
    before = pids(running)
    running.write("/etc/wolverine/shop.toml", CONFIG + "[nonsense]\nx = 1\n")
    said = upgrade(running, next_version(deb, tmp_path / "a", version="0.1.100"))
    assert said.startswith("0\n"), said
    assert "shop REMAINS OF THE OLD VERSION" in said
    assert "nonsense" in said
    assert "systemctl restart wolverine@shop" in said
    assert "0.1.99" in running.run("wolverinectl --json status shop").stdout
    running.write("/etc/wolverine/shop.toml", CONFIG + "failures = 7\n")
    said = upgrade(running, next_version(deb, tmp_path / "b", version="0.1.101"))
    assert "is in force now: probe.failures 3 -> 7" in said
    assert "0.1.101" in running.run("wolverinectl --json status shop").stdout
    assert pids(running) == before


def test_a_removal_that_is_given_up_starts_what_it_stopped(running: Machine) -> None:
    """Also what was started by hand; a unit of another program that begins with our name is never touched."""
    running.write("/run/systemd/system/wolverine-else.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    running.write("/run/systemd/system/wolverine-else.service.d/more.conf", "[Service]\nNice=1\n")
    running.run("systemctl daemon-reload; systemctl start wolverine-else.service; systemctl disable wolverine@shop")
    script = "/var/lib/dpkg/info/wolverined.prerm"
    running.run(f"cp {script} /root/prerm; echo 'exit 3' >>{script}")
    said = running.run(f"{APT} remove -y wolverined 2>&1", check=False, timeout_s=120)
    running.run(f"cp /root/prerm {script}; systemctl enable wolverine@shop")
    assert said.returncode != 0
    assert "starting again what was stopped" in said.stdout
    running.until("wolverinectl is-healthy shop")
    running.run("dpkg --configure -a; systemctl is-active wolverine-else.service")


def test_removing_stops_what_runs_and_keeps_state(running: Machine) -> None:
    """No process, unit, socket or drop-in is left; the configuration, the state and the application are."""
    application = running.run("find /srv/shop -type f -exec sha256sum {} +").stdout
    running.run("systemctl start wolverine-notifier.socket")
    running.run(f"{APT} remove -y wolverined", timeout_s=120)
    running.run("systemctl is-active wolverine-else.service; test -e /run/systemd/system/wolverine-else.service.d")
    running.run("systemctl stop wolverine-else.service; rm -r /run/systemd/system/wolverine-else.service*")
    running.run("systemctl daemon-reload")
    assert running.run("pgrep -u wolverine,shop", check=False).stdout == ""
    units = running.run("systemctl list-units --all --plain --no-legend 'wolverine*'").stdout
    assert "loaded" not in units
    assert [name for name in names_left(running) if name.startswith(("/run/", "/usr/"))] == []
    assert not running.path("/usr/lib/wolverine").exists()
    assert "shop.toml" in running.run("ls /etc/wolverine").stdout
    assert "shop" in running.run("ls /var/lib/wolverine").stdout
    assert running.run("find /srv/shop -type f -exec sha256sum {} +").stdout == application


def test_purging_leaves_the_application_and_the_user(running: Machine) -> None:
    """Configuration, keys, state, spool and links of enabled instances are gone, and each file is told."""
    application = running.run("find /srv/shop -type f -exec sha256sum {} +").stdout
    said = running.run(f"{APT} purge -y wolverined").stdout
    assert "purging the configuration /etc/wolverine/shop.toml" in said
    assert names_left(running) == []
    assert running.run("find /srv/shop -type f -exec sha256sum {} +").stdout == application
    running.run("getent passwd wolverine")
    assert running.run("systemctl is-system-running").stdout.strip() == "running"


def test_purging_keeps_an_application_that_lies_in_our_state(bare: Machine, deb: Path, tmp_path: Path) -> None:
    """Somebody may have put it there; its files are never ours to remove."""
    script = unpacked(deb, tmp_path / "tree") / "DEBIAN/postrm"
    bare.push(script, "/root/postrm")
    bare.write("/var/lib/wolverine/apps/shop/app.py", APP)
    bare.write("/etc/wolverine/shop.toml", '[app]\ndirectory = "/var/lib/wolverine/apps/shop"\n')
    said = bare.run("sh /root/postrm purge").stdout
    assert "/var/lib/wolverine stays" in said
    bare.run("test -f /var/lib/wolverine/apps/shop/app.py; test ! -e /etc/wolverine")
