# SPDX-License-Identifier: MIT
"""What the parser of one language hands over: a trace and where it stood."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from wolverined.model import ErrorLink, Frame, Trace

MAX_FRAMES = 60  # of one error; the innermost are kept
MAX_LINKS = 16
MAX_NOTES = 20
MAX_MESSAGE = 2000
MAX_TEXT_LINES = 120

_HINT = re.compile(r"(?:^|[.;] )(Did you (?:mean|forget)\b.{0,300}\?)$")


class Found(msgspec.Struct, frozen=True):
    """A trace at `lines[start:end]` of its stream."""

    trace: Trace
    start: int
    end: int


class Link(msgspec.Struct):
    """One error of a chain while it is being read; `frames` innermost first."""

    type: str
    message: str = ""
    code: str = ""
    notes: list[str] = []
    frames: list[Frame] = []


def finish(
    language: str, links: Sequence[Link], lines: Sequence[str], start: int, end: int, *, partial: bool = False
) -> Found:
    """Build the trace out of its links, the root cause first."""
    links = links[:MAX_LINKS] or (Link(""),)
    errors, frames, hint = [], [], ""
    for link in links:
        message, said = _split_hint(link)
        hint = hint or said
        kept = link.frames[:MAX_FRAMES]
        where = next((frame for frame in kept if frame.own), kept[0] if kept else None)
        notes = tuple(note[:MAX_MESSAGE] for note in link.notes[:MAX_NOTES])
        errors.append(ErrorLink(link.type, message, link.code, notes, where))
        frames += kept
    trace = Trace(
        language=language,
        errors=tuple(errors),
        frames=tuple(frames),
        hint=hint,
        partial=partial or not links[-1].type,
        text=_text(lines[start:end]),
    )
    return Found(trace, start, end)


def _split_hint(link: Link) -> tuple[str, str]:
    """Take the runtime's suggestion off the message; Node prints it as a line of its own."""
    message = link.message[:MAX_MESSAGE]
    # "SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?" is cut as well: it is advice.
    if message.endswith("?") and (found := _HINT.search(message)):
        return message[: found.start()], found[1]
    for note in link.notes:
        if note.startswith("Did you mean"):
            return message, note[:300]
    return message, ""


def _text(lines: Sequence[str]) -> str:
    if len(lines) > MAX_TEXT_LINES:
        half = MAX_TEXT_LINES // 2
        lines = [*lines[:half], f"... {len(lines) - 2 * half} lines ...", *lines[-half:]]
    return "\n".join(lines)[: 16 << 10]
