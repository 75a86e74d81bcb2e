# SPDX-License-Identifier: MIT
"""Edits + snapshot -> changed files, all of them or none; nothing here touches a disk.

Every edit is placed in the file as it stands in the snapshot, not in what an earlier edit left, so
their order does not matter; edits that overlap are refused. Line endings, BOM, the final newline and
the mode of a file stay as they are, and replacement text is literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from wolverined.errors import EditRejected
from wolverined.heal.edits import text
from wolverined.heal.edits.match import Placement, place
from wolverined.model import Edit, FileChange, Snapshot, SourceFile

MAX_GROWTH = 10
GROWTH_FLOOR = 2048
"""Bytes below which a file may grow by any factor: a stub that becomes a module is no accident."""
MAX_LINES = 2000
WHOLE_FILE_LINES = 150

_NEW_MODE = 0o644
# A line that stands for code that was left out: "...", "// ... existing code ...", "# rest of the function".
_COMMENT = r"(?:#+|//+|/\*+|\*|<!--|--|;+)"
_ELISION = re.compile(
    rf"\s*{_COMMENT}?\s*[(\[{{]?(?:\.{{3}}|…)[)\]}}]?\s*(?:\*/|-->)?\s*$"
    rf"|\s*{_COMMENT}\s*[(\[]?(?:\.{{3}}|…).{{0,80}}$"
    rf"|\s*{_COMMENT}.{{0,60}}\b(?:rest|existing|remaining|unchanged|previous|other)\b.{{0,40}}(?:\.{{3}}|…).{{0,8}}$"
    rf"|\s*{_COMMENT}\s*[(\[]?(?:the\s+)?(?:rest\s+of|remaining|remainder|existing|other|previous|same)\s"
    r".{0,40}(?:code|function|method|class|file|implementation|unchanged|before|above|same|here)\b.{0,20}$"
    rf"|\s*{_COMMENT}\s*[(\[]?(?:unchanged|omitted|no changes?|same as before)\b.{{0,40}}$",
    re.IGNORECASE,
)


def apply_edits(edits: Iterable[Edit], snapshot: Snapshot) -> tuple[FileChange, ...]:
    """Make the changed files of a reply, in the order in which the edits first name them.

    Raises:
        EditRejected: One edit has no place, more than one, or is of a form that is refused; then none counts.
    """
    grouped: dict[str, list[Edit]] = {}
    for edit in edits:
        path = _resolve(edit, snapshot)
        known = grouped.setdefault(path, [])
        if edit not in known:  # a model that repeats a block means it once
            known.append(edit)
    if not grouped:
        raise EditRejected("there is no edit to apply")
    return tuple(_change(path, group, snapshot.files.get(path)) for path, group in grouped.items())


def _resolve(edit: Edit, snapshot: Snapshot) -> str:
    """The relative path that an edit names; only spellings of one and the same file are evened out."""
    path = edit.path.removeprefix(snapshot.root.rstrip("/") + "/")
    while path.startswith("./"):
        path = path[2:]
    if path in snapshot.files:
        return path
    if edit.search.strip() or any(char.isspace() for char in path) or not path:
        close = get_close_matches(path, snapshot.files, n=3, cutoff=0.5)
        hint = f"did you mean: {', '.join(close)}" if close else "name a file that was shown"
        raise EditRejected(f"there is no file {edit.path[:200]!r} that may be edited", hint=hint)
    return path


def _change(path: str, edits: Sequence[Edit], file: SourceFile | None) -> FileChange:
    if file is None:
        return _create(path, edits)
    old = text.read(file.data, path=path)
    placements = [_placed(path, edit, old, number, len(edits)) for number, edit in enumerate(edits, start=1)]
    after = text.compose(old, _compose(path, placements, len(old.lines)))
    if after == file.data:
        raise EditRejected(f"the edit of {path} changes nothing")
    if len(after) > max(MAX_GROWTH * len(file.data), GROWTH_FLOOR):
        raise EditRejected(f"the edit makes {path} grow from {len(file.data)} to {len(after)} bytes")
    return FileChange(path=path, before=file.data, after=after, mode=file.mode)


def _create(path: str, edits: Sequence[Edit]) -> FileChange:
    if len(edits) > 1:
        raise EditRejected(f"the new file {path} is given {len(edits)} times")
    lines = text.split(edits[0].replace)
    if not any(line.strip() for line in lines):
        raise EditRejected(f"the new file {path} is empty")
    if any(_ELISION.match(line) for line in lines):
        raise EditRejected(f"the new file {path} leaves code out", hint="write the file in full")
    return FileChange(path=path, before=None, after="".join(f"{line}\n" for line in lines).encode(), mode=_NEW_MODE)


def _placed(path: str, edit: Edit, old: text.Text, number: int, count: int) -> Placement:
    try:
        search, replace = text.split(edit.search), text.split(edit.replace)
        _check_form(search, replace, old)
        placement = place(search=search, replace=replace, lines=old.lines)
    except EditRejected as error:
        which = f"edit {number} of {count} of {path}" if count > 1 else f"the edit of {path}"
        raise EditRejected(f"{which}: {error.message}", hint=error.hint) from None
    if placement.end - placement.start == len(old.lines) > WHOLE_FILE_LINES:
        raise EditRejected(f"the edit of {path} replaces the whole file", hint="quote only the lines around the change")
    return placement


def _check_form(search: Sequence[str], replace: Sequence[str], old: text.Text) -> None:
    if not any(line.strip() for line in search):
        raise EditRejected("the text to replace is empty but the file exists", hint="quote the lines to replace")
    if list(search) == list(replace):
        raise EditRejected("search and replacement are the same")
    if len(search) > MAX_LINES or len(replace) > MAX_LINES:
        raise EditRejected(f"one side has more than {MAX_LINES} lines")
    present = {line.strip() for line in old.lines}
    for line in (*search, *replace):
        if _ELISION.match(line[:400]) and line.strip() not in present:
            raise EditRejected(
                f"the line {line.strip()[:80]!r} stands for code that was left out", hint="write every line in full"
            )


def _compose(path: str, placements: Sequence[Placement], count: int) -> list[int | str]:
    out: list[int | str] = []
    cursor = 0
    for placement in sorted(placements, key=lambda placement: placement.start):
        if placement.start < cursor:
            raise EditRejected(f"two edits of {path} overlap at line {placement.start + 1}", hint="merge them into one")
        out += range(cursor, placement.start)
        out += placement.lines
        cursor = placement.end
    out += range(cursor, count)
    return out
