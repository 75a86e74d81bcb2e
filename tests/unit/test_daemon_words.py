# SPDX-License-Identifier: MIT
"""What the events of an incident say to programs."""

from wolverined.daemon.words import facts
from wolverined.model import Frame, Incident, IncidentKind, Trace


def test_an_incident_of_a_route_names_it() -> None:
    """Beside the place of the fault; one without a route has no such field."""
    trace = Trace(language="node", errors=(), frames=(Frame(path="items.js", line=7, function="show", own=True),))
    one = Incident(id="i1", fingerprint="f", kind=IncidentKind.HTTP5XX, error="E", route="GET /items/:id", trace=trace)
    assert facts(one) == {
        "fingerprint": "f",
        "kind": "http5xx",
        "route": "GET /items/:id",
        "code_file": "items.js",
        "code_line": 7,
        "code_function": "show",
    }
    assert "route" not in facts(Incident(id="i2", fingerprint="f", kind=IncidentKind.CRASH, error="E"))
