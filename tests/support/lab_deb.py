# SPDX-License-Identifier: MIT
"""The .deb of this checkout, built once per state of its sources, and a layer with it installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.lab_images import ensure_layer
from support.lab_places import cache, locked

TOP = Path(__file__).resolve().parents[2]

SOURCES = ("debian", "packaging", "systemd", "wolverined", "pyproject.toml", "CHANGELOG.md", "LICENSE", "README.md")
"""What a .deb is made of, and what makes it."""

NO_SOURCES = ("__pycache__", "bench-peers", "benchmarks", "demo-apps")

KEEP = 4
"""Built packages that stay in the cache."""


def ensure_deb(*, suite: str = "bookworm") -> Path:
    """The `wolverined` package of this checkout for `suite`; built when its sources changed.

    Raises:
        RuntimeError: `packaging/deb` failed; with its last words.
    """
    shelf = cache() / "debs"
    shelf.mkdir(exist_ok=True)
    place = shelf / f"{suite}-{source_digest()}"
    with locked(shelf / "build"):
        if not place.exists():
            _build(place, suite=suite)
            for old in sorted(shelf.glob(f"{suite}-*/"), key=lambda path: path.stat().st_mtime)[:-KEEP]:
                shutil.rmtree(old)
    return next(place.glob("wolverined_*.deb"))


def ensure_installed(deb: Path, *, lower: Sequence[Path]) -> Path:
    """A layer above `lower` in which `deb` is installed, as `apt-get install ./x.deb` does it."""
    script = "apt-get install -y -qq --no-install-recommends -o APT::Sandbox::User=root /run/wolverined.deb"
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    return ensure_layer("deb", lower=lower, script=script, key=digest, binds={deb: "/run/wolverined.deb"})


def source_digest(top: Path = TOP) -> str:
    """A digest of all files that go into a package: names, modes that matter, contents."""
    digest = hashlib.sha256()
    for path in _files(top):
        kind = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{path.relative_to(top)}\0{kind}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _files(top: Path) -> Iterator[Path]:
    for name in SOURCES:
        if (top / name).is_file():
            yield top / name
        for directory, names, files in os.walk(top / name):
            names[:] = sorted(word for word in names if word not in NO_SOURCES)
            yield from (Path(directory, word) for word in sorted(files) if not word.endswith(".pyc"))


def _build(place: Path, *, suite: str) -> None:
    aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=".build-"))
    try:
        argv = [str(TOP / "packaging/deb"), "--suite", suite, "--output", str(aside)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"packaging/deb failed ({done.returncode}):\n{(done.stdout + done.stderr)[-4000:]}")
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
