# SPDX-License-Identifier: MIT
"""The redactor: known values first, then the rules, on one text, on lines that follow each other, on a request."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from wolverined.model import Request
from wolverined.redact.clean import clean
from wolverined.redact.known import forms_of, looks_secret
from wolverined.redact.marks import ANY, PLACEHOLDER, Marks, placeholder
from wolverined.redact.rules import RULES, mask

MAX_LINE = 16 << 10
CUT = "…[cut]"
_LONGEST_WORD = 12
_WRAP = re.compile(r"\\?\n[ \t]{0,64}")
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-auth", "x-csrf", "x-xsrf"}
)


def _is_secret_header(name: str) -> bool:
    return name.lower() in _SECRET_HEADERS or looks_secret(name)


class Redactor:
    """Takes secrets out of text.

    Args:
        known: Name -> value of secrets that are known (see `known_secrets`); values under six characters
            are ignored, they would blot out ordinary words.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        known = known or {}
        forms: dict[str, str] = {}
        for name, value in known.items():
            for form in forms_of(value):
                forms.setdefault(form, placeholder(name))
        # The longest first: a secret may be a part of another one.
        self._forms = sorted(forms.items(), key=lambda each: -len(each[0]))
        self._own = {placeholder(name) for name in known}
        # A password that is an ordinary word is looked for as a word only.
        self._words = {
            value: re.compile(rf"(?<![A-Za-z]){value}(?![A-Za-z])")
            for value in known.values()
            if value.isascii() and value.isalpha() and len(value) <= _LONGEST_WORD
        }

    def text(self, text: str) -> str:
        """Return a text without secrets and without unseen characters; its lines stay its lines."""
        marks = Marks()
        text = ANY.sub("", clean(text))
        if "«secret:" in text:
            text = PLACEHOLDER.sub(functools.partial(self._hide_placeholder, marks), text)
        text = self._without_known(text, marks)
        if len(text) > MAX_LINE:
            text = "\n".join(line if len(line) <= MAX_LINE else line[:MAX_LINE] + CUT for line in text.split("\n"))
        lower = text.lower()
        for rule in RULES:
            if rule.may_match(text, lower):
                text = rule.pattern.sub(functools.partial(mask, rule, marks), text)
        return marks.show(text)

    def lines(self, lines: Sequence[str]) -> list[str]:
        """Redact lines that follow each other: also a secret that goes over the end of a line.

        Returns:
            As many lines as came in; what belongs to a secret of several lines becomes empty.
        """
        if not lines:
            return []
        return self.text("\n".join(" ".join(clean(line).split("\n")) for line in lines)).split("\n")

    def request(self, request: Request) -> Request:
        """Redact a request; headers that carry credentials lose their whole value."""
        headers = {
            clean(name)[:256]: placeholder(name.lower()) if _is_secret_header(name) else self.text(value)[:4096]
            for name, value in list(request.headers.items())[:100]
        }
        body = self.text(request.body)
        return msgspec.structs.replace(
            request,
            method=clean(request.method)[:32],
            path=self.text(request.path)[:4096],
            headers=headers,
            body=body[:MAX_LINE],
            truncated=request.truncated or len(body) > MAX_LINE,
        )

    def _hide_placeholder(self, marks: Marks, found: re.Match[str]) -> str:
        """A placeholder of an earlier pass stays as it is, unless it is a secret dressed up as one."""
        known = found[0] not in self._own and any(form in found[1] for form, _ in self._forms)
        return found[0] if known else marks.hide(found[0])

    def _without_known(self, text: str, marks: Marks) -> str:
        for form, mark in self._forms:
            if form in text:
                word, sign = self._words.get(form), marks.hide(mark)
                text = text.replace(form, sign) if word is None else word.sub(sign, text)
        return self._without_wrapped(text, marks) if self._forms and "\n" in text else text

    def _without_wrapped(self, text: str, marks: Marks) -> str:
        """Find known secrets that go over line ends: search a copy without line ends, blot out the original."""
        joined = _WRAP.sub("", text)
        hits = [
            (at, at + len(form), mark)
            for form, mark in self._forms
            if form not in self._words
            for at in _occurrences(joined, form)
        ]
        if not hits:
            return text
        places = _Places([found.span() for found in _WRAP.finditer(text)])
        for start, end, mark in sorted(_disjoint(hits), reverse=True):
            first, last = places.original(start), places.original(end - 1) + 1
            text = text[:first] + marks.hide(mark) + "\n" * text.count("\n", first, last) + text[last:]
        return text


class _Places:
    """Maps places in a text without line ends back to the text."""

    def __init__(self, breaks: Sequence[tuple[int, int]]) -> None:
        self._joined: list[int] = []
        self._removed: list[int] = []
        removed = 0
        for start, end in breaks:
            self._joined.append(start - removed)
            removed += end - start
            self._removed.append(removed)

    def original(self, place: int) -> int:
        index = bisect.bisect_right(self._joined, place)
        return place + (self._removed[index - 1] if index else 0)


def _occurrences(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _disjoint(hits: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    kept: list[tuple[int, int, str]] = []
    end = -1
    for hit in sorted(hits, key=lambda each: (each[0], -each[1])):
        if hit[0] >= end:
            kept.append(hit)
            end = hit[1]
    return kept
