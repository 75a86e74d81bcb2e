# SPDX-License-Identifier: MIT
"""A name that a JavaScript module does not export, put right in the importer or in the exporter.

What exists wins: the importer is changed, with its uses. The exporter is changed when it defines the very
name that is asked for and exports it under a near one or not at all, or when several importers ask for
the same name and none for the one that it exports.
"""

from __future__ import annotations

from collections.abc import Callable

from wolverined.heal.remedies.clue import Clue, Fix, Splice
from wolverined.heal.remedies.javascript_modules import (
    Export,
    Exports,
    Import,
    imported,
    resolve_module,
    top_level_functions,
)
from wolverined.heal.remedies.javascript_scopes import javascript_scopes, uses
from wolverined.heal.remedies.near import kindred, near, resembles
from wolverined.heal.remedies.scopes import Scopes
from wolverined.heal.remedies.tree import Node, Source

NAME = "misspelt-export"

Rename = Callable[[str], tuple[Splice, ...]]


def agree(clue: Clue, source: Source, wrong: str, *, exporter: Source, exports: Exports, rename: Rename) -> Fix | None:
    """Make an importer and an exporter agree on a name.

    Args:
        clue: The error.
        source: The importer.
        wrong: The name that it asks for.
        exporter: The module that does not export it.
        exports: What that module exports.
        rename: Makes the importer ask for another name; no splices when it cannot.
    """
    close = near(wrong, exports.names)
    right = close[0] if len(close) == 1 else None
    if right is None and not close and exports.complete:
        right = kindred(wrong, exports.names)
    defined = top_level_functions(exporter).get(wrong)
    if wrong in exports.names:
        return None
    if defined is not None:
        return _export_defined(clue, source, wrong, right, exporter=exporter, exports=exports, defined=defined)
    if right is None:
        return None
    if _asked_by_others(clue, source, exporter, wrong, right):
        splices = {exporter.path: _reexported(exporter, exports.names[right], wrong)}
        reason = f"every importer asks {exporter.path} for `{wrong}`, and nobody for its `{right}`"
        cause = f"{exporter.path} exports `{right}`, a misspelling of `{wrong}`"
    else:
        splices = {source.path: rename(right)}
        reason = f"{exporter.path} exports `{right}`, the one name near `{wrong}`"
        cause = f"{source.path} asks {exporter.path} for `{wrong}`, which it does not export"
    return Fix(remedy=NAME, reason=reason, root_cause=cause, splices=splices) if all(splices.values()) else None


def renamed_import(source: Source, item: Import, right: str) -> tuple[Splice, ...]:
    """Import another name and use it; nothing when the importer has something else of that name."""
    tokens = [Splice(item.token.start, item.token.end, right.encode())]
    if item.bound is not item.token:
        return tuple(tokens)
    scopes = javascript_scopes(source)
    wrong = source.text(item.bound)
    for use in uses(scopes, wrong):
        if item.bound not in scopes.resolve(wrong, use):
            continue
        if scopes.resolve(right, use):
            return ()
        tokens.append(_used(use, wrong, right))
    return tuple(tokens) if not scopes.resolve(right, item.bound) else ()


def _used(use: Node, wrong: str, right: str) -> Splice:
    text = f"{wrong}: {right}" if use.kind == "shorthand_property_identifier" else right
    return Splice(use.start, use.end, text.encode())


def _asked_by_others(clue: Clue, source: Source, exporter: Source, wrong: str, right: str) -> bool:
    if clue.workspace.mentions(right, beside=exporter.path):
        return False
    for other in clue.workspace.sources("javascript", holding=wrong):
        if other.path in (source.path, exporter.path):
            continue
        for item in imported(other):
            path = resolve_module(clue.workspace, item.specifier, importer=other.path)
            if path == exporter.path and (item.name == wrong or item.name in ("*", "default")):
                return True
    return False


def _export_defined(
    clue: Clue, source: Source, wrong: str, right: str | None, *, exporter: Source, exports: Exports, defined: Node
) -> Fix | None:
    """The exporter has a function of that very name, and does not export it so."""
    alias = [export for export in exports.names.values() if export.local == wrong]
    if right is not None:
        if [export.name for export in alias] != [right] or clue.workspace.mentions(right, beside=exporter.path):
            return None  # two things may be meant: the near export, or the function that is not exported
        splices = _reexported(exporter, alias[0], wrong)
        cause = f"{exporter.path} exports its function `{wrong}` as `{right}`"
    else:
        doubtful = alias or any(resembles(wrong, name) for name in exports.names)
        splices = () if doubtful else _exported(exporter, exports, wrong, defined)
        cause = f"{exporter.path} defines `{wrong}` and does not export it"
    if not splices:
        return None
    reason = f"{source.path} asks {exporter.path} for `{wrong}`, which is defined there"
    return Fix(remedy=NAME, reason=reason, root_cause=cause, splices={exporter.path: splices})


def _reexported(exporter: Source, export: Export, name: str) -> tuple[Splice, ...]:
    """Export under another name what is exported as `export.name`."""
    token = export.token
    above = token.parent
    if token.kind == "shorthand_property_identifier":
        return (Splice(token.start, token.end, f"{name}: {export.name}".encode()),)
    if above is not None and above.kind == "export_specifier":
        text = name if token.field == "alias" else f"{export.name} as {name}"
        return (Splice(token.start, token.end, text.encode()),)
    scopes = javascript_scopes(exporter)
    if id(token) not in scopes.declaring:  # a key, or the x of `exports.x = …`
        again = [leaf for leaf in exporter.leaves() if exporter.text(leaf) == export.name and _is_member(leaf)]
        return (Splice(token.start, token.end, name.encode()),) if again in ([], [token]) else ()
    return _renamed(scopes, token, name)


def _is_member(leaf: Node) -> bool:
    return leaf.kind == "property_identifier" and leaf.parent is not None and leaf.parent.kind == "member_expression"


def _renamed(scopes: Scopes, token: Node, name: str) -> tuple[Splice, ...]:
    old = scopes.source.text(token)
    same = [use for use in uses(scopes, old) if token in scopes.resolve(old, use)]
    if any(scopes.resolve(name, use) for use in [token, *same]):
        return ()
    return (Splice(token.start, token.end, name.encode()), *(_used(use, old, name) for use in same))


def _exported(exporter: Source, exports: Exports, name: str, defined: Node) -> tuple[Splice, ...]:
    """Add a defined function to what a module exports, in the way that it exports the others."""
    statement = defined.parent
    if statement is not None and statement.parent is not None and statement.parent.kind == "lexical_declaration":
        statement = statement.parent
    if any(leaf.kind == "export" for leaf in exporter.leaves()):
        return (Splice(statement.start, statement.start, b"export "),) if statement is not None else ()
    if exports.default is not None and exports.default.kind == "object":
        return _added_key(exporter, exports.default, name)
    last = max((export.token for export in exports.names.values()), key=lambda token: token.start, default=None)
    written = last.within("expression_statement") if last is not None and _is_member(last) else None
    if written is None:
        return ()
    start, _ = exporter.line_span(exporter.line_of(written.start))
    indent = exporter.data[start : written.start]
    if indent.strip():
        return ()
    newline = b"\r\n" if b"\r\n" in exporter.data else b"\n"
    text = newline + indent + f"exports.{name} = {name};".encode()
    owner = written.walk()
    named = next((node for node in owner if node.kind == "member_expression" and node.child("property") is last), None)
    if named is not None and exporter.text(named).startswith("module."):
        text = newline + indent + f"module.exports.{name} = {name};".encode()
    return (Splice(written.end, written.end, text),)


def _added_key(exporter: Source, node: Node, name: str) -> tuple[Splice, ...]:
    items = node.named_children()
    if not items:
        return (Splice(node.start, node.end, f"{{ {name} }}".encode()),)
    last = items[-1]
    start, _ = exporter.line_span(exporter.line_of(last.start))
    indent = exporter.data[start : last.start]
    newline = b"\r\n" if b"\r\n" in exporter.data else b"\n"
    gap = newline + indent if not indent.strip() else b" "
    return (Splice(last.end, last.end, b"," + gap + name.encode()),)
