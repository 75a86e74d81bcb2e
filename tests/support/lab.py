# SPDX-License-Identifier: MIT
"""The lab: booted systemd machines for tests and for looking around, from a cached base, thrown away after.

    base = ensure_base()                                  # once; then from the cache
    with Machine([base]) as machine:                      # half a second
        machine.run("systemctl is-system-running --wait")

Needs root and a cgroup v2 hierarchy (pure or beside v1), no systemd on the host. `why_not` says what is missing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.lab_images import PACKAGES, ensure_base, ensure_layer, installing
from support.lab_machine import Machine, make_disk
from support.lab_places import groups, in_private, sweep
from support.lab_switch import Switch

__all__ = [
    "PACKAGES",
    "Machine",
    "Switch",
    "ensure_base",
    "ensure_layer",
    "groups",
    "installing",
    "make_disk",
    "sweep",
    "why_not",
]

TRY = """
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
rmdir "/sys/fs/cgroup/$1"
"""


def why_not() -> str:
    """Why no machine can be booted here, in words for a person; empty when one can."""
    if os.geteuid() != 0:
        return "needs root: the lab boots machines"
    for program, package in (
        ("systemd-nspawn", "systemd-container"),
        ("mmdebstrap", "mmdebstrap"),
        ("ip", "iproute2"),
        ("mkfs.ext4", "e2fsprogs"),
        ("setpriv", "util-linux"),
    ):
        if shutil.which(program) is None and not Path("/usr/sbin", program).exists():
            return f"the lab needs {program}: apt install {package}"
    try:
        in_private(TRY, f"wlab-try-{os.getpid()}")
    except (RuntimeError, OSError) as error:
        return f"the lab cannot mount and write cgroup v2 here: {error}"
    return ""
