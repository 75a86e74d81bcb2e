# SPDX-License-Identifier: MIT
"""Plans of a surgery (pure): from changes, looks and backups to steps by content hash."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wolverined.errors import SurgeryAborted
from wolverined.heal.backup import Kept
from wolverined.heal.source import sha256_of
from wolverined.heal.surgeon.steps import Look, Step
from wolverined.model import FileChange


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal keeps of a surgery: enough to undo it without any other memory."""

    root: str
    steps: tuple[Step, ...]
    make_dirs: tuple[str, ...] = ()
    drop_dirs: tuple[str, ...] = ()


def pairs(changes: Sequence[FileChange], looks: Sequence[Look]) -> list[tuple[FileChange, Look]]:
    """Changes beside what stands at their paths."""
    return list(zip(changes, looks, strict=True))


def forward(number: int, change: FileChange, look: Look, nonce: str) -> Step:
    """The step that puts a change in."""
    return Step(
        path=change.path,
        temp=f".wolverine-{nonce}-{number}.tmp",
        old=look.sha256,
        new=hash_or_none(change.after),
        mode=change.mode & 0o755,
        old_mode=look.mode or 0o644,
    )


def backward(kept: Kept, number: int, nonce: str) -> Step:
    """The step that takes a kept file back."""
    return Step(
        path=kept.path,
        temp=f".wolverine-{nonce}-{number}.tmp",
        old=kept.new,
        new=kept.old,
        mode=kept.old_mode,
        old_mode=kept.new_mode,
    )


def kept_of(step: Step) -> Kept:
    """What a backup says of a step's file."""
    new_mode = step.mode if step.old is None else step.old_mode
    return Kept(path=step.path, old=step.old, new=step.new, old_mode=step.old_mode, new_mode=new_mode)


def hash_or_none(data: bytes | None) -> str | None:
    """The hash of a content; None of no file."""
    return None if data is None else sha256_of(data)


def foreign_error(paths: Sequence[str]) -> SurgeryAborted:
    """The error that names what somebody else changed."""
    names = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")  # noqa: PLR2004
    return SurgeryAborted(f"changed by somebody else: {names}", hint="theirs is kept; nothing was written")
