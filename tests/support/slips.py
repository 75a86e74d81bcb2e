# SPDX-License-Identifier: MIT
"""Edits with the slips that models make, generated from pairs of broken and right source.

Each slip takes the right edit and spoils its quote as a careless writer would; what must come out,
if anything does, is still the right file.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"


class Item(NamedTuple):
    """One function: whole source broken and right."""

    name: str
    broken: str
    right: str


class Case(NamedTuple):
    """One spoilt edit of one file and the file that is meant."""

    name: str
    slip: str
    path: str
    before: str
    meant: str
    search: str
    replace: str


def items(language: str) -> list[Item]:
    """The functions of a language ("python" or "js"); empty where the corpora are absent."""
    source = CORPORA / f"humanevalpack-{language}.jsonl"
    if not source.exists():
        return []
    found = []
    for line in source.read_text().splitlines():
        record = json.loads(line)
        head = record["declaration"]
        broken, right = (f"{(head + record[key]).strip()}\n" for key in ("buggy_solution", "canonical_solution"))
        if broken != right:
            found.append(Item(record["task_id"], broken, right))
    return found


def cases(language: str, *, seed: int, neighbours: int = 12) -> Iterator[Case]:
    """Every slip of every function, each function standing among others in one file."""
    rng = random.Random(seed)
    everything = items(language)
    mark, path = ("#", "app/main.py") if language == "python" else ("//", "server/index.js")
    for item in everything:
        others = [other.broken for other in rng.sample(everything, neighbours) if other.name != item.name]
        cut = rng.randrange(len(others))
        above, below = "\n".join(others[:cut]), "\n".join(others[cut:])
        broken, right = (_commented(source, item, mark) for source in (item.broken, item.right))
        before, meant = (f"{above}\n{source}\n{below}" for source in (broken, right))
        for slip, spoil in SLIPS.items():
            context = {"one line of context": 1, "no context": 0}.get(slip, 3)
            search, replace = hunk(before, meant, context)
            spoilt = spoil(search, replace, random.Random(f"{seed}{item.name}{slip}"))
            if spoilt is not None:
                yield Case(item.name, slip, path, before, meant, *spoilt)


def _commented(source: str, item: Item, mark: str) -> str:
    """Put a comment above the second and the fourth line that both versions share, so that one can be lost."""
    shared = [line for line in item.broken.splitlines() if line.strip() and line in item.right.splitlines()]
    out, seen = [], 0
    for line in source.splitlines():
        if line in shared[1:]:
            seen += 1
            if seen in {1, 3}:
                indent = line[: len(line) - len(line.lstrip())]
                out.append(f"{indent}{mark} note {seen}")
        out.append(line)
    return "\n".join(out) + "\n"


def hunk(before: str, after: str, context: int) -> tuple[str, str]:
    """The one search/replace that turns `before` into `after`, with so many lines around it."""
    a, b = before.splitlines(keepends=True), after.splitlines(keepends=True)
    codes = [code for code in SequenceMatcher(None, a, b, autojunk=False).get_opcodes() if code[0] != "equal"]
    a1, a2, b1, b2 = codes[0][1], codes[-1][2], codes[0][3], codes[-1][4]
    if a1 == a2 and not context:
        context = 1  # an insertion has to stand somewhere
    up, down = min(context, a1, b1), min(context, len(a) - a2, len(b) - b2)
    return "".join(a[a1 - up : a2 + down]), "".join(b[b1 - up : b2 + down])


Spoil = Callable[[str, str, random.Random], tuple[str, str] | None]


def _clean(search: str, replace: str, _rng: random.Random) -> tuple[str, str]:
    return search, replace


def _trailing_blanks(search: str, replace: str, _rng: random.Random) -> tuple[str, str]:
    return re.sub(r"(?m)$(?!\Z)", "  ", search), replace


def _outdented(search: str, replace: str, rng: random.Random) -> tuple[str, str] | None:
    lines = [line for line in (search + replace).splitlines() if line.strip()]
    common = min(len(line) - len(line.lstrip(" ")) for line in lines)
    if not common:
        return None
    cut = rng.randint(1, common)
    return _shift(search, -cut), _shift(replace, -cut)


def _indented(search: str, replace: str, rng: random.Random) -> tuple[str, str]:
    more = rng.choice((2, 4))
    return _shift(search, more), _shift(replace, more)


def _shift(text: str, by: int) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(line if not line.strip() else (" " * by + line if by > 0 else line[-by:]) for line in lines)


def _blank_lines_lost(search: str, replace: str, _rng: random.Random) -> tuple[str, str] | None:
    lost = tuple("".join(line for line in text.splitlines(keepends=True) if line.strip()) for text in (search, replace))
    return (lost[0], lost[1]) if lost != (search, replace) else None


def _blank_lines_added(search: str, replace: str, _rng: random.Random) -> tuple[str, str]:
    return f"\n{search}\n", f"\n{replace}\n"


def _typo(search: str, replace: str, rng: random.Random) -> tuple[str, str] | None:
    """One wrong character in a line that search and replace share; only the quote has it."""
    return _spoil_line(search, replace, rng, lambda line: _mistype(line, rng))


def _mistype(line: str, rng: random.Random) -> str | None:
    letters = [n for n, char in enumerate(line) if char.isalpha()]
    if not letters:
        return None
    at = rng.choice(letters)
    return line[:at] + rng.choice(("", "x", line[at] * 2)) + line[at + 1 :]


def _typo_anywhere(search: str, replace: str, rng: random.Random) -> tuple[str, str] | None:
    """One wrong character in any quoted line, also one that is to be changed."""
    lines = search.splitlines(keepends=True)
    order = list(range(len(lines)))
    rng.shuffle(order)
    for n in order:
        wrong = _mistype(lines[n], rng)
        if wrong is not None and wrong != lines[n]:
            return "".join([*lines[:n], wrong, *lines[n + 1 :]]), replace
    return None


def _quotes(search: str, replace: str, _rng: random.Random) -> tuple[str, str] | None:
    table = str.maketrans("'\"", "\"'")
    return (search.translate(table), replace) if search.translate(table) != search else None


def _comment_dropped(search: str, replace: str, _rng: random.Random) -> tuple[str, str] | None:
    dropped = tuple(
        "".join(line for line in text.splitlines(keepends=True) if " note " not in line) for text in (search, replace)
    )
    return (dropped[0], dropped[1]) if dropped[0] != search else None


def _line_lost(search: str, replace: str, rng: random.Random) -> tuple[str, str] | None:
    """A line of code that both sides share is left out by both."""
    lines = search.splitlines(keepends=True)
    shared = [line for line in lines if line.strip() and replace.count(line) == 1 and search.count(line) == 1]
    if len(shared) < 2:
        return None
    gone = rng.choice(shared)
    return search.replace(gone, "", 1), replace.replace(gone, "", 1)


def _crlf(search: str, replace: str, _rng: random.Random) -> tuple[str, str]:
    return search.replace("\n", "\r\n"), replace.replace("\n", "\r\n")


def _reordered(search: str, replace: str, rng: random.Random) -> tuple[str, str] | None:
    """Two neighbouring quoted lines change places."""
    lines = search.splitlines(keepends=True)
    if len(lines) < 2:
        return None
    n = rng.randrange(len(lines) - 1)
    lines[n], lines[n + 1] = lines[n + 1], lines[n]
    return ("".join(lines), replace) if "".join(lines) != search else None


def _spoil_line(
    search: str, replace: str, rng: random.Random, spoil: Callable[[str], str | None]
) -> tuple[str, str] | None:
    lines = search.splitlines(keepends=True)
    kept = set(replace.splitlines(keepends=True))
    order = [n for n, line in enumerate(lines) if line in kept]
    rng.shuffle(order)
    for n in order:
        wrong = spoil(lines[n])
        if wrong is not None and wrong != lines[n]:
            return "".join([*lines[:n], wrong, *lines[n + 1 :]]), replace
    return None


SLIPS: dict[str, Spoil] = {
    "clean": _clean,
    "one line of context": _clean,
    "no context": _clean,
    "trailing blanks": _trailing_blanks,
    "outdented": _outdented,
    "indented": _indented,
    "blank lines lost": _blank_lines_lost,
    "blank lines added": _blank_lines_added,
    "typo in context": _typo,
    "typo anywhere": _typo_anywhere,
    "quote style": _quotes,
    "comment dropped": _comment_dropped,
    "line lost": _line_lost,
    "crlf": _crlf,
    "reordered": _reordered,
}
