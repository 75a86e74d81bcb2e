# SPDX-License-Identifier: MIT
"""The lab itself: machines boot whole, differ by nothing, and leave nothing."""

from __future__ import annotations

from support.lab import Machine


def test_boots_to_running(bare: Machine) -> None:
    """A machine comes up with no failed unit."""
    assert bare.run("systemctl is-system-running --wait").stdout.strip() == "running"
