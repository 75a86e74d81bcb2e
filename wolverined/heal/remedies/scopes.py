# SPDX-License-Identifier: MIT
"""Which names a place in a program can see, and which declaration a name there means.

The walk outwards is the same for both languages; what declares a name, and where, is told by
`python_scopes` and `javascript_scopes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wolverined.heal.remedies.tree import Node, Source


class Scopes:
    """The declared names of one file, by the node in which they are visible.

    Attributes:
        source: The file.
        declaring: Every token that declares a name rather than using one, by identity.
    """

    def __init__(self, source: Source, *, hides: Callable[[Node, Node], bool]) -> None:
        self.source = source
        self.declaring: dict[int, Node] = {}
        self._names: dict[int, dict[str, list[Node]]] = {}
        self._hides = hides

    def declare(self, scope: Node, token: Node) -> None:
        """Say that `token` declares a name which is visible within `scope`."""
        self.declaring[id(token)] = token
        self._names.setdefault(id(scope), {}).setdefault(self.source.text(token), []).append(token)

    def declared(self, scope: Node) -> dict[str, list[Node]]:
        """Return the names declared in one scope with the tokens that do."""
        return self._names.get(id(scope), {})

    def resolve(self, name: str, at: Node) -> list[Node]:
        """Return the tokens that declare what `name` means at a place; empty when nothing does."""
        return next((names[name] for names in self._seen_from(at) if name in names), [])

    def visible(self, at: Node) -> set[str]:
        """Return every name of the file that a place can see."""
        return {name for names in self._seen_from(at) for name in names}

    def _seen_from(self, at: Node) -> Iterator[dict[str, list[Node]]]:
        for node in (at, *at.ancestors()):
            names = self._names.get(id(node))
            if names and not self._hides(node, at):
                yield names
