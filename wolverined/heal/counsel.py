# SPDX-License-Identifier: MIT
"""Asks the adviser for one proposal, and turns its text into a patch that code can judge.

What goes out is redacted and bounded; what comes back is data. The adviser asks for money call by
call, and the ledger that it asks is here, beside the store, where it cannot be talked out of a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.errors import AdviserFailed, UsageError
from wolverined.heal import windows
from wolverined.heal.edits.apply import apply_edits
from wolverined.heal.edits.parse import parse_reply
from wolverined.heal.stream import Channel, Handler
from wolverined.model import Evidence, Proposal, RepairMode, Snapshot, Trace, Usage
from wolverined.redact import Redactor
from wolverined.store import Reservation, Store

OpenAdviser = Callable[[Mapping[str, Handler]], AbstractAsyncContextManager[Channel]]
Answer = tuple[dict[str, Any], tuple[bytes, ...]]

_ASK_S = 120.0
_MARGIN_S = 30.0
_SPARE_S = 2.0


class _Reserve(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    mode: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class _Settle(msgspec.Struct, frozen=True, kw_only=True):
    reservation: int
    usage: Usage


class Counsel:
    """Asks for one incident.

    Args:
        open_adviser: Gives a started channel to a fresh adviser that may call the given handlers.
        config: Of the app.
        snapshot: The source.
        evidence: Redacted already.
        store: Holds the ledger.
        clock: Monotonic time says what is left of the heal's.
        redactor: Takes secrets out of the source that is shown, and out of what comes back.
    """

    def __init__(
        self,
        *,
        open_adviser: OpenAdviser,
        config: Config,
        snapshot: Snapshot,
        evidence: Evidence,
        store: Store,
        clock: Clock,
        redactor: Redactor,
    ) -> None:
        self._open_adviser = open_adviser
        self._config = config
        self._snapshot = snapshot
        self._evidence = evidence
        self._store = store
        self._redactor = redactor
        self._clock = clock
        self._until = clock.monotonic() + config.heal.timeout_s

    async def ask(self, prior: tuple[str, ...]) -> Proposal:
        """One proposal in mode `fast`.

        Args:
            prior: One line for each earlier attempt and what became of it.

        Raises:
            AdviserFailed: The model could not be asked, or sees no patch.
            OverBudget: A limit would be passed.
            EditRejected: Its edits do not belong anywhere in the source.
            StreamError: The adviser went away.
        """
        heal, ai = self._config.heal, self._config.ai
        args = {
            "mode": "fast",
            "evidence": msgspec.to_builtins(self._evidence),
            "windows": [msgspec.to_builtins(window) for window in self._windows()],
            "prior": [self._redactor.text(line) for line in prior],
            "models": msgspec.to_builtins(ai.models),
            "prices": msgspec.to_builtins(ai.prices),
            "limits": {
                "max_files": heal.max_files,
                "max_lines": heal.max_lines,
                "allow": list(heal.allow),
                "deny": list(heal.deny),
            },
            "timeout_s": self._time_left(),
        }
        handlers = {"reserve": self._reserve, "settle": self._settle}
        async with self._open_adviser(handlers) as channel:
            answer = await channel.call("advise", args, timeout_s=heal.timeout_s + _MARGIN_S)
        return self._proposal(answer.body)

    def _time_left(self) -> float:
        """So that the adviser gives up by itself and says why, before the heal's own time is over."""
        return max(1.0, min(_ASK_S, self._until - self._clock.monotonic() - _SPARE_S))

    def _proposal(self, body: dict[str, Any]) -> Proposal:
        text = body.get("text")
        if not isinstance(text, str):
            raise AdviserFailed("the adviser's answer cannot be read")
        try:
            usage = msgspec.convert(body.get("usage"), Usage)
        except msgspec.ValidationError as error:
            raise AdviserFailed("the adviser's account of its usage cannot be read") from error
        reply = parse_reply(text)
        if reply.needs_human:
            raise AdviserFailed(f"it needs a human: {self._clean(reply.needs_human)}")
        root = self._clean(reply.root) or "no cause given"
        return Proposal(
            mode=RepairMode.FAST,
            reason=root,
            root_cause=root,
            changes=apply_edits(reply.edits, self._snapshot),
            confidence=reply.confidence,
            usage=usage,
        )

    def _windows(self) -> tuple[windows.Window, ...]:
        traces = self._traces()
        entry = next((word for word in self._config.app.command[1:] if word in self._snapshot.files), "")
        cut = windows.cut(self._snapshot, traces=traces, entry=entry)
        return tuple(msgspec.structs.replace(window, lines=tuple(self._redactor.lines(window.lines))) for window in cut)

    def _traces(self) -> tuple[Trace, ...]:
        known = self._evidence.incident.trace
        return (*self._evidence.traces, known) if known is not None else self._evidence.traces

    def _clean(self, text: str) -> str:
        """What a model said, as it may be stored and shown: one line, no secret, no control character."""
        return self._redactor.text(" ".join(text.split()))[:300]

    async def _reserve(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        try:
            asked = msgspec.convert(args, _Reserve)
        except msgspec.ValidationError as error:
            raise UsageError(f"reserve cannot be read: {error}") from error
        reservation = self._store.usage.reserve(
            incident=self._evidence.incident.id,
            model=asked.model,
            mode=asked.mode,
            input_tokens=asked.input_tokens,
            output_tokens=asked.output_tokens,
            cost_usd=asked.cost_usd,
            budget=self._config.ai.budget,
        )
        return {"reservation": reservation.number}, ()

    async def _settle(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        try:
            asked = msgspec.convert(args, _Settle)
        except msgspec.ValidationError as error:
            raise UsageError(f"settle cannot be read: {error}") from error
        self._store.usage.settle(Reservation(asked.reservation), asked.usage)
        return {}, ()
