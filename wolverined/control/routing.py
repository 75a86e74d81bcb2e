# SPDX-License-Identifier: MIT
"""The table of endpoints and what a handler is given; a request that is in no row is refused.

Each module of `routes` names its rows and `routes.ROUTES` is all of them, so the whole surface of the
API, with the level that each row needs, can be read (and tested) in one place.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from wolverined.control.access import Level
from wolverined.control.envelope import Refusal
from wolverined.control.follow import Source
from wolverined.control.http import Incoming, Limits
from wolverined.control.interfaces import Instance
from wolverined.errors import UsageError
from wolverined.linux.peer import Peer
from wolverined.model import Change

_ID = re.compile(r"[a-z][0-9]{1,18}", re.ASCII)
_T = TypeVar("_T")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request on its way to a handler."""

    instance: Instance
    peer: Peer
    incoming: Incoming
    limits: Limits
    gone: asyncio.Event  # the peer no longer waits
    id: str = ""  # the ID in the path


class Now(msgspec.Struct, frozen=True):
    """A reply that is complete."""

    result: Any


class Later(msgspec.Struct, frozen=True):
    """A reply that is a change."""

    change: Change


class Follow(msgspec.Struct, frozen=True):
    """A reply without an end."""

    source: Source
    cursor: int


Reply = Now | Later | Follow
Handler = Callable[[Call], Awaitable[Reply]]


class Route(msgspec.Struct, frozen=True):
    """One endpoint: what it answers to, what level it needs, who answers."""

    method: str
    pattern: str  # "/v1/repairs/ID/approve"
    level: Level
    handler: Handler


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, str]:
    """The route of a request, and the ID in its path.

    Raises:
        Refusal: There is no such path (404), or it has other methods (405).
    """
    steps = path.split("/")
    ident = steps[3] if len(steps) > 3 else ""  # noqa: PLR2004  ("", "v1", resource, ID)
    if len(steps) > 3 and _ID.fullmatch(ident):  # noqa: PLR2004
        steps[3] = "ID"
    pattern = "/".join(steps)
    # "ID" itself is a word of the table, no id.
    found = [route for route in routes if route.pattern == pattern] if ident != "ID" else []
    if not found:
        raise Refusal(404, "not-found", "there is no such path", hint="the API begins at /v1/status")
    for route in found:
        if route.method == method:
            return route, ident
    allowed = ", ".join(route.method for route in found)
    raise Refusal(405, "method-not-allowed", f"this path answers to {allowed} only")


def body_of(call: Call, kind: type[_T]) -> _T:
    """The request's JSON body as `kind`; no body is an empty object. UsageError says what is wrong."""
    try:
        return msgspec.json.decode(call.incoming.body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body does not fit: {error}") from error


MOST_LISTED = 200
"""Incidents or repairs of one answer: they are decoded in the loop, with traces and diffs that a list leaves out."""


def number(call: Call, name: str, *, default: int, low: int, high: int) -> int:
    """A whole number of the query, held between `low` and `high`."""
    text = call.incoming.query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII):
        raise UsageError(f"{name} must be a whole number")
    return max(low, min(high, int(text)))


def seconds(call: Call, name: str, *, most: float) -> float:
    """A duration of the query, at most (and without it) `most`."""
    text = call.incoming.query.get(name)
    if text is None:
        return most
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        raise UsageError(f"{name} must be a number of seconds")
    return min(most, float(text))


def flag(call: Call, name: str) -> bool:
    """A yes or no of the query."""
    text = call.incoming.query.get(name, "false").lower()
    if text not in {"", "1", "0", "true", "false"}:
        raise UsageError(f"{name} must be true or false")
    return text in {"", "1", "true"}


def submit(call: Call, action: str, args: dict[str, Any] | None = None) -> Later:
    """Begin a change for the peer, under the key that it sent."""
    key = call.incoming.headers.get("idempotency-key", "")
    if not re.fullmatch(r"[\x21-\x7e]{0,128}", key, re.ASCII):
        raise UsageError("Idempotency-Key must be at most 128 visible ASCII characters")
    change = call.instance.submit(action, args or {}, peer=call.peer, idempotency_key=key)
    who = {"uid": call.peer.uid, "pid": call.peer.pid}
    what = {name: value for name, value in (args or {}).items() if name != "report"}  # up to 64 KiB of prose
    call.instance.audit(
        "audit.change",
        f"uid {call.peer.uid} asked for {action}",
        {**what, **who, "action": action, "change": change.id},
    )
    return Later(change)
