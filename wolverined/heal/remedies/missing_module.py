# SPDX-License-Identifier: MIT
"""A module that is not where an import looks for it: `No module named`, `Cannot find module`.

The one near name among what stands there replaces the wrong part of the path; failing that, the one file
of the project whose path ends as the import does. Packages from outside are looked up nowhere.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from wolverined.heal.remedies.clue import Clue, Fix, Splice, Workspace
from wolverined.heal.remedies.javascript_modules import imports, is_module, resolve_module
from wolverined.heal.remedies.near import near, nearest, slips
from wolverined.heal.remedies.python_modules import search_roots, submodules
from wolverined.heal.remedies.python_scopes import python_scopes, uses
from wolverined.heal.remedies.tree import Node, Source

NAME = "missing-module"

_PYTHON = re.compile(r"No module named '([\w.]+)'")
_RELATIVE = re.compile(r"Cannot find module '(\.{1,2}/[^']+|\.{1,2})'")
_RESOLVED = re.compile(r"Cannot find module '(/[^']+)' imported from (\S.*)$")
_PACKAGE = re.compile(r"Cannot find (?:module|package) '([^./'][^']*)'")
_ENDINGS = (".js", ".json", ".cjs", ".mjs")


def propose(clue: Clue) -> Fix | None:
    """Point an import at the one module that it can mean."""
    match = _PYTHON.match(clue.message)
    if match and clue.type.endswith(("ModuleNotFoundError", "ImportError")):
        return _python(clue, match.group(1))
    if match := _RESOLVED.match(clue.message):
        return _resolved(clue, match.group(1), match.group(2))
    if match := _RELATIVE.match(clue.message):
        return _relative(clue, match.group(1))
    if match := _PACKAGE.match(clue.message):
        return _package(clue, match.group(1))
    return None


def _python(clue: Clue, missing: str) -> Fix | None:
    parents, _, wrong = missing.rpartition(".")
    for source, place in clue.spots("python"):
        tokens = list(_segments(source, missing))
        if not any(source.line_of(_statement(token).start) == place.line for token in tokens):
            continue
        roots = search_roots(source.path) + [PurePosixPath(other.path).parent for other in clue.places]
        known = {name for root in roots for name in submodules(clue.workspace, root / parents.replace(".", "/"))}
        # `import ujson` is no misspelling of our `jsn.py` when the standard `json` is as near.
        right = nearest(wrong, known | (set() if parents else set(sys.stdlib_module_names)))
        if right not in known or wrong in known:
            return None
        tokens += _uses_of(source, tokens, wrong)
        return Fix(
            remedy=NAME,
            reason=f"there is no module `{missing}`; `{right}` is the one near name beside it",
            root_cause=f"`{wrong}` in {source.path}:{place.line} is a misspelling of `{right}`",
            splices={source.path: tuple(Splice(token.start, token.end, right.encode()) for token in tokens)},
        )
    return None


def _statement(token: Node) -> Node:
    return token.within("import_statement", "import_from_statement") or token


def _segments(source: Source, missing: str) -> Iterator[Node]:
    """Walk the tokens that are the last part of the missing module's name in an import."""
    parts = missing.split(".")
    for node in source.root.walk():
        if node.kind != "dotted_name" or node.within("import_statement", "import_from_statement") is None:
            continue
        relative = node.parent is not None and node.parent.kind == "relative_import"
        if node.field == "name" and _statement(node).kind == "import_from_statement":
            continue
        tokens = node.named_children()
        names = [source.text(token) for token in tokens]
        for end in range(1, len(names) + 1):
            if names[:end] == parts or (relative and names[:end] == parts[-end:]):
                yield tokens[end - 1]
                break


def _uses_of(source: Source, tokens: list[Node], wrong: str) -> list[Node]:
    """What `import wrong` binds must be used by its new name; `import wrong as x` binds another one."""
    scopes = python_scopes(source)
    return [use for use in uses(scopes, wrong) if any(token in scopes.resolve(wrong, use) for token in tokens)]


def _resolved(clue: Clue, missing: str, importer: str) -> Fix | None:
    """ESM names both files in full; the import stands in the importer under any spelling."""
    path = clue.workspace.locate(importer.strip(), own=True)
    source = clue.workspace.source(path) if path else None
    root = clue.workspace.root + "/"
    if source is None or not missing.startswith(root):
        return None
    target = missing.removeprefix(root)
    folder = posixpath.dirname(source.path)
    wrong = [node for node, name in imports(source) if _joined(folder, name) == target]
    return _repoint(clue.workspace, source, wrong, target, whole=True)


def _relative(clue: Clue, specifier: str) -> Fix | None:
    for source, _ in clue.spots("javascript"):
        wrong = [node for node, name in imports(source) if name == specifier]
        target = _joined(posixpath.dirname(source.path), specifier)
        if wrong and resolve_module(clue.workspace, specifier, importer=source.path) is None:
            return _repoint(clue.workspace, source, wrong, target, whole=False)
    return None


def _joined(folder: str, specifier: str) -> str:
    return posixpath.normpath(posixpath.join(folder, specifier)) if specifier.startswith(".") else ""


def _repoint(workspace: Workspace, source: Source, wrong: list[Node], target: str, *, whole: bool) -> Fix | None:
    """Write the one path that can be meant into the import.

    Args:
        workspace: The snapshot.
        source: The importer.
        wrong: The strings that name the missing file.
        target: What they mean, from the snapshot's root.
        whole: Whether an import must name the file with its suffix (ESM), or may leave it out (CommonJS).
    """
    if not wrong or target.startswith(".."):
        return None
    right = _meant(workspace, target, whole=whole)
    if right is None:
        return None
    path = posixpath.relpath(right, posixpath.dirname(source.path) or ".")
    specifier = path if path.startswith(".") else f"./{path}"
    return Fix(
        remedy=NAME,
        reason=f"there is no {target}; {right} is the one file of the project that can be meant",
        root_cause=f"{source.path}:{source.line_of(wrong[0].start)} imports a path that does not exist",
        splices={source.path: tuple(Splice(node.start + 1, node.end - 1, specifier.encode()) for node in wrong)},
    )


def _meant(workspace: Workspace, target: str, *, whole: bool) -> str | None:
    spellings: dict[str, set[str]] = {}
    for path in workspace.paths:
        if is_module(path):
            for spelling in _spellings(path, target, whole=whole):
                spellings.setdefault(spelling, set()).add(path)
    if whole:
        # `./api` for `./api.mjs`: an import of an ES module names the whole file.
        suffixed = [path for path in workspace.paths if path in {target + end for end in _ENDINGS}]
        if suffixed:
            return suffixed[0] if len(suffixed) == 1 else None
    close = _near_path(target, spellings)
    if not close:
        tail = target.lstrip("./")
        close = tuple(name for name in sorted(spellings) if _same_tail(name, tail))
    return close[0] if len(close) == 1 and len(spellings[close[0]]) == 1 else None


def _spellings(path: str, target: str, *, whole: bool) -> Iterator[str]:
    """The ways to name a file in the style of the wrong path: with its suffix, or without."""
    stem, end = posixpath.splitext(path)
    if whole or posixpath.splitext(target)[1] in _ENDINGS:
        yield path
    elif end in (".js", ".json"):
        yield posixpath.dirname(stem) if posixpath.basename(stem) == "index" and "/" in stem else stem


def _near_path(target: str, spellings: dict[str, set[str]]) -> tuple[str, ...]:
    """Compare part by part: a misspelt directory is as near in a long path as in a short one."""
    parts = target.split("/")
    best: dict[int, list[str]] = {}
    for spelling in sorted(spellings):
        others = spelling.split("/")
        if len(others) != len(parts):
            continue
        counts = [_part(a, b) for a, b in zip(parts, others, strict=True)]
        if None not in counts and spelling != target:
            best.setdefault(sum(count or 0 for count in counts), []).append(spelling)
    return tuple(best[min(best)]) if best else ()


def _part(wrong: str, name: str) -> int | None:
    if wrong == name:
        return 0
    count = slips(posixpath.splitext(wrong)[0], posixpath.splitext(name)[0])
    if posixpath.splitext(wrong)[0] == posixpath.splitext(name)[0]:
        return 1  # another suffix
    return None if count is None else count + 1


def _same_tail(name: str, tail: str) -> bool:
    if posixpath.basename(name) != posixpath.basename(tail):
        return False
    return name == tail or name.endswith("/" + tail) or tail.endswith("/" + name)


def _package(clue: Clue, wrong: str) -> Fix | None:
    """A package is looked for among those that the project itself declares, nowhere else."""
    declared = set(_declared(clue.workspace))
    if wrong in declared:
        return None
    close = near(wrong, declared)
    for source, _ in clue.spots("javascript"):
        tokens = [node for node, name in imports(source) if name == wrong]
        if tokens and len(close) == 1:
            return Fix(
                remedy=NAME,
                reason=f"there is no package `{wrong}`; package.json declares `{close[0]}`",
                root_cause=f"`{wrong}` in {source.path} is a misspelling of `{close[0]}`",
                splices={source.path: tuple(Splice(n.start + 1, n.end - 1, close[0].encode()) for n in tokens)},
            )
    return None


def _declared(workspace: Workspace) -> Iterator[str]:
    if "package.json" not in workspace.files:
        return
    package = json.loads(workspace.data("package.json"))
    for table in ("dependencies", "optionalDependencies", "peerDependencies"):
        yield from (str(name) for name in package.get(table, {}))
