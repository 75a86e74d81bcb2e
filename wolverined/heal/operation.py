# SPDX-License-Identifier: MIT
"""Puts a repair in, watches it, takes it back: what a heal does once it is decided.

The app is down while its files are written, and only then. Every write is `transaction`'s, whatever
ends it half-way; here stands the order: stop, write, start, watch, and back again if it got worse.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.errors import Conflict, StreamError, SurgeryAborted, WolverineError
from wolverined.heal import transaction
from wolverined.heal.job import Conclusion, Result
from wolverined.heal.probation import Watch, begin, observe
from wolverined.heal.stream import Channel
from wolverined.heal.surgeon.client import SurgeonClient
from wolverined.model import AppState, BackupState, Repair, RepairState
from wolverined.store import Store

Say = Callable[[str, str, dict[str, Any]], Awaitable[None]]
OpenSurgeon = Callable[[], AbstractAsyncContextManager[SurgeonClient]]

_START_MARGIN_S = 5.0


class Operation:
    """Applies and takes back repairs of one app.

    Args:
        config: Of the app.
        state_dir: Where backups and patches are kept.
        store: Where each state is recorded before the next step.
        supervisor: Stops and starts the app.
        open_surgeon: Gives a fresh surgeon; each surgery has one of its own.
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
        open_surgeon: OpenSurgeon,
        seen: asyncio.Queue[dict[str, Any]],
        clock: Clock,
        say: Say,
    ) -> None:
        self._config = config
        self._state_dir = state_dir
        self._store = store
        self._supervisor = supervisor
        self._open_surgeon = open_surgeon
        self._seen = seen
        self._clock = clock
        self._say = say

    async def apply(
        self, repair: Repair, *, fingerprint: str, tree_hash: str = "", witnesses: Mapping[str, str] | None = None
    ) -> Result:
        """Stop the app, write the repair's files, start it, watch it; take it back when it is worse.

        Args:
            repair: Proven, or approved by an operator.
            fingerprint: Of the trouble that it is for.
            tree_hash: Of the snapshot that it was made for.
            witnesses: Further files by sha256: when one has changed, a deploy came in between.
        """
        stored = self._store.repairs.stored(repair.id)
        try:
            await self._supervisor.call("hold_down", {"why": f"repair {repair.id} is applied"})
            async with self._open_surgeon() as surgeon:
                await transaction.apply(
                    repair,
                    stored.changes,
                    surgeon=surgeon,
                    store=self._store,
                    state_dir=self._state_dir,
                    tree_hash=tree_hash,
                    witnesses=witnesses,
                )
        except WolverineError as error:
            return await self._not_done(error, repair, "not applied", worse=await self._mend())
        await self._mend()
        repair = self._store.repairs.get(repair.id)
        files = ", ".join(repair.files)
        await self._tell("repair.applied", f"{repair.id} applied to {files}: {repair.resolution}", repair)
        self._forget_what_was_seen()
        try:
            ready = await self._release()
        except Conflict:
            return self._paused(repair)
        if not ready:
            return await self.roll_back(repair, why=_NEVER_READY)
        return await self.watch(repair, fingerprint=fingerprint)

    async def resume(self, repair: Repair, *, fingerprint: str, ready: bool) -> Result:
        """Watch a repair whose probation was cut off, from its beginning, as soon as the app is ready."""
        while not ready:
            try:
                timeout_s = self._config.probe.startup_s + _START_MARGIN_S
                event = await asyncio.wait_for(self._seen.get(), timeout_s)
            except TimeoutError:
                return await self.roll_back(repair, why=_NEVER_READY)
            match event:
                case {"what": "rollback"}:
                    return await self.roll_back(repair, why=str(event.get("why")))
                case {"what": "exit", "asked": False} | {"what": "probe"}:
                    return await self.roll_back(repair, why=_NEVER_READY)
                case {"what": "state", "state": AppState.STOPPED.value}:
                    return self._paused(repair)
                case {"what": "state", "state": state}:
                    ready = state in _SERVED
        return await self.watch(repair, fingerprint=fingerprint)

    async def watch(self, repair: Repair, *, fingerprint: str) -> Result:
        """Watch an applied repair for its probation; verified, rolled back, or put off while the app is stopped."""
        probation_s = self._config.heal.probation_s
        repair = self._store.repairs.update(repair.id, state=RepairState.PROBATION)
        await self._tell("repair.probation", f"{repair.id} is watched for {probation_s:g} s", repair)
        watch = begin(fingerprint=fingerprint, probation_s=probation_s, now=self._clock.monotonic())
        why = await self._outcome(watch)
        if why is None:
            return self._paused(repair)
        if why:
            return await self.roll_back(repair, why=why)
        repair = self._store.repairs.update(
            repair.id, state=RepairState.VERIFIED, success=True, ended_at=self._clock.wall()
        )
        if repair.backup:
            self._store.backups.update(repair.backup, state=BackupState.VERIFIED)
        said = f"{repair.id} stood {probation_s:g} s of probation: verified"
        await self._tell("repair.verified", said, repair)
        return Result(conclusion=Conclusion.HEALED, said=said, repair=repair.id, verdict=_verdict(repair))

    def _paused(self, repair: Repair) -> Result:
        """The operator stopped the app: that says nothing of the repair, and nobody waits here until it runs."""
        self._store.repairs.update(repair.id, state=RepairState.PROBATION)
        said = f"{repair.id} is applied and the app is stopped: its probation begins when the app is started"
        return Result(conclusion=Conclusion.PAUSED, said=said, repair=repair.id, verdict=_verdict(repair))

    async def _outcome(self, watch: Watch) -> str | None:
        """Wait for the end of the probation; empty when it stood, else why it did not; None: the app was stopped."""
        while True:
            left_s = watch.ends_at - self._clock.monotonic()
            try:
                event = await asyncio.wait_for(self._seen.get(), max(left_s, 0.0))
            except TimeoutError:
                event = {"what": "tick"}
            if event.get("what") == "rollback":
                return str(event.get("why"))
            watch, verdict = observe(watch, event, now=self._clock.monotonic())
            if verdict is not None:
                return verdict.why if verdict.worse else ""
            if watch.left_s is not None:
                return None

    async def roll_back(self, repair: Repair, *, why: str) -> Result:
        """Take a repair back: only our own files, only where they are still ours."""
        try:
            await self._supervisor.call("hold_down", {"why": f"repair {repair.id} is rolled back"})
            async with self._open_surgeon() as surgeon:
                await transaction.rollback(
                    repair, surgeon=surgeon, store=self._store, state_dir=self._state_dir, note=why
                )
        except WolverineError as error:
            worse = await self._mend()
            if worse is not None or self._store.repairs.get(repair.id).state is not RepairState.ROLLED_BACK:
                result = await self._not_done(error, repair, "not rolled back", worse=worse)
                await self._tell("repair.rollback_failed", result.said, repair, severity="critical")
                return result
            # A surgeon that was lost half-way: mending meant to finish what it had begun.
        await self._mend()
        repair = self._store.repairs.get(repair.id)
        said = f"{repair.id} rolled back: {why}"
        await self._tell("repair.rolled_back", said, repair, severity="warn")
        await self._let_go()
        return Result(conclusion=Conclusion.ROLLED_BACK, said=said, repair=repair.id, verdict=_verdict(repair))

    async def restore(self, backup_id: str) -> Result:
        """Put a backup's files back."""
        try:
            await self._supervisor.call("hold_down", {"why": f"backup {backup_id} is restored"})
            async with self._open_surgeon() as surgeon:
                files = await transaction.restore(
                    backup_id, surgeon=surgeon, store=self._store, state_dir=self._state_dir
                )
        except WolverineError as error:
            what = f"backup {backup_id} is not restored"
            return await self._not_done(error, None, what, worse=await self._mend())
        await self._mend()
        said = f"backup {backup_id} is restored: {', '.join(files) or 'its files stood as they were'}"
        await self._say("backup.restored", said, {})
        await self._let_go()
        return Result(conclusion=Conclusion.DONE, said=said)

    async def _mend(self) -> WolverineError | None:
        """Finish or undo a surgery that was cut off, with a fresh surgeon; why that cannot be done, if so.

        After the commit that only means to clear away what the lost surgeon left lying about.
        """
        if self._store.journal.unfinished() is None:
            return None
        try:
            async with self._open_surgeon() as surgeon:
                await transaction.recover(surgeon=surgeon, store=self._store, state_dir=self._state_dir)
        except WolverineError as worse:
            return worse
        return None

    async def _not_done(
        self, error: WolverineError, repair: Repair | None, what: str, *, worse: WolverineError | None
    ) -> Result:
        """A surgery failed: the app may run on the old tree again, if that is whole."""
        said = f"{what}: {error.message}"
        repair_id = repair.id if repair is not None else ""
        if worse is not None:
            said += f"; and the source may be half changed: {worse.message}"
            hint = "mend the disk, then restart wolverined: it finishes or undoes what was begun"
            return Result(conclusion=Conclusion.FAILED, said=said, hint=hint, repair=repair_id, mixed=True)
        final = repair is not None and isinstance(error, SurgeryAborted) and repair.state in _ON_PROBATION
        if repair is not None and (repair.state in _BEFORE or final):
            # On probation and refused: somebody else has changed its files, and what is there now is theirs.
            self._store.repairs.update(repair.id, state=RepairState.FAILED, note=said, ended_at=self._clock.wall())
        elif repair is not None:
            self._store.repairs.update(repair.id, note=said)
        await self._let_go()
        return Result(conclusion=Conclusion.FAILED, said=said, hint=error.hint, repair=repair_id)

    async def _release(self) -> bool:
        timeout_s = self._config.probe.startup_s + _START_MARGIN_S
        answer = await self._supervisor.call("release", {"timeout_s": timeout_s}, timeout_s=timeout_s + _START_MARGIN_S)
        return answer.body.get("ready") is True

    async def _let_go(self) -> None:
        """Start the app, unless the operator stopped it meanwhile: then it stays as they want it."""
        with contextlib.suppress(Conflict):
            await self._release()

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


_NEVER_READY = "the app did not become ready with it"
_SERVED = (AppState.READY.value, AppState.DEGRADED.value, AppState.HEALING.value)
_ON_PROBATION = (RepairState.APPLIED, RepairState.PROBATION)
_BEFORE = (RepairState.PROPOSED, RepairState.APPROVAL, RepairState.UNPROVABLE)
"""States of a repair that is not in place."""


def _verdict(repair: Repair) -> str:
    return repair.verdict.outcome.value if repair.verdict else ""
