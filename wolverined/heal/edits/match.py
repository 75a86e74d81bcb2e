# SPDX-License-Identifier: MIT
"""Where an edit belongs: five tiers, each unique or rejected, then a three-way merge of the lines.

A tier that finds two places rejects; only one that finds none hands on to the next, looser tier.
Looser tiers keep the file's own text wherever the edit changes nothing, so a slip of the quoting
model never reaches the file. One wrong place is worse than ten refusals: a refusal is asked again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

import msgspec

from wolverined.errors import EditRejected

MAX_DISTANCE = 0.12
MARGIN = 0.15
MAX_LINE_DISTANCE = 0.3
"""Of one line: two lines that changed places are no typing error, however small their part of the block."""
MIN_LINES = 3
MIN_CHARS = 30
# Beyond these the fuzzy tier costs too much, and a quote that long is better repeated exactly.
FUZZY_LINES = 200
FUZZY_PAIRS = 200_000
"""Quoted lines times lines of the file: some two seconds at worst."""
FUZZY_CELLS = 10_000_000
FUZZY_LINE_CHARS = 1000

_SCATTERED, _FUZZY = 4, 5  # numbers of tiers, as `place` counts them
_NEAREST_LINES = 5000
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_COMMENTS = ("#", "//", "/*", "*", "<!--", "--")


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Lines [start, end) of the file become `lines`: an int keeps that line of the file, a str is new."""

    start: int
    end: int
    lines: tuple[int | str, ...]
    tier: int


class _Spot(msgspec.Struct, frozen=True, kw_only=True):
    """One place where the search fits: for each search line the file's line, None where the file has none."""

    at: tuple[int | None, ...]
    indent: str = ""
    outdent: str = ""


_Tier = Callable[[Sequence[str], Sequence[str]], list[_Spot]]


def place(*, search: Sequence[str], replace: Sequence[str], lines: Sequence[str]) -> Placement:
    """Find the one place of an edit in a file's lines and merge it in.

    Raises:
        EditRejected: No place, more than one, or a place where the edit contradicts the file.
    """
    for tier, find in enumerate((_exact, _unpadded, _shifted, _scattered, _fuzzy), start=1):
        spots = find(search, lines)
        if len(spots) > 1:
            where = ", ".join(str(_first(spot) + 1) for spot in spots[:5])
            raise EditRejected(
                f"the text to replace stands {len(spots)} times (at lines {where})",
                hint="quote more lines around it",
            )
        if spots:
            return _merge(spots[0], tier, search, replace, lines)
    raise EditRejected("the text to replace is not in the file", hint=nearest(search, lines))


def _first(spot: _Spot) -> int:
    return next(at for at in spot.at if at is not None)


def _windows(search: Sequence[str], lines: Sequence[str]) -> list[_Spot]:
    """All places where the lines are equal one by one."""
    size, wanted = len(search), list(search)
    return [
        _Spot(at=tuple(range(start, start + size)))
        for start in range(len(lines) - size + 1)
        if lines[start] == wanted[0] and list(lines[start : start + size]) == wanted
    ]


def _exact(search: Sequence[str], lines: Sequence[str]) -> list[_Spot]:
    return _windows(search, lines)


def _unpadded(search: Sequence[str], lines: Sequence[str]) -> list[_Spot]:
    return _windows([line.rstrip() for line in search], [line.rstrip() for line in lines])


def _shifted(search: Sequence[str], lines: Sequence[str]) -> list[_Spot]:
    """Places that are equal but for one and the same indentation of every line."""
    spots = []
    for spot in _windows([line.strip() for line in search], [line.strip() for line in lines]):
        deltas = {
            _delta(quoted, lines[start])
            for quoted, start in zip(search, range(_first(spot), len(lines)), strict=False)
            if quoted.strip()
        }
        delta = deltas.pop() if len(deltas) == 1 else None
        if delta is not None:
            spots.append(msgspec.structs.replace(spot, indent=delta[0], outdent=delta[1]))
    return spots


def _delta(quoted: str, actual: str) -> tuple[str, str] | None:
    """(what the file has more, what the quote has more) of indentation; None when neither extends the other."""
    have, want = _indentation(quoted), _indentation(actual)
    if want.endswith(have):
        return want[: len(want) - len(have)], ""
    if have.endswith(want):
        return "", have[: len(have) - len(want)]
    return None


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _scattered(search: Sequence[str], lines: Sequence[str]) -> list[_Spot]:
    """Places that are equal when the file's blank and comment lines, and the search's blank lines, are left out."""
    wanted = [line.rstrip() for line in search]
    head = next((line for line in wanted if line), None)
    if head is None:
        return []
    have = [line.rstrip() for line in lines]
    found = (_follow(wanted, have, start) for start, line in enumerate(have) if line == head)
    return [spot for spot in found if spot is not None]


def _follow(wanted: Sequence[str], have: Sequence[str], start: int) -> _Spot | None:
    at: list[int | None] = []
    cursor = start
    for line in wanted:
        if not line:
            blank = bool(at) and cursor < len(have) and not have[cursor]
            at.append(cursor if blank else None)
            cursor += blank
            continue
        while cursor < len(have) and have[cursor] != line:
            if not _skippable(have[cursor]):
                return None
            cursor += 1
        if cursor == len(have):
            return None
        at.append(cursor)
        cursor += 1
    return _Spot(at=tuple(at))


def _skippable(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(_COMMENTS)


def _fuzzy(search: Sequence[str], lines: Sequence[str]) -> list[_Spot]:
    """The one place that is nearly equal, when no other comes near it."""
    wanted = [line.rstrip() for line in search]
    total = sum(map(len, wanted))
    if len(wanted) < MIN_LINES or total < MIN_CHARS:
        return []
    if len(wanted) * len(lines) > FUZZY_PAIRS or max(map(len, wanted)) > FUZZY_LINE_CHARS:
        return []
    have = [line.rstrip()[: FUZZY_LINE_CHARS * 2] for line in lines]
    near: list[tuple[int, int]] = []
    distances = _Distances(wanted)
    for start in range(len(have) - len(wanted) + 1):
        distance = distances.of(have[start : start + len(wanted)], limit=int((MAX_DISTANCE + MARGIN) * total))
        if distance is not None:
            near.append((distance, start))
    near.sort()
    if not near or near[0][0] > MAX_DISTANCE * total:
        return []
    if len(near) > 1 and near[1][0] - near[0][0] < MARGIN * total:
        raise EditRejected(
            f"the text to replace is nearly at line {near[0][1] + 1}, and nearly at line {near[1][1] + 1}",
            hint="quote the lines as they stand in the file",
        )
    start = near[0][1]
    # New lines are indented as the quote is; a quote that errs there cannot say how deep they belong.
    if any(_indentation(quoted) != _indentation(have[start + n]) for n, quoted in enumerate(wanted) if quoted):
        return []
    block = have[start : start + len(wanted)]
    if not distances.even(block):
        return []
    # A line that stands elsewhere exactly as it was quoted is no typing error: that place may have been meant.
    known = set(have)
    if any(quoted != line and quoted in known for quoted, line in zip(wanted, block, strict=True)):
        return []
    return [_Spot(at=tuple(range(start, start + len(wanted))))]


class _Distances:
    """Levenshtein distance of blocks of lines, line by line, given up early; remembers pairs of lines."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = wanted
        self._bags = [Counter(line) for line in wanted]
        self._floors: dict[tuple[int, str], int] = {}
        self._cells = 0

    def of(self, block: Sequence[str], *, limit: int) -> int | None:
        """The distance, or None when it is above the limit."""
        floor = 0
        for n, line in enumerate(block):
            floor += self._floor(n, line)
            if floor > limit:
                return None
        left = limit
        for quoted, line in zip(self._wanted, block, strict=True):
            self._cells += len(quoted) * min(len(line), 2 * left + 1)
            left -= distance(quoted, line, limit=left)
            if left < 0:
                return None
        if self._cells > FUZZY_CELLS:  # half a search would call the first near place the only one
            raise EditRejected(
                "the text to replace is not in the file, but much that is like it", hint="quote it exactly"
            )
        return limit - left

    def even(self, block: Sequence[str]) -> bool:
        """Whether no single line is far from its quote."""
        limits = [
            int(MAX_LINE_DISTANCE * max(len(quoted), len(line)))
            for quoted, line in zip(self._wanted, block, strict=True)
        ]
        return all(
            distance(quoted, line, limit=limit) <= limit
            for quoted, line, limit in zip(self._wanted, block, limits, strict=True)
        )

    def _floor(self, n: int, line: str) -> int:
        """A lower bound that costs little: characters that one side has and the other lacks."""
        if (known := self._floors.get((n, line))) is not None:
            return known
        bag, other = self._bags[n], Counter(line)
        floor = max((bag - other).total(), (other - bag).total())
        self._floors[n, line] = floor
        return floor


def distance(a: str, b: str, *, limit: int) -> int:
    """Levenshtein distance, or limit + 1 when it is greater (Ukkonen's band)."""
    if a == b:
        return 0
    head = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[head:], b[head:]
    tail = next((n for n, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[: len(a) - tail], b[: len(b) - tail]
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    if not a or not b:
        return max(len(a), len(b))
    beyond = limit + 1
    row = [min(n, beyond) for n in range(len(b) + 1)]
    for i, char in enumerate(a, start=1):
        low, high = max(1, i - limit), min(len(b), i + limit)
        above = row[low - 1]
        row[low - 1] = min(i, beyond) if low == 1 else beyond
        for j in range(low, high + 1):
            diagonal, above = above, row[j]
            # Outside of the band the row above still holds an older value, which is beyond the limit anyway.
            old = above if j < i + limit else beyond
            row[j] = min(diagonal + (char != b[j - 1]), old + 1, row[j - 1] + 1, beyond)
    return row[len(b)]


def _merge(spot: _Spot, tier: int, search: Sequence[str], replace: Sequence[str], lines: Sequence[str]) -> Placement:
    """Three-way: what the edit leaves alone is the file's text, what it changes must have been quoted right."""
    if tier > 1:
        search = [line.rstrip() for line in search]
    new = [line if tier == 1 else line.rstrip() for line in replace]
    known = [at for at in spot.at if at is not None]
    start, end = known[0], known[-1] + 1
    out: list[int | str] = []
    cursor = start
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, search, new, autojunk=False).get_opcodes():
        span = [at for at in spot.at[a1:a2] if at is not None]
        if kind == "equal":
            if span:
                out += range(cursor, span[-1] + 1)
                cursor = span[-1] + 1
            continue
        upcoming = next((at for at in spot.at[a1:] if at is not None), end)
        if span:
            quoted = [(at, search[n]) for n, at in enumerate(spot.at[a1:a2], start=a1) if at is not None]
            _quoted_right(quoted, new=new[b1:b2], lines=lines, fuzzy=tier == _FUZZY)
            out += range(cursor, span[0])
            cursor = span[-1] + 1
        elif any(lines[at].strip() for at in range(cursor, upcoming)):
            raise EditRejected(
                f"new lines fall beside a comment at line {cursor + 1} that the quote leaves out",
                hint="quote the comment too",
            )
        out += _fresh(replace[b1:b2], spot, out, lines, tier)
    return Placement(start=start, end=end, lines=tuple(out), tier=tier)


def _quoted_right(quoted: Sequence[tuple[int, str]], *, new: Sequence[str], lines: Sequence[str], fuzzy: bool) -> None:
    """Refuse to overwrite what the model has not seen as it is.

    Raises:
        EditRejected: A changed line differs from its quote, or the changed lines surround one left out.
    """
    first, last = quoted[0][0], quoted[-1][0]
    left_out = set(range(first, last + 1)) - {at for at, _ in quoted}
    if any(lines[at].strip() for at in left_out):
        raise EditRejected(
            f"the lines to replace at {first + 1} hold a comment that the quote leaves out",
            hint="quote the comment too",
        )
    if not fuzzy:  # only the fuzzy tier finds lines that differ in more than indentation
        return
    for at, line in quoted:
        actual = lines[at].rstrip()
        if actual != line and not _reproduced(actual, line, new):
            raise EditRejected(
                f"line {at + 1} is to be replaced but was not quoted as it stands",
                hint=f"it reads: {actual.strip()[:200]}",
            )


def _reproduced(actual: str, quoted: str, new: Sequence[str]) -> bool:
    """Whether the new lines carry what the quote got wrong, as the file has it, and nothing of the error."""
    have, said = Counter(_TOKEN.findall(actual)), Counter(_TOKEN.findall(quoted))
    words = set(_TOKEN.findall("\n".join(new)))
    return words.issuperset(have - said) and words.isdisjoint(said - have)


def _fresh(
    new: Sequence[str], spot: _Spot, before: list[int | str], lines: Sequence[str], tier: int
) -> list[int | str]:
    """New lines at the file's indentation."""
    fresh: list[int | str] = []
    for line in new:
        if line.strip():
            if not line.startswith(spot.outdent):
                raise EditRejected("the new lines are indented less than the file allows", hint="keep the indentation")
            fresh.append(spot.indent + line.removeprefix(spot.outdent))
        else:
            fresh.append(line)
    # The scattered tier may have kept a blank line that the quote lost and the replacement brings again.
    last = before[-1] if before else "x"
    blank = not (lines[last] if isinstance(last, int) else last).strip()
    if tier == _SCATTERED and blank and fresh and not new[0].strip():
        fresh.pop(0)
    return fresh


def nearest(search: Sequence[str], lines: Sequence[str]) -> str:
    """Did-you-mean: the lines of the file that share most with the search, numbered; bounded in size."""
    # A bracket alone is like every other one and says nothing about the place.
    wanted = {line.strip() for line in search[:FUZZY_LINES] if sum(map(str.isalnum, line)) > 1}
    size = max(1, min(len(search), 8))
    scores = [line.strip() in wanted for line in lines[:_NEAREST_LINES]]
    best = max(range(len(scores)), key=lambda start: sum(scores[start : start + size]), default=0)
    if not any(scores):
        best = _most_alike(next((line for line in search if line.strip()), ""), lines)
    if best < 0:
        return "quote the lines as they stand in the file"
    shown = range(best, min(best + size, len(lines)))
    return "did you mean: " + " | ".join(f"{n + 1}: {lines[n].rstrip()[:160]}" for n in shown)


def _most_alike(wanted: str, lines: Sequence[str]) -> int:
    """The index of the line that is most like the wanted one, -1 when none is at all."""
    matcher = SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(wanted.strip()[:200])
    best, score = -1, 0.6
    for n, line in enumerate(lines[:_NEAREST_LINES]):
        matcher.set_seq1(line.strip()[:200])
        if matcher.real_quick_ratio() > score and matcher.quick_ratio() > score and (ratio := matcher.ratio()) > score:
            best, score = n, ratio
    return best
