# SPDX-License-Identifier: MIT
"""When a repair is stable, and when its approval comes too late."""

import pytest

from wolverined.heal.terms import STABLE_S, expired, stands
from wolverined.model import Repair, RepairMode, RepairState

MADE, ENDED, DAY = 1000.0, 2000.0, 86400.0


def repair(state: RepairState, *, ended_at: float | None = ENDED) -> Repair:
    """A repair in that state."""
    return Repair(
        id="r1",
        incident="i1",
        mode=RepairMode.FAST,
        state=state,
        error="TypeError",
        resolution="a guard",
        created_at=MADE,
        ended_at=ended_at,
    )


def test_a_verified_repair_is_stable_after_half_an_hour() -> None:
    """From the end of its probation on; not a moment before."""
    verified = repair(RepairState.VERIFIED)
    assert not stands(verified, now=ENDED + STABLE_S - 0.1)
    assert stands(verified, now=ENDED + STABLE_S)


@pytest.mark.parametrize("state", sorted(set(RepairState) - {RepairState.VERIFIED}))
def test_no_other_repair_becomes_stable(state: RepairState) -> None:
    """However old it is."""
    assert not stands(repair(state), now=ENDED + DAY)


def test_a_repair_without_an_end_does_not_stand_yet() -> None:
    """Its time has not begun."""
    assert not stands(repair(RepairState.VERIFIED, ended_at=None), now=ENDED + DAY)


def test_an_approval_expires_when_its_time_is_over() -> None:
    """Counted from when the repair was made; the last moment still counts."""
    waits = repair(RepairState.APPROVAL, ended_at=None)
    assert not expired(waits, now=MADE + DAY, approval_s=DAY)
    assert expired(waits, now=MADE + DAY + 0.1, approval_s=DAY)


@pytest.mark.parametrize("state", sorted(set(RepairState) - {RepairState.APPROVAL}))
def test_what_waits_for_nobody_does_not_expire(state: RepairState) -> None:
    """Only an approval has a time limit."""
    assert not expired(repair(state), now=MADE + 2 * DAY, approval_s=DAY)
