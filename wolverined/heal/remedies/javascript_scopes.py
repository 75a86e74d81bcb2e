# SPDX-License-Identifier: MIT
"""Names in JavaScript source: what declares them, where they are visible, which tokens use them."""

from __future__ import annotations

from collections.abc import Iterator

from wolverined.heal.remedies.scopes import Scopes
from wolverined.heal.remedies.tree import Node, Source

FUNCTIONS = (
    "arrow_function",
    "function_declaration",
    "function_expression",
    "generator_function",
    "generator_function_declaration",
    "method_definition",
)
CLASSES = ("class", "class_declaration")
_BLOCKS = (
    "catch_clause",
    "class_static_block",
    "for_in_statement",
    "for_statement",
    "program",
    "statement_block",
    "switch_body",
    *FUNCTIONS,
)
_HOISTING = ("program", "class_static_block", *FUNCTIONS)
_DECLARATIONS = ("function_declaration", "generator_function_declaration", "class_declaration")
_EXPRESSIONS = ("function_expression", "generator_function", "class")


def javascript_scopes(source: Source) -> Scopes:
    """Collect the names that a JavaScript file declares, once."""
    if isinstance(source.scopes, Scopes):
        return source.scopes
    source.scopes = scopes = Scopes(source, hides=_never)
    for node in source.root.walk():
        for scope, token in _declared_by(node):
            scopes.declare(scope, token)
    return scopes


def uses(scopes: Scopes, name: str) -> Iterator[Node]:
    """Walk the tokens that use a name as a variable, in the order of the text."""
    for node in scopes.source.leaves():
        if node.kind not in ("identifier", "shorthand_property_identifier") or id(node) in scopes.declaring:
            continue
        if scopes.source.text(node) == name and is_variable(node):
            yield node


def identifiers(pattern: Node) -> Iterator[Node]:
    """Walk the tokens that a binding pattern declares: `{a, b: c, ...d}` declares a, c and d."""
    stack = [pattern]
    while stack:
        node = stack.pop()
        if node.kind in ("identifier", "shorthand_property_identifier_pattern"):
            yield node
        elif node.kind in ("assignment_pattern", "object_assignment_pattern"):
            stack.extend(node.in_role("left"))
        elif node.kind == "pair_pattern":
            stack.extend(node.in_role("value"))
        elif node.kind in ("array_pattern", "object_pattern", "rest_pattern"):
            stack.extend(reversed(node.named_children()))


def _never(_scope: Node, _at: Node) -> bool:
    return False


def _declared_by(node: Node) -> Iterator[tuple[Node, Node]]:
    kind = node.kind
    if kind == "variable_declarator":
        yield from _variables(node)
    elif kind in _DECLARATIONS:
        yield from ((_enclosing(node, _BLOCKS), name) for name in node.in_role("name"))
    elif kind in _EXPRESSIONS:
        yield from ((node, name) for name in node.in_role("name"))
    elif kind == "import_clause":
        yield from ((_enclosing(node, ("program",)), token) for token in _imported(node))
    elif kind == "for_in_statement" and node.child("kind") is not None:
        for left in node.in_role("left"):
            yield from ((node, token) for token in identifiers(left))
    elif kind == "catch_clause":
        for parameter in node.in_role("parameter"):
            yield from ((node, token) for token in identifiers(parameter))
    if kind in FUNCTIONS:
        yield from _parameters(node)


def _variables(node: Node) -> Iterator[tuple[Node, Node]]:
    var = node.parent is not None and node.parent.kind == "variable_declaration"
    scope = _enclosing(node, _HOISTING if var else _BLOCKS)
    for name in node.in_role("name"):
        yield from ((scope, token) for token in identifiers(name))


def _parameters(node: Node) -> Iterator[tuple[Node, Node]]:
    for parameter in node.in_role("parameter"):
        yield from ((node, token) for token in identifiers(parameter))
    for parameters in node.in_role("parameters"):
        for parameter in parameters.named_children():
            yield from ((node, token) for token in identifiers(parameter))


def _imported(clause: Node) -> Iterator[Node]:
    for item in clause.walk():
        if (
            item.kind == "identifier"
            and item.parent is not None
            and item.parent.kind in ("import_clause", "namespace_import")
        ):
            yield item
        elif item.kind == "import_specifier":
            bound = item.child("alias") or item.child("name")
            if bound is not None and bound.kind == "identifier":
                yield bound


def _enclosing(node: Node, kinds: tuple[str, ...]) -> Node:
    last = node
    for ancestor in node.ancestors():
        if ancestor.kind in kinds:
            return ancestor
        last = ancestor
    return last  # a file whose root is an ERROR has no `program`


def is_variable(node: Node) -> bool:
    """Tell whether an identifier stands for a variable, and not for an attribute, a keyword or a module."""
    parent = node.parent
    if parent is None:
        return False
    if parent.kind in ("import_specifier", "namespace_export"):
        return False
    if parent.kind == "export_specifier":
        clause = parent.within("export_statement")
        return node.field == "name" and (clause is None or clause.child("source") is None)
    return True
