# SPDX-License-Identifier: MIT
"""Tells an application's own files from those of its dependencies and of the runtime.

No file is opened: a path is judged by its words alone, so a trace of another machine reads the same.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Sequence

from wolverined.model import Frame

_FOREIGN_PARTS = frozenset(
    {
        "node_modules",
        "site-packages",
        "dist-packages",
        "__pypackages__",
        ".venv",
        "venv",
        ".tox",
        ".nox",
        ".yarn",
        ".pnpm-store",
    }
)
_FOREIGN_STARTS = ("node:", "<", "[", "internal/", "webpack", "evalmachine.", "native ")
_CACHE_MAX = 4096


class Owner:
    """Judges the paths of one parse.

    Args:
        app_root: The application's directory, absolute.
        aliases: Other absolute names of the same directory (a symlinked release directory: Node prints
            the resolved name, Python the name that it was started with).
    """

    def __init__(self, app_root: str, aliases: Sequence[str] = ()) -> None:
        roots = {posixpath.normpath(root) for root in (app_root, *aliases) if root.startswith("/")}
        # The longest first, so that a root inside another one wins.
        self._roots = sorted((root.rstrip("/") + "/" for root in roots), key=len, reverse=True)
        self._judged: dict[str, tuple[str, bool]] = {}

    def judge(self, path: str) -> tuple[str, bool]:
        """Return the path as a `Frame` carries it, and whether it is the application's own."""
        known = self._judged.get(path)
        if known is None:
            known = self._decide(_plain(path))
            if len(self._judged) < _CACHE_MAX:
                self._judged[path] = known
        return known

    def frame(self, path: str, line: int, *, function: str = "", column: int | None = None, source: str = "") -> Frame:
        """Build a frame with its path judged."""
        shown, own = self.judge(path)
        return Frame(path=shown, line=line, function=function, column=column, source=source, own=own)

    def _decide(self, path: str) -> tuple[str, bool]:
        if not path or path.startswith(_FOREIGN_STARTS):
            return path, False
        inside = self._inside(path)
        if inside is None or _is_foreign(inside):
            return path, False
        return inside, True

    def _inside(self, path: str) -> str | None:
        if not path.startswith("/"):
            # Python prints the name that a module was found by, which may be relative to the working directory.
            relative = posixpath.normpath(path)
            named = "." in relative.rpartition("/")[2]
            return relative if named and not relative.startswith(".") and ":" not in relative else None
        normal = posixpath.normpath(path)
        for root in self._roots:
            if normal.startswith(root):
                return normal[len(root) :]
        return None


def _is_foreign(relative: str) -> bool:
    parts = relative.split("/")
    if not _FOREIGN_PARTS.isdisjoint(parts):
        return True
    # A virtual environment of any name, or a Python installed inside the application's directory.
    return any(
        part in ("lib", "lib64") and following.startswith("python") for part, following in itertools.pairwise(parts)
    )


def _plain(path: str) -> str:
    """Undo the URL form in which Node prints ES modules."""
    if not path.startswith("file://"):
        return path
    path = path[7:].partition("?")[0]
    if "%" not in path:
        return path
    from urllib.parse import unquote  # noqa: PLC0415 - only for the rare path with an escape in it

    return unquote(path, errors="replace")
