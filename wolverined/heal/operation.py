# SPDX-License-Identifier: MIT
"""Puts a repair in, watches it, takes it back: what a heal does once it is decided.

The app is down while its files are written, and only then. Every write is `transaction`'s, whatever
ends it half-way; here stands the order: stop, write, start, watch, and back again if it got worse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.errors import StreamError, WolverineError
from wolverined.heal import transaction
from wolverined.heal.job import Conclusion, Result
from wolverined.heal.probation import Watch, begin, observe
from wolverined.heal.stream import Channel
from wolverined.heal.surgeon.client import SurgeonClient
from wolverined.model import BackupState, Repair, RepairState
from wolverined.store import Store

Say = Callable[[str, str, dict[str, Any]], Awaitable[None]]

_START_MARGIN_S = 5.0


class Operation:
    """Applies and takes back repairs of one app.

    Args:
        config: Of the app.
        state_dir: Where backups and patches are kept.
        store: Where each state is recorded before the next step.
        supervisor: Stops and starts the app.
        seen: What happened to the app, in order, as the supervisor tells it.
        clock: Monotonic time decides the probation.
        say: Tells the operator.
    """

    def __init__(
        self,
        *,
        config: Config,
        state_dir: Path,
        store: Store,
        supervisor: Channel,
        seen: asyncio.Queue[dict[str, Any]],
        clock: Clock,
        say: Say,
    ) -> None:
        self._config = config
        self._state_dir = state_dir
        self._store = store
        self._supervisor = supervisor
        self._seen = seen
        self._clock = clock
        self._say = say

    async def apply(self, repair: Repair, *, surgeon: SurgeonClient, fingerprint: str) -> Result:
        """Stop the app, write the repair's files, start it, watch it; take it back when it is worse."""
        stored = self._store.repairs.stored(repair.id)
        await self._supervisor.call("hold_down", {"why": f"repair {repair.id} is applied"})
        try:
            backup = await transaction.apply(
                repair, stored.changes, surgeon=surgeon, store=self._store, state_dir=self._state_dir
            )
        except WolverineError as error:
            await self._release()
            self._store.repairs.update(
                repair.id, state=RepairState.FAILED, note=error.message, ended_at=self._clock.wall()
            )
            return Result(
                conclusion=Conclusion.FAILED, said=f"not applied: {error.message}", hint=error.hint, repair=repair.id
            )
        repair = self._store.repairs.update(
            repair.id, state=RepairState.APPLIED, backup=backup.id, applied_at=self._clock.wall()
        )
        files = ", ".join(repair.files)
        await self._tell("repair.applied", f"{repair.id} applied to {files}: {repair.resolution}", repair)
        self._forget_what_was_seen()
        ready = await self._release()
        return await self.watch(repair, surgeon=surgeon, fingerprint=fingerprint, ready=ready)

    async def watch(self, repair: Repair, *, surgeon: SurgeonClient, fingerprint: str, ready: bool) -> Result:
        """Watch an applied repair for its probation; verified, or rolled back."""
        probation_s = self._config.heal.probation_s
        if not ready:
            return await self.roll_back(repair, surgeon=surgeon, why="the app did not become ready with it")
        repair = self._store.repairs.update(repair.id, state=RepairState.PROBATION)
        await self._tell("repair.probation", f"{repair.id} is watched for {probation_s:g} s", repair)
        watch = begin(fingerprint=fingerprint, probation_s=probation_s, now=self._clock.monotonic())
        why = await self._outcome(watch)
        if why:
            return await self.roll_back(repair, surgeon=surgeon, why=why)
        repair = self._store.repairs.update(
            repair.id, state=RepairState.VERIFIED, success=True, ended_at=self._clock.wall()
        )
        if repair.backup:
            self._store.backups.update(repair.backup, state=BackupState.VERIFIED)
        said = f"{repair.id} stood {probation_s:g} s of probation: verified"
        await self._tell("repair.verified", said, repair)
        return Result(conclusion=Conclusion.HEALED, said=said, repair=repair.id, verdict=_verdict(repair))

    async def _outcome(self, watch: Watch) -> str:
        """Wait for the end of the probation; empty when it stood, else why it did not."""
        while True:
            left_s = watch.ends_at - self._clock.monotonic()
            try:
                event = await asyncio.wait_for(self._seen.get(), max(left_s, 0.0))
            except TimeoutError:
                event = {"what": "tick"}
            watch, verdict = observe(watch, event, now=self._clock.monotonic())
            if verdict is not None:
                return verdict.why if verdict.worse else ""

    async def roll_back(self, repair: Repair, *, surgeon: SurgeonClient, why: str) -> Result:
        """Take a repair back: only our own files, only where they are still ours."""
        await self._supervisor.call("hold_down", {"why": f"repair {repair.id} is rolled back"})
        try:
            await transaction.rollback(repair, surgeon=surgeon, store=self._store, state_dir=self._state_dir)
        except WolverineError as error:
            await self._release()
            said = f"{repair.id} could not be rolled back: {error.message}"
            self._store.repairs.update(repair.id, note=said)
            await self._tell("repair.rollback_failed", said, repair, severity="critical")
            return Result(conclusion=Conclusion.FAILED, said=said, hint=error.hint, repair=repair.id)
        repair = self._store.repairs.update(
            repair.id, state=RepairState.ROLLED_BACK, success=False, note=why, ended_at=self._clock.wall()
        )
        said = f"{repair.id} rolled back: {why}"
        await self._tell("repair.rolled_back", said, repair, severity="warn")
        await self._release()
        return Result(conclusion=Conclusion.ROLLED_BACK, said=said, repair=repair.id, verdict=_verdict(repair))

    async def _release(self) -> bool:
        timeout_s = self._config.probe.startup_s + _START_MARGIN_S
        answer = await self._supervisor.call("release", {"timeout_s": timeout_s}, timeout_s=timeout_s + _START_MARGIN_S)
        return answer.body.get("ready") is True

    def _forget_what_was_seen(self) -> None:
        """What happened before the repair went in says nothing about it."""
        while not self._seen.empty():
            self._seen.get_nowait()

    async def _tell(self, name: str, message: str, repair: Repair, *, severity: str = "info") -> None:
        fields = {"incident": repair.incident, "repair": repair.id, "severity": severity}
        try:
            await self._say(name, message, fields)
        except StreamError:
            # Nobody listens any more; the store has it, and the files come first.
            return


def _verdict(repair: Repair) -> str:
    return repair.verdict.outcome.value if repair.verdict else ""
