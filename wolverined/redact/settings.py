# SPDX-License-Identifier: MIT
"""Reads files of the `NAME=value` sort (`.env`), and makes a version of one whose secrets are fakes.

A fake has its secret's shape: as long, letters where letters were, so that a program that only looks at
a key takes it. Names, comments, plain settings and hosts stay: a program must boot with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from wolverined.redact.known import looks_secret, plain, secrets_in
from wolverined.redact.rules import RULES

# Bounded: one quote that nobody closed must not cost the whole rest of the file at every line.
_SETTING = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,127})[ \t]*[=:][ \t]*"
    r"(?P<value>\"(?:\\.|[^\"\\]){0,8192}\"|'[^']{0,8192}'|`[^`]{0,8192}`|[^\r\n]*)",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"\s+#.*\Z")
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=_.~-]{24,}\Z")
_KEPT = re.compile(r"\\.|-----[A-Z0-9 ]+-----|[A-Za-z0-9]", re.DOTALL)
_HEX = re.compile(r"[0-9a-fA-F-]{8,}\Z")
_QUOTES = "\"'`"
_MOST = 10_000


class Setting(NamedTuple):
    """One assignment: its name, its value without quotes and comment, and where that stands in the text."""

    name: str
    value: str
    start: int
    end: int


def settings(text: str) -> Iterator[Setting]:
    """Every assignment of a text, values of several lines in quotes included."""
    for number, found in enumerate(_SETTING.finditer(text)):
        if number >= _MOST:
            return
        value, start = found["value"], found.start("value")
        if len(value) > 1 and value[0] in _QUOTES and value[-1] == value[0]:
            value, start = value[1:-1], start + 1
        else:
            value = _COMMENT.sub("", value).rstrip()
        yield Setting(found["name"], value, start, start + len(value))


def secrets_of_files(texts: Iterable[str], *, besides: Mapping[str, str]) -> dict[str, str]:
    """The secrets in texts of such files together with those of `besides`: name -> value, for a Redactor."""
    found = dict(besides)
    for text in texts:
        for setting in settings(text):
            for secret in _secrets(setting):
                # Also as a program has it that takes \n in quotes for a line end.
                for form in dict.fromkeys((secret, secret.replace("\\n", "\n"))):
                    known = found.get(setting.name, form) == form
                    found[setting.name if known else f"{setting.name}-{len(found)}"] = form
    return found


def with_fakes(text: str) -> str:
    """The text with a fake in place of each secret."""
    for setting in sorted(settings(text), key=lambda one: -one.start):
        value = setting.value
        if looks_secret(setting.name) and not plain(value):
            value = fake(value)
        for secret in sorted(_secrets(setting), key=len, reverse=True):
            value = value.replace(secret, fake(secret))
        text = text[: setting.start] + value + text[setting.end :]
    # What is a secret by its shape alone, also in a comment or in what is no assignment.
    for rule in RULES:
        if rule.name != "setting":
            text = rule.pattern.sub(_faked, text)
    return text


def fake(secret: str) -> str:
    """Something of the same shape that is no secret: the same for every secret of that shape."""
    small, big = ("a", "A") if _HEX.match(secret) else ("x", "X")

    def one(found: re.Match[str]) -> str:
        kept = found[0]
        if len(kept) > 1:
            return kept
        return "0" if kept.isdigit() else big if kept.isupper() else small

    return _KEPT.sub(one, secret)


def _secrets(setting: Setting) -> set[str]:
    found = set(secrets_in(setting.name, setting.value))
    if _RANDOM.match(setting.value):
        found.add(setting.value)
    return found


def _faked(found: re.Match[str]) -> str:
    group = found.lastgroup if found.lastgroup and found.lastgroup.startswith("secret") else 0
    start, end = (at - found.start() for at in found.span(group))
    return found[0][:start] + fake(found[group]) + found[0][end:]
