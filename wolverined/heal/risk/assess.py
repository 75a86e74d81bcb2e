# SPDX-License-Identifier: MIT
"""Judges the files of a model's patch one by one, each by the rules of its language.

A language that is not known here is never low-risk: a human looks.
"""

from __future__ import annotations

from collections.abc import Sequence

from wolverined.heal.diff import counts
from wolverined.model import FileChange, Trace

MAX_LINES = 40


def assess(changes: Sequence[FileChange], *, root: str, trace: Trace | None) -> tuple[str, ...]:
    """Why a human must look at the changes; empty when they are low-risk."""
    if trace is None or not any(frame.own for frame in trace.frames):
        return ("no own frame of a trace says which function is at fault",)
    reasons = []
    lines = sum(counts(changes))
    if lines > MAX_LINES:
        reasons.append(f"it changes {lines} lines, more than {MAX_LINES}")
    reasons += (f"{change.path}: its language is not judged" for change in changes)
    return tuple(reasons)
