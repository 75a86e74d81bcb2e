# SPDX-License-Identifier: MIT
"""Traces of the interpreters that are really here: what the recorded texts were taken from may change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import node_path, public_python

from wolverined.model import Trace
from wolverined.traces import parse

NODE = node_path()
PYTHONS = sorted({sys.executable, public_python()})


def crash(program: str, directory: Path, name: str, files: dict[str, str]) -> Trace:
    """Run a program that ends in an error, and return its last trace."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    done = subprocess.run(
        [program, name],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PATH": os.defpath},
    )
    assert done.returncode != 0
    return parse(done.stderr, app_root=str(directory))[-1]


NODE_CASES = {
    "reference": (
        {"a.js": "function f() {\n  return usrs.length;\n}\nf();\n"},
        ("ReferenceError", "usrs is not defined", "a.js", 2, ""),
    ),
    "syntax": ({"a.js": "function f() {\n  return 1));\n}\n"}, ("SyntaxError", "Unexpected token ')'", "a.js", 2, "")),
    "unclosed": ({"a.js": "function f() {\n  return 1;\n"}, ("SyntaxError", "Unexpected end of input", "a.js", 3, "")),
    "module": (
        {"a.js": "require('./nothere');\n"},
        ("Error", "Cannot find module './nothere'", "a.js", 1, "MODULE_NOT_FOUND"),
    ),
    "no function": (
        {"a.js": "const { b } = require('./lib/b');\nb();\n", "lib/b.js": "exports.c = 1;\n"},
        ("TypeError", "b is not a function", "a.js", 2, ""),
    ),
    "dependency": (
        {
            "a.js": "\nrequire('dep')();\n",
            "node_modules/dep/index.js": "module.exports = () => { throw new RangeError('d'); };\n",
        },
        ("RangeError", "d", "a.js", 2, ""),
    ),
    "rejection": (
        {"a.js": "const f = async () => {\n  await null;\n  null.x;\n};\nf();\n"},
        ("TypeError", "Cannot read properties of null (reading 'x')", "a.js", 3, ""),
    ),
    "cause": (
        {"a.js": "try {\n  null.x;\n} catch (cause) {\n  throw new Error('outer', { cause });\n}\n"},
        ("TypeError", "Cannot read properties of null (reading 'x')", "a.js", 2, ""),
    ),
    "json": ({"a.js": "\n\nJSON.parse('{bad');\n"}, ("SyntaxError", None, "a.js", 3, "")),
    "assert": (
        {"a.js": "require('assert').strictEqual(1, 2);\n"},
        ("AssertionError", None, "a.js", 1, "ERR_ASSERTION"),
    ),
    "thrown text": ({"a.js": "\nthrow 'text';\n"}, ("Uncaught", "text", "a.js", 2, "")),
    "taken": (
        {
            "a.js": "const h = require('http');\nconst s = h.createServer().listen(0, () => {\n"
            "  h.createServer().listen(s.address().port);\n});\n"
        },
        ("Error", None, "a.js", 3, "EADDRINUSE"),
    ),
    "export": (
        {"a.mjs": "import { c } from './b.mjs';\n", "b.mjs": "export const d = 1;\n"},
        ("SyntaxError", "The requested module './b.mjs' does not provide an export named 'c'", "a.mjs", 1, ""),
    ),
    "await": ({"a.mjs": "await null;\nnull.x;\n"}, ("TypeError", None, "a.mjs", 2, "")),
    "class": (
        {"a.js": "class Mine extends Error { constructor() { super('m'); this.name = 'Mine'; } }\nthrow new Mine();\n"},
        ("Error", "m", "a.js", 2, ""),
    ),
}


@pytest.mark.skipif(NODE is None, reason="no Node here")
@pytest.mark.parametrize("case", NODE_CASES)
def test_node_errors_are_read(case: str, tmp_path: Path) -> None:
    """Each sort of error that Node prints: type, message, code, and the own line where it was raised."""
    files, (kind, message, path, line, code) = NODE_CASES[case]
    trace = crash(str(NODE), tmp_path, next(iter(files)), files)
    error = trace.errors[0]
    assert trace.language == "node"
    assert error.type == kind or (case == "class" and error.type in ("Error", "Mine"))
    assert message is None or error.message == message
    assert error.code == code
    assert error.frame is not None
    assert (error.frame.path, error.frame.line, error.frame.own) == (path, line, True)
    assert not trace.partial


PYTHON_CASES = {
    "name": (
        {"a.py": "users = 1\nprint(usres)\n"},
        ("NameError", "name 'usres' is not defined", "a.py", 2, "Did you mean: 'users'?"),
    ),
    "attribute": (
        {"a.py": "import json\njson.lods('1')\n"},
        ("AttributeError", "module 'json' has no attribute 'lods'", "a.py", 2, "Did you mean: 'loads'?"),
    ),
    "import": ({"a.py": "from b import c\n", "b.py": "d = 1\n"}, ("ImportError", None, "a.py", 1, "")),
    "module": ({"a.py": "\nimport nothere\n"}, ("ModuleNotFoundError", "No module named 'nothere'", "a.py", 2, "")),
    "syntax": ({"a.py": "import b\n", "b.py": "def f(:\n    pass\n"}, ("SyntaxError", "invalid syntax", "b.py", 1, "")),
    "unclosed": ({"a.py": "x = (1\ny = 2\n"}, ("SyntaxError", None, "a.py", 1, "")),
    "indent": ({"a.py": "def f():\nreturn 1\n"}, ("IndentationError", None, "a.py", 2, "")),
    "chain": (
        {"a.py": "try:\n    {}['k']\nexcept KeyError as e:\n    raise RuntimeError('x') from e\n"},
        ("KeyError", "'k'", "a.py", 2, ""),
    ),
    "group": ({"a.py": "\nraise ExceptionGroup('g', [ValueError('one')])\n"}, ("ValueError", "one", None, 0, "")),
    "note": ({"a.py": "e = ValueError('v')\ne.add_note('n')\nraise e\n"}, ("ValueError", "v", "a.py", 3, "")),
    "recursion": ({"a.py": "def r(n):\n    return r(n)\nr(0)\n"}, ("RecursionError", None, "a.py", 2, "")),
    "file": ({"a.py": "\n\nopen('/not/here')\n"}, ("FileNotFoundError", None, "a.py", 3, "")),
}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("case", PYTHON_CASES)
def test_python_errors_are_read(case: str, python: str, tmp_path: Path) -> None:
    """Each sort of error that Python prints: type, message, hint, and the own line where it was raised."""
    files, (kind, message, path, line, hint) = PYTHON_CASES[case]
    trace = crash(python, tmp_path, next(iter(files)), files)
    error = trace.errors[0]
    assert trace.language == "python"
    assert error.type == kind
    assert message is None or error.message == message
    assert not hint or trace.hint == hint
    if path is not None:
        assert error.frame is not None
        assert (error.frame.path, error.frame.line, error.frame.own) == (path, line, True)
    assert not trace.partial
