# SPDX-License-Identifier: MIT
"""What travels when a trial cannot see the app's directory, as under systemd: all of it but its dependencies (pure).

There PID 1 puts an empty tree at the app's own path and binds the dependencies into it, read-only. The
rest is read by the surgeon, whose files they are, and sent. What is too much is left out and named, so
that a verdict can say what a trial lacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from wolverined.heal.source import DATA, NEVER, Globs

MAX_FILE = 32 * 1024 * 1024
"""Bytes of one file; what is bigger is left out."""
MAX_DATA = 48 * 1024 * 1024
"""Bytes of all data files together (see `source.DATA`); what is above is left out."""
MAX_TOTAL = 160 * 1024 * 1024
"""Bytes of everything; an app with more cannot be tried."""
MAX_ENTRIES = 50_000
BATCH_BYTES = 16 * 1024 * 1024
BATCH_ENTRIES = 4000
"""So much goes into one message; both far below what a frame may hold."""
MAX_ABSENT = 40
"""So many of the paths that were left out are named."""

DEPENDENCIES = frozenset(
    {".bundle", ".venv", ".yarn", "__pypackages__", "bower_components", "jspm_packages", "node_modules", "venv"}
)
"""Directories that hold others' code under these names, wherever they stand."""
MARKED: Mapping[str, tuple[str, ...]] = {
    "target": ("CACHEDIR.TAG",),
    "vendor": ("autoload.php", "bundle", "modules.txt"),
}
"""Directories that hold others' code, or what a compiler made, when one of these stands in them."""
VENV_MARK = "pyvenv.cfg"
"""Says of a directory of any name that it is a virtual environment of Python."""
USELESS = frozenset(
    {".cache", ".npm", ".nyc_output", ".parcel-cache", ".pnpm-store", ".pytest_cache", ".ruff_cache", ".turbo"}
)
"""Directories that no app needs to start; beside those of `source.NEVER`."""
_LOGS = Globs(("**/*.log", "**/*.log.*", "**/*.pid"))
_DATA = Globs(DATA)


class Kind(StrEnum):
    """What one entry is."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing of the app's directory, by its relative path. A file's content is a blob; `target` is a link's."""

    path: str
    kind: Kind = Kind.FILE
    mode: int = 0o644
    target: str = ""


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """The app's directory as a trial needs it. `contents` are those of the files among `entries`, in their order.

    `absent` names some of what is not in it though it stands in the directory, each with the reason.
    """

    entries: tuple[Entry, ...]
    contents: tuple[bytes, ...]
    absent: Mapping[str, str] = {}


def is_dependency(name: str, inside: Iterable[str]) -> bool:
    """Whether a directory holds others' code: bound into a trial, never sent.

    Args:
        name: Its own.
        inside: The names in it.
    """
    if name in DEPENDENCIES:
        return True
    marks = MARKED.get(name, ())
    return any(one == VENV_MARK or one in marks for one in inside)


def is_left(name: str) -> bool:
    """Whether nothing of a directory travels, nor is bound: caches, and version control."""
    return name in USELESS or (name in NEVER and name not in DEPENDENCIES)


def is_log(path: str) -> bool:
    """Whether a file is only ever written; the app makes it anew."""
    return _LOGS.match(path) is not None


def is_data(path: str) -> bool:
    """Whether a file is what the app keeps, no part of its source."""
    return _DATA.match(path) is not None


def batches(whole: Whole) -> Iterator[tuple[tuple[Entry, ...], tuple[bytes, ...]]]:
    """Entries with the contents of the files among them, each small enough for one message."""
    contents = iter(whole.contents)
    taken: list[Entry] = []
    blobs: list[bytes] = []
    size = 0
    for entry in whole.entries:
        taken.append(entry)
        if entry.kind is Kind.FILE:
            blobs.append(next(contents))
            size += len(blobs[-1])
        if len(taken) >= BATCH_ENTRIES or size >= BATCH_BYTES:
            yield tuple(taken), tuple(blobs)
            taken, blobs, size = [], [], 0
    if taken:
        yield tuple(taken), tuple(blobs)
