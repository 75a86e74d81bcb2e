# SPDX-License-Identifier: MIT
from __future__ import annotations

import random
import time
from typing import Any

import pytest
from support.model_server import (
    ModelServer,
    Recorded,
    Reply,
    answer,
    cut,
    hang,
    huge,
    raw,
    redirect,
    slow,
    status,
)

from wolverined.config.schema import PriceTable
from wolverined.errors import AdviserFailed, AdviserRefused, OverBudget
from wolverined.heal.adviser.client import MAX_BYTES, MAX_TEXT, ModelClient, Question
from wolverined.heal.adviser.endpoint import Endpoint
from wolverined.model import Usage

KEY = "sk-test-key-0123456789"


class Book:
    """A ledger that takes note, and has room for so many calls."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.reserved: list[tuple[str, int, int, float | None]] = []
        self.settled: dict[int, Usage] = {}

    def reserve(self, *, model: str, input_tokens: int, output_tokens: int, cost_usd: float | None) -> int:
        """Hold one call."""
        if len(self.reserved) >= self.room:
            raise OverBudget("nothing left")
        self.reserved.append((model, input_tokens, output_tokens, cost_usd))
        return len(self.reserved)

    def settle(self, number: int, usage: Usage) -> None:
        """Settle it, once."""
        assert number not in self.settled
        self.settled[number] = usage


class Desk:
    """A client of a scripted server, with what it slept and reserved."""

    def __init__(self, server: ModelServer, *, room: int = 100) -> None:
        self.server = server
        self.book = Book(room)
        self.slept: list[float] = []
        endpoint = Endpoint(base_url=server.url, key=KEY)
        self.client = ModelClient(endpoint=endpoint, ledger=self.book, sleep=self.slept.append, rng=random.Random(1))

    def ask(self, *, timeout_s: float = 20, **fields: Any) -> tuple[str, Usage]:
        """Ask something."""
        plain = {"model": "m", "system": "s", "user": "hello there", "max_output": 100}
        prices = {"m": PriceTable(input=1.0, output=2.0)}
        return self.client.ask(Question(**{"prices": prices, **plain, **fields}), timeout_s=timeout_s)

    def fails(self, kind: type[AdviserFailed] = AdviserFailed, **fields: Any) -> AdviserFailed:
        """Ask and fail; every reservation is settled whatever happened."""
        with pytest.raises(AdviserFailed) as caught:
            self.ask(**fields)
        assert type(caught.value) is kind
        assert set(self.book.settled) == set(range(1, len(self.book.reserved) + 1))
        return caught.value


def test_an_answer_is_text_and_usage() -> None:
    """The worst case is reserved before, the true figures are settled after."""
    with ModelServer() as server:
        server.script(answer("ROOT: x", usage=(1000, 500)))
        desk = Desk(server)
        text, usage = desk.ask()
    assert text == "ROOT: x"
    assert usage == Usage(calls=1, input_tokens=1000, output_tokens=500, cost_usd=0.002, model="m")
    assert desk.book.settled == {1: usage}
    ((model, tokens_in, tokens_out, cost),) = desk.book.reserved
    assert (model, tokens_out) == ("m", 100)
    assert tokens_in > 0
    assert cost == pytest.approx((tokens_in + 200) / 1e6)


def test_the_request_is_what_was_meant() -> None:
    """One call, no stream, the limit, the key as bearer, and none of our own headers."""
    with ModelServer() as server:
        server.script(answer("ok"))
        Desk(server).ask()
        (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body["max_completion_tokens"] == 100
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
    assert not request.body.get("stream")
    assert not [name for name in request.headers if name.startswith("x-wolverine")]


def test_an_unknown_price_leaves_tokens_alone() -> None:
    """Cost is unknown, not zero."""
    with ModelServer() as server:
        server.script(answer("ok"))
        desk = Desk(server)
        assert desk.ask(prices={})[1].cost_usd is None
    assert desk.book.reserved[0][3] is None


def test_missing_usage_is_estimated() -> None:
    """A server that does not count is counted for."""
    with ModelServer() as server:
        server.script(answer("one two three", usage=None))
        usage = Desk(server).ask()[1]
    assert usage.estimated
    assert usage.output_tokens == 3
    assert usage.input_tokens > 0


def test_a_limit_is_waited_for_as_long_as_asked() -> None:
    """429 with Retry-After: that long, then again; the refused call costs nothing."""
    with ModelServer() as server:
        server.script(status(429, retry_after=3), answer("ok"))
        desk = Desk(server)
        assert desk.ask()[0] == "ok"
    assert desk.slept == [3.0]
    assert desk.book.settled[1] == Usage(calls=0, model="m")


def test_a_limit_without_a_time_backs_off() -> None:
    """2, 4, 8, 16 s with jitter, then it is given up; later may help."""
    with ModelServer() as server:
        server.script(status(429))
        desk = Desk(server)
        assert desk.fails(timeout_s=600).retryable
        assert len(server.requests) == 5
    assert len(desk.slept) == 4
    for slept, whole in zip(desk.slept, (2, 4, 8, 16), strict=True):
        assert whole / 2 <= slept <= whole


def test_a_wait_beyond_the_time_is_not_begun() -> None:
    """Retry-After of ten minutes is capped at two, and does not fit into twenty seconds."""
    with ModelServer() as server:
        server.script(status(429, retry_after=600), answer("ok"))
        desk = Desk(server)
        assert desk.fails(timeout_s=20).retryable
    assert desk.slept == []


@pytest.mark.parametrize("code", [500, 502, 503])
def test_a_failing_server_is_asked_three_times(code: int) -> None:
    """Then the answer is no, with the status in it."""
    with ModelServer() as server:
        server.script(status(code, message="down"))
        desk = Desk(server)
        assert f"{code}: " in desk.fails().message
        assert len(server.requests) == 3


def test_a_server_that_recovers_is_used() -> None:
    """Two errors and an answer are an answer."""
    with ModelServer() as server:
        server.script(status(500), status(503), answer("ok"))
        desk = Desk(server)
        text, usage = desk.ask()
    assert (text, usage.calls, len(desk.slept)) == ("ok", 1, 2)


@pytest.mark.parametrize(
    ("code", "error"),
    [(401, ""), (403, ""), (402, ""), (429, "insufficient_quota"), (400, "billing_hard_limit_reached")],
)
def test_a_refused_key_or_account_opens_the_breaker(code: int, error: str) -> None:
    """No retry, a kind of its own, and the key is not in the words even when the endpoint echoes it."""
    with ModelServer() as server:
        server.script(status(code, error=error, message=f"Incorrect key: {KEY} \x1b[31m"))
        desk = Desk(server)
        refusal = desk.fails(AdviserRefused)
        assert len(server.requests) == 1
    assert KEY not in str(refusal)
    assert "\x1b" not in str(refusal)
    assert desk.slept == []


@pytest.mark.parametrize("code", [400, 404, 422])
def test_a_wrong_request_is_not_repeated(code: int) -> None:
    """What the server does not understand it will not understand later."""
    with ModelServer() as server:
        server.script(status(code, message="unknown model"))
        assert not Desk(server).fails().retryable
        assert len(server.requests) == 1


def test_a_server_that_knows_the_old_limit_alone_is_asked_with_it() -> None:
    """One refusal teaches the older name, without a wait."""
    with ModelServer() as server:
        server.script(status(400, message="Unsupported parameter: 'max_completion_tokens'"), answer("ok"))
        desk = Desk(server)
        assert desk.ask()[0] == "ok"
        assert server.requests[1].body["max_tokens"] == 100
        assert "max_completion_tokens" not in server.requests[1].body
    assert desk.slept == [0.0]


def test_a_prompt_that_is_too_long_is_shortened_once() -> None:
    """By code or by words; the second time it is a failure."""
    with ModelServer() as server:
        server.script(status(400, message="This model's maximum context length is 10 tokens"), answer("ok"))
        assert Desk(server).ask(shorter="hi")[0] == "ok"
        assert server.requests[1].body["messages"][1]["content"] == "hi"
    with ModelServer() as server:
        server.script(status(400, error="context_length_exceeded"))
        Desk(server).fails(shorter="hi")
        assert len(server.requests) == 2


UNUSABLE = {
    "no finish_reason": answer("half of it", finish_reason=None),
    "length": answer("half of it", finish_reason="length"),
    "filter": answer("x", finish_reason="content_filter"),
    "tools": answer(None, finish_reason="tool_calls"),
    "empty": answer("  \n"),
    "null": answer(None),
    "no choice": raw(b'{"choices": []}'),
    "no object": raw(b"[1, 2]"),
    "other shape": raw(b'{"choices": [{"message": {"content": 5}}]}'),
    "no json": raw(b"<html>hello</html>"),
    "cut json": raw(b'{"choices": [{"mess'),
    "deep": raw(b'{"choices":' + b"[" * 100_000),
    "nothing": raw(b""),
    "not utf-8": raw(b'{"choices": [{"finish_reason": "stop", "message": {"content": "\xff"}}]}'),
    "long text": answer("x" * (MAX_TEXT + 1)),
    "redirect": redirect("http://127.0.0.1:1/v1"),
    "packed": raw(b"\x1f\x8b", headers=(("Content-Encoding", "gzip"),)),
}


@pytest.mark.parametrize("reply", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_is_no_whole_answer_is_a_failure(reply: Reply) -> None:
    """It is said once, and never taken for an answer."""
    with ModelServer() as server:
        server.script(reply)
        desk = Desk(server)
        desk.fails()
        assert len(server.requests) == 1


def test_an_answer_that_ran_out_of_tokens_counts_as_paid() -> None:
    """What was worked on costs: its tokens are settled as the server says."""
    with ModelServer() as server:
        server.script(answer("half", finish_reason="length", usage=(10, 90)))
        desk = Desk(server)
        desk.fails()
    assert (desk.book.settled[1].input_tokens, desk.book.settled[1].output_tokens) == (10, 90)


@pytest.mark.parametrize("honest", [True, False])
def test_a_huge_answer_is_not_gathered(honest: bool) -> None:
    """It is dropped at the limit, whether it announces its length or not."""
    with ModelServer() as server:
        server.script(huge(MAX_BYTES * 2, honest=honest))
        assert "too long" in Desk(server).fails().message


def test_a_connection_that_ends_in_the_middle_is_retried() -> None:
    """Each try counts at its worst, for nobody knows what was worked on."""
    with ModelServer() as server:
        server.script(cut("ROOT: x"), answer("ok"))
        desk = Desk(server)
        assert desk.ask()[0] == "ok"
    assert desk.book.settled[1].estimated
    assert desk.book.settled[1].output_tokens == 100


def test_a_model_that_hangs_ends_with_the_time() -> None:
    """The whole call is bounded, and later may help."""
    with ModelServer() as server:
        server.script(hang())
        begun = time.monotonic()
        assert Desk(server).fails(timeout_s=0.4).retryable
        assert time.monotonic() - begun < 10


def test_a_model_that_trickles_ends_with_the_time() -> None:
    """A byte now and then is no reason to wait for ever."""
    with ModelServer() as server:
        server.script(slow("ROOT: x", pause_s=0.1, pieces=100))
        begun = time.monotonic()
        assert "in time" in Desk(server).fails(timeout_s=0.5).message
        assert time.monotonic() - begun < 10


def test_a_slow_model_is_waited_for() -> None:
    """Slow within the time is good."""
    with ModelServer() as server:
        server.script(slow("ROOT: x", pause_s=0.01))
        assert Desk(server).ask()[0] == "ROOT: x"


def test_nobody_at_the_address_is_a_failure_that_cost_nothing() -> None:
    """A refused connection is certain not to have been worked on."""
    with ModelServer() as server:
        desk = Desk(server)
    assert desk.fails().retryable
    assert [usage.calls for usage in desk.book.settled.values()] == [0, 0, 0]


def test_what_does_not_fit_into_the_budget_is_not_sent() -> None:
    """A retry needs its own reservation."""
    with ModelServer() as server:
        server.script(status(500), answer("ok"))
        desk = Desk(server, room=1)
        with pytest.raises(OverBudget):
            desk.ask()
        assert len(server.requests) == 1
        assert len(desk.book.settled) == 1


def test_a_prompt_that_holds_the_key_is_not_sent() -> None:
    """The last look before anything leaves."""
    with ModelServer() as server:
        desk = Desk(server)
        desk.fails(user=f"key={KEY}")
        assert server.requests == []


def test_a_reply_may_depend_on_the_request() -> None:
    """The scripted server answers by function too, so that end-to-end tests can read the prompt."""

    def reply(request: Recorded) -> Reply:
        return answer(f"seen: {request.prompt}")

    with ModelServer() as server:
        server.script(reply)
        assert Desk(server).ask()[0] == "seen: s\nhello there"
        assert server.wait_for(1)[0].body["model"] == "m"
