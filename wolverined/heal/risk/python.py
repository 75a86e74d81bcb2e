# SPDX-License-Identifier: MIT
"""Facts of Python code, and which functions of a file a trace allows to change; by `ast`, nothing is run."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterable, Sequence

from wolverined.heal.risk.facts import Call, Facts, Words, listed

_Function = ast.FunctionDef | ast.AsyncFunctionDef
Pair = tuple[Sequence[ast.AST], Sequence[ast.AST]]

_PURE = listed(
    "abs all any bool dict divmod enumerate float frozenset int isinstance issubclass len list max min ord "
    "range repr reversed round set sorted str sum tuple type zip"
)
_ERRORS = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)
)
WORDS = Words(
    callees=_PURE | _ERRORS,
    methods=listed(
        "strip lstrip rstrip lower upper title capitalize casefold startswith endswith split rsplit splitlines isdigit "
        "isalpha isalnum isspace items keys values count removeprefix removesuffix"
    ),
    names=frozenset({"self", "cls"}),
    globals=listed("eval exec open print input compile globals locals vars getattr setattr delattr breakpoint help"),
    hidden=frozenset({"mro", "gi_frame", "f_globals", "f_locals", "func_globals"}),
)
# Modules whose functions give a value and do nothing else.
_PURE_MODULES = listed(
    "math cmath decimal fractions statistics json re string textwrap datetime calendar itertools collections copy enum "
    "typing dataclasses base64 hashlib bisect heapq unicodedata"
)


def parse(data: bytes) -> ast.Module | None:
    """The tree, None when it is no Python that we can read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except (SyntaxError, ValueError):
        return None


def pairs(old: ast.Module, new: ast.Module, places: Iterable[tuple[int, int | None]]) -> list[Pair] | None:
    """What the trace allows to change, before and after; None when something else changes too.

    Args:
        old: The file as it is.
        new: The file as it would be.
        places: Line and column of each own frame in it.
    """
    return _Lockstep(old, {line for line, _ in places}).walk(new)


class _Lockstep:
    """Walks two trees side by side; they may differ only below the allowed functions and statements."""

    def __init__(self, old: ast.Module, lines: set[int]) -> None:
        self._old = old
        found = [_innermost(old, line) for line in lines]
        self._functions = {id(node) for node in found if node is not None}
        loose = {line for line, node in zip(lines, found, strict=True) if node is None}
        self._statements = {
            n
            for n, statement in enumerate(old.body)
            if not isinstance(statement, _Function | ast.ClassDef)
            and any(statement.lineno <= line <= (statement.end_lineno or 0) for line in loose)
        }
        self._pairs: list[Pair] = []

    def walk(self, new: ast.Module) -> list[Pair] | None:
        """The pairs, or None when the trees differ elsewhere."""
        return self._pairs if self._module(new) else None

    def _module(self, new: ast.Module) -> bool:
        old, allowed = self._old.body, self._statements
        if len(allowed) == 1:
            (at,) = allowed
            end = len(new.body) - (len(old) - at - 1)
            if end < at:
                return False
            self._pairs.append((old[at : at + 1], new.body[at:end]))
            return self._lists(old[:at], new.body[:at]) and self._lists(old[at + 1 :], new.body[end:])
        if len(old) != len(new.body):
            return False
        for n, (one, other) in enumerate(zip(old, new.body, strict=True)):
            if n in allowed:
                self._pairs.append(([one], [other]))
            elif not self._same(one, other):
                return False
        return True

    def _same(self, one: object, other: object) -> bool:
        if isinstance(one, ast.AST):
            if type(one) is not type(other):
                return False
            inside = id(one) in self._functions
            if inside and isinstance(one, _Function) and isinstance(other, _Function):
                self._pairs.append((one.body, other.body))
            return all(
                self._same(value, getattr(other, name, None))
                for name, value in ast.iter_fields(one)
                if not (inside and name == "body")
            )
        if isinstance(one, list):
            return isinstance(other, list) and self._lists(one, other)
        return type(one) is type(other) and one == other

    def _lists(self, one: Sequence[object], other: Sequence[object]) -> bool:
        return len(one) == len(other) and all(self._same(a, b) for a, b in zip(one, other, strict=True))


def _innermost(tree: ast.Module, line: int) -> _Function | None:
    """The smallest function around a line."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, _Function) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def facts(nodes: Iterable[ast.AST]) -> Facts:
    """What the nodes do."""
    collector = _Collector()
    for node in nodes:
        collector.visit(node)
    if isinstance(nodes, Sequence):
        collector.unreachable(nodes)
    return collector.facts


class _Collector(ast.NodeVisitor):
    """One walk in the order of the source; `generic_visit` goes on below every node."""

    def __init__(self) -> None:
        self.facts = Facts()

    def generic_visit(self, node: ast.AST) -> None:
        """Note what is odd about any node, then go on."""
        kind = _ODD.get(type(node))
        if kind is not None:
            self.facts.odd[kind] += 1
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self.unreachable(value)
        super().generic_visit(node)

    def unreachable(self, block: Sequence[ast.AST]) -> None:
        """Count statements behind one that never goes on."""
        for statement in block[:-1]:
            if isinstance(statement, ast.Return | ast.Raise | ast.Break | ast.Continue):
                self.facts.odd["code that is never reached"] += 1

    def visit_Name(self, node: ast.Name) -> None:
        """A bare name: used, or bound."""
        (self.facts.names if isinstance(node.ctx, ast.Load) else self.facts.bound).add(node.id)
        self.facts.names.add(node.id)
        self.facts.chains.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A dotted chain counts as one; what it hangs on is walked when it is no plain name."""
        self.facts.names.add(node.attr)
        chain = _dotted(node)
        if not isinstance(node.ctx, ast.Load):
            self.facts.stores.add(chain or f"*.{node.attr}")
        if chain is None:
            self.visit(node.value)
            return
        self.facts.chains.add(chain)
        self.facts.names.update(chain.split("."))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """What is read by [] is a container."""
        text = ast.unparse(node.value)
        self.facts.subscripted.add(text)
        if not isinstance(node.ctx, ast.Load):
            self.facts.stores.add(text)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """A call, by whom it calls."""
        self.facts.calls.append(_call(node))
        if isinstance(node.func, ast.Name):
            # Called is not handed around: `open(x)` somewhere is no reason to let `y = open` pass.
            self.facts.names.add(node.func.id)
        else:
            self.visit(node.func)
        for argument in (*node.args, *node.keywords):
            self.visit(argument)

    def visit_keyword(self, node: ast.keyword) -> None:
        """The name of an argument is a name."""
        if node.arg is not None:
            self.facts.names.add(node.arg)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """A parameter is bound."""
        self.facts.names.add(node.arg)
        self.facts.bound.add(node.arg)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Texts are judged."""
        if isinstance(node.value, str):
            self.facts.strings.add(node.value)
        elif isinstance(node.value, bytes):
            self.facts.strings.add(node.value.decode("latin-1"))

    def visit_Import(self, node: ast.Import) -> None:
        """`import a.b as c` binds c."""
        self.facts.imports[ast.unparse(node)] += 1
        for alias in node.names:
            self._imports(alias.asname or alias.name.partition(".")[0], alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """`from .a import b` is the app's own code."""
        self.facts.imports[ast.unparse(node)] += 1
        for alias in node.names:
            self._imports(alias.asname or alias.name, "" if node.level else node.module or "")

    def _imports(self, name: str, module: str) -> None:
        self.facts.names.add(name)
        if module and module.partition(".")[0] not in _PURE_MODULES:
            self.facts.foreign.add(name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """A function within: its name is bound."""
        self._defines(node, "a function")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """The same."""
        self._defines(node, "a function")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class within."""
        self._defines(node, "a class")

    def _defines(self, node: _Function | ast.ClassDef, kind: str) -> None:
        self.facts.names.add(node.name)
        self.facts.odd[kind] += 1
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Who catches what, and does what then."""
        self.facts.handlers[ast.unparse(node)] += 1
        if node.name:
            self.facts.names.add(node.name)
            self.facts.bound.add(node.name)
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        """`finally` can swallow too."""
        if node.finalbody:
            self.facts.handlers["\n".join(ast.unparse(part) for part in node.finalbody)] += 1
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """A check, when one of its ways leaves the function."""
        self._tests(node.test)
        leaves = any(isinstance(part, ast.Return | ast.Raise) for branch in node.body for part in ast.walk(branch))
        if leaves:
            self.facts.flow.append(("check", ast.unparse(node.test)))
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """A test within an expression."""
        self._tests(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """A loop that may not end."""
        self._tests(node.test)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """An assertion."""
        self.facts.checks["an assertion"] += 1
        self.facts.flow.append(("check", ast.unparse(node)))
        self._constant(node.test)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """A refusal."""
        self.facts.checks["a raise"] += 1
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        """A way out."""
        self.facts.flow.append(("exit", ast.unparse(node)))
        self.generic_visit(node)

    def _tests(self, test: ast.expr) -> None:
        self.facts.checks["a check"] += 1
        self._constant(test)

    def _constant(self, test: ast.expr) -> None:
        """A test that cannot come out both ways is no test."""
        parts = [part for node in ast.walk(test) if isinstance(node, ast.BoolOp) for part in node.values]
        named = any(isinstance(node, ast.Name) for node in ast.walk(test))
        if not named or any(isinstance(part, ast.Constant) for part in parts):
            self.facts.odd["a test that is always true or false"] += 1


_ODD: dict[type[ast.AST], str] = {
    ast.While: "a loop that may not end",
    ast.With: "a context manager",
    ast.AsyncWith: "a context manager",
    ast.Global: "a global statement",
    ast.Nonlocal: "a nonlocal statement",
    ast.Delete: "a del statement",
    ast.Lambda: "a function",
    ast.Yield: "a generator",
    ast.YieldFrom: "a generator",
    ast.Try: "a try statement",
}
if hasattr(ast, "TryStar"):
    _ODD[ast.TryStar] = "a try statement"


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return f"{head}.{node.attr}" if head is not None else None
    return None


def _call(node: ast.Call) -> Call:
    text, callee = ast.unparse(node), _dotted(node.func)
    if callee is not None:
        receiver, _, method = callee.rpartition(".")
        return Call(
            callee=callee,
            root=callee.partition(".")[0],
            method=method if receiver else "",
            receiver=receiver,
            text=text,
        )
    if isinstance(node.func, ast.Attribute):
        receiver = ast.unparse(node.func.value)
        return Call(
            callee=f"*.{node.func.attr}", root=_leftmost(node.func), method=node.func.attr, receiver=receiver, text=text
        )
    return Call(callee="", text=text)


def _leftmost(node: ast.AST) -> str:
    """The name that an expression begins with: `a` in a["x"](1).b."""
    while True:
        if isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return node.id if isinstance(node, ast.Name) else ""
