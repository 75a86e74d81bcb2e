# SPDX-License-Identifier: MIT
"""A source file as lines that remember their endings, so that what no edit touches stays byte for byte."""

from __future__ import annotations

import msgspec

from wolverined.errors import EditRejected

_BOM = "\ufeff"


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Lines without their endings, each line's own ending ("" only for the last), and whether a BOM leads."""

    lines: tuple[str, ...]
    ends: tuple[str, ...]
    bom: bool = False


def read(data: bytes, *, path: str) -> Text:
    """Decode a file.

    Raises:
        EditRejected: It is binary or not UTF-8.
    """
    if b"\0" in data:
        raise EditRejected(f"{path} is binary")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise EditRejected(f"{path} is not UTF-8 text") from None
    bom = whole.startswith(_BOM)
    parts = whole.removeprefix(_BOM).split("\n")
    last = parts.pop()
    lines = [part.removesuffix("\r") for part in parts]
    ends = ["\r\n" if part.endswith("\r") else "\n" for part in parts]
    if last:
        lines.append(last)
        ends.append("")
    return Text(lines=tuple(lines), ends=tuple(ends), bom=bom)


def compose(old: Text, new: list[int | str]) -> bytes:
    """Bytes of the edited file: an int keeps that old line, a str is a new one.

    New lines take the ending of the old line before them; the file ends with a newline, or without, as before.
    """
    pieces: list[tuple[str, str]] = []
    ending = next((end for end in old.ends if end), "\n")
    for item in new:
        if isinstance(item, int):
            ending = old.ends[item] or ending
            pieces.append((old.lines[item], ending))
        else:
            pieces.append((item, ending))
    if pieces and old.ends and not old.ends[-1]:
        pieces[-1] = (pieces[-1][0], "")
    return ((_BOM if old.bom else "") + "".join(line + end for line, end in pieces)).encode()


def split(text: str) -> tuple[str, ...]:
    """Lines of a side of an edit; a final newline ends the last line, it does not begin another."""
    text = text.replace("\r\n", "\n").removeprefix(_BOM)
    if not text:
        return ()
    return tuple(text.removesuffix("\n").split("\n"))
