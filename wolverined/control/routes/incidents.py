# SPDX-License-Identifier: MIT
"""Incidents: the list without its heavy parts, and one with everything."""

from __future__ import annotations

from typing import Any

import msgspec

from wolverined.control.access import Level
from wolverined.control.routing import MOST_LISTED, Call, Now, Reply, Route, flag, number
from wolverined.model import Incident


async def incidents(call: Call) -> Reply:
    """`GET /v1/incidents?limit=&open=`: the newest first, without trace, request and output."""
    found = call.instance.incidents(
        limit=number(call, "limit", default=50, low=1, high=MOST_LISTED), open_only=flag(call, "open")
    )
    return Now([brief(incident) for incident in found])


async def incident(call: Call) -> Reply:
    """`GET /v1/incidents/ID`."""
    return Now(call.instance.incident(call.id))


def brief(incident: Incident) -> dict[str, Any]:
    """An incident as a line of a list."""
    whole = msgspec.to_builtins(incident)
    assert isinstance(whole, dict)
    return {key: value for key, value in whole.items() if key not in {"trace", "request", "exit"}}


ROUTES = (
    Route("GET", "/v1/incidents", Level.VIEW, incidents),
    Route("GET", "/v1/incidents/ID", Level.VIEW, incident),
)
