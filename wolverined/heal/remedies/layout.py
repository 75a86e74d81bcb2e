# SPDX-License-Identifier: MIT
"""How the brackets of a file stand against its indentation, which tells where one is missing or too many.

People indent by what they mean. A bracket whose partner stands at another indentation, or a line inside a
bracket that is indented no deeper than the line that opened it, is where meaning and text part.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wolverined.heal.remedies.tree import Node, Source

_BEGINNINGS = ("class", "const", "for", "function", "if", "let", "return", "switch", "throw", "try", "var", "while")
CLOSERS = {"(": ")", "[": "]", "{": "}", "${": "}"}


class Token(msgspec.Struct, frozen=True):
    """A token with its line; `first` says that nothing but blanks stands before it on that line."""

    kind: str
    start: int
    end: int
    line: int
    indent: int
    first: bool


class Layout:
    """The tokens of a file, and where brackets and indentation disagree.

    Attributes:
        tokens: Every token but comments, in order.
        suspects: For each disagreement its token, and the innermost bracket open there, if any.
        open: The brackets open before each token, by the token's start.
        unclosed: The brackets that nothing closes.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = list(_tokens(source))
        self.suspects: list[tuple[Token, Token | None]] = []
        self.unclosed: list[Token] = []
        self.open: dict[int, tuple[Token, ...]] = {}
        self._scan()

    def on_line(self, line: int) -> list[Token]:
        """Return the tokens that begin on a line."""
        return [token for token in self.tokens if token.line == line]

    def line_before(self, line: int) -> int | None:
        """Return the last line above that has a token."""
        return max((token.line for token in self.tokens if token.line < line), default=None)

    def header(self, closer: Token) -> int | None:
        """Return the last line above a closing bracket that is indented as it is: where it was opened."""
        above = [token.line for token in self.tokens if token.first and token.start < closer.start]
        same = [token.line for token in self.tokens if token.first and token.indent == closer.indent]
        return max((line for line in same if line in above[:-1]), default=None)

    def _scan(self) -> None:
        stack: list[Token] = []
        bodies: dict[int, int] = {}  # the indentation of the first line in each open bracket, by its start
        last = ""
        for token in self.tokens:
            if token.first:
                self.open[token.start] = tuple(stack[-4:])
                body = bodies.setdefault(stack[-1].start if stack else -1, token.indent)
                begins = last in (";", "}") or token.kind in _BEGINNINGS
                if begins and token.indent > body and token.kind not in CLOSERS.values():
                    self.suspects.append((token, None))  # a statement deeper than those beside it
            last = token.kind
            closes = token.kind in CLOSERS.values()
            if token.kind in CLOSERS:
                self._judge(token, stack)
                stack.append(token)
            elif closes and stack and CLOSERS[stack[-1].kind] == token.kind:
                if token.first and token.indent != stack[-1].indent and token.line != stack[-1].line:
                    self.suspects.append((token, stack[-1]))
                stack.pop()
            elif closes:
                self.suspects.append((token, stack[-1] if stack else None))
            else:
                self._judge(token, stack)
        self.unclosed = stack

    def _judge(self, token: Token, stack: list[Token]) -> None:
        if token.first and stack and token.line > stack[-1].line and token.indent <= stack[-1].indent:
            self.suspects.append((token, stack[-1]))


def _tokens(source: Source) -> Iterator[Token]:
    line, indent = 0, 0
    for leaf in source.leaves():
        if leaf.kind == "comment" or leaf.end == leaf.start:
            continue
        here = source.line_of(leaf.start)
        first = here != line
        if first:
            line, indent = here, _indent(source, leaf, here)
        yield Token(leaf.kind, leaf.start, leaf.end, here, indent, first)


def _indent(source: Source, leaf: Node, line: int) -> int:
    start, end = source.line_span(line)
    text = source.data[start : max(end, leaf.start)]
    blank = text[: len(text) - len(text.lstrip())]
    return len(blank.replace(b"\t", b"    "))
