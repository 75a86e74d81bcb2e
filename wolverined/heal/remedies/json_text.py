# SPDX-License-Identifier: MIT
"""A JSON file as its author wrote it: where each key stands, so that one can be renamed and nothing else moves."""

from __future__ import annotations

import json
import re
from typing import Any

BOM = b"\xef\xbb\xbf"
MAX_JSON_BYTES = 1024 * 1024

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]')


def load(data: bytes) -> Any:
    """Parse a JSON file; ValueError when it is none, or too big to be a configuration."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data)} bytes are no configuration")
    return json.loads(data.removeprefix(BOM))


def key_spans(data: bytes, path: tuple[str, ...]) -> list[tuple[int, int]]:
    """Find the places of one key in a well-formed JSON file.

    Args:
        data: The whole file.
        path: The keys from the outermost object to the key itself.

    Returns:
        The offsets of each occurrence with its quotes; more than one when an object holds the key twice.
    """
    spans: list[tuple[int, int]] = []
    keys: list[str | None] = []  # for each open object its current key, for each open array None
    opened: list[bytes] = []
    last: re.Match[bytes] | None = None
    for token in _TOKEN.finditer(data):
        mark = token.group()
        if mark in (b"{", b"["):
            opened.append(mark)
            keys.append(None)
        elif mark in (b"}", b"]"):
            opened.pop()
            keys.pop()
        elif mark == b":" and last is not None:
            keys[-1] = json.loads(last.group())
            if tuple(keys) == path:
                spans.append(last.span())
        last = token
    return spans
