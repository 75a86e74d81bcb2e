# SPDX-License-Identifier: MIT
"""Where Python modules and classes stand in a snapshot, and what names they offer."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from wolverined.heal.remedies.clue import Workspace
from wolverined.heal.remedies.python_scopes import python_scopes, top_level_names
from wolverined.heal.remedies.tree import Node, Source

_MAX_BASES = 16

# Modules of the standard library that do nothing but define names when they are imported, so that their
# names can be asked for. Python 3.11 suggests no name for `from http.server import BaseHTTPRequestHandlr`.
_STANDARD = frozenset(
    "abc base64 bisect calendar collections collections.abc contextlib copy csv dataclasses datetime decimal"  # noqa: SIM905
    " enum fractions functools glob hashlib heapq hmac http http.client http.cookies http.server io itertools json"
    " logging math operator os os.path pathlib queue random re secrets shutil signal socket socketserver sqlite3"
    " statistics string struct subprocess sys tempfile textwrap threading time traceback types typing urllib.parse"
    " uuid zlib".split()
)


def module_path(workspace: Workspace, module: str, *, importer: str) -> str | None:
    """Find the file of a module as an import statement names it.

    Args:
        workspace: The snapshot.
        module: Such as `app.routes`, or relative as `..routes`.
        importer: The file that imports it.

    Returns:
        The file; None when there is none, or more than one place that it may mean.
    """
    name = module.lstrip(".")
    dots = len(module) - len(name)
    folder = PurePosixPath(importer).parent
    if dots:
        roots = [folder.parents[dots - 2]] if 1 < dots <= len(folder.parents) + 1 else [folder]
    else:
        roots = search_roots(importer)
    tail = name.replace(".", "/")
    found = {
        path
        for root in roots
        for path in (str(root / f"{tail}.py") if tail else "", str(root / tail / "__init__.py"))
        if path in workspace.files
    }
    return found.pop() if len(found) == 1 else None


def search_roots(importer: str) -> list[PurePosixPath]:
    """List the directories from which Python may import for a file: its own, those above, and `src`."""
    folder = PurePosixPath(importer).parent
    return list(dict.fromkeys([folder, *folder.parents, PurePosixPath("src")]))


def submodules(workspace: Workspace, folder: PurePosixPath) -> set[str]:
    """List the names of the modules and packages that stand in a directory of the snapshot."""
    found: set[str] = set()
    for path in workspace.paths:
        if not path.endswith(".py") or not PurePosixPath(path).is_relative_to(folder):
            continue
        parts = PurePosixPath(path).relative_to(folder).parts
        found.add(parts[0].removesuffix(".py"))
    return {name for name in found if name.isidentifier() and name not in ("__init__", "__main__")}


def module_names(workspace: Workspace, source: Source) -> set[str]:
    """Return what a module offers: its top-level names and, for a package, its modules."""
    names = set(top_level_names(source))
    path = PurePosixPath(source.path)
    if path.name == "__init__.py":
        names |= submodules(workspace, path.parent)
    return names


def standard_names(module: str) -> set[str]:
    """Return the public names of a module of the standard library; empty for one that is not asked."""
    if module not in _STANDARD:
        return set()
    return {name for name in dir(importlib.import_module(module)) if not name.startswith("_")}


def find_classes(workspace: Workspace, name: str) -> list[tuple[Source, Node]]:
    """Find every class of that name in the snapshot."""
    return [
        (source, node)
        for source in workspace.sources("python", holding=f"class {name}")
        for node in source.root.walk()
        if node.kind == "class_definition" and any(source.text(token) == name for token in node.in_role("name"))
    ]


def class_members(workspace: Workspace, source: Source, node: Node) -> tuple[set[str], bool]:
    """Return the attributes of a class and of its bases, and whether every base is known."""
    members: set[str] = set()
    complete = True
    queue, seen = [(source, node)], {id(node)}
    while queue:
        source, node = queue.pop()
        members.update(_own_members(source, node))
        bases = node.child("superclasses")
        for base in bases.named_children() if bases is not None else []:
            if base.kind == "keyword_argument" or source.text(base) == "object":
                continue
            found = find_classes(workspace, source.text(base).rpartition(".")[2])
            if len(found) != 1 or len(seen) > _MAX_BASES:
                complete = False
            elif id(found[0][1]) not in seen:
                seen.add(id(found[0][1]))
                queue.append(found[0])
    return members, complete


def stores_attribute(source: Source, name: str) -> bool:
    """Tell whether a file makes an attribute of that name: a definition, an assignment, a keyword."""
    if any(source.text(token) == name for token in python_scopes(source).declaring.values()):
        return True
    for node in source.leaves():
        parent = node.parent
        if node.kind != "identifier" or parent is None or source.text(node) != name:
            continue
        if parent.kind == "keyword_argument" or (node.field == "attribute" and is_target(parent)):
            return True
    return False


def is_target(node: Node) -> bool:
    """Tell whether an expression stands where a value is stored."""
    for above in (node, *node.ancestors()):
        if above.field == "left":
            return above.parent is not None and above.parent.kind in ("assignment", "for_statement", "for_in_clause")
        if above.kind not in ("attribute", "subscript", "pattern_list", "tuple_pattern", "list_pattern") or (
            above is not node and above.kind in ("attribute", "subscript")
        ):
            return False
    return False


def _own_members(source: Source, node: Node) -> Iterator[str]:
    scopes = python_scopes(source)
    yield from scopes.declared(node)
    for inner in node.walk():
        if inner.kind == "attribute" and is_target(inner):
            owner, name = inner.child("object"), inner.child("attribute")
            if owner is not None and name is not None and source.text(owner) in ("self", "cls"):
                yield source.text(name)
        elif inner.kind == "assignment" and any(source.text(left) == "__slots__" for left in inner.in_role("left")):
            for leaf in inner.walk():
                value = source.string(leaf)
                if value is not None:
                    yield value
