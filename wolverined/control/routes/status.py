# SPDX-License-Identifier: MIT
"""How the application is, what it was told to be, and what models have cost."""

from __future__ import annotations

from typing import Any

from wolverined.control.access import Level
from wolverined.control.routing import Call, Now, Reply, Route

HIDDEN = "(hidden)"


async def status(call: Call) -> Reply:
    """`GET /v1/status`."""
    return Now(call.instance.status())


async def config(call: Call) -> Reply:
    """`GET /v1/config`: the values of environments, which hold secrets, are hidden."""
    return Now(hide_environments(call.instance.config()))


async def usage(call: Call) -> Reply:
    """`GET /v1/usage`."""
    return Now(call.instance.usage())


def hide_environments(value: Any) -> Any:
    """`value` with every value of every table named `environment` hidden."""
    if not isinstance(value, dict):
        return value
    return {
        key: dict.fromkeys(item, HIDDEN) if key == "environment" and isinstance(item, dict) else hide_environments(item)
        for key, item in value.items()
    }


ROUTES = (
    Route("GET", "/v1/status", Level.VIEW, status),
    Route("GET", "/v1/config", Level.VIEW, config),
    Route("GET", "/v1/usage", Level.VIEW, usage),
)
