# SPDX-License-Identifier: MIT
"""What a remedy is given, and what it answers.

`Workspace` is the snapshot with its files parsed on demand and within a budget, so that a hostile tree
costs a bounded time. A `Clue` is one error of one trace, with the places in the snapshot that it names.
A `Fix` is a set of replaced byte ranges: whatever a remedy does not name stays as it is, to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

import msgspec

from wolverined.heal.remedies.tree import MAX_DEPTH, MAX_SOURCE_BYTES, Source, language_of
from wolverined.model import Frame, Snapshot, Trace

MAX_PARSED_BYTES = 8 * 1024 * 1024  # for one proposal: about four seconds of parsing at the very worst

_MAX_PLACES = 64
_MAX_TEXT = 64 * 1024
_HEADING = re.compile(r"^(?:- )?(?:file://)?(/[^\r\n:]{1,400}):(\d{1,7})$", re.MULTILINE)
_FOREIGN = ("node_modules", "site-packages", "dist-packages")


class Splice(msgspec.Struct, frozen=True, order=True):
    """Bytes `start` to `end` of a file become `text`."""

    start: int
    end: int
    text: bytes


class Place(msgspec.Struct, frozen=True):
    """A line of a file of the snapshot that a trace names; `column` counts from 1, 0 means untold."""

    path: str
    line: int
    column: int = 0


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """What a remedy would change and why, in plain words."""

    remedy: str
    reason: str
    root_cause: str
    splices: dict[str, tuple[Splice, ...]]
    confidence: float = 1.0


class Workspace:
    """A snapshot whose files are parsed when asked for, once, as long as the budget lasts."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.root = snapshot.root.rstrip("/")
        self.files = snapshot.files
        self.paths = tuple(sorted(snapshot.files))
        self._sources: dict[str, Source | None] = {}
        self._budget = MAX_PARSED_BYTES

    def data(self, path: str) -> bytes:
        """Return the bytes of a file of the snapshot."""
        return self.files[path].data

    def source(self, path: str) -> Source | None:
        """Parse a file; None when it is not there, not of a known language, or too big."""
        if path not in self._sources:
            self._sources[path] = self._parse(path)
        return self._sources[path]

    def sources(self, language: str, *, holding: str = "") -> Iterator[Source]:
        """Walk the parsed files of a language, those whose bytes hold a text when one is given."""
        needle = holding.encode()
        for path in self.paths:
            if language_of(path) == language and needle in self.files[path].data:
                source = self.source(path)
                if source is not None:
                    yield source

    def mentions(self, text: str, *, beside: str = "") -> bool:
        """Tell whether a source file other than `beside` holds this text anywhere."""
        needle = text.encode()
        return any(language_of(path) and path != beside and needle in self.files[path].data for path in self.paths)

    def locate(self, path: str, *, own: bool = False) -> str | None:
        """Find the file of the snapshot that a runtime's path means.

        Args:
            path: As the runtime or the trace printed it: absolute, a file URL, or relative.
            own: Whether the trace says that it is the app's; only then may a path that lies elsewhere (a
                symbolic link to a release, a source directory below the app's) be matched by its tail.
        """
        if path.startswith("file://"):
            path = unquote(path.removeprefix("file://"))
        if self.root and path.startswith(self.root + "/"):
            path = path[len(self.root) + 1 :]
        if path in self.files:
            return path
        parts = PurePosixPath(path).parts
        if not own or not parts or any(part in _FOREIGN for part in parts):
            return None
        if parts[0] != "/":  # the app's root may lie above the source, or below it
            below = [known for known in self.paths if known.endswith("/" + path) or path.endswith("/" + known)]
            return below[0] if len(below) == 1 else None
        tails = [known for known in self.paths if path.endswith("/" + known)]
        return max(tails, key=len) if tails else None

    def _parse(self, path: str) -> Source | None:
        language, file = language_of(path), self.files.get(path)
        if language is None or file is None or len(file.data) > min(MAX_SOURCE_BYTES, self._budget):
            return None
        self._budget -= len(file.data)
        source = Source(path=path, data=file.data, language=language)
        return source if source.depth <= MAX_DEPTH else None


class Clue(msgspec.Struct, frozen=True, kw_only=True):
    """One error of a trace: its type, its message, the runtime's suggestion, and where it points."""

    workspace: Workspace
    type: str
    message: str
    hint: str
    places: tuple[Place, ...]
    text: str

    def spots(self, language: str) -> Iterator[tuple[Source, Place]]:
        """Walk the places that lie in files of one language, innermost first."""
        for place in self.places:
            if language_of(place.path) == language:
                source = self.workspace.source(place.path)
                if source is not None:
                    yield source, place


def clues(trace: Trace, workspace: Workspace) -> Iterator[Clue]:
    """Read a trace: one clue for each error of its chain, the root cause first."""
    text = trace.text[:_MAX_TEXT]
    for link in trace.errors[:_MAX_PLACES]:
        frames = ([link.frame] if link.frame else []) + list(trace.frames[:_MAX_PLACES])
        yield Clue(
            workspace=workspace,
            type=link.type[:200],
            message=link.message[:2000],
            hint=_suggestion(f"{trace.hint[:500]}\n{link.message[:2000]}"),
            places=_places(frames, "\n".join((*link.notes[:20], text)), workspace),
            text=text,
        )


def _suggestion(told: str) -> str:
    match = re.search(r"[Dd]id you mean:? '([\w.]{1,200})'", told) or re.match(r"([^\W\d]\w{0,199})\n", told)
    return match.group(1) if match else ""


def _places(frames: list[Frame], text: str, workspace: Workspace) -> tuple[Place, ...]:
    places: dict[Place, None] = {}
    for frame in frames:
        path = workspace.locate(frame.path, own=frame.own)
        if path is not None:
            places.setdefault(Place(path, frame.line, frame.column or 0))
    # A syntax error in Node has its place above the message, in no frame.
    for match in _HEADING.finditer(text):
        path = workspace.locate(match.group(1))
        if path is not None:
            places.setdefault(Place(path, int(match.group(2))))
    return tuple(places)[:_MAX_PLACES]


def splice(data: bytes, splices: tuple[Splice, ...]) -> bytes:
    """Replace byte ranges; ValueError when two of them overlap or one lies outside of the data."""
    parts: list[bytes] = []
    at = 0
    for cut in sorted(splices):
        if not at <= cut.start <= cut.end <= len(data):
            raise ValueError(f"cannot replace bytes {cut.start} to {cut.end} after {at} of {len(data)}")
        parts += [data[at : cut.start], cut.text]
        at = cut.end
    return b"".join([*parts, data[at:]])
