# SPDX-License-Identifier: MIT
"""Whether a line that parses is likely to be what somebody meant to write.

A repair that parses may still be nonsense: `sorted(l)` without its bracket becomes the name `sortedl`, a
bracket closed too early makes a comma operator or a call of a call.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from wolverined.heal.remedies import javascript_scopes, python_scopes
from wolverined.heal.remedies.javascript_modules import imported
from wolverined.heal.remedies.python_scopes import imported_modules
from wolverined.heal.remedies.tree import Node, Source
from wolverined.heal.remedies.vocabulary import NODE_GLOBALS, STATICS

_EFFECTS = (
    "assignment",
    "assignment_expression",
    "augmented_assignment",
    "augmented_assignment_expression",
    "await",
    "await_expression",
    "call",
    "call_expression",
    "ellipsis",
    "new_expression",
    "string",
    "ternary_expression",
    "binary_expression",
    "boolean_operator",
    "conditional_expression",
    "unary_expression",
    "update_expression",
    "yield",
    "yield_expression",
)
_VARIABLES = ("identifier", "shorthand_property_identifier")
_BLOCKS = ("program", "statement_block")
_ODD = ("empty_statement", "expression_list", "sequence_expression")


def senseless(source: Source, first: int, last: int, *, before: Source) -> bool:
    """Tell whether one of these lines uses a name that nothing declares, or states without effect.

    Args:
        source: The repaired file.
        first: The first changed line.
        last: The last changed line.
        before: The file as it was: a repair that fuses two tokens makes a name that was not there.
    """
    tokens = {before.text(leaf) for leaf in before.leaves()}
    for node in source.root.walk():
        if not first <= source.line_of(node.start) <= last:
            continue
        if node.kind == "arguments" and _elided(node):
            return True  # the grammar takes `f(, x)`, no JavaScript engine does
        if not node.children and node.kind.endswith("identifier") and source.text(node) not in tokens:
            return True
        if node.kind == "expression_statement":
            inner = node.named_children()
            if inner and _bare(inner[0]).kind not in _EFFECTS:
                return True
    return any(first <= source.line_of(node.start) <= last for node in _undeclared(source))


def oddities(source: Source) -> int:
    """Count what is allowed and seldom meant: comma operators, empty statements, calls of calls, lone tuples."""
    count = 0
    for node in source.root.walk():
        bare_block = node.kind == "statement_block" and node.parent is not None and node.parent.kind in _BLOCKS
        lone_tuple = node.kind == "tuple" and node.parent is not None and node.parent.kind == "argument_list"
        if node.kind in _ODD or bare_block or lone_tuple:
            count += 1
        elif node.kind in ("call", "call_expression"):
            callee = node.child("function")
            if callee is not None and _bare(callee).kind in ("call", "call_expression", "parenthesized_expression"):
                count += 1
    return count


def namespaces(source: Source) -> set[str]:
    """Return the names that stand for modules and for what the language offers, such as `JSON`."""
    if source.language == "javascript":
        return {source.text(item.bound) for item in imported(source) if item.name == "*"} | set(STATICS)
    return {used for _, _, used in imported_modules(source)}


def _elided(arguments: Node) -> bool:
    before = "("
    for child in arguments.children:
        if child.kind == "," and before in ("(", ","):
            return True
        before = child.kind if child.kind != "comment" else before
    return False


def _bare(node: Node) -> Node:
    while node.kind == "parenthesized_expression" and len(node.named_children()) == 1:
        node = node.named_children()[0]
    return node


def _undeclared(source: Source) -> Iterator[Node]:
    if source.language == "javascript":
        scopes = javascript_scopes.javascript_scopes(source)
        known: frozenset[str] = NODE_GLOBALS
    else:
        scopes = python_scopes.python_scopes(source)
        known = frozenset(dir(builtins)) | {"__file__", "__name__"}
        if any(node.kind == "wildcard_import" for node in source.root.walk()):
            return
    for node in source.leaves():
        if node.kind not in _VARIABLES or id(node) in scopes.declaring:
            continue
        name = source.text(node)
        variable = javascript_scopes.is_variable if source.language == "javascript" else python_scopes.is_variable
        if name not in known and variable(node) and not scopes.resolve(name, node):
            yield node
