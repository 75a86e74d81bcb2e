# SPDX-License-Identifier: MIT
"""One source file as a tree of tokens with byte offsets, for both languages that remedies know.

tree-sitter reads files that are broken, of a newer Python than ours, with or without a BOM, and its
offsets are exact inside f-strings and template literals, which those of `ast` are not. The tree is
copied once into plain nodes: a parent costs tree-sitter a walk from the root, and remedies ask for
parents all the time. Nothing here recurses, since the depth of a file is its author's choice.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

import tree_sitter
import tree_sitter_javascript
import tree_sitter_python

MAX_SOURCE_BYTES = 512 * 1024
MAX_DEPTH = 400  # nobody writes deeper; what asks a node for its ancestors relies on it

_GRAMMARS = {
    "javascript": tree_sitter.Language(tree_sitter_javascript.language()),
    "python": tree_sitter.Language(tree_sitter_python.language()),
}
_LANGUAGES = {
    ".cjs": "javascript",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".py": "python",
    ".pyw": "python",
}
_STATEMENTS = (
    "expression_statement",
    "lexical_declaration",
    "return_statement",
    "throw_statement",
    "variable_declaration",
)
# Brackets that change nothing: around one expression, and around the one parameter of an arrow function.
_SHAPELESS = ("parenthesized_expression", "formal_parameters")
_NEWLINE = re.compile(rb"\r\n|\r|\n")


class Node:
    """One node of a syntax tree. `kind` is the grammar's name of it, `field` its role in the parent."""

    __slots__ = ("children", "end", "field", "kind", "named", "parent", "start")

    def __init__(self, *, kind: str, start: int, end: int, named: bool, field: str, parent: Node | None) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.named = named
        self.field = field
        self.parent = parent
        self.children: list[Node] = []

    def child(self, field: str) -> Node | None:
        """Return the first child in that role."""
        return next((child for child in self.children if child.field == field), None)

    def in_role(self, field: str) -> list[Node]:
        """Return every child in that role."""
        return [child for child in self.children if child.field == field]

    def named_children(self) -> list[Node]:
        """Return the children that are more than punctuation; comments are left out."""
        return [child for child in self.children if child.named and child.kind != "comment"]

    def ancestors(self) -> Iterator[Node]:
        """Walk outwards, from the parent to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def walk(self) -> Iterator[Node]:
        """Walk this node and all below it, in the order of the text."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def within(self, *kinds: str) -> Node | None:
        """Return the innermost ancestor of one of these kinds."""
        return next((node for node in self.ancestors() if node.kind in kinds), None)


def _itself(node: Node) -> Node:
    return node


class Source:
    """A parsed file.

    Attributes:
        path: Where it stands in the snapshot.
        data: Its bytes; every offset counts in them.
        language: "python" or "javascript".
        root: The tree.
        broken: Whether the grammar found an error.
        depth: How deep its nodes nest.
        scopes: The names that it declares, kept by whoever collects them first.
    """

    scopes: object = None

    def __init__(self, *, path: str, data: bytes, language: str) -> None:
        self.path = path
        self.data = data
        self.language = language
        self._tree = tree_sitter.Parser(_GRAMMARS[language]).parse(data)
        self.broken = self._tree.root_node.has_error
        self.root, self.depth = _grow(self._tree)
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(data))]

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return len(self._starts)

    def shape_with(self, start: int, end: int, text: bytes) -> bytes | None:
        """Return the `shape` of this file with some bytes replaced, for the price of what changes."""
        tree = self._tree.copy()
        tree.edit(
            start_byte=start,
            old_end_byte=end,
            new_end_byte=start + len(text),
            start_point=self._point(start),
            old_end_point=self._point(end),
            new_end_point=self._point(start, text),
        )
        after = self.data[:start] + text + self.data[end:]
        return _shape(tree_sitter.Parser(_GRAMMARS[self.language]).parse(after, tree))

    def _point(self, offset: int, text: bytes = b"") -> tuple[int, int]:
        rows = self.data.count(b"\n", 0, offset) + text.count(b"\n")
        line = self.data[self.data.rfind(b"\n", 0, offset) + 1 : offset] + text
        return rows, len(line) - line.rfind(b"\n") - 1

    def text(self, node: Node) -> str:
        """Return the text of a node."""
        return self.data[node.start : node.end].decode(errors="replace")

    def line_of(self, offset: int) -> int:
        """Return the number of the line that holds this offset, from 1."""
        return bisect_right(self._starts, offset)

    def line_span(self, line: int) -> tuple[int, int]:
        """Return the offsets of a line without its newline; an empty span for a line that is not there."""
        if not 1 <= line <= len(self._starts):
            return (len(self.data), len(self.data))
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self.data)
        return (start, start + len(self.data[start:end].rstrip(b"\r\n")))

    def on_line(self, line: int) -> Iterator[Node]:
        """Walk the nodes that begin on a line, in the order of the text."""
        start, end = self.line_span(line)
        stack = [self.root]
        while stack:
            node = stack.pop()
            if node.start > end or node.end < start:
                continue
            if start <= node.start <= end:
                yield node
            stack.extend(reversed(node.children))

    def at(self, nodes: Iterable[Node], line: int, *, token: Callable[[Node], Node] = _itself) -> list[Node]:
        """Return the nodes that a runtime can mean by a line.

        Those whose token (by default they themselves) begins on the line; when there are none, those of a
        statement that runs over it: V8 names the line on which a call begins, not that of the argument
        which failed.
        """
        found = list(nodes)
        exact = [node for node in found if self.line_of(token(node).start) == line]
        return exact or [node for node in found if self._spans(node.within(*_STATEMENTS), line)]

    def _spans(self, node: Node | None, line: int) -> bool:
        return node is not None and self.line_of(node.start) <= line <= self.line_of(node.end)

    def leaves(self) -> Iterator[Node]:
        """Walk the tokens of the file."""
        return (node for node in self.root.walk() if not node.children)

    def string(self, node: Node) -> str | None:
        """Return the value of a plain string literal; None for one with escapes, parts or a prefix."""
        if node.kind != "string":
            return None
        raw = self.text(node)
        plain = re.fullmatch(r"""(['"])([^'"\\\r\n]*)\1""", raw)
        return plain.group(2) if plain else None


def language_of(path: str) -> str | None:
    """Name the language of a file by its suffix; None when no remedy knows it."""
    return _LANGUAGES.get(PurePosixPath(path).suffix.lower())


def shape(data: bytes, language: str) -> bytes | None:
    """Return a digest of a program's structure without its texts; None when it has an error.

    Two repairs of one file whose shapes are the same are the same repair: they differ in where a comma or
    a blank stands, or in brackets around what is one expression anyway, not in what holds what.
    """
    return _shape(tree_sitter.Parser(_GRAMMARS[language]).parse(data))


def _shape(tree: tree_sitter.Tree) -> bytes | None:
    if tree.root_node.has_error:
        return None
    # Not `str(root_node)`: it recurses in C and overflows the stack on a few thousand nested brackets.
    digest = hashlib.sha256()
    cursor = tree.walk()
    while True:
        digest.update(_mark(cursor.node, "("))
        if cursor.goto_first_child():
            continue
        digest.update(_mark(cursor.node, ")"))
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return digest.digest()
            digest.update(_mark(cursor.node, ")"))


def _mark(node: tree_sitter.Node | None, bracket: str) -> bytes:
    if node is None or not node.is_named or node.type in _SHAPELESS:
        return b""
    return f"{bracket}{node.type}".encode()


def _grow(tree: tree_sitter.Tree) -> tuple[Node, int]:
    cursor = tree.walk()
    root = _copy(cursor, None)
    node, depth, deepest = root, 0, 0
    while True:
        if cursor.goto_first_child():
            node = _copy(cursor, node)
            depth += 1
            deepest = max(deepest, depth)
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return root, deepest
            assert node.parent is not None
            node = node.parent
            depth -= 1
        node = _copy(cursor, node.parent)


def _copy(cursor: tree_sitter.TreeCursor, parent: Node | None) -> Node:
    found = cursor.node
    assert found is not None
    node = Node(
        kind=found.type,
        start=found.start_byte,
        end=found.end_byte,
        named=found.is_named,
        field=cursor.field_name or "",
        parent=parent,
    )
    if parent is not None:
        parent.children.append(node)
    return node
