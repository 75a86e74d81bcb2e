# SPDX-License-Identifier: MIT
"""Facts of JavaScript, and which functions of a file a trace allows to change; by tree-sitter, nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import tree_sitter
import tree_sitter_javascript
from tree_sitter import Node

from wolverined.heal.risk.facts import Call, Facts, Words, listed

Pair = tuple[Sequence[Node], Sequence[Node]]

_LANGUAGE = tree_sitter.Language(tree_sitter_javascript.language())
_FUNCTIONS = listed(
    "function_declaration function_expression arrow_function method_definition generator_function "
    "generator_function_declaration"
)
_NAMES = listed(
    "identifier property_identifier private_property_identifier shorthand_property_identifier "
    "shorthand_property_identifier_pattern"
)
WORDS = Words(
    callees=listed(
        "Number String Boolean parseInt parseFloat isNaN isFinite Array.isArray Array.from Array.of Number.isFinite "
        "Number.isInteger Number.isNaN Number.parseInt Number.parseFloat Math.abs Math.ceil Math.floor Math.max "
        "Math.min Math.round Math.trunc Object.keys Object.values Object.entries Object.hasOwn JSON.stringify "
        "JSON.parse Error TypeError RangeError Map Set Date Date.now encodeURIComponent"
    ),
    methods=listed(
        "trim trimStart trimEnd toLowerCase toUpperCase includes startsWith endsWith indexOf lastIndexOf slice "
        "toString toFixed padStart padEnd split join concat filter map some every find findIndex flat flatMap at "
        "keys values entries charAt charCodeAt toISOString getTime hasOwnProperty"
    ),
    names=listed("undefined NaN Infinity length size name message this arguments"),
    globals=listed(
        "process global globalThis window require module exports eval Function fetch setTimeout setInterval "
        "setImmediate queueMicrotask WebSocket XMLHttpRequest WebAssembly Reflect Proxy console Atomics import"
    ),
    hidden=listed("prototype constructor __proto__ caller callee mainModule"),
)
# Modules whose functions give a value and do nothing else.
_PURE_MODULES = listed("path node:path util node:util url node:url querystring node:querystring assert node:assert")
_ODD = {
    "while_statement": "a loop that may not end",
    "do_statement": "a loop that may not end",
    "for_statement": "a loop that may not end",
    "with_statement": "a with statement",
    "debugger_statement": "a debugger statement",
    "labeled_statement": "a label",
    "yield_expression": "a generator",
    "try_statement": "a try statement",
    "class_declaration": "a class",
    "class": "a class",
    "function_declaration": "a function",
    "function_expression": "a function",
    "generator_function": "a function",
    "generator_function_declaration": "a function",
    "method_definition": "a function",
    "regex": "a regular expression",
    "sequence_expression": "a sequence of expressions",
}
_CHECKS = {
    "if_statement": "a check",
    "ternary_expression": "a check",
    "switch_case": "a check",
    "throw_statement": "a throw",
}
_DECLARING = ("import_specifier", "import_clause", "namespace_import", "function_declaration", "class_declaration")
_LEAVING = ("return_statement", "throw_statement")
_GONE = (*_LEAVING, "break_statement", "continue_statement")
_LITERALS = ("true", "false", "null", "undefined", "number", "string")


def parse(data: bytes) -> Node | None:
    """The program, None when it is no JavaScript that we can read."""
    root = tree_sitter.Parser(_LANGUAGE).parse(data).root_node
    return None if root.has_error else root


def pairs(old: Node, new: Node, places: Iterable[tuple[int, int | None]]) -> list[Pair] | None:
    """What the trace allows to change, before and after; None when something else changes too.

    Args:
        old: The file as it is.
        new: The file as it would be.
        places: Line and column of each own frame in it, counted from 1.
    """
    return _Lockstep(old, list(places)).walk(new)


class _Lockstep:
    """Walks two trees side by side; they may differ only below the allowed functions and statements."""

    def __init__(self, old: Node, places: Sequence[tuple[int, int | None]]) -> None:
        self._old = old
        found = [_innermost(old, line - 1, column) for line, column in places]
        self._functions = {node.id for node in found if node is not None}
        loose = {place[0] - 1 for place, node in zip(places, found, strict=True) if node is None}
        self._statements = {
            n
            for n, statement in enumerate(_children(old))
            if statement.type not in _FUNCTIONS
            and not statement.type.startswith(("class", "import", "export"))
            and any(statement.start_point.row <= line <= statement.end_point.row for line in loose)
        }
        self._pairs: list[Pair] = []

    def walk(self, new: Node) -> list[Pair] | None:
        """The pairs, or None when the trees differ elsewhere."""
        return self._pairs if self._program(new) else None

    def _program(self, program: Node) -> bool:
        old, new, allowed = _children(self._old), _children(program), self._statements
        if len(allowed) == 1:
            (at,) = allowed
            end = len(new) - (len(old) - at - 1)
            if end < at:
                return False
            self._pairs.append((old[at : at + 1], new[at:end]))
            return self._lists(old[:at], new[:at]) and self._lists(old[at + 1 :], new[end:])
        if len(old) != len(new):
            return False
        for n, (one, other) in enumerate(zip(old, new, strict=True)):
            if n in allowed:
                self._pairs.append(([one], [other]))
            elif not self._same(one, other):
                return False
        return True

    def _same(self, one: Node, other: Node) -> bool:
        if one.type != other.type:
            return False
        mine, theirs = _children(one), _children(other)
        if one.id in self._functions:
            body, changed = one.child_by_field_name("body"), other.child_by_field_name("body")
            if body is None or changed is None:
                return False
            self._pairs.append(([body], [changed]))
            mine = [child for child in mine if child.id != body.id]
            theirs = [child for child in theirs if child.id != changed.id]
        if not mine and not theirs and one.id not in self._functions:
            return one.text == other.text
        return self._lists(mine, theirs)

    def _lists(self, one: Sequence[Node], other: Sequence[Node]) -> bool:
        return len(one) == len(other) and all(self._same(a, b) for a, b in zip(one, other, strict=True))


def _children(node: Node) -> list[Node]:
    return [child for child in node.children if child.type not in {"comment", "html_comment"}]


def _innermost(root: Node, row: int, column: int | None) -> Node | None:
    """The smallest function around a place; without a column, one of several lines goes before a short one."""
    around: list[Node] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if not node.start_point.row <= row <= node.end_point.row:
            continue
        if node.type in _FUNCTIONS and _holds(node, row, column):
            around.append(node)
        stack += node.children
    if column is None:
        around = [node for node in around if node.start_point.row != node.end_point.row] or around
    return min(around, key=lambda node: node.end_byte - node.start_byte, default=None)


def _holds(node: Node, row: int, column: int | None) -> bool:
    if column is None:
        return True
    at = (row, column - 1)
    return (node.start_point.row, node.start_point.column) <= at <= (node.end_point.row, node.end_point.column)


def facts(nodes: Iterable[Node]) -> Facts:
    """What the nodes do."""
    collector = _Collector()
    for node in nodes:
        collector.walk(node)
    return collector.facts


class _Collector:
    """One walk in the order of the source."""

    def __init__(self) -> None:
        self.facts = Facts()
        self._visitors: dict[str, Callable[[Node], None]] = {
            "call_expression": self._calls,
            "new_expression": self._calls,
            "member_expression": self._member,
            "subscript_expression": self._subscript,
            "string": self._string,
            "template_string": self._string,
            "import_statement": self._import,
            "variable_declarator": self._declares,
            "arrow_function": self._arrow,
            "catch_clause": self._catch,
            "finally_clause": self._handles,
            "if_statement": self._if,
            "ternary_expression": self._test,
            "assignment_expression": self._assigns,
            "augmented_assignment_expression": self._assigns,
            "for_in_statement": self._for_in,
            "unary_expression": self._unary,
        }

    def walk(self, node: Node) -> None:
        """Take note of a node and of all below it."""
        kind = node.type
        if kind in {"comment", "html_comment"}:
            return
        if kind in _NAMES:
            self.facts.names.add(_text(node))
            if kind in {"identifier", "shorthand_property_identifier"} and not _is_head(node):
                self.facts.chains.add(_text(node))
        if kind in _ODD and node.is_named:
            self.facts.odd[_ODD[kind]] += 1
        if kind in _CHECKS:
            self.facts.checks[_CHECKS[kind]] += 1
        if kind == "return_statement":
            self.facts.flow.append(("exit", _text(node).rstrip(";")))
        if kind in {"statement_block", "switch_case", "program"}:
            self._unreachable(node)
        if (visitor := self._visitors.get(kind)) is not None:
            visitor(node)
        for child in node.children:
            self.walk(child)

    def _calls(self, node: Node) -> None:
        function = node.child_by_field_name("function") or node.child_by_field_name("constructor")
        call = _call(node, function)
        self.facts.calls.append(call)
        if call.method == "catch" or (call.method == "then" and len(_arguments(node)) > 1):
            self.facts.handlers[call.text] += 1
        if call.callee in {"require", "import"}:
            self.facts.imports[call.text] += 1

    def _member(self, node: Node) -> None:
        chain = _dotted(node)
        if chain is not None:
            self.facts.chains.add(chain)

    def _subscript(self, node: Node) -> None:
        container = node.child_by_field_name("object")
        if container is None:
            return
        self.facts.subscripted.add(_text(container))
        root = _leftmost(container)
        index = node.child_by_field_name("index")
        # process["env"] is process.env said otherwise.
        self.facts.chains.add(f"{root}.[{_text(index) if index is not None else ''}]")

    def _string(self, node: Node) -> None:
        parts = [_text(child) for child in node.children if child.type in {"string_fragment", "escape_sequence"}]
        self.facts.strings.add("".join(parts))

    def _import(self, node: Node) -> None:
        self.facts.imports[_text(node)] += 1
        source = node.child_by_field_name("source")
        module = _text(source).strip("'\"") if source is not None else ""
        self._binds(node, module)

    def _binds(self, node: Node, module: str) -> None:
        """Names that hold a module or a part of it."""
        if module.startswith(".") or module in _PURE_MODULES:
            return
        self.facts.foreign.update(_text(name) for name in _identifiers(node))

    def _declares(self, node: Node) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None:
            return
        self.facts.bound.update(_text(found) for found in _identifiers(name))
        while value is not None and value.type in {"member_expression", "await_expression", "parenthesized_expression"}:
            value = value.named_children[0] if value.named_children else None
        if value is None or value.type != "call_expression":
            return
        function = value.child_by_field_name("function")
        if function is not None and _text(function) in {"require", "import"}:
            arguments = _arguments(value)
            self._binds(name, _text(arguments[0]).strip("'\"`") if arguments else "?")

    def _arrow(self, node: Node) -> None:
        # As an argument of map() or filter() it is how such code is written; on its own it is a function.
        parent = node.parent
        if parent is None or parent.type != "arguments":
            self.facts.odd["a function"] += 1
        self._parameters(node)

    def _parameters(self, node: Node) -> None:
        for field in ("parameter", "parameters"):
            if (found := node.child_by_field_name(field)) is not None:
                self.facts.bound.update(_text(name) for name in _identifiers(found))

    def _catch(self, node: Node) -> None:
        parameter = node.child_by_field_name("parameter")
        if parameter is not None:
            self.facts.bound.update(_text(name) for name in _identifiers(parameter))
        self._handles(node)

    def _handles(self, node: Node) -> None:
        self.facts.handlers[_text(node)] += 1

    def _if(self, node: Node) -> None:
        self._test(node)
        consequence = node.child_by_field_name("consequence")
        if consequence is not None and _leaves(consequence):
            self.facts.flow.append(("check", _condition(node)))

    def _test(self, node: Node) -> None:
        condition = node.child_by_field_name("condition")
        if condition is None:
            return
        found = list(_below(condition))
        named = any(inner.type in {"identifier", "this"} for inner in found)
        fixed = any(
            side is not None and side.type in _LITERALS and _is_logical(inner)
            for inner in found
            for side in (inner.child_by_field_name("left"), inner.child_by_field_name("right"))
        )
        if not named or fixed:
            self.facts.odd["a test that is always true or false"] += 1

    def _assigns(self, node: Node) -> None:
        left = node.child_by_field_name("left")
        if left is not None and left.type in {"member_expression", "subscript_expression"}:
            self.facts.stores.add(_dotted(left) or f"{_leftmost(left)}.[{_text(left)}]")

    def _for_in(self, node: Node) -> None:
        left = node.child_by_field_name("left")
        if left is not None:
            self.facts.bound.update(_text(name) for name in _identifiers(left))

    def _unary(self, node: Node) -> None:
        operator = node.child_by_field_name("operator")
        if operator is not None and operator.type == "delete":
            self.facts.odd["a delete"] += 1

    def _unreachable(self, block: Node) -> None:
        statements = [child for child in block.named_children if child.type != "comment"]
        for n, statement in enumerate(statements[:-1]):
            if statement.type in _GONE and statements[n + 1].type != "function_declaration":
                self.facts.odd["code that is never reached"] += 1


def _is_head(node: Node) -> bool:
    """Whether a name is called, begins a chain, or is declared, and so is not itself handed around."""
    parent = node.parent
    if parent is None or parent.type in _DECLARING:
        return True
    heads = {
        "call_expression": "function",
        "new_expression": "constructor",
        "member_expression": "object",
        "variable_declarator": "name",
    }
    field = heads.get(parent.type)
    head = parent.child_by_field_name(field) if field is not None else None
    return head is not None and head.id == node.id


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _below(node: Node) -> Iterable[Node]:
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack += current.children


def _identifiers(node: Node) -> list[Node]:
    return [found for found in _below(node) if found.type in {"identifier", "shorthand_property_identifier_pattern"}]


def _arguments(node: Node) -> list[Node]:
    arguments = node.child_by_field_name("arguments")
    return list(arguments.named_children) if arguments is not None else []


def _condition(node: Node) -> str:
    condition = node.child_by_field_name("condition")
    return _text(condition) if condition is not None else ""


def _leaves(node: Node) -> bool:
    return any(inner.type in _LEAVING for inner in _below(node))


def _is_logical(node: Node) -> bool:
    operator = node.child_by_field_name("operator")
    return node.type == "binary_expression" and operator is not None and operator.type in {"&&", "||", "??"}


def _dotted(node: Node) -> str | None:
    """`a.b.c` of plain names, `a?.b` alike; None for anything else."""
    if node.type in {"identifier", "this", "super"}:
        return _text(node)
    if node.type == "import":
        return "import"
    if node.type == "member_expression":
        container, member = node.child_by_field_name("object"), node.child_by_field_name("property")
        head = _dotted(container) if container is not None else None
        return f"{head}.{_text(member)}" if head is not None and member is not None else None
    return None


def _leftmost(node: Node) -> str:
    """The name that an expression begins with: `a` in a["x"](1).b."""
    current: Node | None = node
    while current is not None:
        if current.type in {"identifier", "this", "super"}:
            return _text(current)
        if current.type == "parenthesized_expression":
            current = current.named_children[0] if current.named_children else None
            continue
        current = current.child_by_field_name("object") or current.child_by_field_name("function")
    return ""


def _call(node: Node, function: Node | None) -> Call:
    text = _text(node)
    callee = _dotted(function) if function is not None else None
    if callee is not None:
        receiver, _, method = callee.rpartition(".")
        return Call(
            callee=callee,
            root=callee.partition(".")[0],
            method=method if receiver else "",
            receiver=receiver,
            text=text,
        )
    if function is not None and function.type == "member_expression":
        container, member = function.child_by_field_name("object"), function.child_by_field_name("property")
        if container is not None and member is not None:
            method = _text(member)
            return Call(
                callee=f"*.{method}", root=_leftmost(container), method=method, receiver=_text(container), text=text
            )
    return Call(callee="", text=text)
