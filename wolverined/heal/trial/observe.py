# SPDX-License-Identifier: MIT
"""Small pure parts of observing: the tail of an output, the shape of an answer."""

from __future__ import annotations

from collections import deque

import msgspec

MAX_LINES = 300
MAX_LINE = 4096
MAX_TAIL_BYTES = 96 * 1024
MAX_DEPTH = 6
MAX_KEYS = 200
MAX_ITEMS = 50


class Tail:
    """The last lines of a stream of bytes, bounded however much comes; a mark tells later what came since."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._count = 0
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Take output in any pieces."""
        *whole, partial = (self._partial + data).split(b"\n")
        self._count += len(whole)
        self._lines.extend(_text(line) for line in whole[-MAX_LINES:])
        # A line without an end must not grow for ever; what is cut is lost to a trace in any case.
        self._partial = partial[:MAX_LINE]

    def mark(self) -> int:
        """A point in the stream; the next line that begins is after it."""
        return self._count

    def since(self, mark: int = 0) -> tuple[str, ...]:
        """The lines after the mark that are still kept, an unfinished one included, newest last."""
        lines = list(self._lines)[max(0, len(self._lines) - (self._count - mark)) :] if self._count > mark else []
        if self._partial:
            lines.append(_text(self._partial))
        size = 0
        for number in range(len(lines) - 1, -1, -1):
            size += len(lines[number])
            if size > MAX_TAIL_BYTES:
                return tuple(lines[number + 1 :])
        return tuple(lines)


def _text(line: bytes) -> str:
    return line[:MAX_LINE].rstrip(b"\r").decode("utf-8", "replace")


def body_shape(body: bytes, content_type: str) -> str:
    """The types in a JSON body, names of keys included, values not; "" when it is no JSON.

    Two answers of one shape are taken as the same answer at another time.
    """
    if "json" not in content_type.lower():
        return ""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "broken"
    return _shape(value, 0)


def _shape(value: object, depth: int) -> str:
    if isinstance(value, dict):
        if depth >= MAX_DEPTH:
            return "{}"
        names = sorted(value)[:MAX_KEYS]
        return "{" + ",".join(f"{name}:{_shape(value[name], depth + 1)}" for name in names) + "}"
    if isinstance(value, list):
        if depth >= MAX_DEPTH:
            return "[]"
        return "[" + "|".join(sorted({_shape(item, depth + 1) for item in value[:MAX_ITEMS]})) + "]"
    if isinstance(value, bool):
        return "bool"
    if value is None:
        return "null"
    return "number" if isinstance(value, int | float) else "string"
