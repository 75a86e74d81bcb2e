# SPDX-License-Identifier: MIT
"""What an object in JavaScript has to offer, as far as the source says what the object is."""

from __future__ import annotations

import msgspec

from wolverined.heal.remedies.clue import Workspace
from wolverined.heal.remedies.javascript_modules import (
    Exports,
    Import,
    class_methods,
    exports_of,
    find_class,
    imported,
    object_keys,
    required,
    resolve_module,
)
from wolverined.heal.remedies.javascript_scopes import CLASSES, javascript_scopes
from wolverined.heal.remedies.tree import Node, Source
from wolverined.heal.remedies.vocabulary import METHODS, NODE_MODULES, STATICS

_LITERALS = {
    "array": "Array",
    "arrow_function": "Function",
    "function_expression": "Function",
    "number": "Number",
    "regex": "RegExp",
    "string": "String",
    "template_string": "String",
}
_MAX_HOPS = 4


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The names that an object has. `complete` says whether they are all; `exporter` is set for a module."""

    names: frozenset[str]
    complete: bool = True
    exporter: Source | None = None
    exports: Exports | None = None


class Receivers:
    """Tells what the objects of one file are."""

    def __init__(self, workspace: Workspace, source: Source) -> None:
        self.workspace = workspace
        self.source = source
        self.scopes = javascript_scopes(source)
        self.imports = {id(item.bound): item for item in imported(source)}

    def offer(self, node: Node) -> Offer | None:
        """Return what an expression offers; None when the source does not say what it is."""
        return self._offer(node, 0)

    def import_of(self, name: str, at: Node) -> Import | None:
        """Return the import that binds a name at a place."""
        tokens = self.scopes.resolve(name, at)
        return self.imports.get(id(tokens[0])) if len(tokens) == 1 else None

    def module(self, specifier: str) -> Offer | None:
        """Return what a module offers to whoever imports it."""
        known = NODE_MODULES.get(specifier.removeprefix("node:"))
        if known is not None:
            return Offer(names=known, complete=False)
        path = resolve_module(self.workspace, specifier, importer=self.source.path)
        exporter = self.workspace.source(path) if path else None
        if exporter is None:
            return None
        exports = exports_of(exporter)
        return Offer(names=frozenset(exports.names), complete=exports.complete, exporter=exporter, exports=exports)

    def _offer(self, node: Node, hops: int) -> Offer | None:
        if hops > _MAX_HOPS:
            return None
        if node.kind in _LITERALS:
            return Offer(names=METHODS[_LITERALS[node.kind]])
        if node.kind == "object":
            keys, complete = object_keys(self.source, node)
            return Offer(names=frozenset(key.name for key in keys), complete=complete)
        if node.kind == "new_expression":
            return self._instance(node.child("constructor"), hops)
        if node.kind == "this":
            return self._this(node)
        if node.kind in ("parenthesized_expression", "await_expression") and required(self.source, node) is None:
            inner = node.named_children()
            return self._offer(inner[0], hops + 1) if inner else None
        specifier = required(self.source, node)
        if specifier is not None:
            return self.module(specifier)
        return self._named(node, hops) if node.kind == "identifier" else None

    def _named(self, node: Node, hops: int) -> Offer | None:
        name = self.source.text(node)
        tokens = self.scopes.resolve(name, node)
        if not tokens:
            return Offer(names=STATICS[name], complete=False) if name in STATICS else None
        item = self.imports.get(id(tokens[0]))
        if len(tokens) != 1:
            return None
        if item is not None:
            return self._imported(item, hops)
        holder = tokens[0].parent
        if holder is None:
            return None
        if holder.kind in CLASSES:
            return self._class(self.source, holder)
        value = holder.child("value") if holder.kind == "variable_declarator" else None
        assigned_again = value is None or self._assigned(name, tokens[0])
        return None if value is None or assigned_again else self._offer(value, hops + 1)

    def _assigned(self, name: str, token: Node) -> bool:
        for node in self.source.root.walk():
            left = node.child("left") if node.kind in ("assignment_expression", "for_in_statement") else None
            if left is not None and self.source.text(left) == name and token in self.scopes.resolve(name, left):
                return True
        return False

    def _imported(self, item: Import, hops: int) -> Offer | None:
        offer = self.module(item.specifier)
        if offer is None or item.name == "*" or offer.exporter is None or offer.exports is None:
            return offer if offer is not None and item.name in ("*", "default") else None
        there = Receivers(self.workspace, offer.exporter)
        if item.name == "default":
            if offer.exporter.path.endswith(".cjs") or "default" not in _words(offer.exporter):
                return offer
            return there._offer(offer.exports.default, hops + 1) if offer.exports.default is not None else None
        export = offer.exports.names.get(item.name)
        return (
            there._offer(export.token, hops + 1) if export is not None and export.token.kind == "identifier" else None
        )

    def _instance(self, constructor: Node | None, hops: int) -> Offer | None:
        if constructor is None or constructor.kind != "identifier":
            return None
        name = self.source.text(constructor)
        tokens = self.scopes.resolve(name, constructor)
        if not tokens:
            return Offer(names=METHODS[name]) if name in METHODS else None
        item = self.imports.get(id(tokens[0]))
        if item is None:
            found = find_class(self.source, name)
            return self._class(self.source, found) if found is not None else None
        offer = self.module(item.specifier)
        if offer is None or offer.exporter is None or offer.exports is None or hops > _MAX_HOPS:
            return None
        export = offer.exports.names.get(item.name)
        exported = (export.local or export.name) if export is not None else ""
        if export is None and offer.exports.default is not None:
            default = offer.exports.default
            if default.kind in CLASSES:
                return self._class(offer.exporter, default)
            exported = offer.exporter.text(default)
        found = find_class(offer.exporter, exported)
        return self._class(offer.exporter, found) if found is not None else None

    def _this(self, node: Node) -> Offer | None:
        for above in node.ancestors():
            if above.kind in CLASSES:
                return self._class(self.source, above)
            if above.kind == "object" and node.within("method_definition", "function_expression") is not None:
                keys, complete = object_keys(self.source, above)
                return Offer(names=frozenset(key.name for key in keys), complete=complete)
        return None

    def _class(self, source: Source, node: Node) -> Offer:
        names, complete = class_methods(source, node)
        return Offer(names=frozenset(names), complete=complete)


def _words(source: Source) -> set[str]:
    return {source.text(leaf) for leaf in source.leaves() if leaf.kind == "default"}
