# SPDX-License-Identifier: MIT
"""The last resort: finds an error in the output of a runtime that has no parser of its own.

Knows the shapes that most runtimes share (`SomeError: message`, `panic: …`, `file.ext:12`), gives one
partial trace of the newest error, and nothing when nothing looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wolverined.model import Frame
from wolverined.traces.found import Found, Link, finish
from wolverined.traces.owner import Owner

_NEWEST = 200
_BELOW = 60
_LONGEST = 300  # of a line: the patterns below may be quadratic in it

_HEADS = (
    re.compile(r"(?P<type>panic): (?P<message>.+)"),  # Go
    re.compile(r"(?P<type>fatal error): (?P<message>.+)"),  # Go's runtime, C
    re.compile(r"thread '[^']{0,64}' (?:\(\d{1,9}\) )?(?P<type>panicked) at (?P<message>.+)"),  # Rust
    re.compile(r".{0,400}: (?P<message>.+) \((?P<type>[A-Z][\w:]*)\)$"),  # Ruby
    re.compile(r"(?:PHP )?Fatal error: {1,4}(?:Uncaught )?(?P<type>[A-Z][\w\\]*): (?P<message>.+)"),
    re.compile(
        r"(?:.{0,200}[\s:\"'(\[])?(?P<type>(?:[A-Za-z_$][\w$]*[.:]{1,2}){0,16}[A-Z][\w$]*(?:Error|Exception))"
        r"(?:: (?P<message>.*))?$"
    ),
    re.compile(r".{0,80}\b(?P<type>ERROR|FATAL|CRITICAL|[Ee]rror|fatal)\b[\s:\]-]{1,8}(?P<message>\S.*)"),
)
_BREAKS = re.compile(r"[\s()\"'<>,;\[\]{}=]+")


def read(lines: Sequence[str], owner: Owner) -> Found | None:
    """Find the newest error among the last 200 lines; None when no line looks like one."""
    lowest = max(0, len(lines) - _NEWEST)
    for heads in (_HEADS[:-1], _HEADS[-1:]):
        for at in range(len(lines) - 1, lowest - 1, -1):
            text = lines[at].strip()[:_LONGEST]
            for head in heads:
                if text and (found := head.match(text)):
                    link = Link(found["type"], (found["message"] or "").strip())
                    return _read(lines, at, link, owner)
    return None


def _read(lines: Sequence[str], at: int, link: Link, owner: Owner) -> Found:
    end = at
    for line in lines[at : at + _BELOW]:
        if end > at and not line.strip() and not link.frames:
            # A blank line stands between Go's panic and its goroutine; after frames it ends the trace.
            end += 1
            continue
        places = _places(line[:_LONGEST], owner)
        if end > at + 2 and link.frames and not places and line[:1] not in (" ", "\t"):
            break
        link.frames += places
        end += 1
    return finish("generic", [link], lines, at, end, partial=True)


def _places(line: str, owner: Owner) -> list[Frame]:
    """Find every `file.ext:12` and `file.ext:12:3` of a line."""
    places = []
    for word in _BREAKS.split(line):
        numbers: list[int] = []
        path = word.rstrip(":.").removesuffix(":in")
        while len(numbers) < 2:  # noqa: PLR2004 - line and column
            rest, colon, number = path.rpartition(":")
            if not colon or not (number.isascii() and number.isdecimal() and len(number) <= 9):  # noqa: PLR2004
                break
            numbers.insert(0, int(number))
            path = rest
        if numbers and "." in path.rpartition("/")[2] and not path.endswith("."):
            places.append(owner.frame(path, numbers[0], column=numbers[1] if len(numbers) > 1 else None))
    return places
