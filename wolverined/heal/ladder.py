# SPDX-License-Identifier: MIT
"""The ladder of proposals for one incident: remedies first, then a model; each one proven on a copy.

Climbs until a proposal is proven or cannot be proven here (then no more is spent), every proposal is
a recorded repair whatever becomes of it, and what a rung refuted is evidence for the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from wolverined.config.schema import Config
from wolverined.errors import AdviserFailed, EditRejected, OverBudget, StreamError, WolverineError
from wolverined.heal import policy, remedies
from wolverined.heal.diff import sha256_of, unified_diff
from wolverined.heal.syntax import check_syntax
from wolverined.model import (
    Check,
    Evidence,
    Outcome,
    Proposal,
    Repair,
    RepairState,
    Snapshot,
    Verdict,
)
from wolverined.store import Store

Say = Callable[[str, str, dict[str, Any]], Awaitable[None]]
Prove = Callable[[Proposal, Callable[[Check], Awaitable[None]]], Awaitable[Verdict]]
Ask = Callable[[tuple[str, ...]], Awaitable[Proposal]]
"""Asks a model for one proposal, given one line for each earlier attempt."""

_STATE_OF = {
    Outcome.PROVEN: RepairState.PROPOSED,
    Outcome.REFUTED: RepairState.REFUTED,
    Outcome.UNPROVABLE: RepairState.UNPROVABLE,
}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal that the climb ended with, and what is known of it."""

    proposal: Proposal
    repair: Repair
    verdict: Verdict
    low_risk: bool
    reasons: tuple[str, ...]


class Ladder:
    """Climbs for one incident.

    Args:
        config: Of the app.
        evidence: What is known of the trouble.
        snapshot: The source that the proposals are for.
        store: Where each repair is recorded.
        prove: Tries one proposal on a copy.
        ask: Asks a model; None when none is configured.
        say: Tells the supervisor, and so the operator, of each step.
        clean: Takes secrets out of what a trial saw: a verdict is stored, told, and shown to a model.
    """

    def __init__(
        self,
        *,
        config: Config,
        evidence: Evidence,
        snapshot: Snapshot,
        store: Store,
        prove: Prove,
        ask: Ask | None,
        say: Say,
        clean: Callable[[str], str],
    ) -> None:
        self._config = config
        self._evidence = evidence
        self._snapshot = snapshot
        self._store = store
        self._prove = prove
        self._ask = ask
        self._say = say
        self._clean = clean
        self._prior: list[str] = []
        self._iteration = 0
        self.why_not = "no remedy fits"

    async def climb(self) -> Standing | None:
        """Give the first proposal that is proven or unprovable; None when there is none (`why_not` says why)."""
        negatives = self._store.repairs.negatives(self._evidence.incident.fingerprint)
        async for proposal in self._proposals():
            self._iteration += 1
            sha256 = sha256_of(unified_diff(proposal.changes))
            if sha256 in negatives:
                await self._tell("a proposal that failed before is not tried again")
                self._prior.append(f"{proposal.reason}: was tried before and failed; propose something else")
                continue
            negatives.add(sha256)
            standing = await self._try(proposal, sha256)
            if standing is not None:
                return standing
        return None

    async def _proposals(self) -> AsyncIterator[Proposal]:
        for proposal in remedies.propose(self._evidence, self._snapshot):
            yield proposal
        if self._ask is None:
            self.why_not += "; no model is configured (OPENAI_API_KEY)"
            return
        for _attempt in range(self._config.heal.max_attempts):
            try:
                yield await self._ask(tuple(self._prior))
            except EditRejected as error:
                self._prior.append(f"the answer could not be applied: {error.message}")
                await self._tell(f"the model's answer does not apply: {error.message}")
            except (AdviserFailed, OverBudget, StreamError) as error:
                self.why_not = f"the model could not help: {error.message}"
                await self._tell(self.why_not)
                return
        last = f"; the last one: {self._prior[-1]}" if self._prior else ""
        self.why_not = f"no proposal stood the trial in {self._config.heal.max_attempts} attempts{last}"

    async def _try(self, proposal: Proposal, sha256: str) -> Standing | None:
        """Record, check and prove one proposal; None when it was refused or refuted."""
        repair = self._record(proposal, sha256)
        await self._tell(f"proposal by {_who(proposal)}: {proposal.reason}", repair=repair.id)
        allowed = policy.check(proposal, self._snapshot, self._config.heal, self._trace())
        verdict = self._first_rung(proposal, allowed.allowed, allowed.reasons)
        if verdict is None:
            repair = self._store.repairs.update(repair.id, state=RepairState.PROVING)
            verdict = await self._proven(proposal, repair)
        repair = self._store.repairs.update(
            repair.id, state=_STATE_OF[verdict.outcome], verdict=verdict, duration_ms=verdict.duration_ms
        )
        await self._tell(
            f"{verdict.outcome.value}: {verdict.reason}", repair=repair.id, name=f"heal.{verdict.outcome.value}"
        )
        if verdict.outcome is Outcome.REFUTED:
            self._prior.append(f"{proposal.reason}: refuted, {verdict.reason}")
            self.why_not = f"no proposal stood the trial; the last one: {verdict.reason}"
            return None
        return Standing(
            proposal=proposal, repair=repair, verdict=verdict, low_risk=allowed.low_risk, reasons=allowed.reasons
        )

    def _record(self, proposal: Proposal, sha256: str) -> Repair:
        incident = self._evidence.incident
        usage = proposal.usage
        return self._store.repairs.add(
            incident=incident.id,
            fingerprint=incident.fingerprint,
            mode=proposal.mode,
            error=f"{incident.error}: {incident.message}"[:200],
            resolution=(proposal.root_cause or proposal.reason)[:300],
            changes=proposal.changes,
            diff=unified_diff(proposal.changes),
            sha256=sha256,
            remedy=proposal.remedy,
            model=usage.model,
            iteration=self._iteration,
            tokens=usage.input_tokens + usage.output_tokens,
            cost_usd=usage.cost_usd,
        )

    def _trace(self) -> Any:
        return self._evidence.incident.trace or (self._evidence.traces[-1] if self._evidence.traces else None)

    def _first_rung(self, proposal: Proposal, allowed: bool, reasons: tuple[str, ...]) -> Verdict | None:  # noqa: FBT001
        """R0: the patch policy and the syntax of every touched file; None when both are well."""
        if not allowed:
            why = "; ".join(reasons) or "refused by the patch policy"
            check = Check(rung="R0", name="policy", baseline="ok", patched="bad", passed=False, detail=why)
            return Verdict(outcome=Outcome.REFUTED, reason=why, checks=(check,))
        for change in proposal.changes:
            if change.after is None:
                continue
            if (problem := check_syntax(change.path, change.after)) is not None:
                why = f"{change.path}: {problem}"
                check = Check(rung="R0", name="syntax", baseline="ok", patched="bad", passed=False, detail=why)
                return Verdict(outcome=Outcome.REFUTED, reason=why, checks=(check,))
        return None

    async def _proven(self, proposal: Proposal, repair: Repair) -> Verdict:
        async def rung(seen: Check) -> None:
            check = self._cleaned(seen)
            words = f"{check.rung} {check.name}: {check.baseline or 'not asked'} before, {check.patched} after"
            detail = f" ({check.detail})" if check.detail else ""
            fields = msgspec.to_builtins(check)
            await self._tell(words + detail, repair=repair.id, name="heal.step", fields=fields)

        try:
            verdict = await self._prove(proposal, rung)
        except WolverineError as error:
            # The trial itself failed (no sandbox, a runner that died): that says nothing about the patch.
            verdict = Verdict(outcome=Outcome.UNPROVABLE, reason=str(error))
        checks = tuple(map(self._cleaned, verdict.checks))
        return msgspec.structs.replace(verdict, reason=self._clean(verdict.reason), checks=checks)

    def _cleaned(self, check: Check) -> Check:
        return msgspec.structs.replace(check, name=self._clean(check.name), detail=self._clean(check.detail))

    async def _tell(
        self, message: str, *, repair: str = "", name: str = "heal.step", fields: dict[str, Any] | None = None
    ) -> None:
        about = {"incident": self._evidence.incident.id, "repair": repair}
        await self._say(name, message, {**(fields or {}), **about})


def _who(proposal: Proposal) -> str:
    return f"remedy {proposal.remedy}" if proposal.remedy else f"model {proposal.usage.model or '?'}"
