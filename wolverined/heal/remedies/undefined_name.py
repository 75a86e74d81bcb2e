# SPDX-License-Identifier: MIT
"""A name that nothing declares: Python's NameError, JavaScript's ReferenceError.

The one near name that the place can see replaces every use of the wrong one that means the same. The
runtime's own suggestion counts when the scope does not speak against it.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator

from wolverined.heal.remedies import javascript_scopes, python_scopes
from wolverined.heal.remedies.clue import Clue, Fix, Splice
from wolverined.heal.remedies.near import agreed, near
from wolverined.heal.remedies.scopes import Scopes
from wolverined.heal.remedies.tree import Node
from wolverined.heal.remedies.vocabulary import NODE_GLOBALS

NAME = "undefined-name"

_PYTHON = re.compile(
    r"(?:cannot access )?(?:name|local variable) '([^\W\d]\w*)'"
    r" (?:is not defined|where it is not associated|referenced before assignment)"
)
_JAVASCRIPT = re.compile(r"([\w$]+) is not defined")
_BUILTINS = {
    "javascript": NODE_GLOBALS,
    "python": frozenset(name for name in dir(builtins) if not name.startswith("_")) | {"__file__", "__name__"},
}


def propose(clue: Clue) -> Fix | None:
    """Replace an undefined name by the one near name that is visible where it is used."""
    # `count += 1` makes a name local without declaring it: UnboundLocalError, a kind of NameError.
    if clue.type.endswith(("NameError", "UnboundLocalError")):
        return _replace(clue, "python", _PYTHON.match(clue.message))
    if clue.type.endswith("ReferenceError"):
        return _replace(clue, "javascript", _JAVASCRIPT.match(clue.message))
    return None


def _replace(clue: Clue, language: str, match: re.Match[str] | None) -> Fix | None:
    if match is None:
        return None
    wrong = match.group(1)
    for source, place in clue.spots(language):
        scopes = _scopes(clue, source.path, language)
        undefined = [token for token in _uses(scopes, wrong) if not scopes.resolve(wrong, token)]
        here = source.at(undefined, place.line)
        if not here:
            continue
        right = _meant(clue, scopes, wrong, here[0])
        if right is None:
            return None
        meant = _target(scopes, right, here[0])
        same = [token for token in undefined if _target(scopes, right, token) == meant]
        return Fix(
            remedy=NAME,
            reason=f"nothing declares `{wrong}`; `{right}` is the one near name visible there",
            root_cause=f"`{wrong}` in {source.path}:{place.line} is a misspelling of `{right}`",
            splices={source.path: tuple(_splice(clue, scopes, token, wrong, right) for token in same)},
        )
    return None


def _scopes(clue: Clue, path: str, language: str) -> Scopes:
    source = clue.workspace.source(path)
    assert source is not None  # a spot is a source
    if language == "javascript":
        return javascript_scopes.javascript_scopes(source)
    return python_scopes.python_scopes(source)


def _uses(scopes: Scopes, name: str) -> Iterator[Node]:
    if scopes.source.language == "javascript":
        return javascript_scopes.uses(scopes, name)
    return python_scopes.uses(scopes, name)


def _meant(clue: Clue, scopes: Scopes, wrong: str, at: Node) -> str | None:
    declared = scopes.visible(at)
    known = _BUILTINS[scopes.source.language]
    if near(wrong, declared) and near(wrong, known - declared):
        return None  # `string` may be the parameter `sring` or the global `String`
    return agreed(wrong, declared | known, clue.hint if scopes.source.language == "python" else "", own=declared)


def _target(scopes: Scopes, name: str, at: Node) -> tuple[int, ...] | None:
    declared = scopes.resolve(name, at)
    if not declared and name not in _BUILTINS[scopes.source.language]:
        return None
    return tuple(token.start for token in declared)


def _splice(clue: Clue, scopes: Scopes, token: Node, wrong: str, right: str) -> Splice:
    text = right
    if token.kind == "shorthand_property_identifier":
        # `{ userz }` also makes a key. Whoever reads `.userz` elsewhere keeps it.
        read = clue.workspace.mentions(wrong, beside=scopes.source.path)
        text = f"{wrong}: {right}" if read else right
    return Splice(token.start, token.end, text.encode())
