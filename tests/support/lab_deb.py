# SPDX-License-Identifier: MIT
"""The .deb of this checkout, and a layer with it installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from support.lab_images import ensure_layer

TOP = Path(__file__).resolve().parents[2]

DAY_S = 86400

INSTALL = "apt-get install -y -qq --no-install-recommends -o APT::Sandbox::User=root /run/wolverined.deb"


def ensure_deb(*, suite: str = "bookworm") -> Path:
    """The `wolverined` package of this checkout for `suite`: `packaging/deb` builds it once per state of its sources.

    Raises:
        RuntimeError: It could not be built; with the last words.
    """
    # The environment of a test run (its interpreter in PATH, its paths) is no business of a build.
    names = ("HOME", "LANG", "TMPDIR", "WOLVERINE_CACHE", "CI")
    kept = {name: value for name, value in os.environ.items() if name in names or name.lower().endswith("_proxy")}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "CERT" in name}
    argv = [str(TOP / "packaging/deb"), "--suite", suite]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=kept | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    if done.returncode:
        raise RuntimeError(f"packaging/deb failed ({done.returncode}):\n{(done.stdout + done.stderr)[-4000:]}")
    return Path(done.stdout.splitlines()[-1])


def ensure_installed(deb: Path, *, lower: Sequence[Path]) -> Path:
    """A layer above `lower` in which `deb` is installed, as `apt-get install ./x.deb` does it."""
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    layer = ensure_layer("deb", lower=lower, script=INSTALL, key=digest, binds={deb: "/run/wolverined.deb"})
    os.utime(layer)
    for old in layer.parent.glob("layer-deb-????????????"):
        # Machines of other runs may stand on it; none stands for a day.
        if time.time() - old.stat().st_mtime > DAY_S:
            shutil.rmtree(old, ignore_errors=True)
    return layer
