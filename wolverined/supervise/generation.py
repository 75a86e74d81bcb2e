# SPDX-License-Identifier: MIT
"""One generation of the app: its leaf, its process, its pipes, its prober; started, observed, let go.

Holds what exists only while a generation exists. Decides nothing: `lifecycle` does, `supervisor` asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wolverined.clock import Clock
from wolverined.config.schema import Config, ProbeTable
from wolverined.linux.credentials import Credentials
from wolverined.linux.leaf import Hierarchy, Leaf
from wolverined.linux.process import Child, ExitStatus, spawn
from wolverined.model import Exit
from wolverined.supervise.environment import NOTIFY_SOCKET, build_environment
from wolverined.supervise.interfaces import ProbeEvents, Prober, ProberFactory, ProbeTarget
from wolverined.supervise.output import Output, Pump

TAIL_LINES = 200
"""How many lines of output go with an exit."""

_DRAIN_S = 1.0  # how long the pipes may outlive an empty tree (a process that left it holds them)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What every generation of one supervisor is started with, besides the configuration."""

    hierarchy: Hierarchy
    clock: Clock
    runtime_dir: Path
    hooks_dir: Path | None
    base: Mapping[str, str]
    output: Output
    prober_factory: ProberFactory


class Generation:
    """A running (or just ended) generation. Made by `start`.

    Attributes:
        number: Its number.
        leaf: Where it lives.
        child: Its main process.
        target: What a prober must know of it.
        exit: How it ended; None while it lives.
    """

    def __init__(self, *, number: int, leaf: Leaf, child: Child, target: ProbeTarget, setting: Setting) -> None:
        self.number = number
        self.target = target
        self.leaf = leaf
        self.child = child
        self.exit: Exit | None = None
        self._clock = setting.clock
        self._output = setting.output
        self._started = setting.clock.monotonic()
        self._oom_before = leaf.oom_kills()
        self._first_line = setting.output.ring.newest
        self._prober: Prober | None = None
        self._probing: asyncio.Task[None] | None = None
        fds = zip(child.take_output(), ("stdout", "stderr"), strict=True)
        self._pumps = [
            setting.output.pump(fd, stream=stream, generation=number, pid=child.pid)
            for fd, stream in fds
            if fd is not None
        ]

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

    @property
    def uptime_s(self) -> float:
        """How long ago it was started."""
        return self._clock.monotonic() - self._started

    @property
    def pumps(self) -> tuple[Pump, ...]:
        """The readers of its pipes."""
        return tuple(self._pumps)

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
        for pump in self._pumps:
            pump.drain()
        ring = self._output.ring
        count = min(TAIL_LINES, ring.newest - self._first_line)
        self.exit = Exit(
            generation=self.number,
            code=status.code,
            signal=status.signal,
            oom=self.leaf.oom_kills() > self._oom_before,
            asked=asked,
            ready=ready,
            uptime_s=self.uptime_s,
            at=self._clock.wall(),
            tail=tuple(line.text for line in ring.after(ring.newest - count, count) if line.generation == self.number),
        )
        return self.exit

    def abandon(self) -> None:
        """Close what is ours though something of it may still live; for the supervisor's own end."""
        self.end_probing()
        for pump in self._pumps:
            pump.close()
        self.child.close()

    async def let_go(self) -> None:
        """Give back everything; the leaf is empty. Its pipes are read to their end, or a second at most."""
        self.end_probing()
        self.leaf.remove()
        self.child.close()
        await asyncio.gather(*(pump.finish(timeout_s=_DRAIN_S) for pump in self._pumps))


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


def retarget(target: ProbeTarget, probe: ProbeTable) -> ProbeTarget | None:
    """What to probe after a reload, for a generation that was ready; None: only the next start can change it.

    Whether the app speaks for itself was settled by the environment that it was started with.
    """
    if probe.notify != target.probe.notify:
        return None
    return msgspec.structs.replace(target, probe=probe, ready=True)


def _look(task: asyncio.Task[None]) -> None:
    """A prober that ends with a fault would leave its app unwatched in silence; so that is told."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"{task.get_name()} met a fault; its app is not probed", "exception": error}
        task.get_loop().call_exception_handler(context)
