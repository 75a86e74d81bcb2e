# SPDX-License-Identifier: MIT
"""What the supervisor needs from others and tells others, as protocols: it knows neither daemon nor probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from wolverined.config.schema import ProbeTable
from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials
from wolverined.linux.leaf import Leaf, LeafStats, Stuck
from wolverined.linux.ports import Holder
from wolverined.model import AppState, Exit, IncidentKind, LogLine, Probing


class Listener(Protocol):
    """Who is told what happens, in order, once it has been acted on. Called in the event loop; must not block."""

    def state_changed(self, old: AppState, new: AppState, *, why: str) -> None:
        """The word that users see has changed."""
        ...

    def generation_started(self, generation: int, pid: int) -> None:
        """A generation has a process."""
        ...

    def exited(self, exit: Exit) -> None:  # noqa: A002 - the vocabulary's word
        """A generation has ended, asked or not. Told before `generation_started` of the next."""
        ...

    def memory_death(self, generation: int, processes: int, stats: LeafStats) -> None:
        """So many processes of a generation were killed for want of memory, and it goes on without them."""
        ...

    def waits(self, delay_s: float, *, why: str, loop: bool) -> None:
        """Nothing is started for so long, for that reason; `loop`: it is the wait of a crash loop."""
        ...

    def line(self, line: LogLine) -> None:
        """The app has written a line."""
        ...

    def probe_failed(self, kind: IncidentKind, detail: str) -> None:
        """HANG: liveness failed, the generation is ended now. UNREADY: the startup grace is over, once each."""
        ...

    def port_taken(self, holder: Holder) -> None:
        """A stranger listens on the app's port. Told at each attempt to start."""
        ...

    def cannot_start(self, error: SpawnError) -> None:
        """The app cannot be started at all."""
        ...

    def stuck(self, processes: tuple[Stuck, ...]) -> None:
        """A killed tree does not go (each time that was waited for in vain); nothing starts before it does."""
        ...


class ProbeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a prober must know of the generation it watches.

    Attributes:
        probe: How to probe.
        port: The port of this generation; None without one.
        leaf: Where it lives; whoever speaks as the app must be in it.
        notify_path: Where to listen for its own notices; None: do not.
        helper_leaf: Makes the leaf that an `exec` probe's program lives in.
        environment: The environment of the app, and of such a program.
        directory: The working directory of both.
        credentials: The user of both.
        ready: It has been ready already: go on with liveness.
        earlier: Where its probing stood when wolverined replaced itself: go on from there.
    """

    probe: ProbeTable
    port: int | None
    leaf: Leaf
    notify_path: Path | None
    helper_leaf: Callable[[str], Leaf]
    environment: Mapping[str, str]
    directory: Path
    credentials: Credentials
    ready: bool = False
    earlier: Probing | None = None


class ProbeEvents(msgspec.Struct, frozen=True, kw_only=True):
    """What a prober tells the supervisor, in the event loop.

    Attributes:
        ready: The startup probe passed.
        unready: The startup grace is over and it is not ready, with the reason; told once, probing goes on.
        hung: Liveness failed often enough in a row, with the reason; nothing more is told after this.
        said: The app said how it is (STATUS=).
    """

    ready: Callable[[], None]
    unready: Callable[[str], None]
    hung: Callable[[str], None]
    said: Callable[[str], None]


class Prober(Protocol):
    """Watches one generation. Made before its process, so that its socket is there when the app looks."""

    async def run(self, events: ProbeEvents) -> None:
        """Probe until cancelled; the process exists now."""
        ...

    async def rest(self) -> None:
        """Ask the app nothing before `go_on`; returns when no question is under way."""
        ...

    def go_on(self) -> None:
        """Rested enough."""
        ...

    def hand_over(self) -> Probing:
        """Where it stands, for a successor in another wolverined; called while it rests."""
        ...

    def close(self) -> None:
        """Let go of what it holds; called once, after `run` or instead of it."""
        ...


class ProberFactory(Protocol):
    """Makes the prober of a generation."""

    def __call__(self, target: ProbeTarget) -> Prober:
        """Make it. May raise OSError when its socket cannot be made."""
        ...
