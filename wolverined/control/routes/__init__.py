# SPDX-License-Identifier: MIT
"""One module a resource; each names its endpoints, and `ROUTES` is all of them."""

from __future__ import annotations

from wolverined.control.routes import backups, changes, incidents, lifecycle, repairs, status, streams
from wolverined.control.routing import Route

ROUTES: tuple[Route, ...] = (
    *status.ROUTES,
    *incidents.ROUTES,
    *repairs.ROUTES,
    *backups.ROUTES,
    *streams.ROUTES,
    *lifecycle.ROUTES,
    *changes.ROUTES,
)
