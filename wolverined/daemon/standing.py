# SPDX-License-Identifier: MIT
"""What the store says of repairs that are not over: in probation, half done, waiting for an operator.

Questions only; the desk asks them before it begins anything, and after a start.
"""

from __future__ import annotations

from wolverined.errors import NotFound
from wolverined.model import Incident, IncidentState, Repair, RepairState
from wolverined.store import Store
from wolverined.store.journal import JournalState

_LOOKED_AT = 50
_WATCHED = (RepairState.APPLIED, RepairState.PROBATION)
_APPROVABLE = (RepairState.APPROVAL, RepairState.PROPOSED, RepairState.UNPROVABLE)
_TORN = (JournalState.SWAPPING, JournalState.UNDOING)


def incident_of(store: Store, repair: Repair) -> Incident | None:
    """The incident that a repair is for; None when it was forgotten long ago."""
    try:
        return store.incidents.get(repair.incident)
    except NotFound:
        return None


def in_probation(store: Store) -> Repair | None:
    """The repair that is in place and has not stood its probation."""
    return next((repair for repair in store.repairs.list(limit=_LOOKED_AT) if repair.state in _WATCHED), None)


def half_done(store: Store) -> bool:
    """Whether a predecessor was killed in the middle of something that has to be finished or forgotten."""
    repairs = store.repairs.list(limit=_LOOKED_AT)
    return store.journal.unfinished() is not None or any(_cut_off(store, repair) for repair in repairs)


def torn(store: Store) -> bool:
    """Whether the source may be half of one tree and half of another."""
    entry = store.journal.unfinished()
    return entry is not None and entry.state in _TORN


def approvable(store: Store, incident: Incident) -> bool:
    """Whether there is a repair of this incident that an operator could approve."""
    return any(repair.state in _APPROVABLE for repair in store.repairs.list(limit=_LOOKED_AT, incident=incident.id))


def _cut_off(store: Store, repair: Repair) -> bool:
    if repair.state is not RepairState.PROPOSED:
        return repair.state in (RepairState.PROVING, RepairState.APPLIED)
    incident = incident_of(store, repair)
    # A proposal that was told to nobody; one of policy `observe` is at its end, and stays as it is.
    return repair.verdict is None or (incident is not None and incident.state is IncidentState.HEALING)
