# SPDX-License-Identifier: MIT
"""The incident desk: trouble comes in, incidents are opened, policy decides, heals are dispatched.

The only place where supervision and healing meet. It decides nothing by itself that is not a pure
function elsewhere (`sense.incidents`, `heal.triage`); it keeps the order: store first, tell, act.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.daemon import standing
from wolverined.daemon.hold import Hold
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.turn import Turn
from wolverined.daemon.waits import HandedDesk, Waits
from wolverined.daemon.words import describe, facts
from wolverined.errors import Conflict, StoreError
from wolverined.heal.dispatch import Dispatcher
from wolverined.heal.job import Conclusion, Job, Result, Task
from wolverined.heal.triage import Action, Decision, after_failure, lifted, triage
from wolverined.model import Incident, IncidentState, NewIncident, Repair, RepairState
from wolverined.store import Store

BROKEN_S = 30.0
"""How long an incident rests whose heal could not even be conducted."""

_FAILED_HEAL = (Conclusion.NOTHING, Conclusion.ROLLED_BACK, Conclusion.FAILED)


class Desk:
    """Opens incidents and sees to each until it is closed.

    Args:
        name: The instance.
        config: Gives the configuration in force.
        state_dir: Where a heal finds the store.
        store: Incidents and rests are written here.
        narrator: Tells what happens.
        dispatcher: Runs heal jobs.
        clock: Wall time labels and holds; monotonic time is the loop's.
        environment: Gives the app's environment (its values are known secrets to a heal).
        hide: Paths that no candidate may see.
        hooks: The directory of injected reporters.
        healing: Told when a heal begins and ends.
        serving: Whether the app is served now.
        ai: Whether a model may be asked now.
    """

    def __init__(
        self,
        *,
        name: str,
        config: Callable[[], Config],
        state_dir: Path,
        store: Store,
        narrator: Narrator,
        dispatcher: Dispatcher,
        clock: Clock,
        environment: Callable[[], dict[str, str]],
        hide: tuple[str, ...],
        hooks: str,
        healing: Callable[[bool], None],
        serving: Callable[[], bool],
        ai: Callable[[], bool],
    ) -> None:
        self._name = name
        self._config = config
        self._state_dir = state_dir
        self._store = store
        self._narrator = narrator
        self._dispatcher = dispatcher
        self._clock = clock
        self._environment = environment
        self._hide = hide
        self._hooks = hooks
        self._serving = serving
        self._ai = ai
        self._hold = Hold(state_dir / "hold", clock=clock)
        self._turn = Turn(healing=healing, after=self._next)
        self._tails: dict[str, tuple[str, ...]] = {}
        self._waits = Waits(self._again)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = False
        self._closing = False
        self._unlooked = True  # whether a deploy replaced what repairs wrote is not known

    @property
    def current(self) -> str:
        """The incident that is being healed, or nothing."""
        return self._turn.job

    @property
    def held_until(self) -> float:
        """Wall time until which heals are on hold; in the past when they are not."""
        return self._hold.until()

    def take(self, new: NewIncident, *, tail: tuple[str, ...] = ()) -> Incident | None:
        """Open or count an incident and see to it; None when the store could not take it."""
        try:
            incident = self._store.incidents.open_or_count(new)
        except StoreError as error:
            self._narrator.tell("store.lost", f"an incident could not be recorded: {error}", severity="critical")
            return None
        self._tails[incident.id] = tail
        word = "opened" if incident.count == 1 else "repeated"
        times = "" if incident.count == 1 else f" ({incident.count} times)"
        self._narrator.tell(
            f"incident.{word}",
            f"{describe(incident)}{times}",
            severity="error",
            generation=incident.generation,
            incident=incident.id,
            fields=facts(incident),
        )
        self.consider(incident)
        return incident

    def consider(self, incident: Incident) -> None:
        """Decide what becomes of an open incident, and begin it."""
        self._waits.forget(incident.id)
        if (left_s := self._waits.left_s(incident.id)) > 0:  # what broke is not taken up again at once
            self._waits.later(incident.id, left_s)
            return
        decision = self._decide(incident)
        if decision.action is Action.HEAL:
            self._turn.claim(incident.id)
            self._begin(self._heal(incident))
        elif decision.action is not Action.WAIT or decision.not_before is None:
            self._note(incident, decision)
        if decision.not_before is not None:
            self._waits.later(incident.id, decision.not_before - self._clock.wall())

    def _decide(self, incident: Incident) -> Decision:
        decision = triage(
            incident,
            policy=self._config().heal.policy,
            held_until=self._hold.until(),
            quarantine=self._store.quarantine.get(incident.fingerprint),
            heal_running=self._turn.taken,
            now=self._clock.wall(),
        )
        if decision.action is Action.HEAL and standing.in_probation(self._store) is not None:
            # Nobody watches it yet (the app was stopped, or its heal was lost); one change at a time.
            return Decision(action=Action.WAIT, why="a repair is in its probation")
        return decision

    def _note(self, incident: Incident, decision: Decision) -> None:
        if decision.why == incident.note:
            return
        self._store.incidents.update(incident.id, note=decision.why)
        if decision.action is Action.QUARANTINED:
            self._narrator.tell("incident.quarantined", decision.why, severity="error", incident=incident.id)

    def _again(self, incident_id: str) -> None:
        try:
            incident = self._store.incidents.get(incident_id)
            if incident.state is IncidentState.OPEN:
                self.consider(incident)
        except StoreError:  # it cannot be read now; nobody else would look at this incident again
            self._waits.later(incident_id, BROKEN_S)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Conflict):  # a conflict: another job was quicker
            self._narrator.tell("heal.broken", f"a heal broke: {type(error).__name__}: {error}", severity="critical")

    async def _heal(
        self, incident: Incident, *, report: str = "", dry_run: bool = False, asked: bool = False
    ) -> Result:
        """Run the ladder for one incident, whose turn it is, and act on how it ended."""
        self._turn.show()
        try:
            job = self._job(Task.HEAL, incident=incident, report=report, dry_run=dry_run, asked=asked)
            self._store.incidents.update(incident.id, state=IncidentState.HEALING)
            self._narrator.tell("heal.started", f"healing: {describe(incident)}", incident=incident.id)
            result = await self._work(job)
            self._unlooked &= result.conclusion in (Conclusion.WAIT, Conclusion.FAILED)  # else that heal has looked
            self._conclude(incident, result, dry_run=dry_run)
        except Exception as error:
            # Whatever broke (a full disk, a file of the configuration that is gone): the incident must not stay
            # `healing` for ever, nor be taken up again at once and break again at once.
            self._put_off(incident, why=f"the heal broke: {error}")
            raise
        else:
            return result
        finally:
            self._turn.give_up()

    def _put_off(self, incident: Incident, *, why: str) -> None:
        self._waits.put_off(incident.id, BROKEN_S)
        with contextlib.suppress(StoreError):  # most likely what broke it; the next try says so again
            if self._store.incidents.get(incident.id).state is IncidentState.HEALING:
                self._store.incidents.update(incident.id, state=IncidentState.OPEN, note=why)

    async def _work(self, job: Job) -> Result:
        """Run one job; when its process was lost while a repair was watched, go on watching."""
        result = self._told_when_mixed(await self._dispatcher.run(job))
        left = standing.in_probation(self._store)
        if left is None or result.mixed or result.conclusion is Conclusion.PAUSED or job.task is Task.RECOVER:
            return result
        watch = msgspec.structs.replace(job, task=Task.WATCH, repair=left.id, ready=self._serving())
        return self._told_when_mixed(await self._dispatcher.run(watch))

    def _job(self, task: Task, *, incident: Incident | None = None, **fields: Any) -> Job:
        return Job(
            task=task,
            name=self._name,
            state_dir=str(self._state_dir),
            config=self._config(),
            incident=incident,
            tail=self._tails.get(incident.id, ()) if incident else (),
            environment=self._environment(),
            hide=self._hide,
            hooks=self._hooks,
            ai=self._ai(),
            **fields,
        )

    def _conclude(self, incident: Incident, result: Result, *, dry_run: bool = False) -> None:
        """Write down how a heal ended: the incident, and the rest that its fingerprint gets."""
        conclusion = result.conclusion
        if conclusion is Conclusion.HEALED:
            self._store.quarantine.clear(incident.fingerprint)
            self._close(incident, closed_by=result.repair, said=result.said)
            return
        state = _STATE_AFTER.get(conclusion, IncidentState.OPEN)
        if dry_run or (conclusion is Conclusion.FAILED and standing.in_probation(self._store) is not None):
            # An exercise changes nothing; and what is still on probation is neither healed nor free again.
            state = incident.state if dry_run else IncidentState.HEALING
        self._store.incidents.update(incident.id, state=state, note=result.said)
        severity = "warn" if conclusion in _NO_FAILURE else "error"
        hint = f"; {result.hint}" if result.hint else ""
        self._narrator.tell(
            f"heal.{conclusion.value}",
            result.said + hint,
            severity=severity,
            incident=incident.id,
            repair=result.repair,
        )
        if conclusion in _FAILED_HEAL and not dry_run:
            self._rest(incident, why=result.said)
        elif conclusion is Conclusion.WAIT:
            self._waits.later(incident.id, result.retry_after_s)
        if conclusion is Conclusion.ROLLED_BACK:
            self._close_what_came_with(self._store.repairs.get(result.repair))

    def _close_what_came_with(self, repair: Repair) -> None:
        """Trouble that began while a repair was in place went with it; healing it would mend what is not there."""
        for incident in self._store.incidents.list(open_only=True):
            since = repair.applied_at is not None and incident.opened_at >= repair.applied_at
            if since and incident.state is IncidentState.OPEN:
                self._close(incident, closed_by=repair.id, said=f"it came with {repair.id}, which is taken back")

    def _close(self, incident: Incident, *, closed_by: str, said: str) -> None:
        self._store.incidents.update(incident.id, state=IncidentState.CLOSED, closed_by=closed_by)
        self._tails.pop(incident.id, None)
        self._narrator.tell(
            "incident.closed", said, incident=incident.id, repair=closed_by if closed_by[1:].isdecimal() else ""
        )

    def _next(self, *, again: bool = False) -> None:
        """See to what came in while a heal ran; `again`: also to what waits for a time to come."""
        if self._closing or not self._started:
            return
        for incident in reversed(self._store.incidents.list(open_only=True)):
            waits = incident.id in self._waits and not again
            if incident.state is IncidentState.OPEN and not waits and not self._turn.taken:
                self.consider(incident)

    def app_ready(self) -> None:
        """The app answers again: what a restart alone mends is over, and a probation that was put off begins."""
        if not self._turn.taken and not self._closing and (repair := standing.in_probation(self._store)) is not None:
            self._begin(self.repair_asked(Task.WATCH, repair.id))
        for incident in self._store.incidents.list(open_only=True):
            if incident.state is IncidentState.OPEN and self._decide(incident).action is Action.RESTART:
                self._close(incident, closed_by="restarted", said="the app is ready again after a restart")
        self._look()

    def source_may_have_changed(self) -> None:
        """Somebody stopped or restarted the app, perhaps for a deploy; what a heal does is none."""
        self._unlooked |= not self._turn.taken

    def _look(self) -> None:
        """See whether a deploy has replaced what repairs wrote: once for each start that somebody asked for."""
        idle = not self._turn.taken and not self._closing and self._hold.until() <= self._clock.wall()
        if self._unlooked and idle and standing.checkable(self._store):
            self._begin(self._check())

    async def _check(self) -> None:
        with self._turn.of_check():
            self._unlooked = False
            result = await self._work(self._job(Task.CHECK))
        if result.conclusion is Conclusion.WAIT:
            self._unlooked = True  # half of a deploy is there: the next tidy asks again
        elif result.conclusion is Conclusion.FAILED:
            self._narrator.tell("heal.unchecked", f"a repair may be lost unseen: {result.said}", severity="warn")

    async def heal_asked(self, args: dict[str, Any]) -> Result | None:
        """An operator's `heal`: the incident named, or the newest open one; None when there is none."""
        report = str(args.get("report") or "")
        incident = standing.asked_for(self._store, str(args.get("incident") or ""), report)
        if incident is None:
            return None
        if (left := standing.in_probation(self._store)) is not None and not self._turn.taken:
            raise Conflict(f"{left.id} is in its probation", hint="start the app, or roll the repair back")
        await self._turn.until_checked()
        self._turn.claim(incident.id)
        dry_run = bool(args.get("dry_run"))
        rest = self._store.quarantine.get(incident.fingerprint)
        if rest.level and not dry_run:
            self._store.quarantine.put(lifted(rest))
        return await self._heal(incident, report=report, dry_run=dry_run, asked=True)

    async def repair_asked(self, task: Task, repair_id: str, *, sha256: str = "") -> Result:
        """An operator's approve or rollback of a repair; or go on with its probation."""
        repair = self._store.repairs.get(repair_id)
        if task is Task.ROLLBACK and self._turn.taken and repair.state is RepairState.PROBATION:
            return await self._end_probation(repair_id)
        incident = standing.incident_of(self._store, repair)
        job = self._job(task, incident=incident, repair=repair_id, sha256=sha256, asked=True, ready=self._serving())
        async with self._turn.of(repair_id):
            result = await self._work(job)
            if incident is not None:
                self._settle(incident.id, repair, result)
        return result

    async def _end_probation(self, repair_id: str) -> Result:
        """Have the heal that watches a repair take it back, and wait for that."""
        self._dispatcher.tell("rollback", {"why": "an operator asked"})
        await self._turn.over()
        return standing.rolled_back(self._store, repair_id)

    def _settle(self, incident_id: str, before: Repair, result: Result) -> None:
        """What an operation on a repair means for its incident, when that is not closed."""
        incident = self._store.incidents.get(incident_id)
        after = self._store.repairs.get(before.id)
        if incident.state is IncidentState.CLOSED or after.state is before.state is not RepairState.PROBATION:
            return  # over; or nothing happened (another sha256, say), so that it stands as it stood
        self._conclude(incident, result)

    async def reject_asked(self, repair_id: str) -> Result:
        """An operator's no: the repair is never offered again for its fingerprint."""
        async with self._turn.of(repair_id):
            result = await self._work(self._job(Task.REJECT, repair=repair_id))
            incident = standing.incident_of(self._store, self._store.repairs.get(repair_id))
            if incident is not None:
                self._open_again(incident, why=result.said)
        return result

    def _open_again(self, incident: Incident, *, why: str) -> None:
        """An incident waits for approval only as long as there is something to approve."""
        if incident.state is IncidentState.APPROVAL and not standing.approvable(self._store, incident):
            self._store.incidents.update(incident.id, state=IncidentState.OPEN, note=why)
            self._rest(incident, why=why)

    def _rest(self, incident: Incident, *, why: str) -> None:
        rest = self._store.quarantine.get(incident.fingerprint)
        self._store.quarantine.put(after_failure(rest, why=why, now=self._clock.wall()))

    async def restore_asked(self, backup_id: str) -> Result:
        """An operator's restore of a backup's files."""
        self._store.backups.get(backup_id)
        async with self._turn.of(backup_id):
            return await self._work(self._job(Task.RESTORE, backup=backup_id, asked=True))

    def _told_when_mixed(self, result: Result) -> Result:
        if result.mixed:
            hint = f"; {result.hint}" if result.hint else ""
            self._narrator.tell("heal.mixed", f"the app stays down: {result.said}{hint}", severity="critical")
        return result

    @property
    def torn(self) -> bool:
        """Whether the source may be half of one tree and half of another: no app may be started on it."""
        return standing.torn(self._store)

    async def recover(self) -> None:
        """Before the first start: finish or undo what a killed predecessor had begun; forget half-done heals."""
        if standing.half_done(self._store):
            async with self._turn.of("recover"):
                result = await self._work(self._job(Task.RECOVER))
            self._narrator.tell("heal.recovered", result.said, severity="warn")
        watched = standing.in_probation(self._store)
        for incident in self._store.incidents.list(open_only=True):
            if incident.state is IncidentState.HEALING and (watched is None or watched.incident != incident.id):
                self._store.incidents.update(incident.id, state=IncidentState.OPEN)

    def resume(self) -> None:
        """At the first start: go on watching a repair whose probation was cut off, see to what is open."""
        if (repair := standing.in_probation(self._store)) is not None and not self._turn.taken:
            self._begin(self.repair_asked(Task.WATCH, repair.id))
        self._started = True
        self._next()

    async def tidy(self) -> None:
        """Promote repairs that stood, expire approvals that nobody gave, close what is long over."""
        if self.torn and not self._turn.taken:
            await self.recover()
        await self._dispatcher.let_go()
        now, approval_s = self._clock.wall(), self._config().heal.approval_s
        if not self._turn.taken and standing.promotable(self._store, now=now, approval_s=approval_s):
            async with self._turn.of("promote"):
                await self._work(self._job(Task.PROMOTE))
        if not self._turn.taken and self._serving() and (repair := standing.in_probation(self._store)) is not None:
            self._begin(self.repair_asked(Task.WATCH, repair.id))
        for incident in self._store.incidents.list(open_only=True):
            self._open_again(incident, why="nobody approved its repair in time")
            if standing.stale(incident, now=now):
                self._close(incident, closed_by="recovered", said="no trouble of this kind for half an hour")
        self._look()

    def hold(self, seconds: float) -> float:
        """Put heals on hold for so long (0 lifts it); gives the wall time of its end."""
        self._hold.set(seconds)
        self._unlooked = True  # a hold is for a deploy; looked at when it is over
        self._next(again=True)
        self._look()
        return self._hold.until()

    def busy(self) -> str:
        """What is under way that no successor in this process could take over; empty when nothing is."""
        doing = f"a heal of {self.current} is under way" if self.current else "a repair is being looked at"
        return doing if self._turn.taken or self._tasks else ""

    def hand_over(self) -> HandedDesk:
        """What a successor needs; call it when it is not `busy`."""
        about: dict[str, Any] = {"started": self._started, "unlooked": self._unlooked, "hold": self._hold.ends_at}
        return HandedDesk(waits=self._waits.hand_over(), tails=self._tails, **about)

    def adopt(self, handed: HandedDesk) -> None:
        """See on to what a predecessor saw to."""
        self._waits.adopt(handed.waits)
        self._tails, self._hold.ends_at = handed.tails, handed.hold
        self._started, self._unlooked = handed.started, handed.unlooked
        self._next()

    async def close(self) -> None:
        """Stop what is under way; the journal tells the next start where it stood."""
        self._closing = True
        self._waits.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


_NO_FAILURE = (Conclusion.APPROVAL, Conclusion.OBSERVED, Conclusion.WAIT, Conclusion.PAUSED)
_STATE_AFTER = {
    Conclusion.APPROVAL: IncidentState.APPROVAL,
    Conclusion.OBSERVED: IncidentState.APPROVAL,  # the proposal is there; it may be approved, and is not made again
    Conclusion.PAUSED: IncidentState.HEALING,
}
