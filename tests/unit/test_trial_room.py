# SPDX-License-Identifier: MIT
"""No candidate fills the host's disk through the /tmp that PID 1 gave it."""

from __future__ import annotations

import pytest

from wolverined.errors import WolverineError
from wolverined.heal.trial.room import EVERY_S, MOST, Room, free_below


def test_a_trial_that_takes_too_much_is_ended() -> None:
    """Up to the limit nothing is said; above it the trial breaks off and names the place."""
    free = {"/tmp": 10 * MOST, "/var/tmp": 10 * MOST}
    room = Room(free=free.__getitem__)
    free["/tmp"] -= MOST
    room.check(1.0)
    free["/var/tmp"] -= MOST + 1
    with pytest.raises(WolverineError, match="/var/tmp"):
        room.check(1.0 + EVERY_S)


def test_looks_are_rare() -> None:
    """The loop that asks runs fifty times a second; the disk is asked ten times."""
    looks: list[str] = []

    def free(place: str) -> int:
        looks.append(place)
        return MOST

    room = Room(["/tmp"], free=free)
    for tick in range(50):
        room.check(tick * 0.02)
    assert len(looks) <= 12


def test_what_cannot_be_known_is_no_reason_to_end_a_trial() -> None:
    """A place that is not there never fills up."""
    assert free_below("/nowhere/at/all") > MOST
    assert free_below("/") > 0
