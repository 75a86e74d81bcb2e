# SPDX-License-Identifier: MIT
"""What the operator tells the daemon to do with the application."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wolverined.control.access import Level
from wolverined.control.routes.repairs import Nothing
from wolverined.control.routing import Call, Handler, Reply, Route, body_of, submit

HOLD_MAX_S = 7 * 86400.0  # a hold is for a deploy; who wants no heals sets heal.policy


class Heal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `heal`: no incident means the newest open one; `report` is the operator's words."""

    incident: Annotated[str, msgspec.Meta(pattern=r"^(i[0-9]{1,18})?$")] = ""
    dry_run: bool = False
    report: Annotated[str, msgspec.Meta(max_length=65536)] = ""


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `hold`: no heal begins for so long; 0 ends a hold."""

    for_s: Annotated[float, msgspec.Meta(ge=0, le=HOLD_MAX_S)]


async def heal(call: Call) -> Reply:
    """`POST /v1/heal`."""
    body = body_of(call, Heal)
    return submit(call, "heal", {"incident": body.incident, "dry_run": body.dry_run, "report": body.report})


async def hold(call: Call) -> Reply:
    """`POST /v1/hold`."""
    return submit(call, "hold", {"for_s": body_of(call, Hold).for_s})


def _plain(action: str) -> Handler:
    async def handler(call: Call) -> Reply:
        body_of(call, Nothing)
        return submit(call, action)

    return handler


_PLAIN = ("start", "stop", "restart", "reload", "reexec")

ROUTES = (
    *(Route("POST", f"/v1/{action}", Level.ACT, _plain(action)) for action in _PLAIN),
    Route("POST", "/v1/heal", Level.ACT, heal),
    Route("POST", "/v1/hold", Level.ACT, hold),
)
