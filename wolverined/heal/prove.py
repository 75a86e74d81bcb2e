# SPDX-License-Identifier: MIT
"""Tries proposals on copies: the baseline and a candidate side by side, each in a trial process of its own.

The baseline runs once for a heal and stays, to be asked again where a candidate differs. What the two
runs say is `verdict`'s business; here is only what is done, in which order, and that nothing is left.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import msgspec

from wolverined.config.schema import Config
from wolverined.errors import EditRejected, SandboxUnavailable, StreamError, WolverineError
from wolverined.heal.cargo import Cargo, ReadWhole
from wolverined.heal.requests import guesses, siblings
from wolverined.heal.stream import Channel
from wolverined.heal.trial.client import TrialClient
from wolverined.heal.trial.observations import Observations, Replay, Tests
from wolverined.heal.trial.plan import Plan
from wolverined.heal.trigger import Trigger, TriggerKind, exactly, trigger_of, with_request
from wolverined.heal.verdict import judge, settled
from wolverined.model import Check, Evidence, FileChange, IncidentKind, Outcome, Proposal, Request, Snapshot, Verdict

Tell = Callable[[Check], Awaitable[None]]
OpenTrial = Callable[[str], AbstractAsyncContextManager[Channel]]
"""Takes the side, "baseline" or "candidate"."""

MAX_STARTUP_S = 30.0
MAX_GOODS = 8
REPEATS = 3
REPLAY_S = 5.0
GUESS_S = 1.0
GUESSING_S = 8.0
BUILD_S = 120.0
TESTS_S = 120.0
QUICK_S = 0.02
SETTLE_S = 0.25
LATE_CRASH_S = 1.0
"""A server may answer and die a moment later; so long the baseline is watched when it answered well."""
AGAIN_S = 0.03
"""Before a trial that went away at once is asked for again; each time twice as long, but no longer than"""
AGAIN_MOST_S = 2.0
AGAIN_FOR_S = 10.0
"""So long after it went away the first time it is asked for again: a loaded machine clears slowly."""


class Prover:
    """Tries the proposals of one heal.

    Args:
        open_trial: Gives a started channel to a fresh trial process for one side.
        read_whole: Reads the app's directory for a trial that does not see it.
        config: Of the app.
        snapshot: The source that proposals are for.
        evidence: Of the incident.
        environment: The app's, with every secret replaced by a fake.
        hide: Directories that no candidate may see.
        hooks: The directory of injected reporters, which a candidate runs without.
        samples: Requests that were answered well, to be asked of both.
        known_statuses: What the failing route answered when all was well.
    """

    def __init__(
        self,
        *,
        open_trial: OpenTrial,
        read_whole: ReadWhole | None = None,
        config: Config,
        snapshot: Snapshot,
        evidence: Evidence,
        environment: Mapping[str, str],
        hide: Sequence[str] = (),
        hooks: str = "",
        samples: Sequence[Request] = (),
        known_statuses: Sequence[int] = (),
    ) -> None:
        self._open_trial = open_trial
        self._cargo = Cargo(read_whole)
        self._config = config
        self._snapshot = snapshot
        app = config.app
        self._plan = Plan(
            directory=str(app.directory),
            command=app.command,
            environment=dict(environment),
            port=app.port,
            probe=config.probe,
            startup_s=min(config.probe.startup_s, MAX_STARTUP_S),
            hide=(*hide, *((str(app.environment_file),) if app.environment_file is not None else ())),
            hooks=hooks,
            setup=config.heal.trial.setup,
        )
        self._trigger = trigger_of(
            evidence, app_root=str(app.directory), has_port=app.port is not None, known_statuses=known_statuses
        )
        self._goods = self._good_requests(samples)
        self._stack = AsyncExitStack()
        self._baseline: _Side | None = None
        self._opening = asyncio.Lock()

    async def prove(self, proposal: Proposal, tell: Tell) -> Verdict:
        """Try one proposal; tell of each check as it is known; never raises for what a trial does."""
        started = time.monotonic()
        told = _Telling(tell)
        try:
            changes = self._placed(proposal.changes)
            async with AsyncExitStack() as stack:
                verdict = await self._try(changes, stack, told)
        except (SandboxUnavailable, StreamError) as error:
            verdict = Verdict(outcome=Outcome.UNPROVABLE, reason=str(error))
        await told.of(verdict.checks)
        return msgspec.structs.replace(verdict, duration_ms=round((time.monotonic() - started) * 1000))

    async def close(self) -> None:
        """End the baseline's trial; may be called twice."""
        await self._stack.aclose()

    async def _try(self, changes: tuple[FileChange, ...], stack: AsyncExitStack, told: _Telling) -> Verdict:
        found: asyncio.Future[Trigger] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            before = group.create_task(self._observe_baseline(found))
            after = group.create_task(self._observe_candidate(changes, stack, found, told))
        baseline, (side, patched) = before.result(), after.result()
        trigger = found.result()
        if side is not None and not patched.missing and not baseline.seen.missing:
            await self._ask_again(baseline, patched, changes, trigger)
        return judge(trigger, baseline.seen, patched)

    async def _observe_baseline(self, found: asyncio.Future[Trigger]) -> _Side:
        """Give the baseline's side, observed once for a heal; sets `found` as soon as the trigger is known."""
        try:
            async with self._opening:
                if self._baseline is None:
                    self._baseline = _Side(self._config, self._plan, candidate=False)
                    await self._first_look(self._baseline)
            return self._baseline
        finally:
            if not found.done():
                found.set_result(self._trigger)

    async def _first_look(self, side: _Side) -> None:
        await side.open(self._open_trial, self._stack, (), cargo=self._cargo)
        if side.trial is None or not await side.start():
            return
        await side.ask_goods(self._goods)
        if self._trigger.kind is TriggerKind.BOOT and self._trigger.request is not None and self._plan.port is not None:
            # It starts here, so it did not die of starting: a request came before the first probe did.
            self._trigger = msgspec.structs.replace(self._trigger, kind=TriggerKind.REQUEST)
        trigger = self._trigger
        if trigger.kind is TriggerKind.REQUEST:
            assert trigger.request is not None
            late = LATE_CRASH_S if trigger.incident is IncidentKind.CRASH else SETTLE_S
            await side.ask_trigger(trigger.request, settle_s=late)
        elif trigger.kind is TriggerKind.ALONE:
            await side.watch(trigger.watch_s)
        if not _came_about(trigger, side.seen):
            await self._guess(side)

    async def _guess(self, side: _Side) -> None:
        """Try the routes of the source until one brings the very error about."""
        if self._trigger.trace is None or self._plan.port is None:
            return
        known = [request.path for request in self._goods]
        until = time.monotonic() + GUESSING_S
        for request in guesses(self._trigger.trace, self._snapshot, first=known):
            replay = await side.replay(request, timeout_s=GUESS_S, settle_s=QUICK_S)
            if replay is None or time.monotonic() > until:
                return
            if replay.bad and exactly(self._trigger, replay.tail):
                self._trigger = with_request(self._trigger, request)
                side.seen = msgspec.structs.replace(side.seen, trigger=replay, alive=None)
                return

    async def _observe_candidate(
        self,
        changes: tuple[FileChange, ...],
        stack: AsyncExitStack,
        found: asyncio.Future[Trigger],
        told: _Telling,
    ) -> tuple[_Side | None, Observations]:
        side = _Side(self._config, self._plan, candidate=True)
        await side.open(self._open_trial, stack, changes, cargo=self._cargo)
        if side.trial is None:
            return None, side.seen
        if await side.start(paths=[change.path for change in changes if change.after is not None]):
            await side.ask_goods(self._goods)
            trigger = await found
            baseline = self._baseline.seen if self._baseline is not None else Observations()
            await told.of(settled(trigger, baseline, side.seen))
            if trigger.kind is TriggerKind.REQUEST:
                await self._press(side, trigger, baseline)
            await side.ask_after(self._goods)
            await side.watch(self._patience(trigger, baseline))
            await told.of(settled(trigger, baseline, side.seen))
        return side, side.seen

    async def _press(self, side: _Side, trigger: Trigger, baseline: Observations) -> None:
        """The request that it failed at, again and again, and requests like it."""
        assert trigger.request is not None
        first = await side.ask_trigger(trigger.request, settle_s=QUICK_S)
        if first is None or first.bad or baseline.trigger is None or not baseline.trigger.bad:
            return
        repeats: list[Replay] = []
        for _ in range(REPEATS):
            seen = await side.replay(trigger.request, timeout_s=REPLAY_S, settle_s=0.0)
            repeats += [seen] if seen is not None else []
        others = [await side.replay(like, timeout_s=REPLAY_S, settle_s=QUICK_S) for like in siblings(trigger.request)]
        side.seen = msgspec.structs.replace(side.seen, repeats=tuple(repeats), siblings=tuple(others))

    async def _ask_again(
        self, baseline: _Side, patched: Observations, changes: tuple[FileChange, ...], trigger: Trigger
    ) -> None:
        """Ask the baseline what only matters because the candidate is bad or different there."""
        unparsed = [path for path, syntax in patched.syntax.items() if syntax.ok is False]
        if unparsed and baseline.trial is not None:
            existing = {change.path for change in changes if change.before is not None}
            known = await baseline.trial.check([path for path in unparsed if path in existing])
            baseline.seen = msgspec.structs.replace(baseline.seen, syntax=known)
        if trigger.request is not None and patched.siblings:
            like = siblings(trigger.request)
            asked = [
                await baseline.replay(request, timeout_s=REPLAY_S, settle_s=QUICK_S)
                if seen is not None and seen.bad
                else None
                for request, seen in zip(like, patched.siblings, strict=True)
            ]
            baseline.seen = msgspec.structs.replace(baseline.seen, siblings=tuple(asked))
        await self._forget_unsteady(baseline, patched)

    async def _forget_unsteady(self, baseline: _Side, patched: Observations) -> None:
        """An answer whose fields change from one time to the next without a patch says nothing about a patch."""
        steady: list[Replay | None] = list(baseline.seen.goods)
        for number, (before, after) in enumerate(zip(baseline.seen.goods, patched.goods, strict=False)):
            if before is None or after is None or before.bad:
                continue
            if (before.status, before.body_shape) == (after.status, after.body_shape):
                continue
            again = await baseline.replay(self._goods[number], timeout_s=REPLAY_S, settle_s=0.0)
            if again is None or (again.status, again.body_shape) != (before.status, before.body_shape):
                steady[number] = None
        baseline.seen = msgspec.structs.replace(baseline.seen, goods=tuple(steady))

    def _patience(self, trigger: Trigger, baseline: Observations) -> float:
        if trigger.kind is TriggerKind.ALONE:
            return trigger.watch_s
        before = baseline.trigger
        answered_then_died = before is not None and before.crashed and before.status is not None
        return LATE_CRASH_S * 1.2 if answered_then_died else SETTLE_S

    def _good_requests(self, samples: Sequence[Request]) -> tuple[Request, ...]:
        """What to ask of both sides: the probe, the watched routes, the samples; never the trigger itself."""
        if self._plan.port is None:
            return ()
        paths = [self._config.probe.http, *self._config.routes.watch, "/"]
        asked = [Request(method="GET", path=path) for path in dict.fromkeys(paths) if path]
        failing = self._trigger.request
        goods = [
            request
            for request in (*asked, *samples)
            if failing is None or (request.method, request.path) != (failing.method, failing.path)
        ]
        return tuple(goods[:MAX_GOODS])

    def _placed(self, changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
        """The changes with paths relative to the app's directory, where the candidate stands."""
        directory = Path(self._plan.directory)
        source = os.path.relpath(os.path.normpath(directory / self._config.heal.source), directory)
        if source == ".":
            return tuple(changes)
        if source.startswith(".."):
            raise SandboxUnavailable(
                f"the source {source} lies outside of the app's directory",
                hint="set app.directory to a directory that holds the source",
            )
        return tuple(msgspec.structs.replace(change, path=f"{source}/{change.path}") for change in changes)


class _Side:
    """One trial process and what was seen of it so far.

    An app that ends at a request is started again for the next one. One that ends between requests is
    the baseline's right, and the end of a candidate.
    """

    def __init__(self, config: Config, plan: Plan, *, candidate: bool) -> None:
        self._config = config
        self._plan = plan
        self._candidate = candidate
        self._ended_at_request = False
        self.trial: TrialClient | None = None
        self.seen = Observations()

    async def open(
        self, open_trial: OpenTrial, stack: AsyncExitStack, changes: Sequence[FileChange], *, cargo: Cargo
    ) -> None:
        """Start the process and build its sandbox; `trial` stays None when that cannot be."""
        try:
            trial = TrialClient(await self._enter(open_trial, stack))
            self._note(absent=await cargo.bring(trial, self._plan.directory))
            prepared = await trial.prepare(self._plan, changes)
        except EditRejected as error:
            # Not the sandbox's fault: this patch cannot be put into this tree at all.
            self.seen = Observations(refused=error.message)
            return
        except WolverineError as error:
            self.seen = Observations(missing=str(error))
            return
        self.trial = trial
        self._note(prepared=prepared)

    async def _enter(self, open_trial: OpenTrial, stack: AsyncExitStack) -> Channel:
        """The channel; asked for again when it ends before a word was said.

        PID 1 turns away whoever connects while the trial before is still being cleared away.
        """
        side = "candidate" if self._candidate else "baseline"
        pause_s, until = AGAIN_S, 0.0
        while True:
            try:
                return await stack.enter_async_context(open_trial(side))
            except StreamError as error:
                # From the first end on: PID 1 turns away only once it has cleared, however long that took.
                now = time.monotonic()
                until = until or now + AGAIN_FOR_S
                if now >= until:
                    hint = "under systemd, journalctl -u 'wolverine-trial@*' says more"
                    raise SandboxUnavailable(f"the trial does not start: {error}", hint=hint) from error
            await asyncio.sleep(min(pause_s, until - now))
            pause_s = min(2 * pause_s, AGAIN_MOST_S)

    async def start(self, *, paths: Sequence[str] = ()) -> bool:
        """Check the syntax of `paths`, build, test, boot; True when it is ready."""
        heal = self._config.heal
        try:
            assert self.trial is not None
            if paths:
                syntax = await self.trial.check(paths)
                self._note(syntax=syntax)
                if any(seen.ok is False for seen in syntax.values()):
                    return False
            if heal.build_command:
                build = await self.trial.test(heal.build_command, timeout_s=BUILD_S)
                self._note(build=build)
                if build.code != 0:
                    return False
            if heal.test_command:
                tests: Tests = await self.trial.test(heal.test_command, timeout_s=TESTS_S)
                self._note(tests=tests)
            boot = await self.trial.boot()
            self._note(boot=boot)
        except WolverineError as error:
            self._note(missing=f"the trial broke off: {error}")
            return False
        return boot.ready

    async def replay(self, request: Request, *, timeout_s: float, settle_s: float) -> Replay | None:
        """One request; None when there is no app to send it to."""
        if self.trial is None or self.seen.missing or not (self.seen.boot and self.seen.boot.ready):
            return None
        try:
            if not await self._stands(self.trial):
                return None
            seen = await self.trial.replay(request, timeout_s=timeout_s, settle_s=settle_s)
        except WolverineError as error:
            self._note(missing=f"the trial broke off: {error}")
            return None
        self._ended_at_request = seen.crashed
        return seen

    async def _stands(self, trial: TrialClient) -> bool:
        alive = await trial.alive(settle_s=0.0)
        if alive.alive:
            return True
        if not self._ended_at_request:
            self._note(alive=alive)
            if self._candidate:
                return False
        return (await trial.boot()).ready

    async def ask_goods(self, requests: Sequence[Request]) -> None:
        """What was well: asked before anything fails."""
        goods = [await self.replay(request, timeout_s=REPLAY_S, settle_s=0.0) for request in requests]
        self._note(goods=tuple(goods))

    async def ask_after(self, requests: Sequence[Request]) -> None:
        """The same once more, of an app that has been through the trigger."""
        after = [await self.replay(request, timeout_s=REPLAY_S, settle_s=0.0) for request in requests[:2]]
        self._note(after=tuple(after))

    async def ask_trigger(self, request: Request, *, settle_s: float) -> Replay | None:
        """The request that it failed at."""
        seen = await self.replay(request, timeout_s=REPLAY_S, settle_s=settle_s)
        self._note(trigger=seen)
        return seen

    async def watch(self, settle_s: float) -> None:
        """Whether it stays up for so long."""
        ended = self.seen.alive is not None and not self.seen.alive.alive
        if self.trial is None or self.seen.missing or ended:
            return
        try:
            self._note(alive=await self.trial.alive(settle_s=settle_s))
        except WolverineError as error:
            self._note(missing=f"the trial broke off: {error}")

    def _note(self, **seen: object) -> None:
        self.seen = msgspec.structs.replace(self.seen, **seen)


def _came_about(trigger: Trigger, seen: Observations) -> bool:
    """Whether the trouble was seen without a patch; nothing more to look for when it is one of starting."""
    if trigger.kind is TriggerKind.REQUEST:
        return seen.trigger is not None and seen.trigger.bad
    if trigger.kind is TriggerKind.ALONE:
        return seen.alive is not None and not seen.alive.alive
    return trigger.kind is TriggerKind.BOOT


class _Telling:
    """Tells of each check once, in order."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told: set[tuple[str, str]] = set()

    async def of(self, checks: Sequence[Check]) -> None:
        for check in checks:
            if (check.rung, check.name) not in self._told:
                self._told.add((check.rung, check.name))
                await self._tell(check)
