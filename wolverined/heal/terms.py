# SPDX-License-Identifier: MIT
"""How long what a repair is holds: when one that stands is stable, when its approval comes too late (pure).

The daemon asks, to begin a heal process only for something; the heal, to do it. Times are wall-clock seconds.
"""

from __future__ import annotations

from wolverined.model import Repair, RepairState

STABLE_S = 1800.0
"""A verified repair that stood for so long is stable (the predecessor's 30 minutes)."""


def stands(repair: Repair, *, now: float) -> bool:
    """Whether a verified repair has stood long enough to be called stable."""
    return repair.state is RepairState.VERIFIED and now - (repair.ended_at or now) >= STABLE_S


def expired(repair: Repair, *, now: float, approval_s: float) -> bool:
    """Whether a repair has waited too long for somebody to approve it."""
    return repair.state is RepairState.APPROVAL and now - repair.created_at > approval_s
