# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import PriceTable
from wolverined.heal.budget import MAX_TOKENS, cost_usd, estimate_tokens, settled, total
from wolverined.model import Usage

PRICES = {"m": PriceTable(input=2.0, output=10.0)}


def test_a_price_is_dollars_for_a_million_tokens() -> None:
    """Input and output are priced apart; a model that is not in the table has no price."""
    assert cost_usd(PRICES, model="m", input_tokens=500_000, output_tokens=100_000) == pytest.approx(2.0)
    assert cost_usd(PRICES, model="x", input_tokens=1, output_tokens=1) is None


def test_usage_is_what_the_endpoint_says() -> None:
    """Its own count is taken, at the price of the model that was asked for."""
    usage = settled(PRICES, model="m", said=(1000, 100), estimate=(5, 5))
    assert usage == Usage(calls=1, input_tokens=1000, output_tokens=100, cost_usd=0.003, model="m")


@pytest.mark.parametrize(
    "said", [None, (None, None), (-1, 5), (0, 0), (10, 0), (MAX_TOKENS + 1, 1), ("10", "5"), (1.5, 2), (10, None)]
)
def test_usage_that_makes_no_sense_is_estimated(said: tuple[object, object] | None) -> None:
    """Missing, negative, zero, absurd or oddly typed counts never reach the ledger."""
    usage = settled(PRICES, model="m", said=said, estimate=(70, 30))
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (70, 30, True)


def test_calls_add_up() -> None:
    """Tokens are summed; one unknown price makes the sum unknown; one estimate makes it an estimate."""
    one = Usage(calls=1, input_tokens=1, output_tokens=2, cost_usd=0.5, model="m")
    assert total([one, one]).cost_usd == 1.0
    mixed = total([one, Usage(calls=1, cost_usd=None, estimated=True, model="x")])
    assert (mixed.calls, mixed.cost_usd, mixed.estimated, mixed.model) == (2, None, True, "x")
    assert total([]) == Usage()


@given(st.text(max_size=400))
def test_an_estimate_is_bounded_by_the_text(text: str) -> None:
    """Never more than one token a character, and none for an empty text."""
    assert 0 <= estimate_tokens(text) <= len(text)


def test_logs_count_higher_than_prose() -> None:
    """Digits and punctuation are tokens of their own, as tokenizers have it."""
    log = "2026-01-02T03:04:05.678Z [error] pid=4711 GET /api/items?id=42 500 12ms"
    assert estimate_tokens(log) > len(log) / 3
