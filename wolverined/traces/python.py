# SPDX-License-Identifier: MIT
"""Reads the tracebacks that CPython prints (3.9 to 3.14): chains, groups, notes, syntax errors, fatal errors."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

import msgspec

from wolverined.model import Frame
from wolverined.traces.found import Found, Link, finish
from wolverined.traces.owner import Owner

HEADER = "Traceback (most recent call last)"
FATAL = "Fatal Python error: "

_FILE = re.compile(r'(\s*)File "([^"]+)", line (\d{1,9})(?:,? in (.+))?$')
_NAME = r"[^\W\d]\w*"
_ERROR = re.compile(rf"({_NAME}(?:\.(?:{_NAME}|<locals>))*)(?:: ?(.*))?$")
_CARETS = re.compile(r"\s*[~^][~^ ]*$")
_MARGIN = re.compile(r"\s*\| ?")
_EDGE = re.compile(r"\s*\+[-+]+(?: [\d.]+ -+)?$")
_EDGE_MARK = "+"
_ERRNO = re.compile(r"\[Errno (\d{1,4})\] ")
# What surely starts a line of somebody else: a clock, a bracket, a level, JSON, an address.
_OTHER = re.compile(r"[\d\[{(]|[A-Z]{4,8}\b|[a-z]+:\s|Traceback |\s*File \"")
_CHAINS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_FOREIGN_MAX = 5
_NOTES_MAX = 20


class _Block(msgspec.Struct):
    link: Link
    end: int
    complete: bool


def read(lines: Sequence[str], start: int, owner: Owner) -> Found | None:
    """Read the traceback whose first line is `lines[start]`: a header, or a `File` line without one.

    None when nothing but the header is there.
    """
    links: list[Link] = []
    at = start
    complete = True
    while complete:
        group = "Exception Group " + HEADER in lines[at]
        if group:
            members, end, complete = _group(lines, at, owner)
            links += members
        else:
            block = _block(lines, at + (HEADER in lines[at]), _indent(lines[at]), owner)
            if not (block.complete or block.link.frames or links):
                return None
            links.append(block.link)
            end, complete = block.end, block.complete
        if not links:
            return None
        following = _follow(lines, end, links[-1]) if complete else None
        if following is None:
            return finish("python", links, lines, start, _notes(lines, end, links[-1], complete), partial=not complete)
        at = following
    raise AssertionError  # the loop returns


def read_fatal(lines: Sequence[str], start: int, owner: Owner) -> Found:
    """Read what faulthandler prints: `Fatal Python error: …`, then the stack, most recent call first."""
    message = lines[start].partition(FATAL)[2]
    frames: list[Frame] = []
    end = start + 1
    blanks = 0
    for line in lines[start + 1 :]:
        if found := _FILE.match(line):
            frames.append(owner.frame(found[2], int(found[3]), function=found[4] or ""))
        elif frames or "(most recent call first)" not in line:
            blanks += 1
            if frames or blanks > _FOREIGN_MAX:
                break
        end += 1
    return finish("python", [Link("Fatal Python error", message, frames=frames)], lines, start, end)


def begins(line: str) -> bool:
    """Whether a line is the `File` line of a frame."""
    return _FILE.match(line) is not None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block(lines: Sequence[str], at: int, margin: int, owner: Owner) -> _Block:
    """Read frames and the error's own line; `margin` is how far the block as a whole is indented."""
    frames: list[Frame] = []
    foreign = 0
    while at < len(lines):
        line = lines[at]
        if found := _FILE.match(line):
            margin = max(len(found[1]) - 2, 0)
            source, column, at = _source(lines, at + 1, margin + 4)
            column = column if found[4] is None else None
            frame = owner.frame(found[2], int(found[3]), function=found[4] or "", column=column, source=source)
            frames.append(frame)
            continue
        at += 1
        if line.lstrip().startswith("[Previous line repeated"):
            continue
        if not line[:margin].strip() and (error := _ERROR.match(line, margin)):
            return _Block(_link(error[1], error[2] or "", frames), at, complete=True)
        # Output of somebody else may have come between; a little of it is stepped over.
        foreign += 1
        if foreign > _FOREIGN_MAX or HEADER in line:
            return _Block(_link("", "", frames), at - foreign, complete=False)
    return _Block(_link("", "", frames), at, complete=False)


def _source(lines: Sequence[str], at: int, margin: int) -> tuple[str, int | None, int]:
    """Read the lines below a `File` line: the source, and carets that may stand below it.

    Returns:
        The source as printed (without its indentation), the first caret's place in it (from 1), the next line.
    """
    inset = " " * margin
    source, column = "", None
    while at < len(lines) and lines[at].startswith(inset):
        line = lines[at]
        if not source:
            source = line.strip()
        elif column is None and _CARETS.match(line):
            column = _indent(line) - margin + 1
        at += 1
    return source, column, at


def _link(kind: str, message: str, frames: list[Frame]) -> Link:
    code = ""
    if found := _ERRNO.match(message):
        code = errno.errorcode.get(int(found[1]), "")
    frames.reverse()
    return Link(kind, message, code=code, frames=frames)


def _group(lines: Sequence[str], at: int, owner: Owner) -> tuple[list[Link], int, bool]:
    """Read an exception group: its members are the causes, so they come first; the outermost group is last."""
    end = at + 1
    while end < len(lines) and lines[end].lstrip()[:1] in ("|", "+"):
        end += 1
    inner = [lines[at].strip(" +|")]
    inner += [_EDGE_MARK if _EDGE.match(line) else _MARGIN.sub("", line, count=1) for line in lines[at + 1 : end]]
    members: list[Link] = []
    groups: list[Link] = []
    complete = True
    place = 0
    while place < len(inner):
        if HEADER not in inner[place]:
            error = _ERROR.match(inner[place])
            if error and inner[place - 1] is _EDGE_MARK:  # a member that was never raised has no frames
                members.append(_link(error[1], error[2] or "", []))
            place += 1
            continue
        is_group = "Exception Group " in inner[place]
        block = _block(inner, place + 1, 0, owner)
        (groups if is_group else members).append(block.link)
        place = max(block.end, place + 1)
        complete = complete and block.complete
    return [*members, *reversed(groups)], end, complete


def _follow(lines: Sequence[str], at: int, link: Link) -> int | None:
    """Find the header of the next link of a chain; lines before the sentence between belong to `link`."""
    last = min(at + _NOTES_MAX, len(lines))
    for place in range(at, last):
        line = lines[place]
        if HEADER in line:
            return None
        if line.strip() not in _CHAINS:
            continue
        link.notes = [note for note in lines[at:place] if note.strip()]
        for header in range(place + 1, min(place + 4, len(lines))):
            if HEADER in lines[header] or _FILE.match(lines[header]):
                return header
        return None
    return None


def _notes(lines: Sequence[str], at: int, link: Link, complete: bool) -> int:  # noqa: FBT001 - local to this file
    """Take the lines that probably belong to the last message; where they end cannot be known for sure."""
    end = at
    while complete and end < len(lines) and end - at < _NOTES_MAX:
        line = lines[end]
        if not line.strip() or _OTHER.match(line) or line.lstrip().startswith("at "):
            break
        end += 1
    link.notes = [*link.notes, *lines[at:end]]
    return end
