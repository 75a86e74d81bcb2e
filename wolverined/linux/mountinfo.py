# SPDX-License-Identifier: MIT
"""The mounts that this process sees, out of /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re

import msgspec

from wolverined.linux import proc

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount: which directory of its file system (`root`) is seen where (`point`)."""

    root: str
    point: str
    kind: str
    readonly: bool


def mounts(text: str | None = None) -> list[Mount]:
    """Every mount, the one made last at the end; of `text` in place of our own."""
    lines = (proc.read("/proc/self/mountinfo") or "" if text is None else text).splitlines()
    return [mount for line in lines if (mount := _parsed(line)) is not None]


def _parsed(line: str) -> Mount | None:
    head, dash, tail = line.partition(" - ")
    fields, kind = head.split(" "), tail.split(" ")[0]
    if not dash or len(fields) < 6:  # noqa: PLR2004  six fields stand before the optional ones
        return None
    options = fields[5].split(",")
    return Mount(root=_plain(fields[3]), point=_plain(fields[4]), kind=kind, readonly="ro" in options)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
