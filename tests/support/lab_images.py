# SPDX-License-Identifier: MIT
"""Root file systems for the lab's machines: a Debian base per suite, and layers on top, each built once.

The base comes out of the host's own package sources, by whatever proxy, certificates and passwords its
apt uses; none of that stays in what is built. Built aside under a lock, then renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from support.lab_places import CGROUP2, cache, in_private, locked
from support.lab_sources import apt_options, sources_for

PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "libnss-systemd",
    "libpam-systemd",
    "nodejs",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)
"""What a server that runs Node and Python applications has; no compiler, no man pages."""

RECIPE = 2
"""Counted up when the steps below change, so that no old base is taken for a new one."""

QUIET = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
)
"""Units that would wake in the middle of a test, or that want a terminal."""

LAYER = f"""{CGROUP2}
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/m"
to=$2/m script=$3
shift 3
exec systemd-nspawn -q -D "$to" --register=no --keep-unit --as-pid2 --link-journal=no --timezone=off \
    --resolv-conf=bind-host --console=pipe -E DEBIAN_FRONTEND=noninteractive "$@" sh -ec "$script"
"""


def ensure_base(*, suite: str = "bookworm", packages: Iterable[str] = PACKAGES) -> Path:
    """The root directory of a Debian of `suite` with `packages`; built when it is not in the cache."""
    names = sorted(packages)
    destination = cache() / f"base-{suite}-{_digest(suite, names, RECIPE)}"
    with locked(destination):
        if not destination.exists():
            _build_base(destination, suite=suite, packages=names)
    return destination


def ensure_layer(
    name: str,
    *,
    lower: Sequence[Path],
    script: str,
    key: str = "",
    binds: Mapping[Path, str] | None = None,
) -> Path:
    """What `script` adds to the layers `lower` (topmost first), run there as root with the host's network.

    Args:
        name: A word for the directory's name.
        lower: Layers below, topmost first; all of them, down to the base.
        script: For `sh -e`. Its text is part of the cache's key.
        key: What else the result depends on, such as the digest of a file among `binds`.
        binds: Files and directories of the host to be seen (read-only) at a path inside.
    """
    destination = cache() / f"layer-{name}-{_digest(script, key, [str(path) for path in lower])}"
    with locked(destination):
        if not destination.exists():
            _build_layer(destination, lower=lower, script=script, binds=binds or {})
    return destination


def installing(*packages: str) -> str:
    """A script for `ensure_layer` that installs packages and leaves no lists behind."""
    return (
        f"apt-get update -qq\napt-get install -y -qq --no-install-recommends {shlex.join(packages)}\n"
        "apt-get clean\nrm -rf /var/lib/apt/lists/*"
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _aside(destination: Path) -> Path:
    """A fresh directory beside `destination`; what an earlier, killed builder left there goes first."""
    for left in destination.parent.glob(f".{destination.name}.*"):
        shutil.rmtree(left)
    return Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}."))


def _build_base(destination: Path, *, suite: str, packages: Sequence[str]) -> None:
    aside = _aside(destination)
    root = aside / "root"
    options = aside / "apt.conf"
    options.write_text(apt_options())
    argv = [
        "mmdebstrap",
        "--quiet",
        "--variant=apt",
        f"--include={','.join(packages)}",
        # mmdebstrap keeps what --aptopt names in the result; it is this host's, so it goes at the end.
        f"--aptopt={options}",
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        *_passwords(),
        suite,
        str(root),
    ]
    sources = sources_for(suite)
    done = subprocess.run([*argv, "-"] if sources else argv, input=sources, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(aside, ignore_errors=True)
        raise RuntimeError(f"mmdebstrap could not build {suite}:\n{(done.stdout + done.stderr)[-4000:]}")
    _dress(root)
    root.rename(destination)
    shutil.rmtree(aside)


def _passwords() -> list[str]:
    """Hooks that lend the host's passwords for package sources to the build, and take them away."""
    lend = 'for f in /etc/apt/auth.conf /etc/apt/auth.conf.d; do [ ! -e "$f" ] || cp -a "$f" "$1/etc/apt/"; done'
    return [
        f'--setup-hook=mkdir -p "$1/etc/apt"; {lend}',
        '--customize-hook=rm -rf "$1/etc/apt/auth.conf" "$1/etc/apt/auth.conf.d"',
    ]


def _dress(root: Path) -> None:
    """Take away what every machine must have of its own, and silence what would disturb a test."""
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/machine-id").unlink(missing_ok=True)
    # Empty, not absent: absent is a first boot, with presets and questions.
    (root / "etc/machine-id").write_text("")
    units = root / "etc/systemd/system"
    for unit in QUIET:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")


def _build_layer(destination: Path, *, lower: Sequence[Path], script: str, binds: Mapping[Path, str]) -> None:
    aside = _aside(destination)
    try:
        for name in ("up", "work", "m"):
            (aside / name).mkdir()
        options = aside / "apt.conf"
        options.write_text(apt_options())
        seen = {options: "/run/lab-apt.conf", **_trust(), **binds}
        args = [f"--bind-ro={path}:{inside}" for path, inside in seen.items()]
        args += ["-E", "APT_CONFIG=/run/lab-apt.conf"]
        args += [f"--setenv={name}" for name in os.environ if re.fullmatch(r"(?i)(https?|no|all)_proxy", name)]
        in_private(LAYER, ":".join(map(str, lower)), str(aside), script, *args)
        (aside / "up").rename(destination)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _trust() -> dict[Path, str]:
    """The host's certificates and passwords, to be seen while a layer is built and never copied."""
    paths = (
        "/etc/ssl/certs",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
        "/etc/apt/auth.conf",
        "/etc/apt/auth.conf.d",
    )
    return {Path(path): path for path in paths if Path(path).exists()}
