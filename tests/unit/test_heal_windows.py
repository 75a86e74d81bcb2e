# SPDX-License-Identifier: MIT
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal import windows
from wolverined.model import ErrorLink, Frame, Snapshot, SourceFile, Trace


def snapshot(**files: bytes) -> Snapshot:
    """A snapshot of these files, named by their stem."""
    return Snapshot(
        root="/srv/app", files={f"{name}.js": SourceFile(data, 0o644) for name, data in files.items()}, tree_hash=""
    )


def trace(*frames: tuple[str, int, bool]) -> Trace:
    """A trace with frames of (path, line, own)."""
    made = tuple(Frame(path=path, line=line, own=own) for path, line, own in frames)
    return Trace(language="node", errors=(ErrorLink("Error", "x"),), frames=made)


def numbered(count: int) -> bytes:
    """A file whose lines say their numbers."""
    return "".join(f"line {n}\n" for n in range(1, count + 1)).encode()


def test_a_small_file_is_shown_whole() -> None:
    """Whatever the frame, all lines are there, counted from 1."""
    (window,) = windows.cut(snapshot(a=numbered(10)), traces=[trace(("/srv/app/a.js", 3, True))])
    assert (window.path, window.start, window.lines[0], len(window.lines)) == ("a.js", 1, "line 1", 10)


def test_a_large_file_is_shown_around_its_frames() -> None:
    """Near frames share a window, far ones have their own, in the order of the file."""
    found = windows.cut(
        snapshot(a=numbered(1000)),
        traces=[trace(("/srv/app/a.js", 900, True), ("a.js", 110, True), ("file:///srv/app/a.js", 100, True))],
    )
    assert [(window.start, window.start + len(window.lines) - 1) for window in found] == [(60, 150), (860, 940)]


def test_only_own_frames_in_the_snapshot_count() -> None:
    """Libraries, other trees and files that may not be edited are not shown."""
    found = windows.cut(
        snapshot(a=b"x\n"), traces=[trace(("/srv/app/a.js", 1, False), ("/etc/passwd", 1, True), ("../a.js", 1, True))]
    )
    assert found == ()


def test_the_entry_is_shown_when_no_frame_leads_anywhere() -> None:
    """A hang has no trace; the program's first file is better than nothing."""
    assert windows.cut(snapshot(a=b"x\n"), traces=[], entry="a.js")[0].path == "a.js"
    assert windows.cut(snapshot(a=b"x\n"), traces=[], entry="b.js") == ()


def test_the_newest_trace_comes_first_and_the_size_is_bounded() -> None:
    """When not all fits, what is nearest to the failure stays."""
    big = b"x" * (windows.MAX_CHARS - 100) + b"\n"
    found = windows.cut(
        snapshot(a=big, b=big, c=b"y\n"),
        traces=[trace(("a.js", 1, True), ("c.js", 1, True)), trace(("b.js", 1, True))],
    )
    assert [window.path for window in found] == ["b.js", "c.js"]


@given(st.binary(max_size=300), st.lists(st.integers(-5, 10**9), max_size=4))
def test_any_file_and_any_line_are_harmless(data: bytes, lines: list[int]) -> None:
    """Binary files and lines beyond the end give windows within the file, or none."""
    for window in windows.cut(snapshot(a=data), traces=[trace(*(("a.js", line, True) for line in lines))]):
        assert window.start >= 1
        assert window.lines
