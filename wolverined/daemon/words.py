# SPDX-License-Identifier: MIT
"""Words of the daemon for a person."""

from __future__ import annotations

from wolverined.model import Incident


def describe(incident: Incident) -> str:
    """One line of an incident for a person: what, and where."""
    where = ""
    if incident.trace is not None:
        frame = next((frame for frame in incident.trace.frames if frame.own), None)
        where = f" at {frame.path}:{frame.line}" if frame else ""
    what = f"{incident.error}: {incident.message}" if incident.message else incident.error
    request = f" on {incident.request.method} {incident.request.path}" if incident.request else ""
    return f"{what}{where}{request}"
