# SPDX-License-Identifier: MIT
"""Where each key of a TOML text stands: dotted key path -> line number.

`tomllib` forgets lines, and a problem without its line is half a message. This is no parser: it
follows table headers and `key =` beginnings, and steps over strings, comments and open brackets,
which is all that is needed to point at a key that `tomllib` has already accepted.
"""

from __future__ import annotations

import re

_PART = r"(?:[A-Za-z0-9_-]+|\"(?:\\.|[^\"\\])*\"|'[^']*')"
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]")
_KEY = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_TOKEN = re.compile(r"\"\"\"|'''|\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*|[\[\]{}]")
_ENDS = {'"""': re.compile(r'(?:\\.|[^\\])*?"{3,5}'), "'''": re.compile(r".*?'{3,5}")}


def key_lines(text: str) -> dict[str, int]:
    """Give the line (from 1) of each table header and key, by dotted path; the first one wins."""
    found: dict[str, int] = {}
    table = ""
    closing, depth = "", 0  # the quotes of the multi-line string we are in; how many brackets are open
    # Not splitlines(): TOML knows no other ends of lines, and they may stand in comments and strings.
    for number, line in enumerate(text.split("\n"), start=1):
        start = 0
        if not closing and depth == 0:
            if header := _HEADER.match(line):
                table = _dotted(header[1])
                found.setdefault(table, number)
                continue
            if key := _KEY.match(line):
                name = _dotted(key[1])
                found.setdefault(f"{table}.{name}" if table else name, number)
                start = key.end()
        closing, depth = _scan(line, start, closing=closing, depth=depth)
    return found


def _dotted(raw: str) -> str:
    return ".".join(part.strip("\"'") for part in re.findall(_PART, raw))


def _scan(line: str, position: int, *, closing: str, depth: int) -> tuple[str, int]:
    """Read on to the end of the line: what multi-line string is open there, and how many brackets are."""
    while True:
        if closing:
            end = _ENDS[closing].match(line, position)
            if end is None:
                return closing, depth
            position = end.end()
        token = _TOKEN.search(line, position)
        if token is None:
            return "", depth
        position = token.end()
        closing = token[0] if token[0] in _ENDS else ""
        if token[0] in {"[", "{"}:
            depth += 1
        elif token[0] in {"]", "}"}:
            depth = max(0, depth - 1)
