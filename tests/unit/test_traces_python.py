# SPDX-License-Identifier: MIT
"""Python tracebacks as CPython prints them, recorded from 3.9 to 3.13."""

from __future__ import annotations

import pytest

from wolverined.model import Trace
from wolverined.traces import parse

ROOT = "/srv/app"


def only(text: str) -> Trace:
    """Return the one trace of a text."""
    (trace,) = parse(text, app_root=ROOT)
    return trace


PLAIN = """\
Traceback (most recent call last):
  File "/srv/app/main.py", line 8, in <module>
    A().go()
  File "/srv/app/shop/cart.py", line 7, in go
    return f(1)
           ^^^^
  File "/srv/app/.venv/lib/python3.11/site-packages/lib/x.py", line 3, in f
    return usrs[x] + 1
           ^^^^
NameError: name 'usrs' is not defined. Did you mean: 'users'?
"""


def test_a_plain_traceback_gives_type_message_hint_and_frames_innermost_first() -> None:
    """Type, message without the suggestion, the suggestion, frames with source, own ones by relative path."""
    trace = only(PLAIN)
    assert trace.language == "python"
    assert not trace.partial
    (error,) = trace.errors
    assert (error.type, error.message) == ("NameError", "name 'usrs' is not defined")
    assert trace.hint == "Did you mean: 'users'?"
    assert [(f.path, f.line, f.function, f.own) for f in trace.frames] == [
        ("/srv/app/.venv/lib/python3.11/site-packages/lib/x.py", 3, "f", False),
        ("shop/cart.py", 7, "go", True),
        ("main.py", 8, "<module>", True),
    ]
    assert trace.frames[1].source == "return f(1)"
    assert error.frame == trace.frames[1]
    assert trace.text == PLAIN.rstrip("\n")


CHAIN = """\
Traceback (most recent call last):
  File "/srv/app/a.py", line 3, in load
    {}['k']
    ~~^^^^^
KeyError: 'k'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/app/a.py", line 7, in <module>
    load()
  File "/srv/app/a.py", line 5, in load
    raise RuntimeError("cannot load") from e
RuntimeError: cannot load
in two lines

and a third

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/app/a.py", line 9, in <module>
    1/0
    ~^~
ZeroDivisionError: division by zero
"""


def test_a_chain_is_one_trace_from_the_root_cause_to_the_last() -> None:
    """Both sentences between links are known; a message's further lines before them surely belong to it."""
    trace = only(CHAIN)
    assert [e.type for e in trace.errors] == ["KeyError", "RuntimeError", "ZeroDivisionError"]
    assert trace.errors[1].message == "cannot load"
    assert trace.errors[1].notes == ("in two lines", "and a third")
    assert [f.line for f in trace.frames] == [3, 5, 7, 9]
    assert [e.frame.line for e in trace.errors if e.frame] == [3, 5, 9]


GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/app/g.py", line 7, in <module>
  |     raise ExceptionGroup("several", ex)
  | ExceptionGroup: several (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/app/g.py", line 1, in a
    |     def a(): raise ValueError("one")
    |              ^^^^^^^^^^^^^^^^^^^^^^^
    | ValueError: one
    | a note
    +---------------- 2 ----------------
    | Exception Group Traceback (most recent call last):
    |   File "/srv/app/g.py", line 9, in b
    |     raise ExceptionGroup("inner", ex)
    | ExceptionGroup: inner (1 sub-exception)
    +-+---------------- 1 ----------------
      | Traceback (most recent call last):
      |   File "/srv/app/g.py", line 2, in b
      |     def b(): raise TypeError("two")
      | TypeError: two
      +------------------------------------
"""


def test_the_members_of_an_exception_group_are_its_causes() -> None:
    """Members first in their order, then the groups from the inner to the outer one."""
    trace = only(GROUP)
    assert [e.message for e in trace.errors] == [
        "one",
        "two",
        "inner (1 sub-exception)",
        "several (2 sub-exceptions)",
    ]
    assert [f.line for f in trace.frames] == [1, 2, 9, 7]
    assert not trace.partial


IMPORTED = (
    'Traceback (most recent call last):\n  File "/srv/app/main.py", line 1, in <module>\n    import s\n'
    "  File \"/srv/app/s.py\", line 2\n    return (1\n           ^\nSyntaxError: '(' was never closed\n"
)
INDENTED = (
    '  File "/srv/app/s.py", line 2\n    return 1\n    ^^^^^^\n'
    "IndentationError: expected an indented block after function definition on line 1\n"
)


@pytest.mark.parametrize(
    ("text", "kind", "message", "line", "column", "source"),
    [
        (
            '  File "/srv/app/s.py", line 4\n    def f(:\n          ^\nSyntaxError: invalid syntax\n',
            "SyntaxError",
            "invalid syntax",
            4,
            7,
            "def f(:",
        ),
        (
            IMPORTED,
            "SyntaxError",
            "'(' was never closed",
            2,
            8,
            "return (1",
        ),
        (
            INDENTED,
            "IndentationError",
            "expected an indented block after function definition on line 1",
            2,
            1,
            "return 1",
        ),
    ],
)
def test_a_syntax_error_knows_its_place(  # noqa: PLR0917
    text: str, kind: str, message: str, line: int, column: int, source: str
) -> None:
    """The first frame is the place in the file; the column is the caret's place in the source as printed."""
    trace = only(text)
    assert (trace.errors[0].type, trace.errors[0].message) == (kind, message)
    first = trace.frames[0]
    assert (first.path, first.line, first.column, first.source) == ("s.py", line, column, source)
    assert not trace.partial


def test_repeated_lines_and_bare_types_and_codes_are_read() -> None:
    """A line "[Previous line repeated …]" is stepped over, a type needs no message, an errno becomes a code."""
    repeated = (
        'Traceback (most recent call last):\n  File "/srv/app/r.py", line 3, in <module>\n    r(0)\n'
        '  File "/srv/app/r.py", line 2, in r\n    return r(n+1)\n           ^^^^^^\n'
        "  [Previous line repeated 996 more times]\nRecursionError: maximum recursion depth exceeded\n"
    )
    assert [f.line for f in only(repeated).frames] == [2, 3]
    bare = (
        'Traceback (most recent call last):\n  File "/srv/app/r.py", line 3, in f\n    raise E\npkg.mod.f.<locals>.E\n'
    )
    assert only(bare).errors[0].type == "pkg.mod.f.<locals>.E"
    errno = (
        'Traceback (most recent call last):\n  File "/a.py", line 3, in f\nOSError: [Errno 98] Address already in use\n'
    )
    assert only(errno).errors[0].code == "EADDRINUSE"


def test_a_trace_cut_at_its_begin_or_end_is_partial() -> None:
    """Without the header the rest is read and complete; without the error's line it is partial and has no type."""
    lines = PLAIN.splitlines()
    headless = only("\n".join(lines[3:]))
    assert headless.errors[0].type == "NameError"
    assert [f.line for f in headless.frames] == [3, 7]
    endless = only("\n".join(lines[:-1]))
    assert endless.partial
    assert endless.errors[0].type == ""
    assert len(endless.frames) == 3


@pytest.mark.parametrize(
    "prefix",
    [
        "[worker 3] ",
        "2026-01-02T03:04:05.678Z ",
        "2026-01-02 03:04:05,678 ERROR ",
        "web_1  | ",
        "0|app  | ",
        "Jan  2 03:04:05 host prog[123]: ",
        "[2026-01-02 03:04:05 +0000] [77] [ERROR] ",
    ],
)
def test_a_prefix_before_each_line_is_taken_off(prefix: str) -> None:
    """Timestamps, levels, worker names and container names do not hide a traceback."""
    text = "".join(f"{prefix}{line}\n" for line in PLAIN.splitlines())
    trace = only(text)
    assert trace.errors == only(PLAIN).errors
    assert trace.frames == only(PLAIN).frames


def test_two_workers_whose_lines_interleave_are_told_apart() -> None:
    """Lines are sorted by their prefix before they are read."""
    other = PLAIN.replace("usrs", "itms").splitlines()
    mixed = [
        text
        for one, two in zip(PLAIN.splitlines(), other, strict=True)
        for text in (f"12:00:01 [worker 1] {one}", f"12:00:02 [worker 2] {two}")
    ]
    first, second = parse(mixed, app_root=ROOT)
    assert [first.errors[0].message, second.errors[0].message] == [
        "name 'usrs' is not defined",
        "name 'itms' is not defined",
    ]
    assert len(first.frames) == len(second.frames) == 3


def test_a_prefix_on_the_first_line_only_is_how_loggers_print() -> None:
    """`logger.exception` puts its prefix before the first of several lines."""
    text = "2026-01-02 03:04:05 ERROR " + PLAIN
    assert only(text).errors[0].type == "NameError"


def test_output_of_others_between_the_lines_is_stepped_over() -> None:
    """A line of stdout that came between the lines of stderr does not end the traceback."""
    lines = PLAIN.splitlines()
    lines.insert(3, "GET /cart 200 3ms")
    assert [f.line for f in only("\n".join(lines)).frames] == [3, 7, 8]


def test_a_fatal_error_of_the_interpreter_is_read() -> None:
    """What faulthandler prints on a signal: most recent call first."""
    text = (
        "Fatal Python error: Aborted\n\nThread 0x00007f (most recent call first):\n"
        '  File "/srv/app/loop.py", line 4 in spin\n  File "/srv/app/main.py", line 9 in <module>\n'
    )
    trace = only(text)
    assert (trace.errors[0].type, trace.errors[0].message) == ("Fatal Python error", "Aborted")
    assert [(f.path, f.line, f.function) for f in trace.frames] == [("loop.py", 4, "spin"), ("main.py", 9, "<module>")]


@pytest.mark.parametrize(
    ("path", "shown", "own"),
    [
        ("/srv/app/a.py", "a.py", True),
        ("/srv/app/./b/../a.py", "a.py", True),
        ("a.py", "a.py", True),
        ("/srv/app/env/lib/python3.12/json/__init__.py", "/srv/app/env/lib/python3.12/json/__init__.py", False),
        ("/srv/application/a.py", "/srv/application/a.py", False),
        ("/srv/app/../other/a.py", "/srv/app/../other/a.py", False),
        ("../a.py", "../a.py", False),
        ("<string>", "<string>", False),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>", False),
        ("/usr/lib/python3.11/json/__init__.py", "/usr/lib/python3.11/json/__init__.py", False),
        ("/releases/7/a.py", "a.py", True),
    ],
)
def test_own_files_are_told_from_dependencies(path: str, shown: str, own: bool) -> None:
    """Below the root (or an alias of it) and in no dependency directory: own, and relative to the root."""
    text = f'Traceback (most recent call last):\n  File "{path}", line 1, in f\nValueError: x\n'
    (trace,) = parse(text, app_root="/srv/app/", aliases=["/releases/7"])
    assert (trace.frames[0].path, trace.frames[0].own) == (shown, own)
