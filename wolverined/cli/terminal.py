# SPDX-License-Identifier: MIT
"""What a person sees: colours, ages, tables that fit the terminal, and nothing that a hostile line hides.

Everything here turns data into text; only `Terminal.say` and `Terminal.json` write. Text of applications is stripped
of control characters before it reaches a terminal: a log line must not be able to move the cursor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TextIO

GREEN, YELLOW, RED, CYAN, DIM, BOLD = "32", "33", "31", "36", "2", "1"

STATE_COLOURS = {
    "ready": GREEN,
    "degraded": YELLOW,
    "healing": CYAN,
    "starting": CYAN,
    "stopping": CYAN,
    "backoff": YELLOW,
    "crash-loop": RED,
    "failed": RED,
    "stopped": DIM,
    "unreachable": RED,
    "inactive": DIM,
    # incidents, repairs, backups, outcomes, severities
    "open": RED,
    "approval": YELLOW,
    "closed": DIM,
    "applied": CYAN,
    "probation": CYAN,
    "proving": CYAN,
    "verified": GREEN,
    "stable": GREEN,
    "proven": GREEN,
    "refuted": RED,
    "unprovable": YELLOW,
    "rolled_back": YELLOW,
    "unstable": YELLOW,
    "lost": YELLOW,
    "warn": YELLOW,
    "error": RED,
    "critical": RED,
}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_FLEXIBLE_MIN = 12
_KEEP_COLUMNS = 2
_COLUMN_MIN = 4


class Cell(NamedTuple):
    """A text of a table and its colour."""

    text: str
    colour: str = ""


class Column(NamedTuple):
    """A column: `flexible` ones are cut first, those with the highest `rank` are left out next."""

    title: str
    flexible: bool = False
    rank: int = 0
    right: bool = False


class Terminal:
    """Where output goes and what it can show.

    Args:
        out: Standard output.
        colour: Whether colours are wanted.
        unicode: Whether symbols beyond ASCII can be shown.
        width: Columns of the terminal; None when it is none, and nothing is cut.
    """

    def __init__(self, out: TextIO, *, colour: bool, unicode: bool, width: int | None) -> None:
        self._out = out
        self.colour = colour
        self.unicode = unicode
        self.width = width

    @classmethod
    def of_process(cls, when: str = "auto") -> Terminal:
        """The terminal of this process; `when` is the `--color` option."""
        out = sys.stdout
        if hasattr(out, "reconfigure"):
            out.reconfigure(errors="replace")  # an odd name must never end a command
        tty = out.isatty()
        return cls(
            out,
            colour=wants_colour(when, tty=tty),
            unicode=speaks_unicode(original_environment()),
            width=_width() if tty else None,
        )

    def say(self, text: str = "") -> None:
        """Print lines of text."""
        self._out.write(text + "\n")

    def json(self, value: Any, *, line: bool = False) -> None:
        """Print JSON: indented for a person's eyes, one line for programs and streams."""
        import json

        indent = None if line or self.width is None else 2
        separators = (",", ":") if indent is None else None
        self._out.write(json.dumps(value, indent=indent, separators=separators, ensure_ascii=not self.unicode) + "\n")

    def flush(self) -> None:
        """Let a follower see what there is."""
        self._out.flush()

    def paint(self, text: str, *colours: str) -> str:
        """`text` in colour, where colours are wanted."""
        wanted = ";".join(colour for colour in colours if colour)
        return f"\033[{wanted}m{text}\033[0m" if self.colour and wanted else text

    def state(self, word: str) -> str:
        """A state with its mark, in its colour."""
        return self.paint(f"{self.mark(word)} {word}", STATE_COLOURS.get(word, ""))

    def mark(self, state: str) -> str:
        """The dot before a state: filled when something runs."""
        off = state in {"stopped", "failed", "unreachable", "crash-loop", "backoff", "inactive", "access-denied"}
        return ("○" if off else "●") if self.unicode else ("-" if off else "*")

    def tick(self, *, good: bool) -> str:
        """A check that passed, or did not."""
        symbol = ("✓" if good else "✗") if self.unicode else ("ok" if good else "no")
        return self.paint(symbol, GREEN if good else RED)

    @property
    def arrow(self) -> str:
        """From here to there."""
        return "→" if self.unicode else "->"

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]]) -> None:
        """Print an aligned table that fits the width."""
        for line in self.table_lines(columns, rows):
            self.say(line)

    def table_lines(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]]) -> list[str]:
        """The lines of a table: see `table`."""
        cells = [[_cell(value) for value in row] for row in rows]
        kept, widths = fit(columns, cells, self.width)
        head = [Cell(columns[index].title, BOLD) for index in kept]
        lines = [self._row(columns, kept, widths, head)]
        lines += [self._row(columns, kept, widths, [row[index] for index in kept]) for row in cells]
        return lines

    def fields(self, pairs: Sequence[tuple[str, str]], *, indent: str = "  ") -> None:
        """Print names and values in two columns."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.say(f"{indent}{self.paint(name.ljust(width), DIM)}  {value}".rstrip())

    def shorten(self, text: str, width: int) -> str:
        """`text` in at most `width` columns."""
        if columns_of(text) <= width:
            return text
        dots = "…" if self.unicode else "..."
        while text and columns_of(text) > width - len(dots):
            text = text[:-1]
        return text + dots

    def _row(self, columns: Sequence[Column], kept: Sequence[int], widths: Sequence[int], cells: Sequence[Cell]) -> str:
        parts = []
        for position, (index, width, cell) in enumerate(zip(kept, widths, cells, strict=True)):
            text = self.shorten(clean(cell.text), width)
            gap = " " * (width - columns_of(text))
            painted = self.paint(text, cell.colour)
            last = position == len(kept) - 1
            parts.append(gap + painted if columns[index].right else painted + ("" if last else gap))
        return "  ".join(parts).rstrip()


def fit(columns: Sequence[Column], cells: Sequence[Sequence[Cell]], width: int | None) -> tuple[list[int], list[int]]:
    """Which columns stay, and how wide each of them is."""
    kept = list(range(len(columns)))
    natural = [
        max([len(column.title), *(columns_of(clean(row[index].text)) for row in cells)])
        for index, column in enumerate(columns)
    ]
    while True:
        widths = [natural[index] for index in kept]
        if width is None:
            return kept, widths
        excess = sum(widths) + 2 * (len(kept) - 1) - width
        for position, index in enumerate(kept):
            if excess > 0 and columns[index].flexible:
                cut = min(excess, max(0, widths[position] - _FLEXIBLE_MIN))
                widths[position] -= cut
                excess -= cut
        if excess <= 0:
            return kept, widths
        if len(kept) <= _KEEP_COLUMNS:
            for position in reversed(range(len(kept))):
                cut = min(excess, max(0, widths[position] - _COLUMN_MIN))
                widths[position] -= cut
                excess -= cut
            return kept, widths
        kept.remove(max(kept, key=lambda index: (columns[index].rank, index)))


def wants_colour(when: str, *, tty: bool) -> bool:
    """Whether `--color`, NO_COLOR and the terminal ask for colours."""
    if when != "auto":
        return when == "always"
    return tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def speaks_unicode(environment: Mapping[str, str]) -> bool:
    """Whether the locale can show more than ASCII."""
    locale = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    return locale.replace("-", "").lower().endswith("utf8")


def original_environment() -> dict[str, str]:
    """The environment as it was given.

    In the C locale Python sets LC_CTYPE to C.UTF-8 for itself (PEP 538); what the terminal can show is
    what the caller had said.
    """
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123  (pathlib is not imported here)
            pairs = file.read().split(b"\0")
    except OSError:
        return dict(os.environ)
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


def columns_of(text: str) -> int:
    """How many columns `text` takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def clean(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\t\n" else "" for char in _without_codes(text))


def duration(seconds: float) -> str:
    """A span in the two largest fitting units: `3 min 12 s`."""
    whole = int(seconds)
    if whole < 1:
        return "0 s" if seconds <= 0 else f"{seconds * 1000:.0f} ms"
    for size, name, small, small_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def until(at: float, now: float) -> str:
    """How long it is until a wall-clock time."""
    return duration(max(0, round(at - now)))


def ago(at: float | None, now: float) -> str:
    """How long ago a wall-clock time is, roughly: `3 min ago`."""
    if not at:
        return "never"
    passed = now - at
    if passed < 1:
        return "just now"
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if passed >= size:
            return f"{int(passed // size)} {name} ago"
    return f"{int(passed)} s ago"


def size(count: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"  # noqa: PLR2004
        count /= 1024
    return f"{count:.1f} TiB"


def money(cost: float | None) -> str:
    """US dollars; `?` when the price of the model is unknown."""
    return "?" if cost is None else f"${cost:.4f}" if 0 < cost < 0.01 else f"${cost:.2f}"  # noqa: PLR2004


def _cell(value: Cell | str) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)


def _without_codes(text: str) -> str:
    if "\033" not in text and "\x9b" not in text:
        return text
    import re

    # CSI and OSC sequences whole, so that no "[31m" or title text is left standing.
    return re.sub(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?", "", text)


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80
