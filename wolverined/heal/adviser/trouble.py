# SPDX-License-Identifier: MIT
"""What went wrong with a call, in our words: whether to try again, how often, after how long.

Classified by status first, then by code, and by the words of a message last: servers that speak this
API agree on the first, half agree on the second, and never on the third.
"""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

LIMITED_TRIES = 5
SERVER_TRIES = 3
LONGEST_WAIT_S = 120.0

_BREAKERS = frozenset({401, 402, 403})
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"})
_CONTEXT = re.compile(r"maximum context length|context_length|n_ctx|too long|too many tokens", re.IGNORECASE)


class Trouble(Exception):
    """One failed call.

    Args:
        message: For a person, one line.
        hint: What the operator can do.
        tries: How often in all such a call is made; 1: never again.
        wait_s: What the endpoint asks to wait; None: our own backoff.
        breaker: Asking again cannot help until an operator acts.
        free: The call was certainly not worked on, so it cost nothing.
        context: The prompt is too long for the model.
        unknown_limit: The server does not know the name of the output limit.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        tries: int = 1,
        wait_s: float | None = None,
        breaker: bool = False,
        free: bool = False,
        context: bool = False,
        unknown_limit: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.tries = tries
        self.wait_s = wait_s
        self.breaker = breaker
        self.free = free
        self.context = context
        self.unknown_limit = unknown_limit


def of_answer(message: str) -> Trouble:
    """An answer came and was paid for, but cannot be used; asking the same again is left to the ladder."""
    return Trouble(message)


def of_exception(error: Exception) -> Trouble:
    """Read what the SDK raised."""
    import openai  # noqa: PLC0415 - loaded already whenever there is something to read

    if isinstance(error, openai.APIStatusError):
        return _of_status(error.status_code, _code(error), error.message, error.response.headers)
    for cause in _causes(error):
        if isinstance(cause, Trouble):
            return cause
    if isinstance(error, openai.APITimeoutError):
        return Trouble("the model did not answer in time", tries=2)
    if isinstance(error, openai.APIConnectionError):
        words = _words(" ".join(str(cause) for cause in _causes(error)))
        # Only a connection that never was is certain to have cost nothing.
        unsent = any(type(cause).__name__ in {"ConnectError", "ConnectTimeout"} for cause in _causes(error))
        return Trouble(f"the endpoint cannot be reached: {words}", tries=SERVER_TRIES, free=unsent)
    return Trouble(f"the model's answer cannot be read: {type(error).__name__}: {_words(str(error))}")


def _of_status(status: int, code: str, message: str, headers: Any) -> Trouble:
    said = f"the endpoint answers {status}: {_words(message)}"
    if status in _BREAKERS or code in _QUOTA:
        hint = "check the key, its rights and the account; no further call is made for this incident"
        return Trouble(said, hint=hint, breaker=True, free=True)
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return Trouble(said, tries=LIMITED_TRIES, wait_s=retry_after(headers), free=True)
    if status >= 500:  # noqa: PLR2004 - the server's own errors
        return Trouble(said, tries=SERVER_TRIES, free=True)
    if code == "context_length_exceeded" or (status in {400, 413} and _CONTEXT.search(message)):
        return Trouble(said, hint="the prompt is too long for this model", context=True, free=True)
    if status == 404:  # noqa: PLR2004 - Not Found
        return Trouble(said, hint="check [ai] base_url and models", free=True)
    unknown = status in {400, 422} and "max_completion_tokens" in message
    return Trouble(said, hint="check [ai] models", free=True, unknown_limit=unknown)


def retry_after(headers: Any) -> float | None:
    """Seconds of a Retry-After header (a number or a date), at most two minutes; None when it makes no sense."""
    value = str(headers.get("retry-after") or "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S) if math.isfinite(seconds) else None


def _code(error: Any) -> str:
    code, kind = getattr(error, "code", None), getattr(error, "type", None)
    return str(kind) if kind in _QUOTA else str(code or "")


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what led to it."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _words(text: str) -> str:
    """Text of the endpoint as one bounded, printable line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[:2000]).split())[:200]
