# SPDX-License-Identifier: MIT
"""Repairs: what was proposed, its patch, and the operator's word on it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from wolverined.control.access import Level
from wolverined.control.routing import MOST_LISTED, Call, Now, Reply, Route, body_of, number, submit
from wolverined.errors import UsageError
from wolverined.model import Repair


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `approve`: `sha256` is of the diff that was read, so that no other is applied."""

    sha256: str = ""


class Nothing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body without fields."""


async def repairs(call: Call) -> Reply:
    """`GET /v1/repairs?limit=`: the newest first, without their diffs."""
    found = call.instance.repairs(limit=number(call, "limit", default=50, low=1, high=MOST_LISTED))
    return Now([brief(repair) for repair in found])


async def repair(call: Call) -> Reply:
    """`GET /v1/repairs/ID`."""
    return Now(call.instance.repair(call.id))


async def patch(call: Call) -> Reply:
    """`GET /v1/repairs/ID/patch`: a text for `git am`."""
    return Now(call.instance.patch(call.id))


async def approve(call: Call) -> Reply:
    """`POST /v1/repairs/ID/approve`."""
    body = body_of(call, Approval)
    if not re.fullmatch(r"[0-9a-f]{64}|", body.sha256, re.ASCII):
        raise UsageError("sha256 must be 64 hexadecimal digits")
    return submit(call, "approve", {"repair": call.id, "sha256": body.sha256})


async def reject(call: Call) -> Reply:
    """`POST /v1/repairs/ID/reject`."""
    body_of(call, Nothing)
    return submit(call, "reject", {"repair": call.id})


async def rollback(call: Call) -> Reply:
    """`POST /v1/repairs/ID/rollback`."""
    body_of(call, Nothing)
    return submit(call, "rollback", {"repair": call.id})


def brief(repair: Repair) -> dict[str, Any]:
    """A repair as a line of a list."""
    whole = msgspec.to_builtins(repair)
    assert isinstance(whole, dict)
    return {key: value for key, value in whole.items() if key != "diff"}


ROUTES = (
    Route("GET", "/v1/repairs", Level.VIEW, repairs),
    Route("GET", "/v1/repairs/ID", Level.VIEW, repair),
    Route("GET", "/v1/repairs/ID/patch", Level.VIEW, patch),
    Route("POST", "/v1/repairs/ID/approve", Level.ACT, approve),
    Route("POST", "/v1/repairs/ID/reject", Level.ACT, reject),
    Route("POST", "/v1/repairs/ID/rollback", Level.ACT, rollback),
)
