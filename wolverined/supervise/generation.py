# SPDX-License-Identifier: MIT
"""One generation of the app: its leaf, its process, its pipes, its prober; started, observed, let go.

Holds what exists only while a generation exists. Decides nothing: `lifecycle` does, `supervisor` asks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from wolverined.clock import Clock
from wolverined.config.schema import Config, ProbeTable
from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials
from wolverined.linux.leaf import Hierarchy, Leaf, LeafStats
from wolverined.linux.process import Child, ExitStatus, spawn
from wolverined.model import Exit
from wolverined.supervise.environment import NOTIFY_SOCKET, build_environment
from wolverined.supervise.handover import HandedGeneration, HandedPipe
from wolverined.supervise.interfaces import ProbeEvents, Prober, ProberFactory, ProbeTarget
from wolverined.supervise.memory import MemoryDeaths, limits_of
from wolverined.supervise.output import Output, Pump
from wolverined.supervise.telling import complain

TAIL_LINES = 200
"""How many lines of output go with an exit."""

_DRAIN_S = 1.0  # how long the pipes may outlive an empty tree (a process that left it holds them)


def _unheard(_generation: int, _processes: int, _stats: LeafStats) -> None:
    """Nobody wants to know."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What every generation of one supervisor is started with, besides the configuration.

    `memory_death` is told of processes that died for want of memory while their generation goes on.
    """

    hierarchy: Hierarchy
    clock: Clock
    runtime_dir: Path
    hooks_dir: Path | None
    base: Mapping[str, str]
    output: Output
    prober_factory: ProberFactory
    memory_death: Callable[[int, int, LeafStats], None] = _unheard


class Generation:
    """A running (or just ended) generation. Made by `start`, or by `adopt` when a predecessor started it.

    Attributes:
        number: Its number.
        leaf: Where it lives.
        child: Its main process.
        target: What a prober must know of it.
        exit: How it ended; None while it lives.
    """

    def __init__(
        self,
        *,
        number: int,
        leaf: Leaf,
        child: Child,
        target: ProbeTarget,
        setting: Setting,
        handed: HandedGeneration | None = None,
    ) -> None:
        self.number = number
        self.target = target
        self.leaf = leaf
        self.child = child
        self.exit: Exit | None = None
        self._clock = setting.clock
        self._output = setting.output
        self._started = setting.clock.monotonic() if handed is None else handed.started
        before = leaf.oom_kills() if handed is None else handed.oom_before
        self._memory = MemoryDeaths(
            leaf,
            before=before,
            clock=setting.clock,
            survived=lambda processes: setting.memory_death(number, processes, leaf.stats()),
        )
        self._first_line = setting.output.ring.newest if handed is None else handed.first_line
        self._prober: Prober | None = None
        self._probing: asyncio.Task[None] | None = None
        begun = handed.pipes if handed is not None else ()
        if handed is None:
            fds = zip(("stdout", "stderr"), child.take_output(), strict=True)
            begun = tuple(HandedPipe(stream=stream, fd=fd) for stream, fd in fds if fd is not None)
        self._pumps = {pipe.stream: self._output.pump(pipe, generation=number, pid=child.pid) for pipe in begun}

    @classmethod
    def start(cls, number: int, *, config: Config, setting: Setting) -> tuple[Generation, Prober]:
        """Make the leaf, the prober and the process.

        Returns:
            The generation, and its prober, which has not begun.

        Raises:
            SpawnError: It cannot be started.
            OSError: Something is wanting that may come back (file descriptors, cgroups).
            Conflict: A leaf of that name is still alive.
        """
        credentials = Credentials.of_user(config.app.user) if config.app.user else Credentials.own()
        environment = build_environment(
            config,
            credentials=credentials,
            generation=number,
            runtime_dir=setting.runtime_dir,
            base=setting.base,
            hooks_dir=setting.hooks_dir,
        )
        leaf = setting.hierarchy.leaf(f"app-{number}")
        prober: Prober | None = None
        try:
            leaf.limit(limits_of(config))  # what cannot be held is said once, at the start of wolverined
            target = _target(config, leaf, environment, credentials, setting)
            prober = setting.prober_factory(target)
            child = spawn(
                config.app.command, leaf=leaf, cwd=config.app.directory, env=environment, credentials=credentials
            )
        except BaseException:
            if prober is not None:
                prober.close()
            leaf.kill()
            leaf.remove()
            raise
        return cls(number=number, leaf=leaf, child=child, target=target, setting=setting), prober

    @classmethod
    def adopt(cls, handed: HandedGeneration, *, config: Config, setting: Setting) -> tuple[Generation, Prober | None]:
        """Take a generation over that a predecessor of ours started.

        Returns:
            The generation, and the prober that goes on where the predecessor's stood; None: it cannot be probed.

        Raises:
            SpawnError: It is not what was handed over; nothing of it is ours then, and its pipes are closed.
        """
        child = leaf = None
        try:
            child = Child.adopt(handed.child)
            leaf = setting.hierarchy.adopt(handed.leaf)
            credentials = Credentials.of_user(config.app.user) if config.app.user else Credentials.own()
            environment = {os.fsdecode(name): os.fsdecode(value) for name, value in handed.environment}
            target = _target(config, leaf, environment, credentials, setting)
            target = _as_before(target, handed, setting)
            generation = cls(
                number=handed.number, leaf=leaf, child=child, target=target, setting=setting, handed=handed
            )
        except (SpawnError, OSError, msgspec.ValidationError) as error:
            if child is not None:
                child.close()
            if leaf is not None:
                setting.hierarchy.disown(leaf)
            for fd in handed.descriptors:
                os.close(fd)
            raise SpawnError(str(error)) from error
        try:
            return generation, setting.prober_factory(target)
        except (SpawnError, OSError) as error:
            complain(error)  # it runs on unwatched until the next start, and that is told
            return generation, None

    def hand_over(self) -> HandedGeneration:
        """Everything that a successor needs to take it over; it stays ours as long as there is none."""
        pipes = (pump.hand_over(stream) for stream, pump in self._pumps.items())
        target = self.target
        return HandedGeneration(
            number=self.number,
            leaf=self.leaf.name,
            child=self.child.hand_over(),
            pipes=tuple(pipe for pipe in pipes if pipe is not None),
            started=self._started,
            oom_before=self._memory.told,
            first_line=self._first_line,
            port=target.port,
            notify=target.probe.notify,
            probe=msgspec.to_builtins(target.probe),
            environment=tuple((os.fsencode(name), os.fsencode(value)) for name, value in target.environment.items()),
            probing=self._prober.hand_over() if self._prober is not None else None,
        )

    async def rest(self) -> None:
        """Ask the app nothing before `go_on`; returns when no question is under way."""
        if self._prober is not None:
            await self._prober.rest()

    def go_on(self) -> None:
        """Probe again."""
        if self._prober is not None:
            self._prober.go_on()

    @property
    def uptime_s(self) -> float:
        """How long ago it was started."""
        return self._clock.monotonic() - self._started

    @property
    def pumps(self) -> tuple[Pump, ...]:
        """The readers of its pipes."""
        return tuple(self._pumps.values())

    def probe(self, prober: Prober, events: ProbeEvents) -> None:
        """Begin to probe with this prober; an earlier one ends."""
        self.end_probing()
        self._prober = prober
        self._probing = asyncio.create_task(prober.run(events), name=f"probe-{self.number}")
        self._probing.add_done_callback(_look)

    def end_probing(self) -> None:
        """Stop probing; nothing of it is told after this."""
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        if self._prober is not None:
            self._prober.close()
            self._prober = None

    def ended(self, status: ExitStatus, *, asked: bool, ready: bool) -> Exit:
        """Take note of how the main process ended, with its last words."""
        for pump in self.pumps:
            pump.drain()
        ring = self._output.ring
        count = min(TAIL_LINES, ring.newest - self._first_line)
        oom = self._memory.explain_end()
        memory = self.leaf.stats() if oom else LeafStats()
        self.exit = Exit(
            generation=self.number,
            code=status.code,
            signal=status.signal,
            oom=oom,
            asked=asked,
            ready=ready,
            uptime_s=self.uptime_s,
            at=self._clock.wall(),
            tail=tuple(line.text for line in ring.after(ring.newest - count, count) if line.generation == self.number),
            memory_max_bytes=memory.memory_max_bytes,
            memory_peak_bytes=memory.memory_peak_bytes,
        )
        return self.exit

    def abandon(self) -> None:
        """Close what is ours though something of it may still live; for the supervisor's own end."""
        self.end_probing()
        self._memory.close()
        for pump in self.pumps:
            pump.close()
        self.child.close()

    async def let_go(self) -> None:
        """Give back everything; the leaf is empty. Its pipes are read to their end, or a second at most."""
        self.end_probing()
        self._memory.close()
        self.leaf.remove()
        self.child.close()
        await asyncio.gather(*(pump.finish(timeout_s=_DRAIN_S) for pump in self.pumps))


def _target(
    config: Config, leaf: Leaf, environment: Mapping[str, str], credentials: Credentials, setting: Setting
) -> ProbeTarget:
    return ProbeTarget(
        probe=config.probe,
        port=config.app.port,
        leaf=leaf,
        notify_path=setting.runtime_dir / NOTIFY_SOCKET if config.probe.notify else None,
        helper_leaf=setting.hierarchy.leaf,
        environment=environment,
        directory=config.app.directory,
        credentials=credentials,
    )


def _as_before(target: ProbeTarget, handed: HandedGeneration, setting: Setting) -> ProbeTarget:
    """The target, but where the app is and how it speaks for itself: that was settled when it was started."""
    probe, probing = target.probe, handed.probing
    if probe.notify != handed.notify:
        probe = msgspec.convert(handed.probe, ProbeTable)
    return msgspec.structs.replace(
        target,
        probe=probe,
        port=handed.port,
        notify_path=setting.runtime_dir / NOTIFY_SOCKET if handed.notify else None,
        ready=probing is not None and probing.ready,
        earlier=probing,
    )


def retarget(target: ProbeTarget, probe: ProbeTable) -> ProbeTarget | None:
    """What to probe after a reload, for a generation that was ready; None: only the next start can change it.

    Whether the app speaks for itself was settled by the environment that it was started with.
    """
    if probe.notify != target.probe.notify:
        return None
    return msgspec.structs.replace(target, probe=probe, ready=True, earlier=None)


def _look(task: asyncio.Task[None]) -> None:
    """A prober that ends with a fault would leave its app unwatched in silence; so that is told."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"{task.get_name()} met a fault; its app is not probed", "exception": error}
        task.get_loop().call_exception_handler(context)
