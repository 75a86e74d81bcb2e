# SPDX-License-Identifier: MIT
"""Makes raw output readable for the parsers: bounded, without colours, one stream a printer.

Several workers may write into one pipe, and loggers put a timestamp, a level or a worker's name before
each line. `streams` takes these prefixes off and sorts the lines by who printed them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from wolverined.redact import clean

MAX_CHARS = 1 << 20
MAX_LINES = 20_000
MAX_LINE = 4096

_TIME = (
    r"(?:\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d:\d\d)?(?:[.,]\d{1,9})?(?: ?(?:Z|[+-]\d\d:?\d\d))?"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)"
)
_TOKEN = (
    rf"(?:{_TIME}(?=[\s|\[]|$)"
    # "[worker 3]", "[2026-01-01 10:00:00]", "[1234]"; never "[cause]: …", "[TypeError: …] {" or an array
    r"|\[(?![^\]]{0,64}(?:Error|Exception|Rejection))[\w .:#/@+,-]{1,64}\](?=[\s\[]|$)"
    r"|(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)(?:(?=\s)|:(?=\s))"
    r"|(?:debug|info|warn|warning|error|fatal):(?=\s)"
    r"|(?:\d{1,6}\|)?[\w.-]{1,48}[ ]{1,24}\|(?=\s|$)"  # "web_1  | ", "0|app  | "
    r"|[\w.-]{1,64} [\w./@-]{1,64}\[\d{1,9}\]:(?=\s))"  # "host program[123]:"
)
_PREFIX = re.compile(rf"{_TOKEN}(?:[ \t]{{0,8}}{_TOKEN}){{0,5}}[ \t]?")
_TIMES = re.compile(_TIME)


class Stream(msgspec.Struct, frozen=True):
    """The lines of one printer, prefixes taken off; `numbers` are their places in the whole output."""

    lines: list[str]
    numbers: Sequence[int]


def newest(output: Sequence[str] | str) -> list[str]:
    """Return the newest lines of an output, cleaned and bounded.

    Args:
        output: The text, or its lines (an entry that holds line breaks counts as several lines).

    Returns:
        At most 20,000 lines and 1 MiB, each at most 4,096 characters.
    """
    if not isinstance(output, str):
        output = "\n".join(output[-MAX_LINES:])
    cut = len(output) > MAX_CHARS
    lines = clean(output[-MAX_CHARS:]).split("\n")
    if cut:
        del lines[0]  # half a line
    if len(lines) > MAX_LINES:
        del lines[:-MAX_LINES]
    return [line if len(line) <= MAX_LINE else line[:MAX_LINE] for line in lines]


def streams(lines: list[str]) -> list[Stream]:
    """Sort lines by the prefix that their printer puts before them.

    A line with a prefix whose next line has none belongs to the lines without prefix: that is how a
    logger prints a text of several lines.
    """
    match = _PREFIX.match
    ends = [0 if not line or line[0] in " \t" else (found.end() if (found := match(line)) else 0) for line in lines]
    if not any(ends):
        return [Stream(lines, range(len(lines)))]
    keys: dict[str, str] = {}
    sorted_lines: dict[str, tuple[list[str], list[int]]] = {}
    last = len(lines) - 1
    for number, (line, end) in enumerate(zip(lines, ends, strict=True)):
        key = ""
        if end and not (number < last and not ends[number + 1] and lines[number + 1]):
            prefix = line[:end]
            found_key = keys.get(prefix)
            key = keys[prefix] = _TIMES.sub("", prefix).strip() if found_key is None else found_key
        texts, numbers = sorted_lines.setdefault(key, ([], []))
        texts.append(line[end:])
        numbers.append(number)
    return [Stream(texts, numbers) for texts, numbers in sorted_lines.values()]
