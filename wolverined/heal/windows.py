# SPDX-License-Identifier: MIT
"""Which source a model is shown (pure): windows around the own frames of the traces, innermost first.

A small file is shown whole, because a model edits best what it sees in full; of a larger one the
lines around each frame. Lines that carry what looks like a secret are the redactor's business, before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from wolverined.model import Snapshot, Trace

WHOLE_FILE_LINES = 150
AROUND = 40
MAX_FILES = 6
MAX_CHARS = 20_000


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of one file, from line `start` on (counted from 1). `sha256` is of the whole file."""

    path: str
    start: int
    lines: tuple[str, ...]
    sha256: str


def cut(snapshot: Snapshot, *, traces: Sequence[Trace], entry: str = "") -> tuple[Window, ...]:
    """The windows for a trouble.

    Args:
        snapshot: The source.
        traces: Newest last; the newest one's frames come first.
        entry: The path of the program's first file, shown when no frame leads anywhere.
    """
    places: dict[str, list[int]] = {}
    for trace in reversed(traces):
        for frame in trace.frames:
            path = relative(frame.path, snapshot)
            if frame.own and path in snapshot.files:
                places.setdefault(path, []).append(frame.line)
    if not places and entry in snapshot.files:
        places[entry] = [1]
    windows: list[Window] = []
    left = MAX_CHARS
    for path, lines in list(places.items())[:MAX_FILES]:
        for window in _file(path, snapshot.files[path].data, lines):
            size = sum(len(line) + 8 for line in window.lines)
            if size <= left:
                windows.append(window)
                left -= size
    return tuple(windows)


def relative(path: str, snapshot: Snapshot) -> str:
    """A frame's path as the snapshot names it."""
    return path.removeprefix("file://").removeprefix(f"{snapshot.root.rstrip('/')}/").removeprefix("./")


def _file(path: str, data: bytes, at: Iterable[int]) -> list[Window]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return []
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    sha256 = hashlib.sha256(data).hexdigest()
    if len(lines) <= WHOLE_FILE_LINES:
        spans = [(0, len(lines))]
    else:
        spans = _merged([(max(0, line - 1 - AROUND), min(len(lines), line + AROUND)) for line in at if line > 0])
    return [
        Window(path=path, start=start + 1, lines=tuple(lines[start:end]), sha256=sha256)
        for start, end in spans
        if start < end
    ]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping spans become one, in the order of the file."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out
