# SPDX-License-Identifier: MIT
"""Whether a file is well-formed, by its suffix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.syntax import check_syntax

PATHS = ("a.py", "a.js", "a.mjs", "a.cjs", "a.json", "a.toml", "a.txt", "a")


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.py", b"def f():\n    return 1\n"),
        ("a.py", b"\xef\xbb\xbfx = 1\r\n"),
        ("a.py", b"# -*- coding: latin-1 -*-\nx = '\xe9'\n"),
        ("a.py", b"x = '\\d' is 1\n"),  # warns, and is well-formed
        ("a.js", b"#!/usr/bin/env node\nconst a = `x ${1}`;\n"),
        ("a.mjs", b"import a from './b.mjs';\nexport default await a();\n"),
        ("a.cjs", b"return;\n"),
        ("a.json", b'\xef\xbb\xbf{"a": [1]}'),
        ("a.toml", b"[a]\nb = 1\n"),
        ("a.txt", b"((("),
        ("noend", b"\xff\x00"),
        ("a.py", b""),
    ],
)
def test_a_good_or_unknown_file_passes(path: str, data: bytes) -> None:
    """None for what is well-formed and for what no checker knows."""
    assert check_syntax(path, data) is None


@pytest.mark.parametrize(
    ("path", "data", "word"),
    [
        ("a.py", b"x = (1\n", "line 1"),
        ("a.py", b"def f():\nx = 1\n", "line 2"),
        ("a.py", b"return 1\n", "outside function"),
        ("a.py", b"\x00", "null"),
        ("a.py", b"# coding: no-such-thing\n", "unknown encoding"),
        ("A.PY", b"(", "never closed"),
        ("a.js", b"x();\nfoo(1));\n", "line 2"),
        ("a.js", b"function f() {\n", "missing }"),
        ("a.json", b'{"a": 1,}', "line 1"),
        ("a.json", b"\xff", "decode"),
        ("a.toml", b"a = ", "Invalid value"),
    ],
)
def test_a_bad_file_is_told_in_one_line(path: str, data: bytes, word: str) -> None:
    """The reason names the line where there is one."""
    reason = check_syntax(path, data)
    assert reason is not None
    assert word in reason
    assert "\n" not in reason


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("unit", [b"(", b"-", b"[", b"{", b"not ", b"lambda:", b"`${", b"a.", b"1+", b'{"a":'])
def test_deep_nesting_is_no_crash(path: str, unit: bytes) -> None:
    """A file that nests a hundred thousand deep gets an answer, whatever it is."""
    check_syntax(path, unit * 50_000 + b"1")


@given(st.sampled_from(PATHS), st.binary(max_size=400))
def test_any_bytes_get_an_answer(path: str, data: bytes) -> None:
    """It never raises."""
    check_syntax(path, data)
