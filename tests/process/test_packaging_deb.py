# SPDX-License-Identifier: MIT
"""`packaging/deb` as a command: what it says when it cannot build."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import public_tmp, unused_user

TOP = Path(__file__).resolve().parents[2]
RELEASE = Path("/etc/os-release").read_text()


@pytest.fixture
def checkout() -> Iterator[Path]:
    """As much of a checkout as the command reads before it builds, for a plain user to see."""
    with public_tmp() as place:
        for name in ("packaging/deb", "packaging/setup.sh", "packaging/locks/runtime.lock", "debian/changelog"):
            (place / name).parent.mkdir(exist_ok=True, parents=True)
            shutil.copy(TOP / name, place / name)
        (place / "cache").mkdir()
        (place / "cache").chmod(0o777)
        (place / "bin").mkdir()
        yield place


def deb(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, run by a plain user."""
    user = unused_user()
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {
        "PATH": f"{checkout}/bin:/usr/bin:/bin",
        "WOLVERINE_CACHE": f"{checkout}/cache",
        "HOME": "/nonexistent",
    }
    argv = [str(checkout / "packaging/deb"), *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd="/", **who)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--suite", "buster"], "there is no suite buster"),
        (["--suite"], "--suite wants a value"),
        (["everything"], "unknown argument everything"),
    ],
)
def test_a_wrong_command_line_is_refused(checkout: Path, words: list[str], complaint: str) -> None:
    """Exit 2 with the usage, and nothing is made."""
    done = deb(checkout, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {complaint}; hint: packaging/deb [--suite")
    assert list((checkout / "cache").iterdir()) == []


def test_a_plain_user_hears_what_is_missing(checkout: Path) -> None:
    """He cannot install packages: the line that an administrator types is given instead."""
    query = checkout / "bin/dpkg-query"
    query.write_text('#!/bin/sh\ncase "$*" in *debhelper|*python3-wheel) exit 1 ;; *) printf installed ;; esac\n')
    query.chmod(0o755)
    suite = next((name for name in ("bookworm", "trixie") if f"VERSION_CODENAME={name}" in RELEASE), None)
    if suite is None:
        pytest.skip("needs Debian 12 or 13: elsewhere a build needs more than packages")
    done = deb(checkout, "--suite", suite)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not installed: debhelper python3-wheel" in done.stderr
    assert "hint: apt install debhelper python3-wheel" in done.stderr


def test_a_plain_user_hears_that_another_suite_needs_root(checkout: Path) -> None:
    """A root directory of another Debian is made by root only, and nothing is left of the attempt."""
    suite = "bookworm" if "VERSION_CODENAME=trixie" in RELEASE else "trixie"
    done = deb(checkout, "--suite", suite)
    assert done.returncode == 1
    assert f"this is no Debian {suite}" in done.stderr
    assert "run packaging/deb as root" in done.stderr
    assert not list((checkout / "cache/deb").glob("build.*"))
