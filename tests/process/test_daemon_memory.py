# SPDX-License-Identifier: MIT
"""How much memory the real daemon keeps while nothing happens."""

from __future__ import annotations

import signal

from support.places import IS_ROOT, public_tmp
from support.watching import Watched

IDLE_MIB = 25 if IS_ROOT else 28
"""What we promise; measured: 23.9. Where we may make no cgroup, as most users may not, psutil is there, too."""


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
