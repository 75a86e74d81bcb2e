# SPDX-License-Identifier: MIT
"""A supervisor over real processes for tests: its configuration in one call, and a listener that remembers."""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from support.leaves import PATH
from support.places import IS_ROOT, eventually_async, public_tmp, unused_user

from wolverined.clock import SystemClock
from wolverined.config.schema import AppTable, Config, ProbeTable, RestartTable, StopTable
from wolverined.errors import SpawnError
from wolverined.linux.hierarchy import open_hierarchy
from wolverined.linux.leaf import Hierarchy, Leaf, LeafStats, Stuck
from wolverined.linux.limits import Limits
from wolverined.linux.ports import Holder
from wolverined.model import AppState, Exit, IncidentKind, LogLine
from wolverined.sense.probes import ProberFactory
from wolverined.supervise.supervisor import Supervisor

T = TypeVar("T")

APP_USER = unused_user().pw_name if IS_ROOT else ""

# Listens on $PORT and answers every connection with the status in argv[1] (default 200), for ever.
SERVER = """
import os, socket, sys
status = sys.argv[1] if len(sys.argv) > 1 else "200"
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
print("listening", flush=True)
while True:
    client, _ = server.accept()
    client.recv(65536)
    client.sendall(b"HTTP/1.1 " + status.encode() + b" X\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    client.close()
"""

SLEEPER = "import time; print('awake', flush=True); time.sleep(300)"


class Recorder:
    """Implements the supervisor's `Listener` and keeps all that it is told."""

    def __init__(self) -> None:
        self.states: list[AppState] = []
        self.whys: list[str] = []
        self.starts: list[tuple[int, int]] = []
        self.exits: list[Exit] = []
        self.waits_told: list[tuple[float, str, bool]] = []
        self.lines: list[LogLine] = []
        self.memory_deaths: list[tuple[int, int, LeafStats]] = []
        self.probes: list[tuple[IncidentKind, str]] = []
        self.ports: list[Holder] = []
        self.errors: list[SpawnError] = []
        self.stuck_told: list[tuple[Stuck, ...]] = []
        self.order: list[str] = []
        self.keep_lines = True
        self.last_words: set[str] = set()
        """Those lines of stdout and stderr that are no longer than ten characters: the end of a flood among them."""

    def state_changed(self, old: AppState, new: AppState, *, why: str) -> None:
        """Keep it; the old state must be what was told before."""
        assert old is (self.states[-1] if self.states else AppState.STOPPED)
        self.states.append(new)
        self.whys.append(why)
        self.order.append(new.value)

    def generation_started(self, generation: int, pid: int) -> None:
        """Keep it."""
        self.starts.append((generation, pid))
        self.order.append(f"started {generation}")

    def exited(self, exit: Exit) -> None:  # noqa: A002 - the vocabulary's word
        """Keep it."""
        self.exits.append(exit)
        self.order.append(f"exited {exit.generation}")

    def memory_death(self, generation: int, processes: int, stats: LeafStats) -> None:
        """Keep it."""
        self.memory_deaths.append((generation, processes, stats))

    def waits(self, delay_s: float, *, why: str, loop: bool) -> None:
        """Keep it."""
        self.waits_told.append((delay_s, why, loop))

    def line(self, line: LogLine) -> None:
        """Keep it, unless a flood is tested."""
        if self.keep_lines:
            self.lines.append(line)
        elif len(line.text) <= 10:
            self.last_words.add(line.text)

    def probe_failed(self, kind: IncidentKind, detail: str) -> None:
        """Keep it."""
        self.probes.append((kind, detail))

    def port_taken(self, holder: Holder) -> None:
        """Keep it."""
        self.ports.append(holder)

    def cannot_start(self, error: SpawnError) -> None:
        """Keep it."""
        self.errors.append(error)

    def stuck(self, processes: tuple[Stuck, ...]) -> None:
        """Keep it."""
        self.stuck_told.append(processes)

    def texts(self, stream: str = "stdout") -> list[str]:
        """The text of the lines of one stream."""
        return [line.text for line in self.lines if line.stream == stream]


class Run:
    """A supervisor that runs, with what it told."""

    def __init__(self, supervisor: Supervisor, recorder: Recorder) -> None:
        self.supervisor = supervisor
        self.told = recorder

    @property
    def pid(self) -> int:
        """The main process that lives now."""
        pid = self.supervisor.status()["pid"]
        assert isinstance(pid, int)
        return pid

    @property
    def generation(self) -> int:
        """The newest generation."""
        generation = self.supervisor.status()["generation"]
        assert isinstance(generation, int)
        return generation

    async def until(self, predicate: Callable[[], T], *, within_s: float = 10.0) -> T:
        """Wait until it is true."""
        return await eventually_async(predicate, within_s=within_s)

    async def until_state(self, state: AppState, *, within_s: float = 10.0) -> None:
        """Wait until users see that state."""
        await self.until(lambda: self.supervisor.state is state, within_s=within_s)


def configured(command: Sequence[str], directory: Path, *, port: int | None = None, **tables: Any) -> Config:
    """A configuration with short waits; `tables` replaces tables, `environment` and the like go to [app]."""
    app_fields = {key: tables.pop(key) for key in ("environment", "environment_file", "user") if key in tables}
    app = AppTable(command=tuple(command), directory=directory, port=port, **{"user": APP_USER, **app_fields})
    defaults: dict[str, Any] = {
        "stop": StopTable(timeout_s=5.0, abort_s=2.0),
        "restart": RestartTable(initial_s=0.02, max_s=0.08, crash_loop_s=0.2, jitter=0.0),
        "probe": ProbeTable(interval_s=0.1, timeout_s=1.0, failures=3, startup_s=10.0),
    }
    return Config(app=app, **{**defaults, **tables})


@asynccontextmanager
async def supervised(config: Config, hierarchy: Hierarchy, **options: Any) -> AsyncIterator[Run]:
    """A running supervisor of that app, not yet started; stopped and checked for leftovers at the end."""
    recorder = options.pop("listener", None) or Recorder()
    with public_tmp(mode=0o711) as runtime_dir:
        supervisor = Supervisor(
            config=config,
            hierarchy=hierarchy,
            clock=SystemClock(),
            listener=recorder,
            runtime_dir=runtime_dir,
            rng=random.Random(1),
            hooks_dir=None,
            prober_factory=ProberFactory(),
            base=PATH,
            **options,
        )
        serving = asyncio.create_task(supervisor.run())
        try:
            yield Run(supervisor, recorder)
        finally:
            await supervisor.close()
            await asyncio.wait_for(serving, 10)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "supervis" in repr(task.get_coro())], others


@contextmanager
def best_hierarchy(state_dir: Path) -> Iterator[Hierarchy]:
    """A hierarchy of cgroups where there are any for us, else of process groups; leaves nothing."""
    hierarchy = open_hierarchy(f"test-{secrets.token_hex(4)}", state_dir=state_dir)
    try:
        yield hierarchy
    finally:
        hierarchy.close()


@contextmanager
def listening_stranger() -> Iterator[tuple[socket.socket, int]]:
    """A socket of this very process that listens on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, server.getsockname()[1]


def free_port() -> int:
    """A port on which nobody listens now."""
    with listening_stranger() as (_, port):
        return port


class Wrapped:
    """A leaf that does what a real one does, but where a test says otherwise.

    Attributes:
        clings: While set, the leaf claims that something in it does not die.
        ooms: What it says of kills for want of memory.
        used: What it says of its memory besides; None: what the leaf says.
        held: The limits that were asked for.
        memory_changed: Tells whoever watches that `ooms` has changed.
    """

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self.clings = False
        self.ooms = 0
        self.used: LeafStats | None = None
        self.held: list[Limits] = []
        self.memory_changed: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leaf, name)

    def populated(self) -> bool:
        """As the leaf, or true while it clings."""
        return self.clings or self._leaf.populated()

    async def wait_empty(self, *, timeout_s: float) -> bool:
        """As the leaf; while it clings, false after a moment."""
        if not self.clings:
            return await self._leaf.wait_empty(timeout_s=timeout_s)
        await asyncio.sleep(0.02)
        return False

    def stuck(self) -> list[Stuck]:
        """Somebody in the kernel, while it clings."""
        return [Stuck(pid=4242, name="reader", wchan="nfs_wait")] if self.clings else []

    def oom_kills(self) -> int:
        """What the test says."""
        return self.ooms

    def limit(self, to: Limits) -> tuple[str, ...]:
        """Keep it."""
        self.held.append(to)
        return self._leaf.limit(to)

    def watch_memory(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Leave it to the test to tell; the end of watching is told as the null function."""
        self.memory_changed = changed

        def end() -> None:
            self.memory_changed = lambda: None

        return end

    def stats(self) -> LeafStats:
        """As the leaf, or what the test says."""
        return self.used or self._leaf.stats()


class WrappedHierarchy:
    """A hierarchy whose leaves are `Wrapped`; `left` is what it says a predecessor left."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self.leaves: dict[str, Wrapped] = {}
        self.left: list[Wrapped] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hierarchy, name)

    def leaf(self, name: str) -> Wrapped:
        """Make a wrapped leaf."""
        self.leaves[name] = Wrapped(self._hierarchy.leaf(name))
        return self.leaves[name]

    def stale(self) -> list[Wrapped]:
        """What the test put there."""
        return self.left
