# SPDX-License-Identifier: MIT
"""What a model call may cost and what it did cost (pure): the figures of reserve and settle.

The limits themselves are held by the ledger of `store`, which alone sees what was spent before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from wolverined.config.schema import PriceTable
from wolverined.model import Usage

MAX_TOKENS = 100_000_000
"""More than any model can use in one call: what an endpoint claims beyond it is nonsense."""

# Counts 1.01 to 1.41 times the true number of tokens on source, patches, traces and logs (measured against
# cl100k); characters / 4 would count logs at half of what they are.
_TOKEN = re.compile(r"[A-Za-z]+|\d{1,3}|[^\sA-Za-z\d]|\n+")


def estimate_tokens(text: str) -> int:
    """How many tokens a text has, rather too many than too few."""
    # A long word is several tokens: models split about every eighth letter.
    return sum(1 + len(piece) // 8 for piece in _TOKEN.findall(text))


def cost_usd(prices: Mapping[str, PriceTable], *, model: str, input_tokens: int, output_tokens: int) -> float | None:
    """The price of a call by the operator's table; None when the model is not in it."""
    price = prices.get(model)
    if price is None:
        return None
    return (input_tokens * price.input + output_tokens * price.output) / 1_000_000


def settled(
    prices: Mapping[str, PriceTable],
    *,
    model: str,
    said: tuple[object, object] | None,
    estimate: tuple[int, int],
) -> Usage:
    """The usage of one call that was answered.

    Args:
        prices: The operator's table.
        model: The one that was asked for; what the endpoint calls itself is not trusted with money.
        said: Input and output tokens as the endpoint tells them, None when it does not.
        estimate: The same as we count them, taken when what it says makes no sense.
    """
    tokens = _sane(said)
    input_tokens, output_tokens = tokens if tokens is not None else estimate
    return Usage(
        calls=1,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_usd=cost_usd(prices, model=model, input_tokens=input_tokens, output_tokens=output_tokens),
        estimated=tokens is None,
        model=model,
    )


def _sane(said: tuple[object, object] | None) -> tuple[int, int] | None:
    if said is None:
        return None
    read, written = said
    if not isinstance(read, int) or not isinstance(written, int):
        return None
    # An answer was read and written, so zero is as wrong as a negative count.
    return (read, written) if 0 < read <= MAX_TOKENS and 0 < written <= MAX_TOKENS else None


def total(usages: list[Usage]) -> Usage:
    """The sum of several calls; its cost is unknown when one of theirs is."""
    costs = [usage.cost_usd for usage in usages]
    return Usage(
        calls=sum(usage.calls for usage in usages),
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cost_usd=None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None),
        estimated=any(usage.estimated for usage in usages),
        model=usages[-1].model if usages else "",
    )
