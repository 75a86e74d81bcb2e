# SPDX-License-Identifier: MIT
"""Conducts one job of a heal process: evidence, ladder, decision, operation.

It has no power of its own: the surgeon touches files, the trial runs candidates, the adviser asks
models, the supervisor stops and starts the app. What it holds is the order and the record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import Conflict, NotFound, SurgeryAborted, WolverineError
from wolverined.heal import deployed, transaction
from wolverined.heal.cargo import read_whole
from wolverined.heal.counsel import Counsel
from wolverined.heal.decision import Next, decide
from wolverined.heal.evidence import gather
from wolverined.heal.job import Conclusion, Job, Result, Task
from wolverined.heal.ladder import Ladder, Standing
from wolverined.heal.operation import Operation
from wolverined.heal.prove import Prover
from wolverined.heal.roles import Roles
from wolverined.heal.source import sha256_of
from wolverined.heal.stream import Channel
from wolverined.heal.surgeon.client import SurgeonClient, Taken
from wolverined.heal.terms import expired
from wolverined.heal.whole import Whole
from wolverined.model import Evidence, Incident, IncidentState, Repair, RepairState, Snapshot
from wolverined.redact import Redactor, known_secrets, secrets_of_files
from wolverined.store import Store

_HOUR_S = 3600.0
_SETTINGS = ("**/.env*", "**/*.env")
_CODE = frozenset((".py", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"))


class Conductor:
    """Does one job.

    Args:
        job: What to do.
        supervisor: The stream to it.
        roles: Opens streams to surgeon, trial and adviser.
        store: This process is the only writer of repairs, backups and usage.
        clock: Labels and decides.
    """

    def __init__(self, *, job: Job, supervisor: Channel, roles: Roles, store: Store, clock: Clock) -> None:
        self._job = job
        self._supervisor = supervisor
        self._roles = roles
        self._store = store
        self._clock = clock
        self._state_dir = Path(job.state_dir)
        self._seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1000)
        self._redactor = Redactor(known_secrets(job.environment))
        self._operation = Operation(
            config=job.config,
            state_dir=self._state_dir,
            store=store,
            supervisor=supervisor,
            open_surgeon=self._surgeon,
            seen=self._seen,
            clock=clock,
            say=self._say,
        )

    def seen(self, event: dict[str, Any]) -> None:
        """Take note of what happened to the app; a flood keeps its beginning, which is what matters."""
        with contextlib.suppress(asyncio.QueueFull):
            self._seen.put_nowait(event)

    async def run(self) -> Result:
        """Do the job; what goes wrong with it is a result too."""
        tasks: dict[Task, Callable[[], Awaitable[Result]]] = {
            Task.HEAL: self._heal,
            Task.APPLY: self._apply_approved,
            Task.ROLLBACK: self._roll_back,
            Task.RESTORE: self._restore,
            Task.REJECT: self._reject,
            Task.RECOVER: self._recover,
            Task.WATCH: self._watch,
            Task.CHECK: self._check,
            Task.PROMOTE: self._promote,
        }
        try:
            result = await tasks[self._job.task]()
        except WolverineError as error:
            result = Result(conclusion=Conclusion.FAILED, said=error.message, hint=error.hint, repair=self._job.repair)
        # It becomes the note of an incident: an endpoint that echoes what it was sent must not write it there.
        clean = self._redactor.text
        return msgspec.structs.replace(result, said=clean(result.said), hint=clean(result.hint))

    async def _heal(self) -> Result:
        incident = self._incident()
        if not self._store.durable:
            said = "the state directory is unusable, so no repair could be undone"
            return Result(conclusion=Conclusion.NOTHING, said=said)
        async with self._surgeon() as surgeon:
            await self._learn_secrets(surgeon)
            taken = await self._take(surgeon)
            wait_s = self._settling(taken)
            if wait_s <= 0:
                with contextlib.suppress(WolverineError):  # it is looked at again; the trouble is not that
                    await self._look_for_lost(surgeon)
        if wait_s > 0:
            said = f"the source changed a moment ago (a deploy?); looked at again in {wait_s:.0f} s"
            return Result(conclusion=Conclusion.WAIT, said=said, retry_after_s=wait_s)
        app_root = str(self._job.config.app.directory)
        evidence = gather(incident, self._job.tail, redactor=self._redactor, app_root=app_root, report=self._job.report)
        standing, why_not = await self._climb(evidence, taken)
        if standing is None:
            return Result(conclusion=Conclusion.NOTHING, said=why_not)
        return await self._act(standing, incident, taken.snapshot)

    async def _climb(self, evidence: Evidence, taken: Taken) -> tuple[Standing | None, str]:
        timeout_s = self._job.config.heal.timeout_s
        prover = Prover(
            open_trial=lambda side: self._roles.open("trial", deadline_s=timeout_s, side=side),
            read_whole=self._read_whole,
            config=self._job.config,
            snapshot=taken.snapshot,
            evidence=evidence,
            environment=self._fake_environment(),
            hide=self._job.hide,
            hooks=self._job.hooks,
            samples=self._job.samples,
            known_statuses=self._job.known_statuses,
        )
        counsel = Counsel(
            open_adviser=lambda handlers: self._roles.open("adviser", deadline_s=timeout_s, handlers=handlers),
            config=self._job.config,
            snapshot=taken.snapshot,
            evidence=evidence,
            store=self._store,
            clock=self._clock,
            redactor=self._redactor,
        )
        ladder = Ladder(
            config=self._job.config,
            evidence=evidence,
            snapshot=taken.snapshot,
            store=self._store,
            prove=prover.prove,
            ask=counsel.ask if self._job.ai else None,
            say=self._say,
            clean=self._redactor.text,
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await ladder.climb(), ladder.why_not
        except TimeoutError:
            return None, f"no proven repair within {timeout_s:g} s; so far: {ladder.why_not}"
        finally:
            await prover.close()

    async def _act(self, standing: Standing, incident: Incident, snapshot: Snapshot) -> Result:
        repair, verdict = standing.repair, standing.verdict
        heal = self._job.config.heal
        step = decide(
            verdict.outcome,
            heal=heal,
            mode=standing.proposal.mode,
            low_risk=standing.low_risk,
            dry_run=self._job.dry_run,
        )
        if step is Next.APPLY and heal.apply_as == "root" and not heal.allow_root_owner:
            step = Next.APPROVAL
        if step is Next.APPLY:
            changed = {change.path for change in standing.proposal.changes}
            return await self._apply(
                repair,
                fingerprint=incident.fingerprint,
                tree_hash=snapshot.tree_hash,
                witnesses=code_hashes(snapshot, without=changed),
            )
        word = verdict.outcome.value
        if step is Next.OBSERVE:
            said = f"{repair.id} is {word}: {verdict.reason}; nothing was touched"
            hint = f"see: wolverinectl diff {self._job.name} {repair.id}"
            return Result(conclusion=Conclusion.OBSERVED, said=said, hint=hint, repair=repair.id, verdict=word)
        why = "; ".join(standing.reasons) if not standing.low_risk else ""
        note = why or verdict.reason
        self._store.repairs.update(repair.id, state=RepairState.APPROVAL, note=note)
        said = f"{repair.id} is {word} and waits for approval: {note}"
        hint = f"wolverinectl diff {self._job.name} {repair.id}; wolverinectl approve {self._job.name} {repair.id}"
        return Result(conclusion=Conclusion.APPROVAL, said=said, hint=hint, repair=repair.id, verdict=word)

    async def _apply_approved(self) -> Result:
        """Put in a repair that an operator approved; what was approved is exactly what is applied."""
        repair = self._repair()
        if repair.state not in _APPROVABLE:
            hint = "only a proposal or a rolled back repair can be approved"
            raise Conflict(f"{repair.id} is {repair.state.value}", hint=hint)
        if self._job.sha256 and self._job.sha256 != repair.sha256:
            raise Conflict(f"{repair.id} has another sha256: {repair.sha256}", hint="look at the diff again")
        fingerprint = self._store.repairs.stored(repair.id).fingerprint
        return await self._apply(repair, fingerprint=fingerprint)

    async def _apply(
        self, repair: Repair, *, fingerprint: str, tree_hash: str = "", witnesses: Mapping[str, str] | None = None
    ) -> Result:
        """Apply, after a look at the files while the app still runs: what cannot be replaced costs it no stop."""
        paths = [change.path for change in self._store.repairs.stored(repair.id).changes]
        try:
            async with self._surgeon() as surgeon:
                await surgeon.look(paths)
        except SurgeryAborted as error:
            said = f"not applied: {error.message}"
            if repair.state is not RepairState.ROLLED_BACK:
                now = self._clock.wall()
                self._store.repairs.update(repair.id, state=RepairState.FAILED, note=said, ended_at=now)
            return Result(conclusion=Conclusion.FAILED, said=said, hint=error.hint, repair=repair.id)
        return await self._operation.apply(repair, fingerprint=fingerprint, tree_hash=tree_hash, witnesses=witnesses)

    async def _roll_back(self) -> Result:
        repair = self._repair()
        if repair.state not in deployed.IN_PLACE:
            raise Conflict(f"{repair.id} is {repair.state.value}", hint="only an applied repair can be rolled back")
        return await self._operation.roll_back(repair, why="an operator asked")

    async def _restore(self) -> Result:
        return await self._operation.restore(self._job.backup)

    async def _reject(self) -> Result:
        repair = self._repair()
        if repair.state not in _REJECTABLE:
            raise Conflict(f"{repair.id} is {repair.state.value}", hint="an applied repair is taken back by rollback")
        self._store.repairs.update(repair.id, state=RepairState.REJECTED, ended_at=self._clock.wall())
        said = f"{repair.id} is rejected and will not be offered again"
        await self._say("repair.rejected", said, {"repair": repair.id, "incident": repair.incident})
        return Result(conclusion=Conclusion.DONE, said=said, repair=repair.id)

    async def _recover(self) -> Result:
        """Make the tree whole again, then say of each half-done repair what became of it."""
        said = "nothing of a surgery was left over"
        if self._store.journal.unfinished() is not None:
            try:
                async with self._surgeon() as surgeon:
                    said = await transaction.recover(surgeon=surgeon, store=self._store, state_dir=self._state_dir)
            except WolverineError as error:
                said = f"the source may be half changed and cannot be mended: {error.message}"
                hint = error.hint or "mend the disk; it is tried again"
                return Result(conclusion=Conclusion.FAILED, said=said, hint=hint, mixed=True)
        for repair in self._store.repairs.list(limit=50):
            if repair.state in _BEGUN and (repair.verdict is None or self._was_healing(repair)):
                self._store.repairs.update(
                    repair.id, state=RepairState.FAILED, note="the heal was cut off", ended_at=self._clock.wall()
                )
            elif repair.state is RepairState.APPLIED:
                self._store.repairs.update(repair.id, state=RepairState.PROBATION)
        return Result(conclusion=Conclusion.DONE, said=said)

    def _was_healing(self, repair: Repair) -> bool:
        """Whether the heal that made this proposal was still at it: then nobody has been told of it."""
        try:
            return self._store.incidents.get(repair.incident).state is IncidentState.HEALING
        except NotFound:
            return False

    async def _watch(self) -> Result:
        repair = self._repair()
        if repair.state not in _WATCHED:
            raise Conflict(f"{repair.id} is {repair.state.value}", hint="only a repair in its probation is watched")
        fingerprint = self._store.repairs.stored(repair.id).fingerprint
        return await self._operation.resume(repair, fingerprint=fingerprint, ready=self._job.ready)

    async def _check(self) -> Result:
        """Say which applied repairs are no longer in the source, or have come back with it."""
        async with self._surgeon() as surgeon:
            wait_s = await self._look_for_lost(surgeon)
        if wait_s > 0:
            said = f"the source changed a moment ago (a deploy?); looked at again in {wait_s:.0f} s"
            return Result(conclusion=Conclusion.WAIT, said=said, retry_after_s=wait_s)
        return Result(conclusion=Conclusion.DONE, said="it is known which repairs are in the source")

    async def _look_for_lost(self, surgeon: SurgeonClient) -> float:
        return await deployed.look(
            surgeon=surgeon,
            store=self._store,
            say=self._say,
            app=self._job.name,
            wall=self._clock.wall(),
            settle_s=self._job.config.heal.settle_s,
        )

    async def _promote(self) -> Result:
        now = self._clock.wall()
        with contextlib.suppress(WolverineError):  # promotion is by the clock; this is looked at again
            async with self._surgeon() as surgeon:
                await self._look_for_lost(surgeon)
        promoted = await transaction.promote(
            store=self._store, state_dir=self._state_dir, retention=self._job.config.retention, now=now
        )
        for repair in self._store.repairs.list(limit=200):
            if expired(repair, now=now, approval_s=self._job.config.heal.approval_s):
                self._store.repairs.update(repair.id, state=RepairState.EXPIRED, ended_at=now)
                await self._say("repair.expired", f"nobody approved {repair.id} in time", {"repair": repair.id})
        return Result(conclusion=Conclusion.DONE, said=f"{promoted} repairs are stable now")

    @contextlib.asynccontextmanager
    async def _surgeon(self) -> AsyncIterator[SurgeonClient]:
        heal = self._job.config.heal
        deadline_s = heal.timeout_s + heal.probation_s + _HOUR_S
        async with self._roles.open("surgeon", deadline_s=deadline_s) as channel:
            yield SurgeonClient(channel, root=str(self._source()))

    async def _take(self, surgeon: SurgeonClient) -> Taken:
        heal = self._job.config.heal
        await surgeon.open()
        return await surgeon.snapshot(allow=heal.allow, deny=heal.deny)

    async def _read_whole(self, bound: Sequence[str]) -> Whole:
        async with self._surgeon() as surgeon:
            return await read_whole(surgeon, self._job, bound)

    async def _learn_secrets(self, surgeon: SurgeonClient) -> None:
        """Know what stands in the app's settings files, which are no source: its log may hold it."""
        texts: list[str] = []
        for root in dict.fromkeys((str(self._job.config.app.directory), str(self._source()))):
            # The directory above the source may be another's; then its files are not for us to read.
            with contextlib.suppress(NotFound, SurgeryAborted):
                await surgeon.open(root)
                taken = await surgeon.snapshot(allow=_SETTINGS, deny=())
                texts += [file.data.decode("utf-8", "replace") for file in taken.snapshot.files.values()]
        self._redactor = Redactor(secrets_of_files(texts, besides=known_secrets(self._job.environment)))

    def _settling(self, taken: Taken) -> float:
        """Seconds that a fresh source is still left alone; what we wrote ourselves is not fresh."""
        if self._job.asked or self._is_ours(taken.newest_mtime):
            return 0.0
        age_s = self._clock.wall() - taken.newest_mtime
        return max(0.0, self._job.config.heal.settle_s - age_s) if age_s >= 0 else 0.0

    def _is_ours(self, mtime: float) -> bool:
        """Whether a file's time is that of a surgery of ours."""
        ours = (
            at
            for repair in self._store.repairs.list(limit=20)
            for at in (repair.applied_at, repair.ended_at)
            if at is not None and repair.backup
        )
        return any(abs(mtime - at) < deployed.SURGERY_S for at in ours)

    def _source(self) -> Path:
        return self._job.config.app.directory / self._job.config.heal.source

    def _fake_environment(self) -> dict[str, str]:
        """The app's environment for a candidate: every secret is replaced by a word of the same name."""
        secrets = known_secrets(self._job.environment)
        fakes = {name: f"fake-{name.lower()}" for name in secrets}
        return {**self._job.environment, **fakes, **self._job.config.heal.trial.environment}

    def _incident(self) -> Incident:
        if self._job.incident is None:
            raise Conflict("a heal needs an incident")
        return self._job.incident

    def _repair(self) -> Repair:
        return self._store.repairs.get(self._job.repair)

    async def _say(self, name: str, message: str, fields: dict[str, Any]) -> None:
        await self._supervisor.call("say", {"name": name, "message": self._redactor.text(message), "fields": fields})


def code_hashes(snapshot: Snapshot, *, without: set[str]) -> dict[str, str]:
    """The sha256 of each code file beside those that a repair changes: a deploy shows in them.

    Code only: an app that writes its data beside its code must not abort its own heal.
    """
    return {
        path: sha256_of(file.data)
        for path, file in snapshot.files.items()
        if path not in without and Path(path).suffix in _CODE
    }


_BEGUN = (RepairState.PROPOSED, RepairState.PROVING)
_APPROVABLE = (RepairState.APPROVAL, RepairState.PROPOSED, RepairState.UNPROVABLE, RepairState.ROLLED_BACK)
_WATCHED = (RepairState.APPLIED, RepairState.PROBATION)
_REJECTABLE = (RepairState.APPROVAL, RepairState.PROPOSED, RepairState.UNPROVABLE)
