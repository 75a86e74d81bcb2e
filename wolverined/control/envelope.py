# SPDX-License-Identifier: MIT
"""The JSON around every answer: `{"type": "sync|async|error", "result": ..., "change": ...}`.

Maps the kinds of the one tree of errors to HTTP statuses. Pure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wolverined.errors import WolverineError
from wolverined.model import Change

STATUS_OF_KIND = {
    "bad-request": 400,
    "access-denied": 403,
    "not-found": 404,
    "no-such-instance": 404,
    "method-not-allowed": 405,
    "conflict": 409,
    "surgery-aborted": 409,
    "too-large": 413,
    "config-invalid": 422,
    "edit-rejected": 422,
    "busy": 503,
    "unreachable": 503,
    "timed-out": 504,
}
"""Kinds that programs may rely on; every other kind answers 500."""


class Refusal(WolverineError):
    """A request that the API itself refuses, with a status and a kind of its own."""

    def __init__(self, status: int, kind: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.kind = kind  # shadows the class attribute: one class serves all refusals of the protocol


def status_of(error: WolverineError) -> int:
    """The HTTP status that tells of `error`."""
    return error.status if isinstance(error, Refusal) else STATUS_OF_KIND.get(error.kind, 500)


def sync(result: Any) -> bytes:
    """An answer that is complete."""
    return encode({"type": "sync", "result": result})


def asynchronous(change: Change) -> bytes:
    """An operation that was begun."""
    return encode({"type": "async", "change": change.id, "result": change})


def failure(error: WolverineError) -> bytes:
    """An error in words and in a stable kind."""
    return encode({"type": "error", "result": {"kind": error.kind, "message": error.message, "hint": error.hint}})


def encode(value: Any) -> bytes:
    """JSON of `value`, whatever bytes its texts came from."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # A name or a line that was decoded with surrogateescape: still an answer, with marks in it.
        return msgspec.json.encode(_printable(msgspec.to_builtins(value)))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
