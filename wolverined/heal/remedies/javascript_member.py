# SPDX-License-Identifier: MIT
"""Calls of what is no function, and imports of what no module exports, in JavaScript.

`x.y is not a function`, `y is not a function`, `is not a constructor`, and the two ways in which an ES
module says that an export does not exist. What the receiver offers is read from its module, its class, its
literal; of a receiver that nothing is known of, the one near name among all that the language, Node and
the project have decides.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from wolverined.heal.remedies.clue import Clue, Fix, Splice
from wolverined.heal.remedies.javascript_export import agree, renamed_import
from wolverined.heal.remedies.javascript_modules import class_methods, imported, object_keys
from wolverined.heal.remedies.javascript_scopes import CLASSES, javascript_scopes
from wolverined.heal.remedies.near import kindred, near
from wolverined.heal.remedies.receiver import Offer, Receivers
from wolverined.heal.remedies.tree import Node, Source
from wolverined.heal.remedies.vocabulary import METHODS

NAME = "misspelt-call"

_NO_FUNCTION = re.compile(r"(?:.*\.)?(#?[\w$]+) is not a (?:function|constructor)$", re.DOTALL)
_NO_EXPORT = re.compile(r"The requested module '([^']+)' does not provide an export named '([\w$]+)'")
_NO_NAMED_EXPORT = re.compile(r"Named export '([\w$]+)' not found\. The requested module '([^']+)' is a CommonJS")


def propose(clue: Clue) -> Fix | None:
    """Call what exists, by the one near name."""
    if clue.type.startswith("TypeError") and (match := _NO_FUNCTION.match(clue.message)):
        return _call(clue, match.group(1))
    if match := _NO_EXPORT.match(clue.message):
        return _import(clue, match.group(1), match.group(2))
    if match := _NO_NAMED_EXPORT.match(clue.message):
        return _import(clue, match.group(2), match.group(1))
    return None


def _import(clue: Clue, specifier: str, wrong: str) -> Fix | None:
    for source, _ in clue.spots("javascript"):
        for item in imported(source):
            if item.specifier == specifier and item.name == wrong and wrong != "default":
                receivers = Receivers(clue.workspace, source)
                return _imported(clue, source, receivers.module(specifier), wrong, item_bound=item.bound)
    return None


def _call(clue: Clue, wrong: str) -> Fix | None:
    for source, place in clue.spots("javascript"):
        here = source.at(_called(source, wrong), place.line, token=_token)
        if not here:
            continue
        receivers = Receivers(clue.workspace, source)
        if here[0].kind == "identifier":
            item = receivers.import_of(wrong, here[0])
            if item is None or item.name != source.text(item.token):
                return None
            return _imported(clue, source, receivers.module(item.specifier), item.name, item_bound=item.bound)
        return _member(clue, source, receivers, here, wrong)
    return None


def _called(source: Source, name: str) -> Iterator[Node]:
    """Walk what is called or constructed under a name: identifiers and member expressions."""
    for node in source.root.walk():
        if node.kind not in ("call_expression", "new_expression"):
            continue
        callee = node.child("function") or node.child("constructor")
        if callee is None or callee.kind not in ("identifier", "member_expression"):
            continue
        if source.text(_token(callee)) == name:
            yield callee


def _token(node: Node) -> Node:
    return node.child("property") or node


def _imported(clue: Clue, source: Source, offer: Offer | None, wrong: str, *, item_bound: Node) -> Fix | None:
    item = next(item for item in imported(source) if item.bound is item_bound)
    if offer is None:
        return None
    if offer.exporter is None or offer.exports is None:  # a module of Node
        close = near(wrong, offer.names)
        splices = renamed_import(source, item, close[0]) if len(close) == 1 and wrong not in offer.names else ()
        return _fix(source, wrong, close[0], f"`{item.specifier}`", splices) if splices else None
    rename = functools.partial(renamed_import, source, item)
    return agree(clue, source, wrong, exporter=offer.exporter, exports=offer.exports, rename=rename)


def _member(clue: Clue, source: Source, receivers: Receivers, here: list[Node], wrong: str) -> Fix | None:
    owner = here[0].child("object")
    assert owner is not None
    offer = receivers.offer(owner)
    if offer is not None and offer.exporter is not None and offer.exports is not None:
        rename = functools.partial(_renamed, list(_same_owner(receivers, here[0], wrong)))
        return agree(clue, source, wrong, exporter=offer.exporter, exports=offer.exports, rename=rename)
    names = offer.names if offer is not None else _anything(clue, source)
    if wrong in names:
        return None
    close = near(wrong, names)
    right = close[0] if len(close) == 1 else None
    if right is None and not close and offer is not None and offer.complete:
        right = kindred(wrong, names)
    if right is None:
        return None
    known = offer is not None
    same = list(_same_owner(receivers, here[0], wrong)) if known else _everywhere(clue, source, here, wrong)
    return _fix(source, wrong, right, f"`{source.text(owner)[:60]}`", _renamed(same, right))


def _renamed(nodes: list[Node], right: str) -> tuple[Splice, ...]:
    return tuple(Splice(_token(node).start, _token(node).end, right.encode()) for node in nodes)


def _fix(source: Source, wrong: str, right: str, owner: str, splices: tuple[Splice, ...]) -> Fix:
    line = source.line_of(splices[0].start)
    return Fix(
        remedy=NAME,
        reason=f"{owner} has no `{wrong}`; `{right}` is the one near name",
        root_cause=f"`{wrong}` in {source.path}:{line} is a misspelling of `{right}`",
        splices={source.path: splices},
    )


def _members(source: Source, name: str) -> Iterator[Node]:
    """Walk the reads `x.name`, called or not."""
    for node in source.root.walk():
        if node.kind == "member_expression" and source.text(_token(node)) == name and node.field != "left":
            yield node


def _same_owner(receivers: Receivers, node: Node, name: str) -> Iterator[Node]:
    """Walk the reads of a name from the same object: the same words that mean the same declaration."""
    source = receivers.source
    owner = node.child("object")
    assert owner is not None
    text = source.text(owner)
    block = node.within(*CLASSES) if text == "this" else None
    for other in _members(source, name):
        found = other.child("object")
        if found is None or source.text(found) != text:
            continue
        if text == "this" and block is not other.within(*CLASSES):
            continue
        if owner.kind == "identifier" and receivers.scopes.resolve(text, found) != receivers.scopes.resolve(
            text, owner
        ):
            continue
        yield other


def _anything(clue: Clue, source: Source) -> frozenset[str]:
    """Every method that an object of unknown kind may have: of the language, of Node, of the project."""
    names = set().union(*METHODS.values())
    for other in clue.workspace.sources("javascript"):
        names |= _defined(other)
    called = (node.child("function") for node in source.root.walk() if node.kind == "call_expression")
    for callee in called:
        if callee is not None and callee.kind == "member_expression":
            names.add(source.text(_token(callee)))
    return frozenset(names - {_NO_FUNCTION.sub(r"\1", clue.message)})


def _defined(source: Source) -> set[str]:
    names: set[str] = set()
    for node in source.root.walk():
        if node.kind in CLASSES:
            names |= class_methods(source, node)[0]
        elif node.kind == "object":
            names.update(key.name for key in object_keys(source, node)[0])
    return names


def _everywhere(clue: Clue, source: Source, here: list[Node], wrong: str) -> list[Node]:
    """All reads of the name in the file, or those of the line alone when the project makes such a name."""
    for other in clue.workspace.sources("javascript", holding=wrong):
        stored = any(node.field == "left" for node in other.root.walk() if _stores(other, node, wrong))
        if stored or wrong in _defined(other) or wrong in javascript_scopes(other).declared(other.root):
            return here
    return list(_members(source, wrong))


def _stores(source: Source, node: Node, name: str) -> bool:
    return node.kind == "member_expression" and node.field == "left" and source.text(_token(node)) == name
