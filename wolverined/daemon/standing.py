# SPDX-License-Identifier: MIT
"""What the store says of repairs that are not over: in probation, half done, waiting for an operator.

Questions only; the desk asks them before it begins anything, and after a start.
"""

from __future__ import annotations

import zlib

from wolverined.errors import Conflict, NotFound
from wolverined.heal.job import Conclusion, Result
from wolverined.heal.terms import expired, stands
from wolverined.model import Incident, IncidentKind, IncidentState, NewIncident, Repair, RepairState
from wolverined.store import Store
from wolverined.store.journal import JournalState

STALE_S = 1800.0
"""An incident that nobody repairs is closed as recovered when the app was well for so long."""

_LOOKED_AT = 50
_ALL = 200
_WATCHED = (RepairState.APPLIED, RepairState.PROBATION)
_STANDING = (RepairState.VERIFIED, RepairState.STABLE)
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


def checkable(store: Store) -> bool:
    """Whether there is a repair that a deploy could have replaced, and none that is watched anyway."""
    repairs = store.repairs.list(limit=_ALL)
    return any(one.state in _STANDING for one in repairs) and not any(one.state in _WATCHED for one in repairs)


def promotable(store: Store, *, now: float, approval_s: float) -> bool:
    """Whether a repair has stood long enough to be stable, or has waited too long for an approval."""
    return any(
        stands(repair, now=now) or expired(repair, now=now, approval_s=approval_s)
        for repair in store.repairs.list(limit=_ALL)
    )


def asked_for(store: Store, incident_id: str, report: str) -> Incident | None:
    """The incident that an operator means: the one named, that of their own words, or the newest open one.

    Raises:
        Conflict: It is closed.
        NotFound: There is none of that id.
    """
    if incident_id:
        incident = store.incidents.get(incident_id)
        if incident.state is IncidentState.CLOSED:
            raise Conflict(f"{incident_id} is closed by {incident.closed_by}", hint="name an open one")
        return incident
    if report:
        words = NewIncident(
            fingerprint=f"report-{zlib.crc32(' '.join(report.split()).encode()):08x}",
            kind=IncidentKind.REPORT,
            error="operator's report",
            message=report[:500],
        )
        return store.incidents.open_or_count(words)
    return store.incidents.newest_open()


def stale(incident: Incident, *, now: float) -> bool:
    """Whether an open incident is long over."""
    return incident.state is IncidentState.OPEN and now - incident.last_at > STALE_S


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


def rolled_back(store: Store, repair_id: str) -> Result:
    """What became of a rollback that was left to the heal which watched the repair."""
    repair = store.repairs.get(repair_id)
    done = repair.state is RepairState.ROLLED_BACK
    said = repair.note or f"{repair_id} is {repair.state.value}"
    return Result(
        conclusion=Conclusion.ROLLED_BACK if done else Conclusion.FAILED,
        said=f"{repair_id} rolled back: {said}" if done else said,
        repair=repair_id,
    )


def _cut_off(store: Store, repair: Repair) -> bool:
    if repair.state is not RepairState.PROPOSED:
        return repair.state in (RepairState.PROVING, RepairState.APPLIED)
    incident = incident_of(store, repair)
    # A proposal that was told to nobody; one of policy `observe` is at its end, and stays as it is.
    return repair.verdict is None or (incident is not None and incident.state is IncidentState.HEALING)
