# SPDX-License-Identifier: MIT
"""Words of the daemon for a person, and what an incident's event brings along for programs."""

from __future__ import annotations

from typing import Any

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


def facts(incident: Incident) -> dict[str, Any]:
    """What the events of an incident carry; of an error also the innermost own frame, relative to the app's root."""
    found: dict[str, Any] = {"fingerprint": incident.fingerprint, "kind": incident.kind.value}
    if incident.route:
        found["route"] = incident.route
    frames = incident.trace.frames if incident.trace is not None else ()
    if (frame := next((frame for frame in frames if frame.own), None)) is not None:
        code = {"code_file": frame.path, "code_line": frame.line, "code_function": frame.function}
        found |= {key: value for key, value in code.items() if value}
    return found
