# SPDX-License-Identifier: MIT
"""The table of `heal.policy`: what becomes of a proposal once its verdict is known."""

import pytest

from wolverined.config.schema import HealTable, Policy, Unprovable
from wolverined.heal.decision import Next, decide
from wolverined.model import Outcome, RepairMode

AUTO = HealTable()
REMEDY, FAST = RepairMode.REMEDY, RepairMode.FAST


@pytest.mark.parametrize(
    ("heal", "outcome", "mode", "low_risk", "expected"),
    [
        (AUTO, Outcome.PROVEN, REMEDY, False, Next.APPLY),
        (AUTO, Outcome.PROVEN, FAST, True, Next.APPLY),
        (AUTO, Outcome.PROVEN, FAST, False, Next.APPROVAL),
        (HealTable(auto_risk="any"), Outcome.PROVEN, FAST, False, Next.APPLY),
        (AUTO, Outcome.UNPROVABLE, REMEDY, True, Next.APPROVAL),
        (HealTable(unprovable=Unprovable.APPLY), Outcome.UNPROVABLE, REMEDY, True, Next.APPLY),
        (HealTable(unprovable=Unprovable.APPLY), Outcome.UNPROVABLE, FAST, False, Next.APPROVAL),
        (HealTable(policy=Policy.APPROVE), Outcome.PROVEN, REMEDY, True, Next.APPROVAL),
        (HealTable(policy=Policy.OBSERVE), Outcome.PROVEN, REMEDY, True, Next.OBSERVE),
        (HealTable(policy=Policy.OFF), Outcome.PROVEN, REMEDY, True, Next.OBSERVE),
    ],
)
def test_policy_decides_by_verdict_author_and_risk(
    heal: HealTable, outcome: Outcome, mode: RepairMode, low_risk: bool, expected: Next
) -> None:
    """Only what is proven, by a remedy or low-risk, goes in by itself; everything else asks or is written down."""
    assert decide(outcome, heal=heal, mode=mode, low_risk=low_risk, dry_run=False) is expected


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("mode", list(RepairMode))
def test_a_refuted_proposal_is_dropped_under_every_policy(policy: Policy, mode: RepairMode) -> None:
    """What made things worse on a copy never reaches an operator as something to approve."""
    heal = HealTable(policy=policy, auto_risk="any")
    assert decide(Outcome.REFUTED, heal=heal, mode=mode, low_risk=True, dry_run=False) is Next.DROP


@pytest.mark.parametrize("outcome", [Outcome.PROVEN, Outcome.UNPROVABLE])
def test_a_dry_run_touches_nothing(outcome: Outcome) -> None:
    """`heal --dry-run` writes the proposal down even where `auto` would apply it."""
    heal = HealTable(unprovable=Unprovable.APPLY, auto_risk="any")
    assert decide(outcome, heal=heal, mode=REMEDY, low_risk=True, dry_run=True) is Next.OBSERVE
