# SPDX-License-Identifier: MIT
"""What "the tree" is (pure): which files of an app's directory are source, and the hash over them (DESIGN 6).

Globs are over POSIX paths relative to the source root: `*` and `?` stay within one name, `**` spans
any number of directories (also none). No I/O here; the surgeon walks, the policy asks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from wolverined.model import SourceFile

DATA = (
    "**/*.log",
    "**/*.log.*",
    "**/*.pid",
    # Spelt out, because `*.db*` would take user.db.js for data.
    "**/*.db",
    "**/*.db3",
    "**/*.db-*",
    "**/*.sqlite",
    "**/*.sqlite3",
    "**/*.sqlite-*",
    "**/*.sqlite3-*",
    "**/uploads/**",
    "**/tmp/**",
)
"""What an app writes beside its code: never source, so that writing it does not abort a heal."""

NEVER = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache"})
"""Directories that are never entered, whatever `allow` says."""

TEMPORARY = re.compile(r"\.wolverine-[0-9a-f]{16}-[0-9]{1,5}\.tmp")
"""Names of the surgeon's own temporary files: never source, and the only ones it removes without asking."""

_PROBES = ("\x01", "\x01/\x01")


class Globs:
    """A set of globs, compiled once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._regexes = tuple(_compiled(pattern) for pattern in self.patterns)

    def match(self, path: str) -> str | None:
        """The first pattern that the path matches, else None."""
        for pattern, regex in zip(self.patterns, self._regexes, strict=True):
            if regex.fullmatch(path):
                return pattern
        return None

    def covers(self, directory: str) -> bool:
        """Whether one pattern takes everything below a directory, so that it need not be entered."""
        return any(all(regex.fullmatch(f"{directory}/{probe}") for probe in _PROBES) for regex in self._regexes)


class Selection:
    """`allow` minus `deny` minus data: what an edit may touch."""

    def __init__(self, *, allow: Sequence[str], deny: Sequence[str], data: Sequence[str] = DATA) -> None:
        self._allow = Globs(allow)
        self._out = Globs((*deny, *data))

    def takes(self, path: str) -> bool:
        """Whether this file is source that an edit may touch."""
        return self.refusal(path) == ""

    def refusal(self, path: str) -> str:
        """Why the path is not editable; empty when it is."""
        parts = path.split("/")
        if NEVER.intersection(parts[:-1]):
            return f"{path} is not the app's own source"
        if TEMPORARY.fullmatch(parts[-1]):
            return f"{path} is a temporary file of ours"
        if (pattern := self._out.match(path)) is not None:
            return f"{path} is denied by {pattern!r}"
        return "" if self._allow.match(path) is not None else f"{path} is not in heal.allow"

    def enters(self, directory: str) -> bool:
        """Whether the directory can hold editable files."""
        return directory.rsplit("/", 1)[-1] not in NEVER and not self._out.covers(directory)


def tree_hash(files: Mapping[str, SourceFile]) -> str:
    """One hash over every path, mode and content; the same for the same tree, in whatever order it was read."""
    whole = hashlib.sha256()
    for path in sorted(files):
        file = files[path]
        inner = hashlib.sha256(file.data).hexdigest()
        whole.update(f"{path}\0{file.mode:o}\0{inner}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def sha256_of(data: bytes) -> str:
    """The hash by which heal and surgeon speak of a file's content."""
    return hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = pattern.strip("/").split("/")
    out: list[str] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out.append(".+" if last else "(?:[^/]+/)*")
        else:
            out.append(_segment(part) + ("" if last else "/"))
    return re.compile("".join(out), re.DOTALL)


def _segment(part: str) -> str:
    """One path segment as a regex; runs of stars are one star, so that matching stays linear enough."""
    return "".join(
        "[^/]*" if piece.startswith("*") else "[^/]" if piece == "?" else re.escape(piece)
        for piece in re.findall(r"\*+|\?|[^*?]+", part)
    )
