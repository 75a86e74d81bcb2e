# SPDX-License-Identifier: MIT
"""Names in Python source: what declares them, where they are visible, which tokens use them."""

from __future__ import annotations

from collections.abc import Iterator

from wolverined.heal.remedies.scopes import Scopes
from wolverined.heal.remedies.tree import Node, Source

_FUNCTIONS = ("function_definition", "lambda")
_COMPREHENSIONS = (
    "dictionary_comprehension",
    "generator_expression",
    "list_comprehension",
    "set_comprehension",
)
_SCOPES = ("module", "class_definition", *_FUNCTIONS, *_COMPREHENSIONS)
_IMPORTS = ("import_statement", "import_from_statement", "future_import_statement")
_PARAMETERS = (
    "default_parameter",
    "dictionary_splat_pattern",
    "lambda_parameters",
    "list_splat_pattern",
    "parameters",
    "tuple_pattern",
    "typed_default_parameter",
    "typed_parameter",
)
_PATTERNS = (
    "as_pattern_target",
    "list",
    "list_pattern",
    "list_splat_pattern",
    "parenthesized_expression",
    "pattern_list",
    "tuple",
    "tuple_pattern",
)
# An augmented assignment is not among them: it needs a name that something else has declared.
_TARGETS = {
    "assignment": "left",
    "as_pattern": "alias",
    "for_in_clause": "left",
    "for_statement": "left",
    "named_expression": "name",
}


def python_scopes(source: Source) -> Scopes:
    """Collect the names that a Python file declares, once."""
    if isinstance(source.scopes, Scopes):
        return source.scopes
    source.scopes = scopes = Scopes(source, hides=_hides)
    shared = _shared_names(source)
    for node in source.root.walk():
        for token in _declared_by(node):
            scope = _owner(node, token)
            name = source.text(token)
            if (id(scope), name) in shared:  # `global name`, `nonlocal name`
                scope = source.root
            scopes.declare(scope, token)
    return scopes


def top_level_names(source: Source) -> dict[str, list[Node]]:
    """Return what a module offers to `from module import name`, with the tokens that declare it."""
    return python_scopes(source).declared(source.root)


def uses(scopes: Scopes, name: str) -> Iterator[Node]:
    """Walk the tokens that use a name as a variable, in the order of the text."""
    for node in scopes.source.leaves():
        if node.kind != "identifier" or id(node) in scopes.declaring or scopes.source.text(node) != name:
            continue
        if is_variable(node):
            yield node


def imported_names(source: Source) -> Iterator[tuple[str, Node, Node]]:
    """Walk `from module import name [as alias]`: the module as written, the name's token, the bound token."""
    for node in source.root.walk():
        if node.kind != "import_from_statement":
            continue
        module = node.child("module_name")
        if module is None:
            continue
        for item in node.in_role("name"):
            alias = item.child("alias")
            name = item.child("name") if item.kind == "aliased_import" else item
            if name is not None and len(name.named_children()) == 1:
                token = name.named_children()[0]
                yield source.text(module).replace(" ", ""), token, alias or token


def imported_modules(source: Source) -> Iterator[tuple[str, Node, str]]:
    """Walk `import a.b [as c]`: the dotted name, its node, and the expression by which it is used."""
    for node in source.root.walk():
        if node.kind != "import_statement":
            continue
        for item in node.in_role("name"):
            alias = item.child("alias")
            name = item.child("name") if item.kind == "aliased_import" else item
            if name is not None:
                dotted = source.text(name).replace(" ", "")
                yield dotted, name, source.text(alias) if alias is not None else dotted


def _hides(scope: Node, at: Node) -> bool:
    # The names of a class body are not seen from the functions in it.
    if scope.kind != "class_definition":
        return False
    for node in (at, *at.ancestors()):
        if node is scope:
            return False
        if node.kind in _FUNCTIONS and at is not node and node.child("body") in (at, *at.ancestors()):
            return True
    return False


def _owner(node: Node, token: Node) -> Node:
    inner = token.within(*_SCOPES)
    if node.kind in ("function_definition", "class_definition") and inner is node:
        inner = node.within(*_SCOPES)
    if node.kind == "named_expression":  # binds outside of the comprehension that holds it
        while inner is not None and inner.kind in _COMPREHENSIONS:
            inner = inner.within(*_SCOPES)
    assert inner is not None
    return inner


def _declared_by(node: Node) -> Iterator[Node]:
    kind = node.kind
    if kind in _TARGETS:
        for target in node.in_role(_TARGETS[kind]):
            yield from _identifiers(target)
    elif kind in ("function_definition", "class_definition"):
        name = node.child("name")
        if name is not None:
            yield name
    elif kind in _PARAMETERS:
        yield from _parameters(node)
    elif kind in _IMPORTS:
        yield from _imports(node)
    elif kind in ("case_pattern", "as_pattern", "splat_pattern", "keyword_pattern"):
        yield from _captures(node)
    elif kind == "type_parameter":
        yield from (leaf for leaf in node.walk() if leaf.kind == "identifier")
    elif kind == "type_alias_statement":
        left = node.child("left")
        yield from (leaf for leaf in (left.walk() if left else ()) if leaf.kind == "identifier")


def _identifiers(target: Node) -> Iterator[Node]:
    stack = [target]
    while stack:
        node = stack.pop()
        if node.kind == "identifier":
            yield node
        elif node.kind in _PATTERNS:
            stack.extend(reversed(node.children))


def _parameters(node: Node) -> Iterator[Node]:
    if node.kind in ("default_parameter", "typed_default_parameter"):
        name = node.child("name")
        if name is not None and name.kind == "identifier":
            yield name
        return
    # A splat is also what a call or an assignment has; there the target rules declare it.
    if node.kind.endswith("_pattern") and node.within("parameters", "lambda_parameters") is None:
        return
    yield from (child for child in node.children if child.kind == "identifier" and child.field != "type")


def _imports(node: Node) -> Iterator[Node]:
    for item in node.in_role("name"):
        if item.kind == "aliased_import":
            alias = item.child("alias")
            if alias is not None:
                yield alias
        elif item.named_children():
            yield item.named_children()[0]  # `import a.b` binds `a`


def _captures(node: Node) -> Iterator[Node]:
    if node.kind in ("as_pattern", "splat_pattern"):
        if node.within("case_clause") is not None:
            yield from (child for child in node.children if child.kind == "identifier")
        return
    for child in node.children:
        names = child.named_children() if child.kind == "dotted_name" else []
        if len(names) == 1:
            yield names[0]


def _shared_names(source: Source) -> set[tuple[int, str]]:
    shared: set[tuple[int, str]] = set()
    for node in source.root.walk():
        if node.kind in ("global_statement", "nonlocal_statement"):
            scope = node.within(*_SCOPES)
            shared.update((id(scope), source.text(child)) for child in node.children if child.kind == "identifier")
    return shared


def is_variable(node: Node) -> bool:
    """Tell whether an identifier stands for a variable, and not for an attribute, a keyword or a module."""
    parent = node.parent
    if parent is None:
        return False
    if parent.kind == "attribute" and node.field == "attribute":
        return False
    if parent.kind in ("keyword_argument", "keyword_pattern"):
        return node.field == "value" or parent.children[0] is not node
    if parent.kind in ("global_statement", "nonlocal_statement", "import_prefix"):
        return False
    return node.within(*_IMPORTS) is None
