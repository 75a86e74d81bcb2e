# SPDX-License-Identifier: MIT
"""Known fixes for plain slips, without a model: the first rung of the ladder of proposals.

A remedy speaks only when the runtime or the scope leaves exactly one near match; else it is silent. It
reads the evidence and the snapshot, both written by others, and changes whole tokens alone: whatever it
does not name stays as it is, to the byte. Pure and deterministic; the trial decides what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wolverined.heal.remedies import (
    bracket,
    javascript_member,
    json_key,
    missing_module,
    python_attribute,
    python_import,
    undefined_name,
)
from wolverined.heal.remedies.clue import Clue, Fix, Workspace, clues, splice
from wolverined.heal.syntax import check_syntax
from wolverined.model import Evidence, FileChange, Proposal, RepairMode, Snapshot, Trace

MAX_TRACES = 8

_REMEDIES: tuple[Callable[[Clue], Fix | None], ...] = (
    undefined_name.propose,
    json_key.propose,
    python_import.propose,
    python_attribute.propose,
    javascript_member.propose,
    missing_module.propose,
    bracket.propose,
)


def propose(evidence: Evidence, snapshot: Snapshot) -> list[Proposal]:
    """Propose the known fixes for an incident.

    Args:
        evidence: The incident with its traces; hostile.
        snapshot: The app's source; hostile.

    Returns:
        Proposals of mode `remedy`, best first, all for the same trace; empty when no remedy is sure.
    """
    workspace = Workspace(snapshot)
    for trace in _traces(evidence):
        proposals: list[Proposal] = []
        for fix in _fixes(trace, workspace):
            proposal = _proposal(fix, workspace)
            if proposal is not None and all(proposal.changes != other.changes for other in proposals):
                proposals.append(proposal)
        if proposals:
            return proposals
    return []


def _traces(evidence: Evidence) -> list[Trace]:
    traces: list[Trace] = []
    for trace in (evidence.incident.trace, *reversed(evidence.traces)):
        if trace is not None and trace not in traces and len(traces) < MAX_TRACES:
            traces.append(trace)
    return traces


def _fixes(trace: Trace, workspace: Workspace) -> Iterator[Fix]:
    for clue in clues(trace, workspace):
        for remedy in _REMEDIES:
            try:
                fix = remedy(clue)
            except Exception:  # noqa: S112
                # A remedy reads hostile input. One that trips over it has no opinion; the others still
                # may, and the ladder goes on to recall and the model.
                continue
            if fix is not None:
                yield fix


def _proposal(fix: Fix, workspace: Workspace) -> Proposal | None:
    changes: list[FileChange] = []
    for path, splices in sorted(fix.splices.items()):
        file = workspace.files[path]
        after = splice(file.data, splices)
        if after == file.data:
            continue
        if check_syntax(path, after) is not None and check_syntax(path, file.data) is None:
            return None
        changes.append(FileChange(path=path, before=file.data, after=after, mode=file.mode))
    if not changes:
        return None
    return Proposal(
        mode=RepairMode.REMEDY,
        remedy=fix.remedy,
        reason=fix.reason,
        root_cause=fix.root_cause,
        changes=tuple(changes),
        confidence=fix.confidence,
    )
