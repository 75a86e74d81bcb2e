# SPDX-License-Identifier: MIT
"""Where each key of a TOML text stands: dotted key path -> line number.

`tomllib` forgets lines, and a problem without its line is half a message. This is no parser: it
follows table headers and `key =` beginnings, and steps over multi-line strings, which is all that
is needed to point at a key that `tomllib` has already accepted.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")


def key_lines(text: str) -> dict[str, int]:
    """Give the line (from 1) of each table header and key, by dotted path; the first one wins."""
    found: dict[str, int] = {}
    table = ""
    closing = ""  # the quotes that end the multi-line string we are in
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            if closing in line:
                closing = ""
            continue
        if header := _HEADER.match(line):
            table = _dotted(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            name = _dotted(key[1])
            path = f"{table}.{name}" if table else name
            found.setdefault(path, number)
            closing = _opens(line[key.end() :])
    return found


def _dotted(raw: str) -> str:
    return ".".join(part.strip("\"'") for part in _PART.findall(raw))


def _opens(rest: str) -> str:
    for quotes in ('"""', "'''"):
        if rest.count(quotes) % 2:
            return quotes
    return ""
