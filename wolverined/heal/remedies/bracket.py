# SPDX-License-Identifier: MIT
"""One bracket missing, one too many, or one of the wrong kind, in a file that does not parse.

Every one-bracket change is tried in memory where the runtime points and where the indentation disagrees.
Those that parse are grouped by the shape of the program that results; the group that disagrees least with
the indentation wins when it is the only one. Two different programs that are as good: no proposal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from wolverined.heal.remedies.clue import Clue, Fix, Place, Splice, splice
from wolverined.heal.remedies.layout import CLOSERS, Layout, Token
from wolverined.heal.remedies.tree import Source, shape
from wolverined.heal.syntax import check_syntax

NAME = "unbalanced-bracket"

MAX_TRIED_BYTES = 24 * 1024 * 1024

_PYTHON = re.compile(r"was never closed|unmatched '|does not match opening|invalid syntax|unexpected EOF|expected ':'")
_JAVASCRIPT = re.compile(r"Unexpected (?:token|end of input|identifier|string|number|template)|missing \) ")
_OPENED = re.compile(r"on line (\d+)$")
_TRAILING = frozenset(";,:{") | frozenset(CLOSERS.values()) | {"=>"}
_MAX_SUSPECTS = 8
_BRACKETS = frozenset(CLOSERS) | frozenset(CLOSERS.values())


class _Attempt(msgspec.Struct, frozen=True, order=True):
    """One change, ordered by how natural it is: where the runtime points first, then by its way and place."""

    away: int
    rank: int
    cut: Splice
    what: str
    line: int
    opening: bool = False


def propose(clue: Clue) -> Fix | None:
    """Add, remove or replace the one bracket that makes a file parse as it is indented."""
    if not clue.type.endswith("SyntaxError") or "JSON" in clue.message:
        return None
    for language, message in (("python", _PYTHON), ("javascript", _JAVASCRIPT)):
        if not message.search(clue.message):
            continue
        for source, place in clue.spots(language):
            if check_syntax(source.path, source.data) is not None:
                return _fix(clue, source, place)
    return None


def _fix(clue: Clue, source: Source, place: Place) -> Fix | None:
    opened = _OPENED.search(clue.message)
    attempt = _best(source, Layout(source), place.line, int(opened.group(1)) if opened else place.line)
    if attempt is None:
        return None
    return Fix(
        remedy=NAME,
        reason=f"{attempt.what} in line {attempt.line} is the one repair that parses and fits the indentation",
        root_cause=f"{source.path}:{place.line}: {clue.message[:200]}",
        splices={source.path: (attempt.cut,)},
    )


def _best(source: Source, layout: Layout, line: int, opened: int) -> _Attempt | None:
    attempts = sorted(set(_attempts(source, layout, line, opened)))
    budget = MAX_TRIED_BYTES // max(1, len(source.data))
    # An opening bracket is seldom the one too many: it may go when nothing else helps.
    for opening in (False, True):
        tried = [attempt for attempt in attempts if attempt.opening is opening]
        budget -= len(tried)
        if budget < 0:
            return None  # whoever has not tried all cannot say that there is only one
        groups = _working(source, tried)
        if groups:
            return _one(groups)
    return None


def _working(source: Source, attempts: list[_Attempt]) -> dict[bytes, tuple[int, _Attempt]]:
    """The best attempt for each program that results, with how often that disagrees with its indentation."""
    groups: dict[bytes, tuple[int, _Attempt]] = {}
    for attempt in attempts:
        after = splice(source.data, (attempt.cut,))
        found = shape(after, source.language)
        if found is None or check_syntax(source.path, after) is not None:
            continue
        repaired = Source(path=source.path, data=after, language=source.language)
        candidate = (len(Layout(repaired).suspects), attempt)
        groups[found] = min(candidate, groups.get(found, candidate))
    return groups


def _one(groups: dict[bytes, tuple[int, _Attempt]]) -> _Attempt | None:
    """The attempt whose place and way are the best, when they are those of one program only."""
    ranks = sorted((count, attempt.away, attempt.rank) for count, attempt in groups.values())
    if ranks.count(ranks[0]) > 1:
        return None
    return min(groups.values())[1]


def _attempts(source: Source, layout: Layout, line: int, opened: int) -> Iterator[_Attempt]:
    before = layout.line_before(line)
    lines = {line: 0, opened: 0, **({before: 0} if before else {})}
    for token, _ in layout.suspects[:_MAX_SUSPECTS]:
        above = layout.line_before(token.line)
        for other in (token.line, above):
            if other is not None:
                lines.setdefault(other, 1)
    if layout.tokens:
        lines.setdefault(layout.tokens[-1].line, 1)
    for other, away in sorted(lines.items()):
        tokens = layout.on_line(other)
        yield from _removals(source, tokens, away)
        yield from _additions(source, layout, tokens, away)


def _removals(source: Source, tokens: list[Token], away: int) -> Iterator[_Attempt]:
    for token in tokens:
        if token.kind not in _BRACKETS or token.kind == "${":
            continue
        start, end = token.start, token.end
        if len(tokens) == 1:  # alone on its line: the line goes
            first, last = source.line_span(token.line)
            if not source.data[first:last].replace(token.kind.encode(), b"", 1).strip():
                start, end = first, min(source.line_span(token.line + 1)[0], len(source.data))
        opening = token.kind in CLOSERS
        yield _Attempt(away, 0, Splice(start, end, b""), f"removing `{token.kind}`", token.line, opening)
        for closer in sorted(set(CLOSERS.values()) - {token.kind} if token.kind in CLOSERS.values() else ()):
            what = f"`{closer}` in place of `{token.kind}`"
            yield _Attempt(away, 1, Splice(token.start, token.end, closer.encode()), what, token.line)


def _additions(source: Source, layout: Layout, tokens: list[Token], away: int) -> Iterator[_Attempt]:
    """Add a closing bracket at the end of a line's code, within its trailing punctuation, or as a new line."""
    if not tokens:
        return
    line = tokens[-1].line
    # Before a trailing comma or semicolon, rather than after it.
    places = [(tokens[-1].end, 1)]
    for token in reversed(tokens):
        if token.kind not in _TRAILING:
            break
        places.append((token.start, 2 if token.kind in _BRACKETS else 0))
    for opener in _openers(layout, tokens):
        closer = CLOSERS[opener.kind]
        for at, rank in places:
            kept = at
            while kept > 0 and source.data[kept - 1 : kept] in (b" ", b"\t"):
                kept -= 1  # `if (f(x) {` becomes `if (f(x)) {`
            start = kept if kept > source.line_span(line)[0] else at
            what = f"adding `{closer}`"
            yield _Attempt(away, rank, Splice(start, start, closer.encode()), what, line)
        if opener.line < line:
            yield _Attempt(away, -1 if _hangs(layout, opener) else 3, *_own_line(source, tokens[-1], opener))


def _openers(layout: Layout, tokens: list[Token]) -> list[Token]:
    """The innermost brackets open at the end of a line, one of each kind."""
    stack = list(layout.open.get(tokens[0].start, ()))
    for token in tokens:
        if token.kind in CLOSERS:
            stack.append(token)
        elif token.kind in CLOSERS.values() and stack:
            stack.pop()
    # A closing bracket of the wrong kind may have closed the wrong one.
    stack = [*layout.open.get(tokens[0].start, ()), *(t for t in tokens if t.kind in CLOSERS), *stack]
    kinds = {CLOSERS[token.kind]: token for token in stack}
    return [kinds[closer] for closer in sorted(kinds)]


def _hangs(layout: Layout, opener: Token) -> bool:
    """Tell whether a bracket is the last token of its line, so that its partner stands on a line of its own."""
    return layout.on_line(opener.line)[-1] is opener


def _own_line(source: Source, last: Token, opener: Token) -> tuple[Splice, str, int]:
    end = source.line_span(last.line)[1]
    start, _ = source.line_span(opener.line)
    line = source.data[start : opener.start]
    indent = line[: len(line) - len(line.lstrip())]
    newline = b"\r\n" if source.data[end : end + 2] == b"\r\n" or b"\r\n" in source.data else b"\n"
    closer = CLOSERS[opener.kind]
    return Splice(end, end, newline + indent + closer.encode()), f"adding `{closer}` after", last.line
