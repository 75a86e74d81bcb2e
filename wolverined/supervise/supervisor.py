# SPDX-License-Identifier: MIT
"""Runs one application: feeds what happens to the lifecycle and does what it says, through `linux`.

One instance, one loop, never blocking. Every decision is `lifecycle.step`'s; here stand the processes,
the timers, and the calls that operators and repairs make. Whatever arrives late is harmless, because
it carries the number of the generation or timer that it belongs to.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.errors import Conflict, SpawnError, TimedOut
from wolverined.linux.leaf import Hierarchy, Leaf, Stuck
from wolverined.linux.ports import who_listens as ask_kernel
from wolverined.linux.process import ExitStatus
from wolverined.model import AppState, IncidentKind
from wolverined.supervise import lifecycle, stopping, succession
from wolverined.supervise import port as ports
from wolverined.supervise.bell import Bell
from wolverined.supervise.generation import Generation, Setting, retarget
from wolverined.supervise.handover import HandedSupervisor
from wolverined.supervise.interfaces import Listener, ProbeEvents, Prober, ProberFactory
from wolverined.supervise.lifecycle import Arm, End, How, Life, Phase, Spawn, may_spawn, shown, step
from wolverined.supervise.output import Output, Ring
from wolverined.supervise.status import Record, describe, exit_words, passing
from wolverined.supervise.telling import Telling, complain, say
from wolverined.supervise.waiting import Waiting

__all__ = ["Listener", "Supervisor"]

_STUCK_S = 10.0  # how long an operator waits for a tree that does not go before being told why


class Supervisor:
    """Keeps one application running.

    Args:
        config: The configuration.
        hierarchy: Where its leaves are made; closed by whoever opened it.
        clock: Time.
        listener: Is told what happens.
        runtime_dir: Where our sockets for the app lie, in `app/`.
        rng: Jitter.
        hooks_dir: Where the reporters lie that are injected; None: none is.
        prober_factory: Makes the prober of each generation.
        base: Our environment, of which the app gets PATH, LANG and TZ.
        who_listens: Finds out who sits on a port.

    Attributes:
        ring: The newest lines of the app.
    """

    def __init__(
        self,
        *,
        config: Config,
        hierarchy: Hierarchy,
        clock: Clock,
        listener: Listener,
        runtime_dir: Path,
        rng: random.Random,
        hooks_dir: Path | None,
        prober_factory: ProberFactory,
        base: Mapping[str, str] | None = None,
        who_listens: ports.WhoListens | None = None,
    ) -> None:
        self.ring = Ring()
        self._config = config
        self._clock = clock
        self._listener = listener
        self._rng = rng
        self._hierarchy = hierarchy
        self._who_listens = who_listens or partial(ask_kernel, hierarchy=hierarchy)
        self._setting = Setting(
            hierarchy=hierarchy,
            clock=clock,
            runtime_dir=runtime_dir,
            hooks_dir=hooks_dir,
            base=os.environ if base is None else base,
            output=Output(clock=clock, sink=lambda line: say(listener.line, line), ring=self.ring),
            prober_factory=prober_factory,
            memory_death=lambda *told: say(listener.memory_death, *told),
        )
        self._life = Life()
        self._events: deque[lifecycle.LifeEvent] = deque()
        self._feeding = False
        self._telling = Telling()
        self._changed = Bell()
        self._generation: Generation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._prepared = asyncio.Event()
        self._closed = asyncio.Event()
        self._record = Record()
        self._watching: asyncio.Task[None] | None = None
        self._waiting = Waiting(life=lambda: self._life, record=lambda: self._record, changed=self._changed)

    # --- what others ask for

    async def run(self) -> None:
        """Remove what a killed predecessor left, then serve until `close`; starts nothing by itself."""
        await asyncio.gather(*(self._remove_stale(leaf) for leaf in self._hierarchy.stale()))
        self._prepared.set()
        await self._closed.wait()

    async def start(self) -> None:
        """Start it, unless it runs, and wait until it is ready.

        Raises:
            Conflict: A repair holds it down, it was stopped meanwhile, or it crashes again and again.
            SpawnError: It cannot be started at all.
            TimedOut: It was not ready within `probe.startup_s`; it goes on being started.
        """
        await self.until_prepared()
        self._feed(lifecycle.StartAsked())
        await self.until_ready()

    async def stop(self) -> None:
        """Stop it; returns when nothing of it lives.

        Raises:
            TimedOut: Something of it cannot be killed; it is named.
        """
        self._feed(lifecycle.StopAsked())
        await self._until_down()

    async def restart(self) -> None:
        """End the generation that runs, if any, and wait until a new one is ready. Raises like `start`."""
        await self.until_prepared()
        self._feed(lifecycle.RestartAsked())
        await self.until_ready()

    async def hold_down(self, why: str) -> None:
        """Stop it for a repair; nothing starts it before `release`.

        Raises:
            TimedOut: Something of it cannot be killed. It is held all the same: release it.
        """
        self._feed(lifecycle.HoldAsked(why))
        await self._until_down()

    async def release(self, *, timeout_s: float) -> bool:
        """Start it again after a repair.

        Returns:
            True when it was ready in time; False when it was not, or ended or could not be started before.

        Raises:
            Conflict: The operator stopped it meanwhile, so that nothing is known of the repair.
        """
        await self.until_prepared()
        self._feed(lifecycle.Released())
        return await self._waiting.served_at_once(timeout_s=timeout_s)

    def healing(self, on: bool) -> None:  # noqa: FBT001 - healing(True) reads as it is meant
        """Show it as healing while it is served and a heal runs."""
        self._feed(lifecycle.HealMarked(on))

    def degrade(self, reason: str | None) -> None:
        """Show it as degraded while it is served, for that reason; None: well again."""
        self._feed(lifecycle.DegradeMarked(reason or ""))

    def reconfigure(self, config: Config) -> None:
        """Use this configuration: probes now, the rest at the next start, which a wait or a failure makes now."""
        probe_changed = config.probe != self._config.probe
        self._config = config
        self._feed(lifecycle.Reconfigured())
        running = self._generation
        if not probe_changed or running is None or self._life.phase is not Phase.UP:
            return
        target = retarget(running.target, config.probe)
        if target is not None:
            running.end_probing()  # first: a notify socket has one path
            running.target = target
            try:
                self._probe(running, self._setting.prober_factory(target))
            except (SpawnError, OSError) as error:
                complain(error)  # it runs on unwatched until the next start, and that is told

    @property
    def state(self) -> AppState:
        """The word that users see."""
        return shown(self._life)

    @property
    def held(self) -> bool:
        """Whether a repair keeps it down."""
        return self._life.held

    @property
    def generation(self) -> int:
        """The number of the newest generation; 0 before the first."""
        return self._life.generation

    def status(self) -> dict[str, object]:
        """What is to be known about it now, as plain data (DESIGN 7.8)."""
        return describe(self._life, self._record, generation=self._generation, clock=self._clock)

    def tail(self, lines: int) -> tuple[str, ...]:
        """The newest lines of output, oldest first."""
        return self.ring.tail(lines)

    # --- a successor of ours in this process

    def busy(self) -> str:
        """What is under way that no successor could take over; empty when nothing is."""
        return succession.busy(
            self._life, prepared=self._prepared.is_set(), working=bool(self._tasks - {self._watching})
        )

    async def rest(self) -> None:
        """Ask the app nothing before `go_on`; returns when no question is under way."""
        if self._generation is not None:
            await self._generation.rest()

    def go_on(self) -> None:
        """There is no successor: probe again."""
        if self._generation is not None:
            self._generation.go_on()

    def hand_over(self) -> HandedSupervisor:
        """Everything that a successor needs; call it while it rests and is not `busy`."""
        return succession.hand_over(self._life, self._record, generation=self._generation, ring=self.ring)

    def adopt(self, handed: HandedSupervisor) -> str:
        """Go on where a predecessor stood; gives why its running generation could not be taken over (see there)."""
        found = succession.adopt(handed, config=self._config, setting=self._setting)
        self._life, self._record, self._generation = found.life, found.record, found.generation
        if found.generation is not None:
            self._watching = self._go(self._watch(found.generation))
            if found.prober is not None:
                self._probe(found.generation, found.prober)
        if self._life.due is not None:
            self._arm(self._life.timer, max(0.0, self._life.due - self._clock.monotonic()))
        return found.lost

    async def close(self) -> None:
        """Stop it and leave nothing: no process, task, timer or file descriptor."""
        with suppress(TimedOut):  # it was named; a tree in the kernel's hands outlives us whatever we do
            await self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._generation is not None:
            self._generation.end_probing()
            self._generation.abandon()
            self._generation = None
        self._disarm()
        self._closed.set()

    # --- the machine

    def _feed(self, event: lifecycle.LifeEvent) -> None:
        """Take one event: what it leads to is done, also when it feeds more, and then told: no start waits for that."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._step(self._events.popleft())
        finally:
            self._feeding = False
        self._changed.ring()
        self._telling.speak()

    def _step(self, event: lifecycle.LifeEvent) -> None:
        before = shown(self._life)
        now = self._clock.monotonic()
        self._life, actions = step(self._life, event, now, table=self._config.restart)
        after = shown(self._life)
        if self._life.phase is not Phase.UP:
            self._record.ready_at = None
        elif self._record.ready_at is None:
            self._record.ready_at = self._clock.wall()
        if after is not before:
            self._tell(self._listener.state_changed, before, after, why=self._life.why)
        for action in actions:
            self._perform(action)

    def _perform(self, action: lifecycle.Action) -> None:
        match action:
            case Spawn(number):
                self._begin(number)
            case End(number, how):
                generation = self._generation
                assert generation is not None
                assert generation.number == number
                generation.end_probing()
                if how is How.SWEEP and not generation.leaf.populated():
                    self._let_go(generation)  # nothing is left: the next start need not wait for a task
                else:
                    self._go(self._end(generation, how))
            case Arm(timer, delay_s):
                self._arm(timer, delay_s)
                if self._life.phase is Phase.WAITING:
                    self._tell(self._listener.waits, delay_s, why=self._life.why, loop=self._life.loop)

    def _arm(self, timer: int, delay_s: float) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay_s, self._feed, lifecycle.TimerFired(timer))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- a start

    def _begin(self, number: int) -> None:
        app_port = self._config.app.port
        if app_port is not None and not ports.is_free(app_port):
            self._go(self._clear_port(number, app_port))
        else:
            self._launch(number)

    async def _clear_port(self, number: int, app_port: int) -> None:
        stranger = await ports.clear(app_port, who_listens=self._who_listens, leaves=self._hierarchy.stale)
        if not may_spawn(self._life, number):
            return
        if stranger is None:
            self._launch(number)
            return
        self._telling.note(self._listener.port_taken, stranger)
        self._feed(lifecycle.PortTaken(number, ports.named(stranger), self._rng.random()))

    def _launch(self, number: int) -> None:
        if not may_spawn(self._life, number):
            return
        self._record.spawn_error = None
        try:
            generation, prober = Generation.start(number, config=self._config, setting=self._setting)
        except (SpawnError, Conflict, OSError) as error:
            self._cannot_launch(number, error)
            return
        self._generation = generation
        self._record.spawns += 1
        self._record.stuck = ()
        self._record.says = ""
        self._feed(lifecycle.Spawned(number))
        self._tell(self._listener.generation_started, number, generation.child.pid)
        self._watching = self._go(self._watch(generation))
        self._probe(generation, prober)

    def _cannot_launch(self, number: int, error: SpawnError | Conflict | OSError) -> None:
        if passing(error):
            self._feed(lifecycle.SpawnFailed(number, str(error), passing=True, chance=self._rng.random()))
            return
        assert isinstance(error, SpawnError)
        self._record.spawn_error = error
        self._telling.note(self._listener.cannot_start, error)
        self._feed(lifecycle.SpawnFailed(number, str(error)))

    def _probe(self, generation: Generation, prober: Prober) -> None:
        events = ProbeEvents(
            ready=partial(self._on_ready, generation),
            unready=partial(self._on_unready, generation),
            hung=partial(self._on_hung, generation),
            said=partial(self._on_said, generation),
        )
        generation.probe(prober, events)

    # --- an end

    async def _watch(self, generation: Generation) -> None:
        status = await generation.child.wait()
        self._note_exit(generation, status)
        self._feed(lifecycle.Exited(generation.number, self._record.last_exit))

    def _note_exit(self, generation: Generation, status: ExitStatus) -> None:
        if generation.exit is not None:
            return
        life = self._life
        asked = life.phase is Phase.ENDING and life.how is not How.SWEEP
        exit_ = generation.ended(status, asked=asked, ready=life.was_ready)
        self._record.last_exit = exit_words(exit_)
        self._telling.note(self._listener.exited, exit_)  # told first of all that the end leads to

    async def _end(self, generation: Generation, how: How) -> None:
        child, leaf = generation.child, generation.leaf
        await stopping.end(leaf, child, how=how, table=self._config.stop, stuck=self._note_stuck)
        self._note_exit(generation, await child.wait())
        self._let_go(generation)

    def _let_go(self, generation: Generation) -> None:
        """The tree is empty: give everything back, and tell the machine so."""
        self._record.stuck = ()
        self._generation = None
        self._go(generation.let_go())
        number, ended = generation.target.port, generation.exit
        if number is not None and ended is not None and ports.suspicious(number, ended):
            self._go(self._name_stranger(number))
        self._feed(lifecycle.Emptied(generation.number, self._rng.random()))

    async def _name_stranger(self, number: int) -> None:
        holder = await ports.ask(number, self._who_listens)
        if holder is not None and not holder.ours:
            self._tell(self._listener.port_taken, holder)

    def _note_stuck(self, processes: tuple[Stuck, ...]) -> None:
        self._record.stuck = processes
        self._tell(self._listener.stuck, processes)
        self._changed.ring()

    async def _remove_stale(self, leaf: Leaf) -> None:
        await stopping.kill(leaf, stuck=self._note_stuck)
        leaf.remove()

    # --- what probes say

    def _on_ready(self, generation: Generation) -> None:
        self._feed(lifecycle.Ready(generation.number))

    def _on_hung(self, generation: Generation, detail: str) -> None:
        if generation is self._generation and self._life.phase is Phase.UP:
            self._telling.note(self._listener.probe_failed, IncidentKind.HANG, detail)
            self._feed(lifecycle.Hung(generation.number, f"it hung: {detail}"))

    def _on_unready(self, generation: Generation, detail: str) -> None:
        if generation is self._generation and self._life.phase is Phase.STARTING:
            self._tell(self._listener.probe_failed, IncidentKind.UNREADY, detail)

    def _on_said(self, generation: Generation, text: str) -> None:
        if generation is self._generation:
            self._record.says = text

    # --- waiting

    async def until_prepared(self) -> None:
        """Return once nothing of a killed predecessor lives; TimedOut, which names it, when that takes too long."""
        try:
            await asyncio.wait_for(self._prepared.wait(), _STUCK_S)
        except TimeoutError:
            what = f"what an earlier supervisor left does not end: {self._record.stuck_names}"
            raise TimedOut(what, hint="nothing is started beside it; end it, as its own user or as root") from None

    async def until_ready(self) -> None:
        """Wait until it is ready. Raises like `start`, but asks for nothing."""
        patience_s = self._config.probe.startup_s + self._config.stop.timeout_s + stopping.KILL_WAIT_S
        await self._waiting.until_ready(patience_s)

    async def _until_down(self) -> None:
        table = self._config.stop
        await self._waiting.until_down(table.timeout_s + table.abort_s + _STUCK_S)

    # --- plumbing

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            complain(error)

    def _tell(self, call: Callable[..., None], *args: object, **kwargs: object) -> None:
        self._telling.note(call, *args, **kwargs)
        if not self._feeding:
            self._telling.speak()
