# SPDX-License-Identifier: MIT
"""An attribute that a module, a class or an object does not have: Python's AttributeError."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wolverined.heal.remedies.clue import Clue, Fix, Splice
from wolverined.heal.remedies.near import agreed, kindred
from wolverined.heal.remedies.python_modules import (
    class_members,
    find_classes,
    is_target,
    module_names,
    module_path,
    standard_names,
    stores_attribute,
)
from wolverined.heal.remedies.python_scopes import imported_modules, imported_names
from wolverined.heal.remedies.tree import Node, Source

NAME = "misspelt-attribute"

_MODULE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'(?! \()")
_OBJECT = re.compile(r"(?:type object )?'([\w.]+)'(?: object)? has no attribute '(\w+)'")
_BUILTIN_TYPES = {
    kind.__name__: frozenset(name for name in dir(kind) if not name.startswith("_"))
    for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, range, set, str, tuple)
}


def propose(clue: Clue) -> Fix | None:
    """Replace an attribute by the one near name that the module, the class or the type has."""
    if not clue.type.endswith("AttributeError"):
        return None
    match = _MODULE.match(clue.message) or _OBJECT.match(clue.message)
    if match is None:
        return None
    owner, wrong = match.groups()
    of_module = match.re is _MODULE
    for source, place in clue.spots("python"):
        here = source.at(_reads(source, wrong), place.line, token=_name)
        if of_module:
            here = [node for node in here if _module_of(source, node, owner) is not None]
        if not here:
            continue
        names, complete = _module_offers(clue, source, here[0]) if of_module else _offers(clue, owner)
        right = agreed(wrong, names, clue.hint, complete=complete)
        if right is None and not clue.hint and complete:
            right = kindred(wrong, names)
        if right is None or wrong in names:
            return None
        same = _same(clue, source, here, wrong, of_module=of_module)
        return Fix(
            remedy=NAME,
            reason=f"`{owner}` has no `{wrong}`; `{right}` is the one near name that it has",
            root_cause=f"`.{wrong}` in {source.path}:{place.line} is a misspelling of `.{right}`",
            splices={source.path: tuple(Splice(_name(n).start, _name(n).end, right.encode()) for n in same)},
        )
    return None


def _reads(source: Source, name: str) -> Iterator[Node]:
    for node in source.root.walk():
        named = node.kind == "attribute" and any(source.text(token) == name for token in node.in_role("attribute"))
        if named and not is_target(node):
            yield node


def _name(node: Node) -> Node:
    name = node.child("attribute")
    assert name is not None
    return name


def _owner(source: Source, node: Node) -> str:
    owner = node.child("object")
    return source.text(owner) if owner is not None else ""


def _module_of(source: Source, node: Node, module: str) -> str | None:
    """Return the module, as imported, when an attribute is asked of a name bound to `module`."""
    owner = _owner(source, node)
    tail = module.rpartition(".")[2]
    for dotted, _, used in imported_modules(source):
        if used == owner and dotted.rpartition(".")[2] == tail:
            return dotted
    for package, name, bound in imported_names(source):
        if source.text(bound) == owner and source.text(name) == tail:
            return f"{package.rstrip('.')}.{tail}" if package.strip(".") else f"{package}{tail}"
    return None


def _module_offers(clue: Clue, source: Source, node: Node) -> tuple[set[str], bool]:
    match = _MODULE.match(clue.message)
    module = _module_of(source, node, match.group(1)) if match else None
    path = module_path(clue.workspace, module, importer=source.path) if module else None
    found = clue.workspace.source(path) if path else None
    if found is not None:
        return module_names(clue.workspace, found), True
    return standard_names(match.group(1)) if match and path is None else set(), False


def _offers(clue: Clue, owner: str) -> tuple[set[str], bool]:
    if owner in _BUILTIN_TYPES:
        return set(_BUILTIN_TYPES[owner]), True
    found = find_classes(clue.workspace, owner.rpartition(".")[2])
    if len(found) != 1:
        return set(), False
    return class_members(clue.workspace, *found[0])


def _same(clue: Clue, source: Source, here: list[Node], wrong: str, *, of_module: bool) -> list[Node]:
    """The reads that mean the same: of the same module or object, or all where nobody makes such a name."""
    owners = {_owner(source, node) for node in here}
    if not of_module and not any(
        stores_attribute(other, wrong) for other in clue.workspace.sources("python", holding=wrong)
    ):
        return list(_reads(source, wrong))
    block = None if of_module else here[0].within("class_definition" if owners == {"self"} else "function_definition")
    return [
        node
        for node in _reads(source, wrong)
        if _owner(source, node) in owners and (block is None or block in node.ancestors())
    ]
