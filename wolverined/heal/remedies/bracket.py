# SPDX-License-Identifier: MIT
"""One bracket missing, one too many, or one of the wrong kind, in a file that does not parse.

Every one-bracket change is tried in memory where the runtime points and where the indentation disagrees.
What parses is only a repair when the changed line also makes sense: it uses no name that nothing declares
(`len(x)` without its bracket is `lenx)`), and does something. Repairs are grouped by the program that
results; one program must fit the indentation and custom better than every other, else nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from wolverined.heal.remedies.clue import Clue, Fix, Place, Splice, splice
from wolverined.heal.remedies.layout import CLOSERS, Layout, Token
from wolverined.heal.remedies.sense import namespaces, oddities, senseless
from wolverined.heal.remedies.tree import Source
from wolverined.heal.syntax import check_syntax

NAME = "unbalanced-bracket"

MAX_TRIED_BYTES = 64 * 1024 * 1024  # parsed again where they changed
MAX_JUDGED_BYTES = 4 * 1024 * 1024  # of what parsed, read token by token, at some 500 kB/s

_OPENED = re.compile(r"on line (\d+)$")
_TRAILING = frozenset(";,:{") | frozenset(CLOSERS.values()) | {"=>"}
_KEYWORDS = frozenset(("await", "case", "else", "new", "not", "return", "throw", "typeof", "yield"))
_MAX_SUSPECTS = 8
_MAX_TOKENS = 120  # a longer line was written by no hand
_BRACKETS = frozenset(CLOSERS) | frozenset(CLOSERS.values())


class _Attempt(msgspec.Struct, frozen=True, order=True):
    """One change, ordered by how natural it is: where the runtime points first, then by its way and place."""

    away: int
    rank: int
    cut: Splice
    what: str
    line: int


def propose(clue: Clue) -> Fix | None:
    """Add, remove or replace the one bracket that makes a file parse as it is indented."""
    if not clue.type.endswith("SyntaxError") or "JSON" in clue.message:
        return None
    for language in ("python", "javascript"):
        for source, place in clue.spots(language):
            # A file whose brackets match cannot be mended by one bracket, whatever the runtime says of it.
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
        reason=f"{attempt.what} line {attempt.line} is the one repair that parses and fits the indentation",
        root_cause=f"{source.path}:{place.line}: {clue.message[:200]}",
        splices={source.path: (attempt.cut,)},
    )


def _best(source: Source, layout: Layout, line: int, opened: int) -> _Attempt | None:
    attempts = sorted(set(_attempts(source, layout, line, opened)))
    if len(attempts) * len(source.data) > MAX_TRIED_BYTES:
        return None  # whoever has not tried all cannot say that there is only one
    groups: dict[bytes, tuple[int, int, _Attempt]] = {}
    judged = 0
    for attempt in attempts:
        after = splice(source.data, (attempt.cut,))
        found = source.shape_with(attempt.cut.start, attempt.cut.end, attempt.cut.text)
        if found is None or check_syntax(source.path, after) is not None:
            continue
        judged += len(after)
        if judged > MAX_JUDGED_BYTES:
            return None
        repaired = Source(path=source.path, data=after, language=source.language)
        first, last = repaired.line_of(attempt.cut.start), repaired.line_of(attempt.cut.start + len(attempt.cut.text))
        if senseless(repaired, first, last, before=source):
            continue
        candidate = (len(Layout(repaired).suspects), oddities(repaired), attempt)
        groups[found] = min(candidate, groups.get(found, candidate))
    ranks = sorted((suspects, odd) for suspects, odd, _ in groups.values())
    return min(groups.values())[2] if ranks and ranks.count(ranks[0]) == 1 else None


def _attempts(source: Source, layout: Layout, line: int, opened: int) -> Iterator[_Attempt]:
    lines = {line: 0, opened: 0}
    suspects = layout.suspects[:_MAX_SUSPECTS]
    for other in [line, *(token.line for token, _ in suspects)]:
        above = layout.line_before(other)
        lines.setdefault(other, 1)
        if above is not None:
            lines.setdefault(above, 0 if other == line else 1)
    for closer, _ in suspects:
        header = layout.header(closer) if closer.kind == "}" else None
        if header is not None:
            lines.setdefault(header, 1)
    for opener in [*(opener for _, opener in suspects), *layout.unclosed[-_MAX_SUSPECTS:]]:
        if opener is not None:
            lines.setdefault(opener.line, 1)
    if layout.tokens:
        lines.setdefault(layout.tokens[-1].line, 1)
    names = namespaces(source)
    for other, away in sorted(lines.items()):
        tokens = layout.on_line(other)
        if len(tokens) <= _MAX_TOKENS:
            yield from _removals(source, tokens, away)
            yield from _additions(layout, tokens, away, names)


def _removals(source: Source, tokens: list[Token], away: int) -> Iterator[_Attempt]:
    for token in tokens:
        if token.kind not in _BRACKETS or token.kind == "${":
            continue
        if token.kind in CLOSERS and not _doubled(source, token):
            # Without its brace the body of an `if` is its first statement, without its bracket a call with a
            # list is a subscript: it parses, and is wrong.
            continue
        start, end = token.start, token.end
        if len(tokens) == 1:  # alone on its line: the line goes
            first, last = source.line_span(token.line)
            if not source.data[first:last].replace(token.kind.encode(), b"", 1).strip():
                start, end = first, min(source.line_span(token.line + 1)[0], len(source.data))
        rank = 0 if all(other.kind in _TRAILING for other in tokens if other.start > token.start) else 1
        yield _Attempt(away, rank, Splice(start, end, b""), f"removing `{token.kind}` in", token.line)
        for closer in sorted(set(CLOSERS.values()) - {token.kind} if token.kind in CLOSERS.values() else ()):
            what = f"`{closer}` in place of `{token.kind}` in"
            yield _Attempt(away, 1, Splice(token.start, token.end, closer.encode()), what, token.line)


def _may_close(tokens: list[Token], index: int, closer: str, source: Source, names: set[str]) -> bool:
    """Tell whether somebody may have meant to close a bracket right after a token."""
    token = tokens[index]
    if (token.kind == "{" and closer == "}") or token.kind in _KEYWORDS:
        return False
    follows = tokens[index + 1].kind if index + 1 < len(tokens) else ";"
    if CLOSERS.get(token.kind) == closer and follows not in _TRAILING:
        return False  # `any([1, 2]:` never was `any()[1, 2]:`
    # `log(JSON.stringify(x)` never was `log(JSON).stringify(x)`: nobody hands over a module.
    return not (follows == "." and source.data[token.start : token.end].decode(errors="replace") in names)


def _opens_block(layout: Layout, line: int) -> bool:
    """Tell whether the next line is deeper than this one, as after a brace."""
    tokens = layout.on_line(line)
    below = next((token for token in layout.tokens if token.start > tokens[-1].start), None)
    return below is not None and below.indent > tokens[0].indent and tokens[-1].kind not in CLOSERS


def _doubled(source: Source, token: Token) -> bool:
    return token.kind.encode() in (source.data[token.start - 1 : token.start], source.data[token.end : token.end + 1])


def _additions(layout: Layout, tokens: list[Token], away: int, names: set[str]) -> Iterator[_Attempt]:
    """Add a bracket anywhere on a line, or a closing one on a line of its own below it."""
    if not tokens:
        return
    source, line = layout.source, tokens[-1].line
    closers = {token.kind for token in tokens}
    trailing = len(tokens)
    while trailing and tokens[trailing - 1].kind in _TRAILING:
        trailing -= 1
    openers = _openers(layout, tokens)
    for index, token in enumerate(tokens):
        # At the end of the code, before a trailing comma or semicolon rather than after it.
        rank = 0 if index == trailing - 1 else 1 if index == len(tokens) - 1 else 2 if index >= trailing else 4
        for opener in openers:
            closer = CLOSERS[opener.kind]
            if _may_close(tokens, index, closer, source, names):
                yield _Attempt(away, rank, Splice(token.end, token.end, closer.encode()), f"adding `{closer}` in", line)
        for kind, closer in CLOSERS.items():
            called = kind == "(" and token.kind in ("+", "-")  # `x + 1` never was `x(+ 1)`
            if kind != "${" and token.kind != closer and closer in closers and not called:
                cut = Splice(token.start, token.start, kind.encode())
                yield _Attempt(away, 5, cut, f"adding `{kind}` in", line)
    if source.language == "javascript" and _opens_block(layout, line):
        yield _Attempt(away, 3, Splice(tokens[-1].end, tokens[-1].end, b" {"), "adding `{` in", line)
    for opener in openers:
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
    return Splice(end, end, newline + indent + closer.encode()), f"adding `{closer}` below", last.line
