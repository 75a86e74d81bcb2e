# SPDX-License-Identifier: MIT
"""What can be said of a configuration file: problems (it is refused) and warnings (it works, but)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from wolverined.config.schema import Config

_LONGEST = 400


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `line` counts from 1; None when the key is absent from the file."""

    line: int | None
    key: str
    message: str
    hint: str

    def describe(self, origin: Path) -> str:
        """Say it in one line that a terminal makes clickable: FILE:LINE: what; hint: how."""
        place = f"{origin}:{self.line}" if self.line else str(origin)
        return f"{place}: {self.message}; hint: {self.hint}" if self.hint else f"{place}: {self.message}"


class Problems:
    """Collects problems; finds each one's line by its key or, failing that, its table's."""

    def __init__(self, *, lines: dict[str, int]) -> None:
        self.found: list[Problem] = []
        self._lines = lines

    def add(self, key: str, message: str, hint: str) -> None:
        """Record that `key` (a dotted path) is wrong."""
        self.found.append(
            Problem(line=self.line_of(key), key=visible(key), message=visible(message), hint=visible(hint))
        )

    def has(self, key: str) -> bool:
        """Whether `key`, or the table that it stands in, is wrong already: then what it means is nobody's question."""
        return any(problem.key in {key, key.rpartition(".")[0]} for problem in self.found)

    def line_of(self, key: str) -> int | None:
        """Give the line of `key`, or of the nearest table around it."""
        path = key
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path.rpartition(".")[0]
        return None


def visible(text: str) -> str:
    """`text` on one line of bearable length: a file may hold escape sequences and whole books as keys."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A usable configuration and what the operator should know about it."""

    config: Config
    warnings: tuple[str, ...] = ()
