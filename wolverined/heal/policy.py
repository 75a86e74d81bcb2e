# SPDX-License-Identifier: MIT
"""The patch policy (pure): what a proposal may touch at all, and whether it may go in without a human.

Paths, caps and text are judged for every proposal. A trial proves function, not intent: a model's
patch is `low_risk` only when `risk` finds nothing in it that the code did not do before. Nothing here
touches a disk; the surgeon walks with O_NOFOLLOW besides, so a path that lies here fails there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import msgspec

from wolverined.config.schema import HealTable
from wolverined.errors import EditRejected
from wolverined.heal import risk
from wolverined.heal.diff import counts
from wolverined.heal.source import NEVER, Selection
from wolverined.model import FileChange, Proposal, RepairMode, Snapshot, Trace

MAX_PATH = 512
_MODELS = (RepairMode.FAST, RepairMode.AGENT, RepairMode.SUB_AGENTS)
_PERMISSIONS = 0o7777
_NEW_MODE = 0o644
# Characters that make a reader see other code than the interpreter does (CVE-2021-42574).
_INVISIBLE = frozenset(
    "\u200b\u200c\u200d\u200e\u200f\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons` say why it is refused, or, when it is allowed but not low-risk, why a human must look."""

    allowed: bool
    low_risk: bool
    reasons: tuple[str, ...] = ()


def check(proposal: Proposal, snapshot: Snapshot, heal: HealTable, trace: Trace | None) -> PolicyResult:
    """Judge a proposal.

    Args:
        proposal: By whomever.
        snapshot: The source that it is for.
        heal: The operator's globs and caps.
        trace: Of the trouble; its own frames say which functions a model may touch unasked.
    """
    refusals = refused(proposal.changes, snapshot, heal)
    if refusals:
        return PolicyResult(allowed=False, low_risk=False, reasons=refusals)
    if proposal.mode not in _MODELS:
        return PolicyResult(allowed=True, low_risk=True)
    reasons = risk.assess(proposal.changes, root=snapshot.root, trace=trace)
    return PolicyResult(allowed=True, low_risk=not reasons, reasons=reasons)


def refused(changes: Sequence[FileChange], snapshot: Snapshot, heal: HealTable) -> tuple[str, ...]:
    """Why changes may not even be tried; empty when they may."""
    if not changes:
        return ("the proposal changes nothing",)
    paths = [change.path for change in changes]
    reasons = []
    if len(set(paths)) != len(paths):
        reasons.append("the proposal names a file twice")
    if len(changes) > heal.max_files:
        reasons.append(f"{len(changes)} files are more than heal.max_files = {heal.max_files}")
    for change in changes:
        problem = _path(change.path, snapshot, heal) or _content(change, snapshot)
        if problem:
            reasons.append(problem)
    if not reasons:
        lines = sum(counts(changes))
        if lines > heal.max_lines:
            reasons.append(f"{lines} changed lines are more than heal.max_lines = {heal.max_lines}")
    return tuple(reasons)


def _path(path: str, snapshot: Snapshot, heal: HealTable) -> str:
    """Why a path is refused, or ""."""
    shown = ascii(path[:80])
    if not path or len(path) > MAX_PATH or "\\" in path or any(not char.isprintable() for char in path):
        return f"the path {shown} is empty, too long, or holds characters that paths of source do not"
    if unicodedata.normalize("NFC", path) != path:
        return f"the path {shown} is written with decomposed characters"
    parts = path.split("/")
    if any(part in {"", ".", ".."} or part != part.strip() or part.endswith(".") for part in parts):
        return f"the path {shown} is absolute, leaves the source, or is oddly written"
    # A file system may fold case (a mount, a share): then .ENV is .env, and a new Server.js is server.js.
    folded = path.casefold()
    selections = (
        (path, Selection(allow=heal.allow, deny=heal.deny)),
        (folded, Selection(allow=("**",), deny=tuple(pattern.casefold() for pattern in heal.deny))),
    )
    for name, selection in selections:
        if refusal := selection.refusal(name):
            return refusal
    if NEVER.intersection(folded.split("/")):
        return f"the path {shown} is not the app's own source"
    if path in snapshot.files:
        return ""
    if any("/".join(parts[:n]) in snapshot.files for n in range(1, len(parts))):
        return f"the path {shown} goes through a file"
    if any(name.casefold() == folded for name in snapshot.files):
        return f"the path {shown} differs from an existing file only in case"
    return ""


def _content(change: FileChange, snapshot: Snapshot) -> str:
    """Why the content of a change is refused, or ""."""
    path, file = change.path, snapshot.files.get(change.path)
    if change.before != (file.data if file is not None else None):
        return f"{path} is not what the proposal was made for"
    if change.before == change.after:
        return f"the change of {path} changes nothing"
    wanted = file.mode if file is not None else _NEW_MODE
    if change.after is not None and (change.mode & _PERMISSIONS) != (wanted & _PERMISSIONS):
        return f"the mode of {path} may not change, and a new file is not executable"
    try:
        counts([change])
    except EditRejected as error:
        return error.message
    old, new = (set((data or b"").decode()) for data in (change.before, change.after))
    hidden = sorted((new - old) & _INVISIBLE)
    if hidden:
        return f"the change of {path} adds invisible characters ({', '.join(f'U+{ord(char):04X}' for char in hidden)})"
    return ""
