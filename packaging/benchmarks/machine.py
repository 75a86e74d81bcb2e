# SPDX-License-Identifier: MIT
"""The machine that a bench runs on, memory of processes, and tables for people."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

KIB_PER_MIB = 1024
BUSY = 0.5
"""A load per core above which figures are marked as taken on a busy machine."""


def load() -> float:
    """The load of the last minute."""
    return os.getloadavg()[0]


def described() -> str:
    """One line: cores, kernel, interpreter, user."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    who = "root" if os.geteuid() == 0 else "plain user"
    return (
        f"{os.cpu_count()} cores, {system}, kernel {platform.release()}, Python {platform.python_version()}, as {who}"
    )


def resident_mib(pids: Iterable[int]) -> float:
    """The resident memory of these processes together, shared pages counted in each (VmRSS of proc(5))."""
    return round(sum(_status_kib(pid, "VmRSS") for pid in pids) / KIB_PER_MIB, 1)


def _status_kib(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return 0


def median(values: Sequence[float], digits: int = 1) -> float | None:
    """The median, rounded; None of nothing."""
    return round(statistics.median(values), digits) if values else None


def table(columns: Sequence[str], rows: Mapping[str, Mapping[str, object]]) -> str:
    """A table in Markdown, which reads well in a terminal too."""
    cells = [["", *columns]]
    cells += [[name, *(_shown(row.get(column)) for column in columns)] for name, row in rows.items()]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns) + 1)]
    lines = [
        "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)
