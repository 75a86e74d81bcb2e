# SPDX-License-Identifier: MIT
"""Judges the files of a model's patch one by one, each by the rules of its language.

A language that is not known here, a file that is new or goes away, and a change outside of the
functions that the trace names are never low-risk: a human looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import PurePosixPath

from wolverined.heal.diff import counts
from wolverined.heal.risk import javascript, python
from wolverined.heal.risk.facts import Facts, Words, compare, listed
from wolverined.model import FileChange, Trace

MAX_LINES = 40
NEAR_LINES = 10
"""How far from the line that the interpreter names a bracket may be put right."""

Place = tuple[int, int | None]

_PYTHON = frozenset({".py"})
_JAVASCRIPT = frozenset({".js", ".cjs", ".mjs", ".jsx"})
_PUNCTUATION = re.compile(r"[()\[\]{},:;]")
# Code that guards: whoever changes a line of it is looked at, whatever the change is.
_GUARDS = listed(
    "auth authenticate authenticated authorize authorized authorization permission permissions privilege role roles "
    "admin superuser password passwd secret credential credentials token csrf xsrf cors origin session cookie jwt "
    "signature signed verify verified validate sanitize escape acl allowed denied forbidden login owner"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def assess(changes: Sequence[FileChange], *, root: str, trace: Trace | None) -> tuple[str, ...]:
    """Why a human must look at the changes; empty when they are low-risk.

    Args:
        changes: Allowed by the path policy.
        root: Of the snapshot; frames may name files absolutely.
        trace: Of the trouble.
    """
    if trace is None or not any(frame.own for frame in trace.frames):
        return ("no own frame of a trace says which function is at fault",)
    reasons = []
    lines = sum(counts(changes))
    if lines > MAX_LINES:
        reasons.append(f"it changes {lines} lines, more than {MAX_LINES}")
    for change in changes:
        places = _places(change.path, root, trace)
        try:
            found = list(_file(change, places))
        except (RecursionError, MemoryError):
            found = ["it is nested too deeply to be judged"]
        reasons += (f"{change.path}: {reason}" for reason in found)
    return tuple(reasons)


def _places(path: str, root: str, trace: Trace) -> list[Place]:
    """Where the trace's own frames stand in a file."""
    prefix = f"{root.rstrip('/')}/"
    return [
        (frame.line, frame.column)
        for frame in trace.frames
        if frame.own and frame.path.removeprefix("file://").removeprefix(prefix).removeprefix("./") == path
    ]


def _file(change: FileChange, places: Sequence[Place]) -> Iterable[str]:
    if change.before is None or change.after is None:
        return ["it makes or removes a file"]
    suffix = PurePosixPath(change.path).suffix
    if suffix not in _PYTHON | _JAVASCRIPT:
        return ["its language is not judged"]
    if not places:
        return ["no own frame of the trace stands in it"]
    judged = _python(change, places) if suffix in _PYTHON else _javascript(change, places)
    return [*judged, *_guards(change)]


def _python(change: FileChange, places: Sequence[Place]) -> Iterable[str]:
    old, new = python.parse(change.before or b""), python.parse(change.after or b"")
    if new is None:
        return ["it is no valid Python"]
    if old is None:
        return _punctuation(change, places, layout=True)
    found = python.pairs(old, new, places)
    if found is None:
        return [_ELSEWHERE]
    file = python.facts([old])
    return [
        reason for one, other in found for reason in _judge(file, python.facts(one), python.facts(other), python.WORDS)
    ]


def _javascript(change: FileChange, places: Sequence[Place]) -> Iterable[str]:
    old, new = javascript.parse(change.before or b""), javascript.parse(change.after or b"")
    if new is None:
        return ["it is no valid JavaScript"]
    if old is None:
        return _punctuation(change, places, layout=False)
    found = javascript.pairs(old, new, places)
    if found is None:
        return [_ELSEWHERE]
    file = javascript.facts([old])
    return [
        reason
        for one, other in found
        for reason in _judge(file, javascript.facts(one), javascript.facts(other), javascript.WORDS)
    ]


_ELSEWHERE = "it changes code outside of the functions that the trace names, or their signature"


def _judge(file: Facts, old: Facts, new: Facts, words: Words) -> Iterable[str]:
    return compare(file=file, old=old, new=new, words=words)


def _punctuation(change: FileChange, places: Sequence[Place], *, layout: bool) -> Iterable[str]:
    """A file that did not parse: brackets, commas and colons near the place may be put right, nothing else."""
    old, new = ((data or b"").decode().split("\n") for data in (change.before, change.after))
    if _bare(old, layout=layout) != _bare(new, layout=layout):
        return ["it changes more than punctuation in a file that does not parse"]
    lines = [number for number, _, _ in _changed(old, new)]
    if any(min(abs(number - line) for line, _ in places) > NEAR_LINES for number in lines):
        return ["it changes punctuation far from the line that does not parse"]
    return []


def _bare(lines: Sequence[str], *, layout: bool) -> list[str]:
    """The text without punctuation; with `layout`, indentation counts."""
    kept = []
    for line in lines:
        bare = "".join(_PUNCTUATION.sub(" ", line).split())
        indent = line[: len(line) - len(line.lstrip())] if layout else ""
        kept.append(f"{indent}{bare}" if bare else "")
    # Lines stay lines: a newline that moves could put code into a comment.
    return [line for line in kept if line]


def _changed(old: Sequence[str], new: Sequence[str]) -> Iterable[tuple[int, Sequence[str], Sequence[str]]]:
    """Spans that differ: line number before, lines before, lines after."""
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield a1 + 1, old[a1:a2], new[b1:b2]


def _guards(change: FileChange) -> Iterable[str]:
    old, new = ((data or b"").decode().split("\n") for data in (change.before, change.after))
    touched = [line for _, before, after in _changed(old, new) for line in (*before, *after)]
    words = sorted({word.lower() for line in touched for word in _WORD.findall(line)} & _GUARDS)
    return [f"it touches lines that guard ({', '.join(words[:5])})"] if words else []
