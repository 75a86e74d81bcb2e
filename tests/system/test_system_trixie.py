# SPDX-License-Identifier: MIT
"""Debian 13 (systemd 257, Python 3.13): its own build installs and runs, and that for Debian 12 is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Machine, ensure_base
from support.lab_deb import ensure_deb, ensure_installed
from support.packages import control_field

CONFIG = """[app]
command = ["/usr/bin/python3", "-m", "http.server", "18000", "--bind", "127.0.0.1"]
directory = "/srv/shop"
user = "nobody"
port = 18000
[probe]
http = "/"
"""


@pytest.fixture(scope="module")
def trixie_deb(base: Path) -> Path:
    """The build for Debian 13."""
    return ensure_deb(suite="trixie")


@pytest.fixture(scope="module")
def trixie(trixie_deb: Path) -> Iterator[Machine]:
    """A machine of Debian 13 with its build installed."""
    below = ensure_base(suite="trixie")
    with Machine([ensure_installed(trixie_deb, lower=[below]), below], name="trixie") as booted:
        yield booted


@pytest.fixture(scope="module")
def lintian(trixie_deb: Path) -> Iterator[subprocess.Popen[str] | None]:
    """Lintian at work, begun before the tests that do not need it."""
    if not shutil.which("lintian"):
        yield None
        return
    argv = ["lintian", "--allow-root", str(trixie_deb.with_suffix(".changes"))]
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, **words) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


@pytest.mark.usefixtures("lintian")
def test_its_version_is_above_that_for_debian_12(trixie_deb: Path, deb: Path, trixie: Machine) -> None:
    """Whoever upgrades Debian gets the build for the new one by it."""
    newer, older = control_field(trixie_deb, "Version"), control_field(deb, "Version")
    assert newer == f"{older}+deb13"
    trixie.run(["dpkg", "--compare-versions", newer, "gt", older])
    assert "python3 (>= 3.13~)" in control_field(trixie_deb, "Depends")


def test_an_application_runs_and_ends_there(trixie: Machine) -> None:
    """Started by its unit it is healthy, supervised by Python 3.13, and gone without a rest when stopped."""
    trixie.write("/srv/shop/index.html", "well\n", owner="nobody")
    trixie.run("chown nobody: /srv/shop")
    trixie.write("/etc/wolverine/shop.toml", CONFIG)
    trixie.run("systemctl start wolverine@shop")
    trixie.until("wolverinectl is-healthy shop")
    status = json.loads(trixie.run("wolverinectl --json status shop").stdout)
    assert status["state"] == "ready"
    supervisor = trixie.run("systemctl show -P MainPID wolverine@shop").stdout.strip()
    assert trixie.run(["readlink", f"/proc/{supervisor}/exe"]).stdout.strip() == "/usr/bin/python3.13"
    trixie.run("systemctl stop wolverine@shop")
    assert trixie.run("pgrep -u wolverine,nobody", check=False).stdout == ""
    assert trixie.run("systemctl list-units --failed --no-legend").stdout == ""


def test_each_role_and_library_loads_there(trixie: Machine) -> None:
    """What is compiled was compiled for this Python."""
    modules = "wolverined.heal.__main__, wolverined.heal.adviser.__main__, wolverined.heal.trial.__main__, "
    modules += "wolverined.heal.surgeon.__main__, wolverined.linux.ports, openai, pyroute2, tree_sitter_python"
    program = "import sys\nsys.path[:0] = ['/usr/lib/wolverine/app', '/usr/lib/wolverine/vendor']\nimport "
    trixie.write("/root/load.py", program + modules + "\n")
    trixie.run("python3 -IS /root/load.py")


def test_the_build_for_debian_12_is_refused_there(trixie: Machine, deb: Path) -> None:
    """The installer says which Python it wants; nothing is half-installed."""
    trixie.push(deb, "/root/older.deb")
    refused = trixie.run("apt-get install --simulate --allow-downgrades /root/older.deb", check=False)
    assert refused.returncode != 0
    assert "python3" in refused.stdout + refused.stderr


def test_lintian_finds_nothing(lintian: subprocess.Popen[str] | None) -> None:
    """Neither an error nor a warning in the build for Debian 13."""
    if lintian is None:
        pytest.skip("needs lintian: not installed")
    words, _ = lintian.communicate()
    assert not re.search(r"(?m)^[EW]:", words), words
    assert lintian.returncode == 0, words
