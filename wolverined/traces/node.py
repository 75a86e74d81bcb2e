# SPDX-License-Identifier: MIT
"""Reads what Node.js (V8) prints of an error: the uncaught header, stacks, causes, properties in braces."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from wolverined.model import Frame
from wolverined.traces.found import MAX_LINKS, MAX_NOTES, Found, Link, finish
from wolverined.traces.owner import Owner

_HEADER = re.compile(
    r"((?:/|file:///|node:|<anonymous|evalmachine|\[eval|\[stdin|undefined|[\w.-]+/|[\w-]+\.[cm]?[jt]s).*):(\d{1,9})$"
)
_CARET = re.compile(r"\s*\^+\s*$")
_HEAD = re.compile(
    r"\[?(?:Uncaught |Unhandled rejection |\(in promise\) )*"
    r"([A-Za-z_$][\w$.]*)(?: \[([A-Z][A-Z0-9_]*)\])?(?:: (.*)|:?)$"
)
_ERRORLIKE = re.compile(
    r"(?:^|[\s(:\[\"'])((?:[A-Za-z_$][\w$]*\.)?(?:[A-Z][\w$]*)?(?:Error|Exception|Rejection|Warning))"
    r"(?: \[([A-Z][A-Z0-9_]*)\])?(?:: (.*)|:?\s*\{?)$"
)
_EVAL = re.compile(r"\(((?:file://)?/[^()]{1,4096}):(\d{1,9}):(\d{1,9})\)")
_CODE = re.compile(r"code: ['\"]([A-Z][A-Z0-9_]{1,64})['\"],?$")
_LOOK_BACK = 25
_PROPERTIES_MAX = 400
_BLANK = (" ", "\t")
_NO_PLACE = ("<anonymous>", "native")


def header(lines: Sequence[str], at: int) -> bool:
    """Whether `lines[at]` is the place that Node prints above an uncaught error, its source and a caret."""
    return _HEADER.match(lines[at]) is not None and _below_header(lines, at) is not None


def _below_header(lines: Sequence[str], at: int) -> int | None:
    """The line below a header's source and caret. At the end of a file there is nothing to point at."""
    for place in range(at + 2, min(at + 4, len(lines))):
        if _CARET.match(lines[place]):
            return place + 1
    for place in range(at + 2, min(at + 6, len(lines))):
        if lines[place].startswith("SyntaxError: ") and not "".join(lines[at + 2 : place]).strip():
            return place
    return None


def frame(line: str, owner: Owner) -> Frame | None:
    """Read one `at …` line; None when it is none."""
    text = line.strip()
    if not text.startswith("at "):
        return None
    text = text[3:].rstrip(",{ ]")
    text = text.removeprefix("async ")
    function, place = "", text
    if text.endswith(")") and (split := text.find(" (")) > 0:
        function, place = text[:split], text[split + 2 : -1]
    function = function.partition(" [as ")[0]
    if place.startswith("eval at "):
        # Code of `eval` has no file of its own: the file is where it was evaluated.
        found = _EVAL.search(place)
        return owner.frame(found[1], int(found[2]), function=function, column=int(found[3])) if found else None
    if place in _NO_PLACE:
        return Frame(path=place, line=0, function=function)
    rest, _, column = place.rpartition(":")
    path, _, number = rest.rpartition(":")
    if not path or not (_is_number(number) and _is_number(column)):
        return None
    return owner.frame(path, int(number), function=function, column=int(column))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9  # noqa: PLR2004 - as the other numbers here


def read(lines: Sequence[str], at: int, owner: Owner, *, floor: int) -> Found:
    """Read the error to which the frame or header at `lines[at]` belongs.

    Args:
        lines: The lines of one stream.
        at: A header (see `header`) or a line that `frame` reads.
        owner: Judges paths.
        floor: The first line that no earlier trace has taken.
    """
    place = _HEADER.match(lines[at])
    if place and (below := _below_header(lines, at)) is not None:
        caret = lines[below - 1]
        column = _indent(caret) + 1 if caret.strip() else None
        shown = owner.frame(place[1], int(place[2]), column=column, source=lines[at + 1].strip())
        head = _skip_blank(lines, below)
        return _read(lines, at, owner, head=head, first=_first_frame(lines, head, owner), place=shown)
    above = _head_above(lines, at, floor)
    return _read(lines, at if above is None else above, owner, head=above, first=at)


def _skip_blank(lines: Sequence[str], at: int) -> int:
    while at < len(lines) and not lines[at].strip():
        at += 1
    return at


def _first_frame(lines: Sequence[str], head: int, owner: Owner) -> int | None:
    """Find the first frame below a head; the lines between are the rest of its message."""
    if head < len(lines) and lines[head].endswith("] {"):
        return None  # no frames of its own: those that follow are of its members
    for at in range(head + 1, min(head + _LOOK_BACK, len(lines))):
        line = lines[at]
        if line.startswith("Node.js v") or header(lines, at):
            return None
        if line[:1] in _BLANK and frame(line, owner):
            return at
    return None


def _head_above(lines: Sequence[str], at: int, floor: int) -> int | None:
    """Find the line that names the error to which the frame at `at` belongs."""
    lowest = max(floor, at - _LOOK_BACK)
    for place in range(at - 1, lowest - 1, -1):
        line = lines[place]
        if line.startswith("Node.js v"):
            break
        if _ERRORLIKE.search(line):
            return place
    # An error class of any name: only right above its frames, where nothing else can stand.
    above = at - 1
    return above if above >= lowest and _HEAD.match(lines[above].strip()) else None


def _read(
    lines: Sequence[str], start: int, owner: Owner, *, head: int | None, first: int | None, place: Frame | None = None
) -> Found:
    """Read an error whose head and first frame are found (either may be missing)."""
    main, below, margin = Link(""), first, 0
    if head is not None and head < len(lines):
        main, margin = _link(lines[head]), _indent(lines[head])
        if first is None and not _ERRORLIKE.search(lines[head].replace("]", "")):
            main = Link("Uncaught", lines[head].strip())  # `throw "text"`
        below = _end_of_value(lines, head) if below is None else below
        main.notes = [line for line in lines[head + 1 : below] if line.strip()]
    below = len(lines) if below is None else below
    stack = _Stack(main, owner, margin)
    if lines[below - 1].endswith("] {"):
        stack.open_braces()  # an error without frames, with properties
    while below < len(lines) and stack.take(lines[below]):
        below += 1
    if place is not None:
        main.frames = _placed(main, place)
    partial = not (stack.complete and main.type)
    return finish("node", stack.chain(), lines, start, below, partial=partial)


def _placed(main: Link, place: Frame) -> list[Frame]:
    """Add what the header knows: the source line, and for a syntax error the place itself."""
    if not main.frames or (main.type == "SyntaxError" and place.own):
        return [place, *main.frames]
    same = (place.path, place.line)
    return [
        msgspec.structs.replace(each, source=place.source) if (each.path, each.line) == same else each
        for each in main.frames
    ]


def _end_of_value(lines: Sequence[str], head: int) -> int:
    """No frames follow; what was thrown may be printed over several lines, until a blank one."""
    at = end = head + 1
    if lines[head].endswith("] {"):
        return at
    while end < len(lines) and end - at < MAX_NOTES and lines[end].strip() and not lines[end].startswith("(Use `node"):
        end += 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _link(text: str) -> Link:
    """Read the line that names an error, such as `TypeError [ERR_X]: what is wrong`."""
    text = text.strip().removesuffix(" {")
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    found = _HEAD.match(text)
    if found is None or not found[1][:1].isupper():
        # Words of a logger before the error: "2026-01-01 failed: TypeError: …"
        found = _ERRORLIKE.search(text) or found
    if found and found[1].endswith("Warning"):
        found = _ERRORLIKE.match(found[3] or "") or found  # Node 14 and older warned before it died
    if found is None:
        return Link("Uncaught", text)
    return Link(found[1], found[3] or "", code=found[2] or "")


class _Stack:
    """The frames and properties below an error's head, line by line."""

    def __init__(self, main: Link, owner: Owner, margin: int) -> None:
        self.complete = True
        self._main = self._now = main
        self._causes: list[Link] = []
        self._members: list[Link] = []
        self._owner = owner
        self._margin = margin
        self._properties_left = 0
        self._in_list = False

    def open_braces(self) -> None:
        """The properties of the error follow, up to a closing brace at the margin."""
        self.complete = False
        self._properties_left = self._properties_left or _PROPERTIES_MAX

    def take(self, line: str) -> bool:
        """Read one line; False when it is the first that does not belong to the error."""
        text = line.strip()
        if text.startswith("at "):
            if found := frame(line, self._owner):
                self._now.frames.append(found)
        elif self._properties_left:
            return self._property(line, text)
        elif not (text.startswith(("... ", "Emitted '")) and text.endswith((" ...", " at:", " ... {"))):
            return False
        if text.endswith(" {"):
            self.open_braces()
        return True

    def _property(self, line: str, text: str) -> bool:
        self._properties_left -= 1
        if text == "}" and _indent(line) <= self._margin:
            self._properties_left = 0
            self.complete = True
        elif text.startswith("[cause]: "):
            self._open(text[9:], self._causes)
        elif text == "[errors]: [":
            self._in_list = True
        elif self._in_list and _ERRORLIKE.match(text):
            self._open(text, self._members)
        elif (found := _CODE.match(text)) and not self._now.code:
            self._now.code = found[1]
        return self._properties_left >= 0

    def _open(self, text: str, among: list[Link]) -> None:
        if len(among) < MAX_LINKS // 2:
            self._now = _link(text.rstrip(","))
            among.append(self._now)

    def chain(self) -> list[Link]:
        """The root cause first: Node prints the outermost first and its causes below."""
        return [*self._members, *reversed(self._causes), self._main]
