# SPDX-License-Identifier: MIT
"""Takes out of a text what no reader should see or obey: terminal escapes, controls, invisible marks."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?"
)
# Controls but for tab and line feed, zero-width and bidirectional marks, and half surrogate pairs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udfff]"
)


def clean(text: str) -> str:
    """Return a text without terminal escapes, control, zero-width and bidirectional characters.

    Tabs and line feeds stay; CR LF becomes LF, a lone CR (a progress bar) and U+2028/2029 too.
    """
    if text.isascii() and text.isprintable():
        return text
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(_replace_unseen, text)


def _replace_unseen(found: re.Match[str]) -> str:
    sign = found[0]
    if sign in "\u2028\u2029":
        return "\n"
    return "\ufffd" if "\ud800" <= sign <= "\udfff" else ""
