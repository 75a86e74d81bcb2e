# SPDX-License-Identifier: MIT
"""Backups: the files that repairs replaced, and putting them back."""

from __future__ import annotations

from wolverined.control.access import Level
from wolverined.control.routes.repairs import Nothing
from wolverined.control.routing import Call, Now, Reply, Route, body_of, submit


async def backups(call: Call) -> Reply:
    """`GET /v1/backups`."""
    return Now(call.instance.backups())


async def restore(call: Call) -> Reply:
    """`POST /v1/backups/ID/restore`."""
    body_of(call, Nothing)
    return submit(call, "restore", {"backup": call.id})


ROUTES = (
    Route("GET", "/v1/backups", Level.VIEW, backups),
    Route("POST", "/v1/backups/ID/restore", Level.ACT, restore),
)
