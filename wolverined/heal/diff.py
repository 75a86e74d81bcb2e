# SPDX-License-Identifier: MIT
"""Changed files -> the text of a patch that git can apply, its hash, and the same as a mail for `git am`.

The diff is what an operator approves by its hash, so it shows every byte that changes: line endings,
a missing final newline, modes of new files. A file that is no UTF-8 text has no honest diff here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from email.utils import formatdate

from wolverined.errors import EditRejected
from wolverined.model import FileChange, Repair

CONTEXT = 3
_NO_NEWLINE = "\\ No newline at end of file\n"
# C-style escapes that git writes inside quoted paths (quote.c of git: cq_lookup).
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


def unified_diff(changes: Iterable[FileChange]) -> str:
    """The patch as `git diff` would write it, ordered by path; "" when nothing changes.

    Raises:
        EditRejected: A file is binary or not UTF-8.
    """
    return "".join(_file(change) for change in sorted(changes, key=lambda change: change.path))


def sha256_of(diff: str) -> str:
    """The hash by which a patch is approved and remembered."""
    return hashlib.sha256(diff.encode()).hexdigest()


def counts(changes: Iterable[FileChange]) -> tuple[int, int]:
    """How many lines the changes add and remove."""
    added = removed = 0
    for change in changes:
        old, new = _lines(change.before or b"", change.path), _lines(change.after or b"", change.path)
        for kind, a1, a2, b1, b2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind != "equal":
                removed += a2 - a1
                added += b2 - b1
    return added, removed


def mail_patch(repair: Repair, diff: str) -> str:
    """The repair as a mail that `git am` takes.

    Nothing of it can break out of its place: header fields are one line of plain text, and the
    message cannot contain a line that starts the patch or another mail.
    """
    subject = _one_line(repair.resolution or repair.error or "repair")[:120]
    maker = _one_line(repair.remedy or repair.model)[:100]
    about = [
        f"Incident: {repair.incident}",
        f"Repair: {repair.id}",
        f"Error: {_one_line(repair.error)[:200]}",
        f"Made-by: {repair.mode.value}{f' ({maker})' if maker else ''}",
    ]
    if repair.verdict is not None:
        about.append(f"Verdict: {repair.verdict.outcome.value} ({_one_line(repair.verdict.reason)[:200]})")
    head = [
        # The hash of this first line is fixed text for mail splitters; git am ignores it.
        "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001",
        "From: Wolverine <wolverine@localhost>",
        f"Date: {formatdate(repair.created_at)}",
        f"Subject: [PATCH] {subject}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    return "\n".join([*head, "", *about, "---", ""]) + diff + "-- \nwolverine\n"


def _one_line(text: str) -> str:
    """Plain words: no line breaks, no control characters, no runs of blanks."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _file(change: FileChange) -> str:
    if change.before == change.after:
        return ""
    old, new = _lines(change.before or b"", change.path), _lines(change.after or b"", change.path)
    a, b = _quoted(f"a/{change.path}"), _quoted(f"b/{change.path}")
    # The mode of git is one of two: executable by its owner or not.
    mode = "100755" if change.mode & 0o100 else "100644"
    head = [f"diff --git {a} {b}\n"]
    if change.before is None:
        head.append(f"new file mode {mode}\n")
    elif change.after is None:
        head.append(f"deleted file mode {mode}\n")
    hunks = _hunks(old, new)
    if hunks:
        # A tab ends a name with blanks, as git writes it; else patch would cut the name there.
        names = [f"{name}\t" if " " in name and not name.startswith('"') else name for name in (a, b)]
        head.append(f"--- {'/dev/null' if change.before is None else names[0]}\n")
        head.append(f"+++ {'/dev/null' if change.after is None else names[1]}\n")
    return "".join([*head, *hunks])


def _lines(data: bytes, path: str) -> list[str]:
    """Lines with their newline; nothing else ends one, so that a carriage return stays visible."""
    if b"\0" in data:
        raise EditRejected(f"{path} is binary")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise EditRejected(f"{path} is not UTF-8 text") from None
    lines = text.split("\n")
    last = lines.pop()
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def _hunks(old: Sequence[str], new: Sequence[str]) -> list[str]:
    out: list[str] = []
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        a1, a2, b1, b2 = group[0][1], group[-1][2], group[0][3], group[-1][4]
        out.append(f"@@ -{_range(a1, a2)} +{_range(b1, b2)} @@\n")
        for kind, i1, i2, j1, j2 in group:
            if kind == "equal":
                out += (_line(" ", line) for line in old[i1:i2])
                continue
            out += (_line("-", line) for line in old[i1:i2])
            out += (_line("+", line) for line in new[j1:j2])
    return out


def _range(start: int, end: int) -> str:
    """A range of unified diff: an empty one names the line before it, a single one leaves out its length."""
    size = end - start
    if size == 0:
        return f"{start},0"
    return f"{start + 1}" if size == 1 else f"{start + 1},{size}"


def _line(sign: str, line: str) -> str:
    return f"{sign}{line}" if line.endswith("\n") else f"{sign}{line}\n{_NO_NEWLINE}"


def _quoted(path: str) -> str:
    """A path as git writes it with core.quotePath off: quoted only when it holds what would end it."""
    if not any(ord(char) < 32 or ord(char) == 127 or char in '"\\' for char in path):  # noqa: PLR2004 - ASCII controls
        return path
    out = []
    for char in path:
        code = ord(char)
        if code in _ESCAPES:
            out.append(f"\\{_ESCAPES[code]}")
        else:
            out.append(f"\\{code:03o}" if code < 32 or code == 127 else char)  # noqa: PLR2004 - ASCII controls
    return f'"{"".join(out)}"'
