# SPDX-License-Identifier: MIT
"""Placeholders, and how they are kept from being read as text while a text is worked on.

Until the end of a pass each placeholder is one character of a private plane of Unicode: no rule and no
known value can match inside it.
"""

from __future__ import annotations

import re

SIGNS = "\U000f0000-\U000ffffd"
ANY = re.compile(f"[{SIGNS}]")
PLACEHOLDER = re.compile(r"«secret:([A-Za-z0-9_.-]{1,64})»")
_MOST = 0xFFFD


def placeholder(name: str) -> str:
    """Return what stands in the place of a secret."""
    return f"«secret:{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:64]}»"


class Marks:
    """The placeholders of one text, each hidden behind one character."""

    def __init__(self) -> None:
        self._signs: dict[str, str] = {}

    def hide(self, mark: str) -> str:
        """Return the character that stands for a placeholder."""
        sign = self._signs.get(mark)
        if sign is None:
            if len(self._signs) >= _MOST:
                return "…"
            sign = self._signs[mark] = chr(0xF0000 + len(self._signs))
        return sign

    def show(self, text: str) -> str:
        """Put the placeholders back."""
        if not self._signs:
            return text
        marks = {sign: mark for mark, sign in self._signs.items()}
        return ANY.sub(lambda found: marks.get(found[0], ""), text)
