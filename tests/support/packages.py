# SPDX-License-Identifier: MIT
"""What tests do with a .deb: look into it, and make the next version of it."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

PACKAGE = Path("usr/lib/wolverine/app/wolverined/__init__.py")


def unpacked(deb: Path, into: Path) -> Path:
    """The files of `deb`, and its control files in DEBIAN/, in the directory `into`."""
    subprocess.run(["dpkg-deb", "-R", str(deb), str(into)], check=True)
    return into


def control_field(deb: Path, name: str) -> str:
    """One field of the control file of `deb`."""
    asked = subprocess.run(["dpkg-deb", "-f", str(deb), name], check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def next_version(deb: Path, into: Path, *, version: str, breaks: str = "") -> Path:
    """`deb` as it would be at `version`: the control file and the program itself say so, all else is the same.

    Args:
        deb: The package to begin with.
        into: A directory for the new one.
        version: Such as 0.1.1, without a Debian revision.
        breaks: Python text put at the end of the package's `__init__.py`, for a version that does not run.
    """
    into.mkdir(parents=True, exist_ok=True)
    tree = unpacked(deb, into / "tree")
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}", control.read_text()))
    program = tree / PACKAGE
    program.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', program.read_text()) + breaks)
    sums = tree / "DEBIAN/md5sums"
    new = hashlib.md5(program.read_bytes(), usedforsecurity=False).hexdigest()
    sums.write_text(re.sub(rf"(?m)^\S+  {PACKAGE}$", f"{new}  {PACKAGE}", sums.read_text()))
    made = into / f"wolverined_{version}_amd64.deb"
    # Not compressed: it is read once, and half a minute of packing would be spent on it.
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), str(made)], check=True, capture_output=True
    )
    return made
