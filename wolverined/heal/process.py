# SPDX-License-Identifier: MIT
"""The heal process: one job, then the end. Started by `dispatch` with two descriptors and a directory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from wolverined.clock import SystemClock
from wolverined.errors import UsageError, WolverineError
from wolverined.heal import walls
from wolverined.heal.conductor import Conductor
from wolverined.heal.job import Job
from wolverined.heal.roles import Roles
from wolverined.heal.stream import Channel, inherited
from wolverined.store import Store

_EARLY = 100
_HOURS_S = 6 * 3600.0  # the supervisor's own deadline, in its hello, is the one that counts


class _Process:
    """Serves the supervisor's stream: `conduct` once, `seen` any number of times."""

    def __init__(self, stream_fd: str, roles_fd: str) -> None:
        roles = socket.socket(
            fileno=int(roles_fd)
        )  # keeps its packets' borders, so it is none of `inherited`'s streams
        roles.set_inheritable(False)
        self._roles = Roles(roles)
        handlers = {"conduct": self._conduct, "seen": self._seen}
        self._supervisor = Channel(inherited(stream_fd), role="heal", deadline_s=_HOURS_S, handlers=handlers)
        self._conductor: Conductor | None = None
        self._early: list[dict[str, Any]] = []

    async def serve(self) -> None:
        await self._supervisor.start()
        await self._supervisor.closed()
        await self._supervisor.close()
        self._roles.close()

    async def _conduct(
        self, args: dict[str, Any], _blobs: tuple[bytes, ...]
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        if self._conductor is not None:
            raise UsageError("a heal process does one job")
        try:
            job = Job.decode(args)
        except msgspec.ValidationError as error:
            raise UsageError(f"the job cannot be read: {error}") from error
        store = Store.open(Path(job.state_dir), clock=SystemClock())
        with contextlib.closing(store):
            self._conductor = Conductor(
                job=job, supervisor=self._supervisor, roles=self._roles, store=store, clock=SystemClock()
            )
            for event in self._early:
                self._conductor.seen(event)
            result = await self._conductor.run()
        return msgspec.to_builtins(result), ()

    async def _seen(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        if self._conductor is not None:
            self._conductor.seen(args)
        elif len(self._early) < _EARLY:
            self._early.append(args)
        return {}, ()


def main() -> int:
    """Serve the two descriptors named on the command line, behind walls, until the supervisor goes."""
    if len(sys.argv) != 4:  # noqa: PLR2004  the program, two descriptors, the state directory
        print("error: this program is started by wolverined; hint: wolverinectl heal NAME", file=sys.stderr)  # noqa: T201
        return 2

    async def run() -> None:
        await _Process(sys.argv[1], sys.argv[2]).serve()

    try:
        walls.around_heal(sys.argv[3])
        asyncio.run(run())
    except WolverineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
