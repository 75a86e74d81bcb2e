# SPDX-License-Identifier: MIT
"""A model's answer in mode `fast` (DESIGN 7.7) -> its parts. Text is data here; nothing is guessed.

Prose and code fences around a block are ignored. What could be read in two ways is refused.
"""

from __future__ import annotations

import re

import msgspec

from wolverined.errors import EditRejected
from wolverined.model import Edit

MAX_REPLY = 256 * 1024
MAX_EDITS = 50
_PATH_LENGTH = 1024

_SEARCH = "<<<<<<< SEARCH"
_DIVIDER = "======="
_REPLACE = ">>>>>>> REPLACE"
_MARK = re.compile(r"[\s>*#-]*(ROOT|CONFIDENCE|NEEDS_HUMAN)\s*:[\s*]*(.*)")
_FENCE = re.compile(r"\s*(```|~~~)[\w+#.-]*\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said. With `needs_human` there are no edits; without it there is at least one.

    `confidence` is the model's own word, 0 when it gave none that makes sense.
    """

    root: str = ""
    edits: tuple[Edit, ...] = ()
    confidence: float = 0.0
    needs_human: str = ""


def parse_reply(text: str) -> Reply:
    """Read an answer.

    Raises:
        EditRejected: It holds no block, a block that is cut or ambiguous, or is far too long.
    """
    if len(text) > MAX_REPLY:
        raise EditRejected(f"the answer has {len(text)} characters, more than {MAX_REPLY}")
    if "\0" in text:
        raise EditRejected("the answer holds a NUL character")
    # Only \n ends a line: splitlines() would also cut at form feeds and U+2028 inside source text.
    lines = text.replace("\r\n", "\n").split("\n")
    prose, edits = _blocks(lines)
    said = _marks(prose)
    needs_human = said.get("NEEDS_HUMAN", "")
    if needs_human or ("NEEDS_HUMAN" in said and not edits):
        return Reply(root=said.get("ROOT", ""), needs_human=needs_human or "no reason given")
    if not edits:
        raise EditRejected(
            "the answer holds no edit block",
            hint=f"a block is the path alone on a line, then {_SEARCH}, the old text, {_DIVIDER}, "
            f"the new text, {_REPLACE}; or one line NEEDS_HUMAN: why",
        )
    return Reply(root=said.get("ROOT", ""), edits=tuple(edits), confidence=_confidence(said.get("CONFIDENCE", "")))


def _blocks(lines: list[str]) -> tuple[list[str], list[Edit]]:
    """Split into the lines outside of blocks and the blocks."""
    prose: list[str] = []
    edits: list[Edit] = []
    at = 0
    # A block right after another one may leave out the path: there is only one that it can mean.
    follows = False
    while at < len(lines):
        line = lines[at].rstrip()
        if line == _SEARCH:
            path = _path(prose, edits[-1].path if follows else "")
            edit, at = _block(lines, at + 1, path)
            edits.append(edit)
            follows = True
            if len(edits) > MAX_EDITS:
                raise EditRejected(f"the answer holds more than {MAX_EDITS} edits")
            continue
        if line == _REPLACE or line.lstrip() == _SEARCH:
            raise EditRejected(f"the marker {line.strip()!r} stands where none belongs", hint="markers start a line")
        if line and not _FENCE.fullmatch(line):
            prose.append(line)
            follows = False
        at += 1
    return prose, edits


def _block(lines: list[str], at: int, path: str) -> tuple[Edit, int]:
    """Read one block from behind its first marker; the edit and where the text goes on."""
    sides: list[list[str]] = [[]]
    while at < len(lines):
        line = lines[at]
        bare = line.rstrip()
        at += 1
        if bare == _REPLACE:
            if len(sides) != 2:  # noqa: PLR2004 - a block has two sides
                raise EditRejected(
                    f"the block for {path} holds {len(sides) - 1} lines {_DIVIDER!r}, not one",
                    hint="quote other lines around the change",
                )
            search, replace = ("".join(f"{line}\n" for line in side) for side in sides)
            return Edit(path=path, search=search, replace=replace), at
        if bare == _SEARCH:
            break
        if bare == _DIVIDER:
            sides.append([])
        else:
            sides[-1].append(line)
    raise EditRejected(f"the block for {path} has no end", hint=f"a block ends with {_REPLACE}")


def _path(prose: list[str], inherited: str) -> str:
    if inherited:
        return inherited
    path = prose[-1].strip() if prose else ""
    # A model likes to decorate the path: `path`, **path**, ### path, path:
    path = path.lstrip("#").strip().removesuffix(":").strip("*").strip("`").removesuffix(":").strip()
    if not path or len(path) > _PATH_LENGTH or any(ord(char) < ord(" ") for char in path) or _MARK.match(path):
        raise EditRejected("a block has no path before it", hint="the path stands alone on the line before the block")
    return path


def _marks(prose: list[str]) -> dict[str, str]:
    """The marked lines; the first of each kind counts."""
    said: dict[str, str] = {}
    for line in prose:
        if match := _MARK.match(line):
            said.setdefault(match[1], match[2].strip(" *"))
    return said


def _confidence(text: str) -> float:
    match = _NUMBER.match(text)
    value = float(match[0]) if match and len(match[0]) < 20 else 0.0  # noqa: PLR2004 - no float needs more digits
    return value if value <= 1.0 else 0.0
