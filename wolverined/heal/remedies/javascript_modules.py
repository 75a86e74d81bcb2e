# SPDX-License-Identifier: MIT
"""JavaScript modules: what a file imports, where an import leads, what a module exports.

CommonJS (`require`, `module.exports`, `exports.x`) and ES modules alike. An export carries the tokens by
which it can be renamed, and whether the module's exports are known to be all.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import msgspec

from wolverined.heal.remedies.clue import Workspace
from wolverined.heal.remedies.javascript_scopes import CLASSES, identifiers, javascript_scopes
from wolverined.heal.remedies.tree import Node, Source, language_of

_SUFFIXES = ("", ".js", ".json", ".cjs", ".mjs", "/index.js", "/index.json")
_FUNCTIONS = ("function_declaration", "generator_function_declaration")


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One name that a module exports: the token that names it, and the local name behind it."""

    name: str
    token: Node
    local: str = ""


class Exports(msgspec.Struct, frozen=True, kw_only=True):
    """What a module exports. `complete` is False when something in it adds names that we cannot read."""

    names: dict[str, Export]
    complete: bool = True
    default: Node | None = None  # the value of `export default`, or of `module.exports =`


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """A name bound by an import: of the whole module (`name` is "*"), of its default, or of one export.

    `token` names the export in the import; `bound` is the local name. They are one in `{ getUsers }`.
    """

    specifier: str
    name: str
    token: Node
    bound: Node


def is_module(path: str) -> bool:
    """Tell whether a file can be imported."""
    return language_of(path) == "javascript" or path.endswith(".json")


def imports(source: Source) -> Iterator[tuple[Node, str]]:
    """Walk the strings that name a module, with their values."""
    for node in source.root.walk():
        if node.kind != "string" or node.parent is None:
            continue
        holder = node.parent
        call = holder.parent if holder.kind == "arguments" else None
        function = call.child("function") if call is not None and call.kind == "call_expression" else None
        named = node.field == "source" and holder.kind in ("import_statement", "export_statement")
        if named or (function is not None and source.text(function) in ("require", "require.resolve", "import")):
            value = source.string(node)
            if value is not None:
                yield node, value


def resolve_module(workspace: Workspace, specifier: str, *, importer: str) -> str | None:
    """Find the file of the snapshot that a relative import means; None for packages and missing files."""
    if not specifier.startswith("."):
        return None
    base = posixpath.normpath(posixpath.join(posixpath.dirname(importer), specifier))
    return next((base + suffix for suffix in _SUFFIXES if base + suffix in workspace.files), None)


def imported(source: Source) -> Iterator[Import]:
    """Walk every name that a file binds to a module or to an export of one."""
    for node in source.root.walk():
        if node.kind == "import_statement":
            yield from _import_statement(source, node)
        elif node.kind == "variable_declarator":
            yield from _require(source, node)


def exports_of(source: Source) -> Exports:
    """Read what a module exports."""
    names: dict[str, Export] = {}
    complete = True
    default: Node | None = None
    for node in source.root.walk():
        if node.kind == "export_statement":
            found, whole = _export_statement(source, node)
            complete = complete and whole
            default = node.child("value") or default
        elif node.kind == "assignment_expression":
            value = _module_exports(source, node)
            default = value or default
            found, whole = _assigned(source, node, value)
            complete = complete and whole
        else:
            complete = complete and not _adds_unseen(source, node)
            continue
        names.update({export.name: export for export in found})
    return Exports(names=names, complete=complete, default=default)


def object_keys(source: Source, node: Node) -> tuple[list[Export], bool]:
    """Return the keys of an object literal, and whether they are all (no spread, no computed key)."""
    found: list[Export] = []
    complete = True
    for item in node.named_children():
        if item.kind == "shorthand_property_identifier":
            found.append(Export(name=source.text(item), token=item, local=source.text(item)))
            continue
        key = item.child("key") or item.child("name")
        if key is None or key.kind == "computed_property_name":
            complete = False
            continue
        value = item.child("value")
        local = source.text(value) if value is not None and value.kind == "identifier" else ""
        found.append(Export(name=source.text(key).strip("'\""), token=key, local=local))
    return found, complete


def class_methods(source: Source, node: Node) -> tuple[set[str], bool]:
    """Return the methods and fields of a class, and whether they are all (it extends nothing)."""
    names: set[str] = set()
    body = node.child("body")
    for member in body.named_children() if body is not None else []:
        name = member.child("name") or member.child("property")
        if name is not None:
            names.add(source.text(name))
    for inner in node.walk():  # this.x = …
        if inner.kind == "assignment_expression":
            left = inner.child("left")
            target = left.child("property") if left is not None and left.kind == "member_expression" else None
            if left is not None and target is not None and source.text(left).startswith("this."):
                names.add(source.text(target))
    return names, all(child.kind != "class_heritage" for child in node.children)


def find_class(source: Source, name: str) -> Node | None:
    """Find the class that a file declares under a name."""
    for node in source.root.walk():
        if node.kind in CLASSES and any(source.text(token) == name for token in node.in_role("name")):
            return node
    return None


def top_level_functions(source: Source) -> dict[str, Node]:
    """Return the functions and classes that a module declares at its top, with their name tokens."""
    declared = javascript_scopes(source).declared(source.root)
    found: dict[str, Node] = {}
    for name, tokens in declared.items():
        above = tokens[0].parent
        value = above.child("value") if above is not None and above.kind == "variable_declarator" else None
        callable_value = value is not None and value.kind in ("arrow_function", "function_expression", "class")
        if above is not None and (above.kind in (*_FUNCTIONS, *CLASSES) or callable_value):
            found[name] = tokens[0]
    return found


def required(source: Source, node: Node | None) -> str | None:
    """Return the module named by `require("…")` or `await import("…")`, whichever an expression is."""
    while node is not None and node.kind in ("await_expression", "parenthesized_expression"):
        inner = node.named_children()
        node = inner[0] if inner else None
    if node is None or node.kind != "call_expression":
        return None
    function, arguments = node.child("function"), node.child("arguments")
    if function is None or arguments is None or source.text(function) not in ("require", "import"):
        return None
    values = arguments.named_children()
    return source.string(values[0]) if values else None


def _import_statement(source: Source, node: Node) -> Iterator[Import]:
    origin = node.child("source")
    specifier = source.string(origin) if origin is not None else None
    if specifier is None:
        return
    for item in node.walk():
        above = item.parent.kind if item.parent is not None else ""
        if item.kind == "identifier" and above in ("import_clause", "namespace_import"):
            name = "*" if above == "namespace_import" else "default"
            yield Import(specifier=specifier, name=name, token=item, bound=item)
        elif item.kind == "import_specifier":
            token, alias = item.child("name"), item.child("alias")
            if token is not None:
                yield Import(specifier=specifier, name=source.text(token), token=token, bound=alias or token)


def _require(source: Source, node: Node) -> Iterator[Import]:
    name, value = node.child("name"), node.child("value")
    if name is None or value is None:
        return
    if value.kind == "member_expression":  # const getUsers = require('./api').getUsers
        specifier, token = required(source, value.child("object")), value.child("property")
        if specifier is not None and token is not None and name.kind == "identifier":
            yield Import(specifier=specifier, name=source.text(token), token=token, bound=name)
        return
    specifier = required(source, value)
    if specifier is None:
        return
    if name.kind == "identifier":
        yield Import(specifier=specifier, name="*", token=name, bound=name)
    elif name.kind == "object_pattern":
        yield from _destructured(source, name, specifier)


def _destructured(source: Source, pattern: Node, specifier: str) -> Iterator[Import]:
    for item in pattern.named_children():
        key = item.child("key") or item.child("left") or item
        bound = next(iter(identifiers(item)), None)
        if key.kind in ("property_identifier", "shorthand_property_identifier_pattern") and bound is not None:
            yield Import(specifier=specifier, name=source.text(key), token=key, bound=bound)


def _export_statement(source: Source, node: Node) -> tuple[list[Export], bool]:
    found: list[Export] = []
    for specifier in (inner for inner in node.walk() if inner.kind == "export_specifier"):
        name, alias = specifier.child("name"), specifier.child("alias")
        if name is not None:
            token = alias or name
            local = source.text(name) if node.child("source") is None else ""
            found.append(Export(name=source.text(token), token=token, local=local))
    declaration = node.child("declaration")
    if declaration is not None and not any(source.text(child) == "default" for child in node.children):
        tokens = [*declaration.in_role("name")]
        for declarator in declaration.named_children():
            if declarator.kind == "variable_declarator":
                tokens += [token for name in declarator.in_role("name") for token in identifiers(name)]
        found += [Export(name=source.text(token), token=token, local=source.text(token)) for token in tokens]
    star = any(child.kind in ("*", "namespace_export") for child in node.children)
    return found, not star


def _module_exports(source: Source, node: Node) -> Node | None:
    left = node.child("left")
    return node.child("right") if left is not None and source.text(left) == "module.exports" else None


def _assigned(source: Source, node: Node, value: Node | None) -> tuple[list[Export], bool]:
    if value is not None:
        while value is not None and value.kind == "assignment_expression":  # module.exports = exports = {…}
            value = value.child("right")
        if value is not None and value.kind == "object":
            return object_keys(source, value)
        return [], value is not None and value.kind in _PLAIN_VALUES
    left = node.child("left")
    if left is None or left.kind != "member_expression":
        return [], True
    owner, token = left.child("object"), left.child("property")
    if owner is None or token is None or source.text(owner) not in ("exports", "module.exports"):
        return [], True
    right = node.child("right")
    local = source.text(right) if right is not None and right.kind == "identifier" else ""
    return [Export(name=source.text(token), token=token, local=local)], True


def _adds_unseen(source: Source, node: Node) -> bool:
    """Tell whether an expression adds exports by name at run time: `Object.assign(exports, …)`, `exports[k] = …`."""
    if node.kind == "arguments":
        return any(source.text(child) in ("exports", "module.exports") for child in node.named_children())
    owner = node.child("object") if node.kind == "subscript_expression" else None
    return owner is not None and source.text(owner) in ("exports", "module.exports")


# `module.exports = router`, a class, a call: what hangs on it is not written here.
_PLAIN_VALUES = ("arrow_function", "function_expression")
