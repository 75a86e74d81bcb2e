# SPDX-License-Identifier: MIT
"""One bracket: where it goes, and when nobody knows."""

from __future__ import annotations

import pytest
from support.remedied import changed, proposals

from wolverined.heal.remedies import bracket
from wolverined.heal.remedies.tree import Source, shape

PYTHON = "SyntaxError: '(' was never closed"
NODE = "SyntaxError: Unexpected token"


@pytest.mark.parametrize(
    ("broken", "mended", "line"),
    [
        ("x = [1, 2\ny = 2\n", "x = [1, 2]\ny = 2\n", 1),
        ("if any([1, 2]:\n    pass\n", "if any([1, 2]):\n    pass\n", 1),
        ("def f(:\n    pass\n", "def f():\n    pass\n", 1),
        ("def f((a, b):\n    pass\n", "def f(a, b):\n    pass\n", 1),
        ("print(len('a'))) # )\n", "print(len('a')) # )\n", 1),
        ("print(len(')')\n", "print(len(')'))\n", 1),
        ("for i in range(len('ab'))):\n    pass\n", "for i in range(len('ab')):\n    pass\n", 1),
        ("x = dict(\n    a=1,\n    b=2,\n\ny = 3\n", "x = dict(\n    a=1,\n    b=2,\n)\n\ny = 3\n", 1),
        ("x = {\n    'a': [1, 2,\n    'b': 3,\n}\n", "x = {\n    'a': [1, 2],\n    'b': 3,\n}\n", 4),
        ("x = [\r\n    1,\r\n\r\ny = 2\r\n", "x = [\r\n    1,\r\n]\r\n\r\ny = 2\r\n", 1),
        ("x = (1, 2]\n", "x = (1, 2)\n", 1),
    ],
)
def test_a_bracket_of_python_is_put_right(broken: str, mended: str, line: int) -> None:
    """Missing, too many, of the wrong kind; strings and comments do not count."""
    assert changed({"a.py": broken}, PYTHON, "a.py", line) == {"a.py": mended}


@pytest.mark.parametrize(
    ("broken", "mended", "line"),
    [
        ("const f = (x) => x;\nf(() => {\n  f();\n}));\n", "const f = (x) => x;\nf(() => {\n  f();\n});\n", 4),
        ("const f = (x) => x;\nf(() => {\n  f();\n};\n", "const f = (x) => x;\nf(() => {\n  f();\n});\n", 4),
        ("console.log(JSON.stringify({ a: 1 });\n", "console.log(JSON.stringify({ a: 1 }));\n", 1),
        (
            "const f = (r, l) => {\n  r.end(JSON.stringify(l.map((x) => x + 1))));\n};\n",
            "const f = (r, l) => {\n  r.end(JSON.stringify(l.map((x) => x + 1)));\n};\n",
            2,
        ),
        ("const a = [1, 2;\n", "const a = [1, 2];\n", 1),
        ("const a = { b: [1, 2 };\n", "const a = { b: [1, 2] };\n", 1),
        ("if (isNaN(1) {\n  console.log();\n}\n", "if (isNaN(1)) {\n  console.log();\n}\n", 1),
        (
            "function f(a) {\n  if (a) {\n    return 1;\n  return 2;\n}\n",
            "function f(a) {\n  if (a) {\n    return 1;\n  }\n  return 2;\n}\n",
            6,
        ),
        (
            "function f(a) {\r\n  if (a) {\r\n    return 1;\r\n\r\n  return 2;\r\n}\r\n",
            "function f(a) {\r\n  if (a) {\r\n    return 1;\r\n  }\r\n\r\n  return 2;\r\n}\r\n",
            6,
        ),
        (
            "function f(a) {\n  if (a) {\n    return 1;\n  }\n  }\n  return 2;\n}\n",
            "function f(a) {\n  if (a) {\n    return 1;\n  }\n  return 2;\n}\n",
            7,
        ),
        (
            "function f(a) {\n  if (a)\n    console.log(1);\n    console.log(2);\n  }\n  return 2;\n}\n",
            "function f(a) {\n  if (a) {\n    console.log(1);\n    console.log(2);\n  }\n  return 2;\n}\n",
            7,
        ),
        ("const a = `(${[1, 2}`;\n", "const a = `(${[1, 2]}`;\n", 1),
        ("const a = (/[)]/;\n", "const a = (/[)]/);\n", 1),
    ],
)
def test_a_bracket_of_javascript_is_put_right(broken: str, mended: str, line: int) -> None:
    """Missing, too many, in templates and beside regular expressions, as the indentation tells."""
    assert changed({"a.js": broken}, NODE, "a.js", line) == {"a.js": mended}


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        ("a.py", "print(max(1, min(2, 3))\n"),
        ("a.py", "x = 18 * (10 ** 2 - 1) - 2)\n"),
        ("a.py", "x = [[1, 2, 3]\n"),
        ("a.py", "x = 'abc\n"),
        ("a.py", "if x\n    pass\n"),
        ("a.py", "x = ((((1)\n"),
        ("a.py", "lenx)\n"),
        ("a.js", "console.log(Math.max(1, Math.min(2, 3));\n"),
        ("a.js", "const x = ;\n"),
        ("a.js", "let x = 1 2;\n"),
        ("a.js", "function f() {\n  if (1) {\n    g(\n"),
        ("a.js", "{{{"),
    ],
)
def test_a_bracket_that_may_go_in_two_places_is_left(path: str, broken: str) -> None:
    """Two programs that are as likely, another kind of error, or more than one slip: no proposal."""
    assert proposals({path: broken}, PYTHON if path == "a.py" else NODE, path, 1) == []


def test_a_file_that_parses_is_left() -> None:
    """A SyntaxError that the file does not explain (it was deployed meanwhile, or `eval` raised it)."""
    assert proposals({"a.js": "f();\n"}, "SyntaxError: Unexpected token ')'", "a.js", 1) == []
    assert proposals({"a.py": "f()\n"}, PYTHON, "a.py", 1) == []


def test_broken_json_is_no_bracket_of_the_program() -> None:
    """`JSON.parse` raises a SyntaxError too."""
    error = "SyntaxError: Unexpected token } in JSON at position 1"
    assert proposals({"a.js": "f(1));\n"}, error, "a.js", 1) == []


@pytest.mark.parametrize("limit", ["MAX_TRIED_BYTES", "MAX_JUDGED_BYTES"])
def test_a_file_too_big_to_try_everything_is_left(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Who has not tried every bracket cannot say that there is only one."""
    files = {"a.py": "x = 1\n" * 1_000 + "y = [1\n"}
    assert len(proposals(files, PYTHON, "a.py", 1_001)) == 1
    monkeypatch.setattr(bracket, limit, 5_000)
    assert proposals(files, PYTHON, "a.py", 1_001) == []


def test_a_file_changed_in_place_has_the_shape_of_a_new_one() -> None:
    """Parsing what changed and parsing it all agree, over newlines, tabs and letters of several bytes."""
    data = "# é\r\nx = [\n\t1, 'é'\n]\ny = (2)\n".encode()
    source = Source(path="a.py", data=data, language="python")
    for start in range(len(data)):
        for end, text in ((start, b")"), (start, b"\n)"), (start + 1, b""), (start + 1, b"(\n1)")):
            after = data[:start] + text + data[end:]
            assert source.shape_with(start, end, text) == shape(after, "python"), (start, text)
