# SPDX-License-Identifier: MIT
import msgspec

from wolverined import model


def test_an_incident_survives_the_round_trip_through_json() -> None:
    """What one role writes another reads back as the same value."""
    incident = model.Incident(id="i1", fingerprint="f", kind=model.IncidentKind.CRASH, error="TypeError")
    assert msgspec.json.decode(msgspec.json.encode(incident), type=model.Incident) == incident
