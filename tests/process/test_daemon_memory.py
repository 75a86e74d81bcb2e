# SPDX-License-Identifier: MIT
"""How much memory the real daemon keeps while nothing happens."""

from __future__ import annotations

import signal
import sys

from support.places import IS_ROOT, public_tmp
from support.watching import Watched

IDLE_MIB = 25 + (not IS_ROOT) * 3 + (sys.version_info >= (3, 13)) * 2
"""What we promise; measured: 23.9. Where we may make no cgroup, as most users may not, psutil is there, too; and
Debian 13's Python is 2 MiB bigger (25.6 as a service there, 23.7 on Debian 12)."""


def test_an_idle_supervisor_is_small() -> None:
    """Started from compiled modules, as a package leaves them, it stays below what was promised."""
    with public_tmp() as cache:
        compiled = {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
        with Watched(environment=compiled) as daemon:
            daemon.until_state("ready")  # this one has compiled what it imported, which takes memory of its own
            daemon.kill(signal.SIGTERM)
            daemon.start()
            daemon.until_state("ready")
            assert daemon.rss_kib() <= IDLE_MIB * 1024
