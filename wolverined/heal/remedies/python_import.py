# SPDX-License-Identifier: MIT
"""A name that a module does not offer: Python's `cannot import name`, across two files.

What exists wins: the importer is changed, with the uses of the name, unless others import the very same
wrong name and nobody the existing one; then it is the definition that is misspelt.
"""

from __future__ import annotations

import re

import msgspec

from wolverined.heal.remedies.clue import Clue, Fix, Splice
from wolverined.heal.remedies.near import agreed, kindred
from wolverined.heal.remedies.python_modules import module_names, module_path, standard_names
from wolverined.heal.remedies.python_scopes import imported_names, python_scopes, uses
from wolverined.heal.remedies.tree import Node, Source

NAME = "misspelt-import"

_MESSAGE = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'(?: \((.+)\))?$")


class _Wrong(msgspec.Struct, frozen=True, eq=False):
    """A name imported from a module that does not offer it."""

    source: Source
    module: str
    token: Node
    bound: Node
    exporter: Source | None


def propose(clue: Clue) -> Fix | None:
    """Make the importer and the exporter of a name agree on the one near name."""
    match = _MESSAGE.match(clue.message) if clue.type.endswith("ImportError") else None
    if match is None or "circular" in clue.message:
        return None
    for source, place in clue.spots("python"):
        for module, token, bound in imported_names(source):
            statement = token.within("import_from_statement")
            assert statement is not None
            first, last = source.line_of(statement.start), source.line_of(statement.end)
            if source.text(token) == match.group(1) and first <= place.line <= last:
                exporter = _exporter(clue, source, module, match.group(3))
                return _fix(clue, _Wrong(source, module, token, bound, exporter))
    return None


def _exporter(clue: Clue, source: Source, module: str, told: str | None) -> Source | None:
    path = clue.workspace.locate(told, own=True) if told else None
    path = path or module_path(clue.workspace, module, importer=source.path)
    return clue.workspace.source(path) if path else None


def _fix(clue: Clue, found: _Wrong) -> Fix | None:
    source, exporter = found.source, found.exporter
    wrong = source.text(found.token)
    names = module_names(clue.workspace, exporter) if exporter is not None else standard_names(found.module)
    right = agreed(wrong, names, clue.hint, complete=exporter is not None)
    if right is None and not clue.hint and exporter is not None:
        right = kindred(wrong, names)
    if right is None or wrong in names:
        return None
    if exporter is not None and _exporter_is_wrong(clue, source, exporter, wrong, right):
        splices = {exporter.path: _renamed(exporter, right, wrong)}
        reason = f"every importer asks {exporter.path} for `{wrong}`, and nobody for its `{right}`"
        cause = f"`{right}` in {exporter.path} is a misspelling of `{wrong}`"
    else:
        splices = {source.path: _reimported(source, found.token, found.bound, right)}
        reason = f"{exporter.path if exporter else found.module} offers `{right}`, the one name near `{wrong}`"
        cause = f"{source.path} imports `{wrong}`, a misspelling of `{right}`"
    if not all(splices.values()):
        return None
    return Fix(remedy=NAME, reason=reason, root_cause=cause, splices=splices)


def _exporter_is_wrong(clue: Clue, source: Source, exporter: Source, wrong: str, right: str) -> bool:
    others = [
        other
        for other in clue.workspace.sources("python", holding=wrong)
        if other.path not in (source.path, exporter.path)
        and any(other.text(name) == wrong for _, name, _ in imported_names(other))
    ]
    defined = python_scopes(exporter)
    used = sum(1 for _ in uses(defined, right))
    return bool(others) and not used and not clue.workspace.mentions(right, beside=exporter.path)


def _renamed(exporter: Source, old: str, new: str) -> tuple[Splice, ...]:
    """Rename a definition; nothing when its name also stands in a string, such as `__all__`."""
    scopes = python_scopes(exporter)
    tokens = scopes.declared(exporter.root).get(old, [])
    for leaf in exporter.leaves():
        if leaf.kind == "string_content" and old in exporter.text(leaf):
            return ()
    return tuple(Splice(token.start, token.end, new.encode()) for token in tokens)


def _reimported(source: Source, token: Node, bound: Node, right: str) -> tuple[Splice, ...]:
    """Import the right name and use it; nothing when the importer has something else of that name."""
    tokens = [token]
    if bound is token:
        scopes = python_scopes(source)
        wrong = source.text(token)
        tokens += [use for use in uses(scopes, wrong) if token in scopes.resolve(wrong, use)]
        if any(scopes.resolve(right, use) for use in tokens):
            return ()
    return tuple(Splice(node.start, node.end, right.encode()) for node in tokens)
