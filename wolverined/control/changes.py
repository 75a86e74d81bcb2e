# SPDX-License-Identifier: MIT
"""Asynchronous control operations: ids c1, c2, ..., replay of an Idempotency-Key, waiting.

The daemon owns one `Changes` and hands it coroutines; the API only reads what stands here. Kept in
memory: a change belongs to one life of the daemon, its effects to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.errors import Conflict, NotFound, WolverineError
from wolverined.model import Change, ChangeState

Work = Callable[[str], Awaitable[dict[str, Any] | None]]
"""What does a change: takes the change's id, returns its result."""


class _Key(msgspec.Struct, frozen=True):
    uid: int
    key: str


class _Kept(msgspec.Struct):
    change: Change
    args: dict[str, Any]
    ended: asyncio.Event
    key: _Key | None = None


class HandedChange(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as a successor in this process needs it; `uid` and `key` are of its Idempotency-Key, if any."""

    change: Change
    args: dict[str, Any]
    uid: int | None = None
    key: str = ""


class HandedChanges(msgspec.Struct, frozen=True, kw_only=True):
    """All operations that are known, the oldest first, and how many there ever were."""

    count: int
    kept: tuple[HandedChange, ...]


class Changes:
    """The operations of one daemon.

    Args:
        clock: Wall time labels the changes.
        keep: How many ended changes (and their keys) stay known.
        max_doing: How many may be under way at once.
        on_end: Called with every change that has ended; must not block.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        keep: int = 256,
        max_doing: int = 32,
        on_end: Callable[[Change], None] | None = None,
    ) -> None:
        self._clock = clock
        self._keep = keep
        self._max_doing = max_doing
        self._on_end = on_end
        self._count = 0
        self._kept: dict[str, _Kept] = {}
        self._keys: dict[_Key, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cut_short = asyncio.Event()

    def submit(
        self, action: str, work: Work, *, uid: int, args: Mapping[str, Any] | None = None, idempotency_key: str = ""
    ) -> Change:
        """Begin `work`, or return the change that the same uid began with the same key.

        Raises:
            Conflict: The key was used for something else, or too much is under way.
        """
        key = _Key(uid, idempotency_key) if idempotency_key else None
        if key is not None and (earlier := self._kept.get(self._keys.get(key, ""))) is not None:
            if earlier.change.action != action or earlier.args != dict(args or {}):
                raise Conflict("this Idempotency-Key was used for another request", hint="use a new key")
            return earlier.change
        if len(self._tasks) >= self._max_doing:
            raise Conflict("too many operations are under way", hint="wait for one of them to end")
        self._count += 1
        change = Change(id=f"c{self._count}", action=action, state=ChangeState.DOING, started_at=self._clock.wall())
        self._kept[change.id] = _Kept(change=change, args=dict(args or {}), ended=asyncio.Event(), key=key)
        if key is not None:
            self._keys[key] = change.id
        self._tasks[change.id] = asyncio.ensure_future(self._run(change, work))
        return change

    def get(self, change_id: str) -> Change:
        """The change as it stands; NotFound when it never was or is long past."""
        return self._of(change_id).change

    async def wait(self, change_id: str, timeout_s: float) -> Change:
        """The change once it has ended, or as it stands after `timeout_s` or when waits are cut short."""
        kept = self._of(change_id)
        waits = {asyncio.ensure_future(kept.ended.wait()), asyncio.ensure_future(self._cut_short.wait())}
        try:
            # The caller sees by the state whether it still runs.
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return kept.change

    def cut_short(self, *, on: bool) -> None:
        """Let nobody wait, now or later, until this is called again with `on` false."""
        (self._cut_short.set if on else self._cut_short.clear)()

    def note(self, change_id: str, result: dict[str, Any]) -> None:
        """Say of a change under way how it is going; its end replaces that."""
        kept = self._of(change_id)
        if kept.change.state is ChangeState.DOING:
            kept.change = msgspec.structs.replace(kept.change, result=result)

    def doing(self) -> tuple[Change, ...]:
        """The changes under way, the oldest first."""
        return tuple(self._kept[change_id].change for change_id in self._tasks)

    def hand_over(self) -> HandedChanges:
        """What a successor needs to know all of them."""
        kept = (
            HandedChange(change=each.change, args=each.args, uid=each.key.uid, key=each.key.key)
            if each.key is not None
            else HandedChange(change=each.change, args=each.args)
            for each in self._kept.values()
        )
        return HandedChanges(count=self._count, kept=tuple(kept))

    def adopt(self, handed: HandedChanges, *, conclude: Callable[[Change], Change]) -> None:
        """Know what a predecessor knew; `conclude` gives the end of each that was under way."""
        self._count = handed.count
        for each in handed.kept:
            change = each.change
            if change.state is ChangeState.DOING:
                change = msgspec.structs.replace(conclude(change), ended_at=self._clock.wall())
            key = _Key(each.uid, each.key) if each.uid is not None else None
            ended = asyncio.Event()
            ended.set()
            self._kept[change.id] = _Kept(change=change, args=each.args, ended=ended, key=key)
            if key is not None:
                self._keys[key] = change.id

    async def close(self) -> None:
        """Cancel what is under way; each such change ends as failed."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for change_id in tuple(self._tasks):
            # Cancelled before its first instruction: `_run` had no chance to say so.
            self._end(self._stopped(self._kept[change_id].change))

    async def _run(self, change: Change, work: Work) -> None:
        ended = self._stopped(change)
        try:
            ended = msgspec.structs.replace(change, state=ChangeState.DONE, result=await work(change.id))
        except WolverineError as error:
            ended = _failed(change, message=error.message, kind=error.kind, hint=error.hint)
        except Exception as error:
            # A bug in one operation must reach its caller as an answer, not end the daemon.
            ended = _failed(change, message=f"{type(error).__name__}: {error}", kind="internal")
        finally:
            self._end(ended)

    def _stopped(self, change: Change) -> Change:
        return _failed(change, message="wolverined stopped before it was done", kind="stopped")

    def _end(self, ended: Change) -> None:
        change = msgspec.structs.replace(ended, ended_at=self._clock.wall())
        self._tasks.pop(change.id, None)
        kept = self._kept[change.id]
        kept.change = change
        kept.ended.set()
        self._forget()
        if self._on_end is not None:
            self._on_end(change)

    def _forget(self) -> None:
        past = [change_id for change_id in self._kept if change_id not in self._tasks]
        for change_id in past[: max(0, len(past) - self._keep)]:
            kept = self._kept.pop(change_id)
            if kept.key is not None:
                self._keys.pop(kept.key, None)

    def _of(self, change_id: str) -> _Kept:
        kept = self._kept.get(change_id)
        if kept is None:
            raise NotFound(f"there is no change {change_id}", hint="a change is forgotten when wolverined restarts")
        return kept


def _failed(change: Change, *, message: str, kind: str, hint: str = "") -> Change:
    return msgspec.structs.replace(change, state=ChangeState.FAILED, error=message, kind=kind, hint=hint)
