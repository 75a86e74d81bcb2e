# SPDX-License-Identifier: MIT
"""The one place that talks to a model: reserve, send, read strictly, settle, retry within the time.

The SDK's own retries are off, so that every call that may cost money was reserved before; nothing is
streamed, because a stream that is cut looks like an answer. The endpoint is not trusted: its answer
is bounded in size and time, decoded into types, and anything but a whole answer is a failure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec
import tenacity

from wolverined.config.schema import PriceTable
from wolverined.errors import AdviserFailed, AdviserRefused
from wolverined.heal import budget
from wolverined.heal.adviser.endpoint import Endpoint
from wolverined.heal.adviser.trouble import Trouble, of_answer, of_exception
from wolverined.model import Usage

if TYPE_CHECKING:
    import openai

CALL_S = 120.0
"""The longest that one call may take, whatever time the job has."""
CONNECT_S = 10.0
MAX_BYTES = 4 * 1024 * 1024
MAX_TEXT = 256 * 1024
_WHOLE = frozenset({"stop", "eos", "end_turn"})


class Ledger(Protocol):
    """Who holds the money: heal, at the other end of the stream."""

    def reserve(self, *, model: str, input_tokens: int, output_tokens: int, cost_usd: float | None) -> int:
        """Hold the worst case of one call; raises `OverBudget` when it does not fit."""
        ...

    def settle(self, number: int, usage: Usage) -> None:
        """Replace a reservation by what the call used."""
        ...


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: object = None
    completion_tokens: object = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Tokens | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to ask: the texts, the model, the most tokens that it may answer, the operator's prices.

    `shorter` replaces `user` once, when the endpoint says that the prompt is too long; "": give up then.
    """

    model: str
    system: str
    user: str
    shorter: str = ""
    max_output: int
    prices: Mapping[str, PriceTable]


class ModelClient:
    """Asks one endpoint.

    Args:
        endpoint: Address and key.
        ledger: Reserves before each call and settles after it.
        sleep: Waits between tries; a test gives one that only takes note.
        rng: For the jitter.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        ledger: Ledger,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._ledger = ledger
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        # Servers that do not know the newer name of the limit say so once.
        self._limit_name = "max_completion_tokens"

    def ask(self, question: Question, *, timeout_s: float) -> tuple[str, Usage]:
        """Give the model's text and what all tries used.

        Raises:
            AdviserRefused: The key or the account is refused; asking again cannot help.
            AdviserFailed: No whole answer came within the tries or the time.
            OverBudget: The call does not fit into the budget; nothing was sent.
        """
        if self._endpoint.key in question.system + question.user + question.shorter:
            raise AdviserFailed(
                "the prompt holds the key of the endpoint and is not sent", hint="look at the app's output"
            )
        until = time.monotonic() + timeout_s
        used: list[Usage] = []
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Trouble) and error.tries > 1),
            wait=self._wait,
            stop=lambda state: _over(state, until),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            with self._session() as client:
                try:
                    text = retrying(self._once, client, question, until, used)
                except Trouble as trouble:
                    if not (trouble.context and question.shorter):
                        raise
                    shorter = msgspec.structs.replace(question, user=question.shorter)
                    text = retrying(self._once, client, shorter, until, used)
        except Trouble as trouble:
            kind = AdviserRefused if trouble.breaker else AdviserFailed
            message = trouble.message.replace(self._endpoint.key, "[key]")
            raise kind(message, hint=trouble.hint, retryable=trouble.tries > 1) from None
        return text, budget.total(used)

    def _once(self, client: openai.OpenAI, question: Question, until: float, used: list[Usage]) -> str:
        estimate = budget.estimate_tokens(question.system + question.user)
        cost = budget.cost_usd(
            question.prices, model=question.model, input_tokens=estimate, output_tokens=question.max_output
        )
        number = self._ledger.reserve(
            model=question.model, input_tokens=estimate, output_tokens=question.max_output, cost_usd=cost
        )
        # What cannot be known (a call that was cut off in the middle) counts as the worst case.
        usage = Usage(
            calls=1,
            input_tokens=estimate,
            output_tokens=question.max_output,
            cost_usd=cost,
            estimated=True,
            model=question.model,
        )
        try:
            completion = self._send(client, question, until)
            usage = _usage_of(completion, question, estimate)
            return _text_of(completion)
        except Trouble as trouble:
            if trouble.free:
                usage = Usage(calls=0, model=question.model)
            raise
        finally:
            used.append(usage)
            self._ledger.settle(number, usage)

    def _send(self, client: openai.OpenAI, question: Question, until: float) -> _Completion:
        left = min(until - time.monotonic(), CALL_S)
        if left <= 0:
            raise Trouble("no time is left to ask the model", free=True)
        try:
            answer = client.chat.completions.with_raw_response.create(
                model=question.model,
                messages=[{"role": "system", "content": question.system}, {"role": "user", "content": question.user}],
                timeout=left,
                extra_body={self._limit_name: question.max_output},
                extra_headers={"Accept-Encoding": "identity", "X-Wolverine-Seconds": f"{left:.3f}"},
            )
            body = answer.http_response.content
        except Exception as error:  # the SDK passes on errors of three libraries; each becomes one of our words
            trouble = of_exception(error)
            if trouble.unknown_limit and self._limit_name != "max_tokens":
                self._limit_name = "max_tokens"
                trouble.tries = 2
            raise trouble from None
        try:
            return msgspec.json.decode(body, type=_Completion)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise of_answer("the model's answer is no chat completion") from None

    def _session(self) -> openai.OpenAI:
        # Here and not above: the SDK takes half a second and 60 MB, and nobody pays that without asking.
        import openai  # noqa: PLC0415

        from wolverined.heal.adviser.transport import bounded_http  # noqa: PLC0415

        return openai.OpenAI(
            api_key=self._endpoint.key,
            base_url=self._endpoint.base_url,
            max_retries=0,
            http_client=bounded_http(connect_s=CONNECT_S, max_bytes=MAX_BYTES),
        )

    def _wait(self, state: tenacity.RetryCallState) -> float:
        trouble = state.outcome.exception() if state.outcome is not None else None
        if isinstance(trouble, Trouble) and trouble.wait_s is not None:
            return trouble.wait_s
        if isinstance(trouble, Trouble) and trouble.unknown_limit:
            return 0.0
        # 2, 4, 8, 16 s, each between half and all of it, so that many instances do not come back together.
        return float(2**state.attempt_number) * self._rng.uniform(0.5, 1.0)


def _over(state: tenacity.RetryCallState, until: float) -> bool:
    """Whether no further try is made: enough of them, or the wait would outlast the time."""
    trouble = state.outcome.exception() if state.outcome is not None else None
    tries = trouble.tries if isinstance(trouble, Trouble) else 1
    return state.attempt_number >= tries or time.monotonic() + state.upcoming_sleep >= until


def _usage_of(completion: _Completion, question: Question, estimate: int) -> Usage:
    said = completion.usage
    texts = (choice.message.content or "" for choice in completion.choices)
    return budget.settled(
        question.prices,
        model=question.model,
        said=(said.prompt_tokens, said.completion_tokens) if said is not None else None,
        estimate=(estimate, budget.estimate_tokens("".join(texts))),
    )


def _text_of(completion: _Completion) -> str:
    """The text of a whole answer.

    Raises:
        Trouble: It is not whole, or holds nothing to read.
    """
    choice = next(_first(completion), None)
    if choice is None:
        raise of_answer("the model's answer holds no choice")
    if choice.finish_reason is None:
        raise of_answer("the model's answer was cut off: it has no finish_reason")
    if choice.finish_reason not in _WHOLE:
        raise of_answer(f"the model's answer ended by {choice.finish_reason[:40]!r} and not of itself")
    text = choice.message.content or ""
    if not text.strip():
        raise of_answer("the model's answer is empty")
    if len(text) > MAX_TEXT:
        raise of_answer(f"the model's answer has {len(text)} characters, more than {MAX_TEXT}")
    return text


def _first(completion: _Completion) -> Iterator[_Choice]:
    yield from completion.choices[:1]
