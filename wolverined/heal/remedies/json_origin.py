# SPDX-License-Identifier: MIT
"""Which value of which JSON file an expression reads: `config.database.host`, `cfg["database"].get("host")`.

Declarations are followed backwards, across files, to a string literal that names a JSON file of the
snapshot. Where a root cannot be followed (a parameter, `self.config`), the caller may try every JSON file
that the code names.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import msgspec

from wolverined.heal.remedies.clue import Workspace
from wolverined.heal.remedies.javascript_modules import exports_of, imported, resolve_module
from wolverined.heal.remedies.javascript_scopes import javascript_scopes
from wolverined.heal.remedies.python_modules import module_path
from wolverined.heal.remedies.python_scopes import imported_names, python_scopes
from wolverined.heal.remedies.tree import Node, Source

_MAX_HOPS = 6
_MAX_NAMES = 40
_MAX_FILES = 40
_NOT_CONFIGURATION = ("package.json", "package-lock.json", "tsconfig.json", "jsconfig.json")


class Step(msgspec.Struct, frozen=True, eq=False):
    """One key of an access chain, and the token that spells it (an identifier, or a string with quotes)."""

    key: str
    token: Node


class Chain(msgspec.Struct, frozen=True, eq=False):
    """`root.a["b"].get("c")`: where it starts, and its steps."""

    root: Node
    steps: tuple[Step, ...]


class Origin(msgspec.Struct, frozen=True):
    """A value in a JSON file: the file, and the keys that lead to the value."""

    path: str
    keys: tuple[str, ...] = ()


def chain_of(source: Source, node: Node) -> Chain:
    """Take an access chain apart."""
    steps: list[Step] = []
    while True:
        inner, step = _step(source, node)
        if inner is None:
            return Chain(node, tuple(reversed(steps)))
        if step is not None:
            steps.append(step)
        node = inner


def accesses(source: Source) -> Iterator[tuple[Node, Step]]:
    """Walk everything that reads a key, with the key that it reads last."""
    for node in source.root.walk():
        inner, step = _step(source, node)
        if inner is not None and step is not None:
            yield node, step


def chains_on(source: Source, line: int) -> Iterator[Chain]:
    """Walk the access chains whose last step stands on a line, the parts of longer ones included."""
    for node, step in accesses(source):
        if source.line_of(step.token.start) == line:
            yield chain_of(source, node)


def origins(workspace: Workspace, source: Source, node: Node, hops: int = 0) -> set[Origin]:
    """Find the JSON values that an expression may read; empty when that is not written."""
    if hops > _MAX_HOPS:
        return set()
    chain = chain_of(source, node)
    keys = tuple(step.key for step in chain.steps)
    if chain.root.kind == "identifier":
        found = _declared(workspace, source, chain.root, hops)
    else:
        found = {Origin(path) for path in _literals(workspace, source, chain.root, hops)}
    return {Origin(origin.path, origin.keys + keys) for origin in found}


def configurations(workspace: Workspace) -> list[str]:
    """List the JSON files that the code names and that may be configuration."""
    named = [
        path
        for path in workspace.paths
        if path.endswith(".json") and posixpath.basename(path) not in _NOT_CONFIGURATION
    ]
    return [path for path in named[:_MAX_FILES] if workspace.mentions(posixpath.basename(path).removesuffix(".json"))]


def _step(source: Source, node: Node) -> tuple[Node | None, Step | None]:
    """Return what a node reads from and by which key; no object when the node is no access."""
    if node.kind in ("parenthesized_expression", "await_expression", "await"):
        inner = node.named_children()
        return (inner[0], None) if len(inner) == 1 else (None, None)
    if node.kind in ("member_expression", "attribute"):
        name = node.child("property") or node.child("attribute")
        return (node.child("object"), Step(source.text(name), name)) if name is not None else (None, None)
    if node.kind in ("subscript_expression", "subscript"):
        index = node.child("index") or node.child("subscript")
        value = source.string(index) if index is not None else None
        if index is not None and value is not None:
            return node.child("object") or node.child("value"), Step(value, index)
    if node.kind == "call" and source.language == "python":
        return _get(source, node)
    return None, None


def _get(source: Source, node: Node) -> tuple[Node | None, Step | None]:
    function, arguments = node.child("function"), node.child("arguments")
    if function is None or arguments is None or function.kind != "attribute":
        return None, None
    name, values = function.child("attribute"), arguments.named_children()
    key = source.string(values[0]) if values else None
    if name is None or source.text(name) != "get" or key is None:
        return None, None
    return function.child("object"), Step(key, values[0])


def _declared(workspace: Workspace, source: Source, node: Node, hops: int) -> set[Origin]:
    name = source.text(node)
    if source.language == "javascript":
        tokens = javascript_scopes(source).resolve(name, node)
        return _from_javascript(workspace, source, tokens[0], hops) if len(tokens) == 1 else set()
    tokens = python_scopes(source).resolve(name, node)
    return set().union(*(_from_python(workspace, source, token, hops) for token in tokens[:4]))


def _from_javascript(workspace: Workspace, source: Source, token: Node, hops: int) -> set[Origin]:
    for item in imported(source):
        if item.bound is token:
            return _from_import(workspace, source, item.specifier, item.name, hops)
    holder = token.within("variable_declarator")
    name, value = (holder.child("name"), holder.child("value")) if holder is not None else (None, None)
    if holder is None or value is None or name not in (token, *token.ancestors()):
        return set()  # a parameter of a function that somebody declared
    keys = _pattern_keys(source, token, holder)
    return {Origin(found.path, found.keys + keys) for found in origins(workspace, source, value, hops + 1)}


def _pattern_keys(source: Source, token: Node, holder: Node) -> tuple[str, ...]:
    """The keys that a destructuring pattern reads to reach a name: `{ a: { b } }` reads a, b."""
    keys: list[str] = []
    node: Node | None = token
    while node is not None and node is not holder:
        if node.kind == "shorthand_property_identifier_pattern":
            keys.append(source.text(node))
        elif node.kind == "pair_pattern":
            keys += [source.text(key) for key in node.in_role("key")]
        node = node.parent
    return tuple(reversed(keys))


def _from_import(workspace: Workspace, source: Source, specifier: str, name: str, hops: int) -> set[Origin]:
    path = resolve_module(workspace, specifier, importer=source.path)
    if path is None:
        return set()
    whole = name in ("*", "default")
    if path.endswith(".json"):
        return {Origin(path, () if whole else (name,))}
    there = workspace.source(path)
    if there is None:
        return set()
    exports = exports_of(there)
    if whole:
        return origins(workspace, there, exports.default, hops + 1) if exports.default is not None else set()
    export = exports.names.get(name)
    tokens = javascript_scopes(there).declared(there.root).get(export.local or name, []) if export else []
    return _from_javascript(workspace, there, tokens[0], hops + 1) if tokens else set()


def _from_python(workspace: Workspace, source: Source, token: Node, hops: int) -> set[Origin]:
    for module, name, bound in imported_names(source):
        if bound is token:
            path = module_path(workspace, module, importer=source.path)
            there = workspace.source(path) if path else None
            if there is None:
                return set()
            tokens = python_scopes(there).declared(there.root).get(source.text(name), [])
            return set().union(*(_from_python(workspace, there, other, hops + 1) for other in tokens[:4]))
    holder = token.parent
    value = holder.child("right") if holder is not None and holder.kind == "assignment" else None
    return origins(workspace, source, value, hops + 1) if value is not None else set()


def _literals(workspace: Workspace, source: Source, node: Node, hops: int) -> set[str]:
    """The JSON files named in an expression, or in what the names in it were made of."""
    queue, seen, found = [(source, node)], {id(node)}, set[str]()
    while queue and len(seen) < _MAX_NAMES:
        here, expression = queue.pop(0)
        names: list[Node] = []
        for inner in expression.walk():
            value = here.string(inner)
            if value is not None and value.endswith(".json"):
                found.update(_named(workspace, here, value))
            elif inner.kind == "identifier":
                names.append(inner)
        if not found:
            for place in _made_of(here, names):
                if id(place) not in seen:
                    seen.add(id(place))
                    queue.append((here, place))
    return found if hops <= _MAX_HOPS else set()


def _named(workspace: Workspace, source: Source, name: str) -> set[str]:
    """The files that a path in the code may mean: seen from the file, from the root, or by its last parts."""
    folder = posixpath.dirname(source.path)
    for path in (posixpath.normpath(posixpath.join(folder, name)), posixpath.normpath(name)):
        if path in workspace.files:
            return {path}
    tail = "/" + name.lstrip("./")
    return {path for path in workspace.paths if ("/" + path).endswith(tail)}


def _made_of(source: Source, names: list[Node]) -> Iterator[Node]:
    scopes = javascript_scopes(source) if source.language == "javascript" else python_scopes(source)
    for name in names:
        for token in scopes.resolve(source.text(name), name)[:4]:
            above = token.within(
                "variable_declarator",
                "function_declaration",
                "assignment",
                "with_item",
                "function_definition",
            )
            if above is not None:
                yield above
