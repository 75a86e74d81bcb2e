# SPDX-License-Identifier: MIT
"""Gives the same trouble the same name: a hash of what stays equal when values, lines and machines change."""

from __future__ import annotations

import hashlib
import re

from wolverined.model import Exit, Frame, IncidentKind, Trace

_TOP = 3
_LONGEST = 400

# In this order: a quoted string may hold a path, a path may hold a number.
_VALUES = (
    (re.compile(r"«[^»]{0,80}»"), "<str>"),  # a redacted secret
    (re.compile(r"(?<![A-Za-z0-9])'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`"), "<str>"),
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>]+"), "<url>"),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"(?<![\w<>])(?:\.{1,2}|~)?/[^\s:<>()\[\],;]+"), "<path>"),
    (re.compile(r"\b(?:0x[0-9a-fA-F]+|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,})\b"), "<hex>"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)
_PACKAGES = re.compile(r".*/(?:site-packages|dist-packages|node_modules|lib/python[\d.]+)/")


def template(message: str) -> str:
    """Return a message without its values: quoted strings, numbers, hexadecimals, paths and URLs become marks."""
    text = message[:_LONGEST]
    for pattern, mark in _VALUES:
        text = pattern.sub(mark, text)
    return text.strip()


def fingerprint(kind: IncidentKind | str, trace: Trace | None, exit: Exit | None) -> str:  # noqa: A002 - the word of DESIGN 4
    """Name trouble by 16 hexadecimal digits that do not depend on the application's place, values or line numbers.

    Args:
        kind: What sort of trouble it is.
        trace: Where it came from: the chain of error types, messages without values, and the three topmost own
            functions with their files (any functions, when none is the application's own) are counted in.
        exit: How the application ended; counted in only when there is no trace.
    """
    parts = [str(kind)]
    if trace is not None:
        parts += [f"{error.type}: {template(error.message)}" for error in trace.errors]
        parts += [f"{frame.function} {_place(frame)}" for frame in _top(trace.frames)]
    elif exit is not None:
        parts.append(f"signal {exit.signal}" if exit.signal is not None else f"code {exit.code}")
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _top(frames: tuple[Frame, ...]) -> list[Frame]:
    own = [frame for frame in frames if frame.own]
    return (own or list(frames))[:_TOP]


def _place(frame: Frame) -> str:
    """The part of a path that is the same on every machine."""
    if frame.own:
        return frame.path
    inside = _PACKAGES.sub("", frame.path)
    return inside.rpartition("/")[2] if inside.startswith("/") else inside
