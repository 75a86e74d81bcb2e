# SPDX-License-Identifier: MIT
"""When one name is a misspelling of another: strict, symmetric, and silent when in doubt.

The measure is the optimal string alignment distance (insert, delete, substitute, swap neighbours) over
names without case and underscores. What is near by letters but differs by meaning is not near: other
digits (`item1`, `item2`), another word of the trade (`getItem`, `setItem`). A tie is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from wolverined.heal.remedies.vocabulary import SAME_VERBS, TRADE_WORDS

MAX_NAME = 200  # longer names are not typed by people, and the distance costs length times length

_SHORTEST = 2
# Up to this length of the shorter name: so many slips. Above the last: three.
_SLIPS = ((2, 0), (7, 1), (12, 2))
_SHORT = 3  # in a word of up to this length one other letter makes another word
_FIRST_LETTER = 5  # and up to this length another first letter does
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def distance(a: str, b: str, *, limit: int) -> int:
    """Count the slips between two names, giving up above `limit`.

    Args:
        a: One name.
        b: The other one.
        limit: The largest distance of interest.

    Returns:
        The optimal string alignment distance, or `limit + 1` for anything above it.
    """
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row, best = row, [i], i
        for j, right in enumerate(b, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and right == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
            best = min(best, cost)
        if best > limit:
            return limit + 1
        before = above
    return min(row[-1], limit + 1)


def fold(name: str) -> str:
    """Return the name without case, underscores and hyphens, in which misspelt names are compared."""
    return name.casefold().replace("_", "").replace("-", "")


def words(name: str) -> tuple[str, ...]:
    """Split `getUserById`, `get_user_by_id` and `GET-USER` into lower-case words."""
    return tuple(match.group().lower() for match in _WORD.finditer(name))


def slips(wrong: str, name: str) -> int | None:
    """Count the slips that make `wrong` out of `name`; None when it is no likely misspelling of it."""
    if wrong == name or max(len(wrong), len(name)) > MAX_NAME:
        return None
    a, b = fold(wrong), fold(name)
    if min(len(a), len(b)) < _SHORTEST:
        return None
    limit = _allowed(min(len(a), len(b)))
    count = distance(a, b, limit=limit)
    if count > limit or (count and (differ(wrong, name) or not _plausible(a, b))):
        return None
    return count


def nearest(wrong: str, names: Iterable[str]) -> str | None:
    """Find the one name that `wrong` most likely misspells.

    Args:
        wrong: The name that does not exist.
        names: Every name that does.

    Returns:
        The one nearest name; None when no name is near, or when two are equally near.
    """
    close = near(wrong, names)
    return close[0] if len(close) == 1 else None


def near(wrong: str, names: Iterable[str]) -> tuple[str, ...]:
    """List the names that are equally nearest to `wrong`, sorted; empty when none is near.

    Equal slips are told apart by case: `userz` is `users` rather than `USERS`.
    """
    best: tuple[int, int] | None = None
    found: list[str] = []
    for name in sorted(set(names)):
        count = slips(wrong, name)
        if count is None:
            continue
        rank = (count, distance(wrong, name, limit=MAX_NAME))
        if count and rank[1] > count and len(name) <= _FIRST_LETTER:
            continue  # another letter and another case: `amp` is no `Map`
        if best is None or rank < best:
            best, found = rank, [name]
        elif rank == best:
            found.append(name)
    return tuple(found)


def agreed(
    wrong: str, names: Collection[str], hint: str = "", *, complete: bool = True, own: Collection[str] = ()
) -> str | None:
    """Find the one near name, heeding the runtime's own suggestion where there is one.

    The runtime names one of several equally near names without saying so, and what stands in a log may be
    forged: so the hint must be a name that exists, and the names must not speak against it.

    Args:
        wrong: The name that does not exist.
        names: The names that do, as far as they are known.
        hint: The runtime's suggestion, or nothing.
        complete: Whether `names` holds them all; if not, a hint outside of it counts when it is near.
        own: The names among them that the program itself declares.
    """
    close = near(wrong, names)
    if not hint or hint == wrong:
        return close[0] if len(close) == 1 else None
    if close == (hint,):
        return hint
    # The runtime is more generous than we are: it takes `ln` for `l`, and `man` for `max`.
    shortest = _SHORT if hint in own else _SHORT + 1
    limit = (len(wrong) + len(hint) + 3) // 6  # CPython's own limit (Lib/traceback.py), else it is forged
    a, b = fold(wrong)[:MAX_NAME], fold(hint)[:MAX_NAME]
    likely = min(len(a), len(b)) >= shortest and not differ(wrong, hint) and distance(a, b, limit=limit) <= limit
    exists = hint in names or (not complete and slips(wrong, hint) is not None)
    return hint if exists and likely and not close else None


def kindred(wrong: str, names: Iterable[str]) -> str | None:
    """Find the one name that says the same with another verb: `fetchUsers` for `getUsers`.

    Only for small closed sets such as the exports of one module, where a name must be one of them.
    """
    said = words(wrong)
    if len(said) < _SHORTEST:
        return None
    found = [name for name in sorted(set(names)) if name != wrong and _same_but_verb(said, words(name))]
    return found[0] if len(found) == 1 else None


def _same_but_verb(said: tuple[str, ...], meant: tuple[str, ...]) -> bool:
    if len(said) != len(meant) or said[1:] != meant[1:]:
        return False
    return any(said[0] in group and meant[0] in group for group in SAME_VERBS)


def resembles(wrong: str, name: str) -> bool:
    """Tell whether two names are a slip apart by their letters alone, whatever they mean."""
    a, b = fold(wrong), fold(name)
    limit = _allowed(min(len(a), len(b)))
    return max(len(a), len(b)) <= MAX_NAME and distance(a, b, limit=limit) <= limit


def differ(wrong: str, name: str) -> bool:
    """Tell whether two names stand for different things however few letters tell them apart."""
    if re.findall(r"\d+", wrong) != re.findall(r"\d+", name):
        return True
    said, meant = words(wrong), words(name)
    changed = [pair for pair in zip(said, meant, strict=False) if pair[0] != pair[1]]
    return len(said) == len(meant) and bool(changed) and all(a in TRADE_WORDS and b in TRADE_WORDS for a, b in changed)


def _allowed(length: int) -> int:
    return next((slips for longest, slips in _SLIPS if length <= longest), 3)


def _plausible(a: str, b: str) -> bool:
    if len(a) != len(b) or sorted(a) == sorted(b):
        return True  # a letter came, went, or changed places
    return len(a) > _SHORT and (len(a) > _FIRST_LETTER or a[0] == b[0])
