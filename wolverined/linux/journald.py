# SPDX-License-Identifier: MIT
"""How many entries journald takes from one unit before it drops the rest (journald.conf(5)).

Read once, at start, as journald reads it: journald.conf, then the drop-ins by name, then what our own unit
says (LogRateLimit...= of systemd.exec(5), which the manager leaves as links under /run/systemd/units).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wolverined.linux import proc

_MAIN = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd")
"""Where journald.conf and journald.conf.d are looked for; what comes first hides a file of the same name."""

_UNIT = re.compile(r"[^/]+\.(?:service|scope)(?=/|$)")
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµμ]*)")
_MOST_READ = 65_536
_UNITS_S = {
    **dict.fromkeys(("usec", "us", "µs", "μs"), 1e-6),
    **dict.fromkeys(("msec", "ms"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    **dict.fromkeys(("M", "month", "months"), 2629800.0),
    **dict.fromkeys(("y", "year", "years"), 31557600.0),
}


class RateLimit(msgspec.Struct, frozen=True):
    """At most `burst` entries of one unit in `interval_s`; either is 0 where journald limits nothing.

    journald multiplies the burst where its disk has room (by up to 6); this is what always holds.
    """

    interval_s: float = 30.0
    burst: int = 10_000

    @property
    def unlimited(self) -> bool:
        """Whether journald takes everything."""
        return self.interval_s <= 0 or self.burst <= 0


def own_unit(cgroup: str | None = None) -> str:
    """The unit that journald counts our entries for; empty outside of any.

    Args:
        cgroup: The text of /proc/self/cgroup; None: read it.
    """
    text = cgroup if cgroup is not None else proc.read("/proc/self/cgroup") or ""
    path = next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")
    found = _UNIT.findall(path)
    return str(found[-1]) if found else ""


def rate_limit(unit: str, *, root: Path = Path("/")) -> RateLimit:
    """What holds for a unit; journald's own defaults where nothing is written or readable."""
    said: dict[str, str] = {}
    for path in _files(root):
        said |= _assignments(path)
    interval_s = _seconds(said.get("RateLimitIntervalSec", said.get("RateLimitInterval", "")))
    burst = _count(said.get("RateLimitBurst", ""))
    own_usec = _count(_link(root, f"log-rate-limit-interval:{unit}")) if unit else None
    own_burst = _count(_link(root, f"log-rate-limit-burst:{unit}")) if unit else None
    default = RateLimit()
    if interval_s is None:
        interval_s = default.interval_s
    if burst is None:
        burst = default.burst
    return RateLimit(
        interval_s=interval_s if own_usec is None else own_usec / 1e6,
        burst=burst if own_burst is None else own_burst,
    )


def _files(root: Path) -> Iterator[Path]:
    """The configuration's files in the order in which they are read: the last word counts."""
    mains = (root / place / "journald.conf" for place in _MAIN)
    yield from [path for path in mains if path.is_file()][:1]
    drop_ins: dict[str, Path] = {}
    for place in reversed(_MAIN):
        directory = root / place / "journald.conf.d"
        try:
            found = sorted(path for path in directory.iterdir() if path.suffix == ".conf")
        except OSError:
            continue  # there is none, or it is not for us to read
        drop_ins |= {path.name: path for path in found}
    yield from (drop_ins[name] for name in sorted(drop_ins))


def _assignments(path: Path) -> dict[str, str]:
    """The keys of the section [Journal]; nothing where the file cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_READ).decode("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == "[Journal]" and stripped[:1] not in {"#", ";"} and "=" in stripped:
            key, _, value = stripped.partition("=")
            found[key.strip()] = value.strip()
    return found


def _link(root: Path, name: str) -> str:
    try:
        return os.readlink(root / "run/systemd/units" / name)  # noqa: PTH115  a word, not a path
    except OSError:
        return ""


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None  # noqa: PLR2004  64 bits


def _seconds(text: str) -> float | None:
    """A time span of systemd.time(7); None for what is none."""
    if text == "infinity":
        return math.inf
    total, position = 0.0, 0
    for found in _SPAN.finditer(text):
        if found.start() != position or found[2] not in _UNITS_S:
            return None
        total += float(found[1]) * _UNITS_S[found[2]]
        position = found.end()
    return total if position and position == len(text) else None
