# SPDX-License-Identifier: MIT
"""The mounts that this process sees, out of /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from wolverined.linux import proc

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount: which directory (`root`) of which file system (`device`, major:minor) is seen where (`point`)."""

    device: str
    root: str
    point: str
    kind: str
    readonly: bool


def mounts(text: str | None = None) -> list[Mount]:
    """Every mount, the one made last at the end; of `text` in place of our own."""
    lines = (proc.read("/proc/self/mountinfo") or "" if text is None else text).splitlines()
    return [mount for line in lines if (mount := _parsed(line)) is not None]


def located(path: str, known: Sequence[Mount]) -> tuple[str, str]:
    """The file system that a path without links lies in, and its path there: what a bind of it would have (pure)."""
    holding = [mount for mount in known if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
    if not holding:
        return "", path
    longest = max(len(mount.point) for mount in holding)
    mount = next(mount for mount in reversed(holding) if len(mount.point) == longest)
    rest = path[len(mount.point.rstrip("/")) :]
    return mount.device, (mount.root.rstrip("/") + rest) or "/"


def _parsed(line: str) -> Mount | None:
    head, dash, tail = line.partition(" - ")
    fields, kind = head.split(" "), tail.split(" ")[0]
    if not dash or len(fields) < 6:  # noqa: PLR2004  six fields stand before the optional ones
        return None
    options = fields[5].split(",")
    return Mount(device=fields[2], root=_plain(fields[3]), point=_plain(fields[4]), kind=kind, readonly="ro" in options)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
