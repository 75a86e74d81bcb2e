# SPDX-License-Identifier: MIT
"""Asynchronous operations: how one stands, and waiting for its end."""

from __future__ import annotations

import asyncio

from wolverined.control.access import Level
from wolverined.control.routing import Call, Now, Reply, Route, seconds


async def change(call: Call) -> Reply:
    """`GET /v1/changes/ID`."""
    return Now(call.instance.change(call.id))


async def wait(call: Call) -> Reply:
    """`GET /v1/changes/ID/wait?timeout=SECONDS`: the change when it has ended, else as it stands then."""
    timeout_s = seconds(call, "timeout", most=call.limits.wait_max_s)
    waiting = asyncio.ensure_future(call.instance.wait_change(call.id, timeout_s))
    leaving = asyncio.ensure_future(call.gone.wait())
    try:
        # A client that went away frees its connection at once.
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return Now(waiting.result() if waiting.done() else call.instance.change(call.id))
    finally:
        waiting.cancel()
        leaving.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


ROUTES = (
    Route("GET", "/v1/changes/ID", Level.VIEW, change),
    Route("GET", "/v1/changes/ID/wait", Level.VIEW, wait),
)
