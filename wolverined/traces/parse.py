# SPDX-License-Identifier: MIT
"""Finds the stack traces in an application's output: one pass over the lines, each parser where its shape begins.

Reads no file; asks the file system only where the name of the application's directory leads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import msgspec

from wolverined.model import Trace
from wolverined.traces import generic, node, python
from wolverined.traces.found import Found
from wolverined.traces.lines import Stream, newest, streams
from wolverined.traces.owner import Owner

MAX_TRACES = 64
_NEWEST_LINES = 4000  # looked at first: output that is full of traces need not be read to its begin

# What a line must begin with to be worth a closer look. A header of Node ends in ":LINE".
_BEGIN = re.compile(r'(?P<frame>[ \t]+at )|(?P<file>[ \t|]*File ")|(?P<header>[^ \t\n].*:\d{1,9}$)')


class Located(msgspec.Struct, frozen=True):
    """A trace with where it stood.

    Attributes:
        trace: The trace.
        numbers: The places of its lines in the output.
        above: The line that its printer had printed before, as it stood in the output; -1: none.
    """

    trace: Trace
    numbers: tuple[int, ...]
    above: int


def located(lines: Sequence[str], *, app_root: str, aliases: Sequence[str] | None = None) -> list[Located]:
    """Find the stack traces in a few lines, oldest first, each with its place; only what a parser knows for sure.

    Args:
        lines: The output, one line an entry, none with a line break; only as many as may be read at once.
        app_root: As for `parse`.
        aliases: As for `parse`.
    """
    owner = _owner(app_root, aliases)
    texts = newest([" ".join(line.splitlines()) for line in lines])
    missing = len(lines) - len(texts)  # what was too much to be read
    found: list[Located] = []
    for stream in streams(texts):
        numbers = [number + missing for number in stream.numbers]
        for each in _scan(stream, owner):
            above = numbers[each.start - 1] if each.start else -1
            found.append(Located(each.trace, tuple(numbers[each.start : each.end]), above))
    found.sort(key=lambda each: each.numbers)
    return found


def parse(lines: Sequence[str] | str, *, app_root: str, aliases: Sequence[str] | None = None) -> list[Trace]:
    """Find the stack traces in output, newest last.

    Args:
        lines: The output as lines or as one text; only its newest MiB is read.
        app_root: The application's directory, absolute: files below it that are no dependency are own.
        aliases: Other absolute names of that directory; None: where it leads when it is a symbolic link
            (a directory `current`: Node prints the release's own path, Python what it was started with).

    Returns:
        At most 64 traces. A trace whose begin or end is missing is marked partial. When no parser knows
        any, at most one trace of language "generic".
    """
    owner = _owner(app_root, aliases)
    texts = newest(lines)
    found = _find(texts[-_NEWEST_LINES:], owner)
    if len(found) <= MAX_TRACES and len(texts) > _NEWEST_LINES:
        found = _find(texts, owner)
    if not found:
        last = generic.read(texts, owner)
        return [last.trace] if last else []
    return found[-MAX_TRACES:]


def _owner(app_root: str, aliases: Sequence[str] | None) -> Owner:
    if aliases is None:
        aliases = (os.path.realpath(app_root),) if app_root.startswith("/") else ()
    return Owner(app_root, aliases)


def _find(texts: list[str], owner: Owner) -> list[Trace]:
    found = [(stream.numbers[each.end - 1], each.trace) for stream in streams(texts) for each in _scan(stream, owner)]
    found.sort(key=lambda each: each[0])
    return [trace for _, trace in found]


def _scan(stream: Stream, owner: Owner) -> list[Found]:
    lines = stream.lines
    traces: list[Found] = []
    at = floor = 0
    begin = _BEGIN.match
    while at < len(lines):
        line = lines[at]
        found: Found | None = None
        if python.HEADER in line:
            found = python.read(lines, at, owner)
        elif match := begin(line):
            found = _look(lines, at, floor, match.lastgroup or "", owner)
        elif python.FATAL in line:
            found = python.read_fatal(lines, at, owner)
        if found is None:
            at += 1
            continue
        traces.append(found)
        at = floor = max(found.end, at + 1)
    return traces


def _look(lines: Sequence[str], at: int, floor: int, shape: str, owner: Owner) -> Found | None:
    """Look closer at a line that begins like a trace."""
    if shape == "file":
        # A traceback whose header is missing: a syntax error has none, and the oldest line kept may be inside one.
        return python.read(lines, at, owner) if python.begins(lines[at]) else None
    if shape == "frame":
        return node.read(lines, at, owner, floor=floor) if node.frame(lines[at], owner) else None
    return node.read(lines, at, owner, floor=floor) if node.header(lines, at) else None
