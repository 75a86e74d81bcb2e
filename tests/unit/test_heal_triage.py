# SPDX-License-Identifier: MIT
"""Triage: who is healed, who only restarted, who waits."""

from __future__ import annotations

import signal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import Policy
from wolverined.heal.triage import BACKOFF_S, Action, after_failure, lifted, triage
from wolverined.model import ErrorLink, Exit, Incident, IncidentKind, IncidentState, Trace
from wolverined.store.quarantine import Quarantine

NOW = 1_000_000.0
TRACE = Trace(language="node", errors=(ErrorLink("TypeError", "x"),))


def incident(kind: IncidentKind = IncidentKind.CRASH, **fields: object) -> Incident:
    """An open incident with a trace unless told otherwise."""
    return Incident(id="i1", fingerprint="f", kind=kind, error="TypeError", **{"trace": TRACE, **fields})  # type: ignore[arg-type]


def killed(signum: int) -> Exit:
    """An end by a signal that was not ours."""
    return Exit(generation=1, signal=signum)


def test_a_crash_with_a_trace_is_healed() -> None:
    """Nothing in the way: heal."""
    assert triage(incident(), policy=Policy.AUTO, now=NOW).action is Action.HEAL


@pytest.mark.parametrize("policy", [Policy.AUTO, Policy.APPROVE, Policy.OBSERVE])
def test_every_policy_but_off_proposes(policy: Policy) -> None:
    """`approve` and `observe` heal too; what they may apply is decided later."""
    assert triage(incident(), policy=policy, now=NOW).action is Action.HEAL


def test_off_is_off_even_for_an_operator() -> None:
    """With heal.policy off nothing is proposed, whoever asks."""
    assert triage(incident(), policy=Policy.OFF, now=NOW).action is Action.OFF
    assert triage(incident(), policy=Policy.OFF, now=NOW, asked=True).action is Action.OFF


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV, 64])
def test_a_kill_without_a_trace_is_only_restarted(signum: int) -> None:
    """A stranger's signal is no bug of the code."""
    decision = triage(incident(trace=None, exit=killed(signum)), policy=Policy.AUTO, now=NOW)
    assert decision.action is Action.RESTART


def test_a_signal_with_a_trace_may_be_healed() -> None:
    """An abort that printed a stack is evidence enough."""
    decision = triage(incident(exit=killed(signal.SIGABRT)), policy=Policy.AUTO, now=NOW)
    assert decision.action is Action.HEAL


@pytest.mark.parametrize("kind", [IncidentKind.PORT_TAKEN, IncidentKind.OOM, IncidentKind.LEAK])
def test_what_no_patch_mends_is_only_restarted(kind: IncidentKind) -> None:
    """A taken port, want of memory, a leak: restart, trace or not."""
    assert triage(incident(kind), policy=Policy.AUTO, now=NOW).action is Action.RESTART


@pytest.mark.parametrize("kind", [IncidentKind.EXIT, IncidentKind.HANG, IncidentKind.UNREADY, IncidentKind.HTTP5XX])
def test_silent_trouble_is_only_restarted(kind: IncidentKind) -> None:
    """Without a trace there is nothing to look for; with one there is."""
    assert triage(incident(kind, trace=None), policy=Policy.AUTO, now=NOW).action is Action.RESTART
    assert triage(incident(kind), policy=Policy.AUTO, now=NOW).action is Action.HEAL


def test_an_exit_code_without_a_trace_is_healed() -> None:
    """The output's tail may tell what a trace would."""
    ended = Exit(generation=1, code=3)
    assert triage(incident(trace=None, exit=ended), policy=Policy.AUTO, now=NOW).action is Action.HEAL


def test_the_operators_report_is_evidence() -> None:
    """`heal --report -` needs no trace."""
    assert triage(incident(IncidentKind.REPORT, trace=None), policy=Policy.AUTO, now=NOW).action is Action.HEAL


def test_a_hold_and_a_fresh_deploy_stay_the_heal_until_a_time() -> None:
    """The decision says when to ask again."""
    held = triage(incident(), policy=Policy.AUTO, now=NOW, held_until=NOW + 5)
    assert (held.action, held.not_before) == (Action.WAIT, NOW + 5)
    fresh = triage(incident(), policy=Policy.AUTO, now=NOW, source_changed_at=NOW - 10, settle_s=30)
    assert (fresh.action, fresh.not_before) == (Action.WAIT, NOW + 20)
    settled = triage(incident(), policy=Policy.AUTO, now=NOW, source_changed_at=NOW - 30, settle_s=30)
    assert settled.action is Action.HEAL


def test_a_file_dated_into_the_future_does_not_stay_heals_for_ever() -> None:
    """An mtime beyond now is no sign of a deploy."""
    decision = triage(incident(), policy=Policy.AUTO, now=NOW, source_changed_at=NOW + 86400, settle_s=30)
    assert decision.action is Action.HEAL


def test_one_heal_at_a_time() -> None:
    """A second incident waits for the first one's heal, asked or not."""
    for asked in (False, True):
        assert triage(incident(), policy=Policy.AUTO, now=NOW, heal_running=True, asked=asked).action is Action.WAIT


def test_a_repair_that_waits_for_approval_is_not_overtaken() -> None:
    """No second proposal while one waits."""
    decision = triage(incident(state=IncidentState.APPROVAL), policy=Policy.AUTO, now=NOW)
    assert decision.action is Action.WAIT


def test_a_fingerprint_backs_off_and_is_then_quarantined() -> None:
    """1, 5, 30 minutes, 6 hours, then a human."""
    rest, now = Quarantine(fingerprint="f"), NOW
    for number, pause in enumerate((60, 300, 1800, 21600), start=1):
        rest = after_failure(rest, now=now, why="refuted")
        early = triage(incident(), policy=Policy.AUTO, now=now + pause - 1, quarantine=rest)
        assert (early.action, early.not_before, rest.attempts) == (Action.WAIT, now + pause, number)
        now += pause
        assert triage(incident(), policy=Policy.AUTO, now=now, quarantine=rest).action is Action.HEAL
    rest = after_failure(rest, now=now)
    assert triage(incident(), policy=Policy.AUTO, now=now + 1e9, quarantine=rest).action is Action.QUARANTINED


def test_an_operator_lifts_a_quarantine_for_one_try() -> None:
    """After the try fails the fingerprint is back in quarantine."""
    rest = Quarantine(fingerprint="f", level=5, until_wall=None, attempts=5)
    assert triage(incident(), policy=Policy.AUTO, now=NOW, quarantine=rest, asked=True).action is Action.HEAL
    free = lifted(rest)
    assert triage(incident(), policy=Policy.AUTO, now=NOW, quarantine=free).action is Action.HEAL
    again = after_failure(free, now=NOW)
    assert triage(incident(), policy=Policy.AUTO, now=NOW, quarantine=again).action is Action.QUARANTINED


@given(st.integers(0, 3), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_clock_set_back_never_stretches_a_rest(level: int, failed_at: float, now: float) -> None:
    """Whatever the wall clock says, what is left of a rest is no longer than its step."""
    rest = after_failure(Quarantine(fingerprint="f", level=level), now=failed_at)
    decision = triage(incident(), policy=Policy.AUTO, now=now, quarantine=rest)
    if decision.action is Action.WAIT:
        assert decision.not_before is not None
        assert now < decision.not_before <= now + BACKOFF_S[level] + 2.1


@given(
    kind=st.sampled_from(IncidentKind),
    policy=st.sampled_from(Policy),
    traced=st.booleans(),
    asked=st.booleans(),
    signum=st.one_of(st.none(), st.integers(1, 64)),
)
def test_triage_answers_for_every_incident(
    *, kind: IncidentKind, policy: Policy, traced: bool, asked: bool, signum: int | None
) -> None:
    """No combination raises, and every answer has a reason."""
    ended = Exit(generation=1, signal=signum) if signum else Exit(generation=1, code=1)
    case = msgspec.structs.replace(incident(kind), exit=ended)
    assert triage(case, policy=policy, now=NOW, trace_present=traced, asked=asked).why
