# SPDX-License-Identifier: MIT
"""Heal's handle on one trial process: typed calls over its stream.

The other end ran code on trial beside it, so what it says is checked like any input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import msgspec

from wolverined.errors import StreamError
from wolverined.heal.stream import Channel
from wolverined.heal.trial.observations import Alive, Boot, Prepared, Replay, Syntax, Tests
from wolverined.heal.trial.plan import Plan, PlannedFile, Standing
from wolverined.heal.whole import Whole, batches
from wolverined.model import FileChange, Request

T = TypeVar("T")
LOAD_S = 20.0
MARGIN_S = 20.0
"""What an answer may take beyond the time that the call itself is given."""


class TrialClient:
    """One trial over a started channel (this side's role is "heal"). A context manager that closes it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._startup_s = 0.0

    async def __aenter__(self) -> Self:
        """Give the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the channel, which ends the trial."""
        await self.close()

    async def stand(self, directory: str) -> Standing:
        """Ask what the trial has of the app's directory by itself.

        Raises:
            SandboxUnavailable: It is in a unit that knows nothing of this app.
        """
        return await self._call("stand", {"directory": directory}, Standing, limit_s=0.0)

    async def load(self, whole: Whole) -> None:
        """Give it the app's directory, in parts.

        Raises:
            SandboxUnavailable: It does not fit.
        """
        for entries, blobs in batches(whole):
            await self._channel.call(
                "load", {"entries": msgspec.to_builtins(entries)}, blobs=blobs, timeout_s=LOAD_S + MARGIN_S
            )

    async def prepare(self, plan: Plan, changes: Sequence[FileChange]) -> Prepared:
        """Build the sandbox with the changes in it.

        Raises:
            SandboxUnavailable: It cannot be built here: the verdict is unprovable.
            StreamError: The trial went away.
        """
        kept = [change for change in changes if change.after is not None]
        files = tuple(
            PlannedFile(path=change.path, mode=change.mode, removed=change.after is None) for change in changes
        )
        self._startup_s = plan.startup_s
        args = msgspec.to_builtins(msgspec.structs.replace(plan, files=files))
        blobs = [change.after or b"" for change in kept]
        return await self._call("prepare", args, Prepared, limit_s=60.0 * len(plan.setup), blobs=blobs)

    async def boot(self) -> Boot:
        """Start the app anew and wait until it is ready, has ended, or `startup_s` is over."""
        return await self._call("boot", {}, Boot, limit_s=self._startup_s)

    async def replay(self, request: Request, *, timeout_s: float = 10.0, settle_s: float = 0.05) -> Replay:
        """Send one request; watch for a crash until `settle_s` after the answer."""
        args = {"request": msgspec.to_builtins(request), "timeout_s": timeout_s, "settle_s": settle_s}
        return await self._call("replay", args, Replay, limit_s=timeout_s + settle_s)

    async def alive(self, *, settle_s: float = 0.1) -> Alive:
        """Watch the app for `settle_s`, or until it ends."""
        return await self._call("alive", {"settle_s": settle_s}, Alive, limit_s=settle_s)

    async def check(self, paths: Sequence[str]) -> dict[str, Syntax]:
        """Ask the app's own interpreters whether these files parse."""
        return await self._call("check", {"paths": list(paths)}, dict[str, Syntax], limit_s=20.0 * len(paths))

    async def test(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Tests:
        """Run a command to its end in the app's directory."""
        return await self._call("test", {"argv": list(argv), "timeout_s": timeout_s}, Tests, limit_s=timeout_s)

    async def close(self) -> None:
        """End the trial; may be called twice."""
        await self._channel.close()

    async def _call(
        self, name: str, args: Mapping[str, Any], kind: type[T], *, limit_s: float, blobs: Sequence[bytes] = ()
    ) -> T:
        answer = await self._channel.call(name, args, blobs=blobs, timeout_s=limit_s + MARGIN_S)
        try:
            return msgspec.convert(answer.body, kind)
        except msgspec.ValidationError as error:
            raise StreamError(f"the trial's answer to {name} cannot be read: {error}") from error
