# SPDX-License-Identifier: MIT
"""What becomes of a proposal once its verdict is known (pure).

The policy's answer in one place, so that `auto` can be read in a table: what is proven and was made by
a remedy, or is low-risk, goes in; everything else asks.
"""

from __future__ import annotations

from enum import StrEnum

from wolverined.config.schema import HealTable, Policy, Unprovable
from wolverined.model import Outcome, RepairMode

_OURS = (RepairMode.REMEDY, RepairMode.RECALL)


class Next(StrEnum):
    """What is done with a proposal."""

    APPLY = "apply"
    APPROVAL = "approval"  # wait for `wolverinectl approve`
    OBSERVE = "observe"  # written down, nothing touched
    DROP = "drop"  # the next rung of the ladder


def decide(outcome: Outcome, *, heal: HealTable, mode: RepairMode, low_risk: bool, dry_run: bool) -> Next:
    """Decide about one proposal.

    Args:
        outcome: Of its verdict.
        heal: The operator's rules.
        mode: Who made it.
        low_risk: What the patch policy says of a model's patch; remedies and recall need it not.
        dry_run: An operator wants to see, not to change.
    """
    if outcome is Outcome.REFUTED:
        return Next.DROP
    if dry_run or heal.policy in (Policy.OBSERVE, Policy.OFF):
        return Next.OBSERVE
    if heal.policy is Policy.APPROVE:
        return Next.APPROVAL
    if outcome is Outcome.UNPROVABLE and heal.unprovable is Unprovable.APPROVE:
        return Next.APPROVAL
    trusted = mode in _OURS or low_risk or heal.auto_risk == "any"
    return Next.APPLY if trusted else Next.APPROVAL
