# SPDX-License-Identifier: MIT
"""The adviser's job: evidence and source in, a model's text out. Money is asked of heal, call by call."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from wolverined.config.schema import ModelsTable, PriceTable
from wolverined.errors import UsageError
from wolverined.heal.adviser import prompt
from wolverined.heal.adviser.client import ModelClient, Question
from wolverined.heal.adviser.endpoint import Endpoint
from wolverined.heal.frames import Message
from wolverined.heal.windows import Window
from wolverined.model import Evidence, Usage

DEFAULT_MODEL = "gpt-5-mini"
MAX_OUTPUT = 4000
"""Tokens of one answer: 1,500 for the edits, the rest for models that think before."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of the call `advise`. An address or a key is not among them, see `endpoint`.

    `models` and `prices` count where the operator wrote them into the configuration: under `wolverined run`.
    """

    mode: str
    evidence: Evidence
    windows: tuple[Window, ...] = ()
    prior: tuple[str, ...] = ()
    models: ModelsTable = ModelsTable()
    prices: dict[str, PriceTable] = {}
    limits: prompt.Limits = prompt.Limits()
    timeout_s: float = 120.0


class Caller(Protocol):
    """What is needed of a channel: calls to heal."""

    def call(self, name: str, args: Mapping[str, Any] | None = None) -> Message:
        """Ask heal."""
        ...


class HealLedger:
    """The ledger at the other end of the stream: calls `reserve` and `settle` of heal."""

    def __init__(self, channel: Caller, *, mode: str) -> None:
        self._channel = channel
        self._mode = mode

    def reserve(self, *, model: str, input_tokens: int, output_tokens: int, cost_usd: float | None) -> int:
        """Hold the worst case of one call; raises `OverBudget` when heal says so."""
        args = {
            "model": model,
            "mode": self._mode,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost_usd": cost_usd,
        }
        return int(self._channel.call("reserve", args).body["reservation"])

    def settle(self, number: int, usage: Usage) -> None:
        """Replace a reservation by what the call used."""
        self._channel.call("settle", {"reservation": number, "usage": msgspec.to_builtins(usage)})


class Adviser:
    """Answers `advise`.

    Args:
        channel: To heal.
        endpoint: Gives where to ask; called for each job, so that a missing key is an answer and no silent end.
        sleep: Waits between tries.
    """

    def __init__(
        self, *, channel: Caller, endpoint: Callable[[], Endpoint], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._channel = channel
        self._endpoint = endpoint
        self._sleep = sleep

    def advise(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        """Ask the model of this mode; `{"text", "usage", "model", "prompt"}`."""
        try:
            ask = msgspec.convert(args, Ask)
        except msgspec.ValidationError as error:
            raise UsageError(f"advise cannot be read: {error}") from None
        if ask.mode != "fast":
            raise UsageError(f"there is no mode {ask.mode[:40]!r} here")
        endpoint = self._endpoint()
        client = ModelClient(
            endpoint=endpoint,
            ledger=HealLedger(self._channel, mode=ask.mode),
            sleep=self._sleep,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311 - jitter
        )
        models, prices = (ask.models, ask.prices) if endpoint.models is None else (endpoint.models, endpoint.prices)
        model = models.fast or DEFAULT_MODEL
        question = Question(
            model=model,
            system=prompt.SYSTEM,
            user=_text(ask, windows=ask.windows),
            shorter=_text(ask, windows=ask.windows[:1]) if len(ask.windows) > 1 else "",
            max_output=MAX_OUTPUT,
            prices=prices or {},
        )
        text, usage = client.ask(question, timeout_s=ask.timeout_s)
        return {"text": text, "usage": msgspec.to_builtins(usage), "model": model, "prompt": prompt.VERSION}, ()


def _text(ask: Ask, *, windows: tuple[Window, ...]) -> str:
    return prompt.build(
        evidence=ask.evidence, windows=windows, prior=ask.prior, limits=ask.limits, nonce=secrets.token_hex(8)
    )
