# SPDX-License-Identifier: MIT
"""What goes wrong inside the daemon is told, once, and ends nothing: supervision ends for nobody's fault."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Mapping
from typing import Any

from wolverined.clock import Clock
from wolverined.daemon.narrator import Narrator
from wolverined.errors import Conflict, SpawnError, TimedOut

FAULT_EVERY_S = 60.0
_FAULTS_KNOWN = 100


class Faults:
    """Turns faults into events.

    Args:
        narrator: Tells them.
        clock: For how often the same one is told.
        environ: Decides whether somebody wants the traces.
    """

    def __init__(self, narrator: Narrator, *, clock: Clock, environ: Mapping[str, str]) -> None:
        self._narrator = narrator
        self._clock = clock
        self._traces = bool(environ.get("WOLVERINE_TRACEBACK"))
        self._told: set[str] = set()
        self._uncaught: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def unharmed(self, what: str, *, once: bool = False) -> AsyncIterator[None]:
        """Go on after a fault, and tell it (`once`: until it is over)."""
        try:
            yield
        except (Conflict, SpawnError, TimedOut):
            pass  # the app's state says so already, or somebody else is at it
        except Exception as error:
            # Whatever room it came from: the app is supervised all the same.
            if what not in self._told:
                self.say(f"{what}: {error}")
            if once:
                self._told.add(what)
        else:
            self._told.discard(what)

    def say(self, words: str, *, severity: str = "error") -> None:
        """Tell one."""
        self._narrator.tell("daemon.fault", words, severity=severity)

    def uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught becomes an event, and its trace goes to stderr for whoever asked for traces."""
        error = context.get("exception")
        words = f"{context['message']}: {type(error).__name__}: {error}" if error else str(context["message"])
        now = self._clock.monotonic()
        if now - self._uncaught.get(words, -FAULT_EVERY_S) < FAULT_EVERY_S:
            return
        if len(self._uncaught) >= _FAULTS_KNOWN:
            self._uncaught.clear()
        self._uncaught[words] = now
        self.say(words)
        if error is not None and self._traces:
            traceback.print_exception(error)
