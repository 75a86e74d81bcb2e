# SPDX-License-Identifier: MIT
"""Whether the text of a file is well-formed, judged in memory and without running a line of it.

Rung R0 of the ladder and every remedy ask here. The answer is a filter, not a proof: our Python may be
older than the app's, and the JavaScript grammar is more lenient than V8. The trial asks the app's own
interpreter. Pure, and never raises, whatever the bytes.
"""

from __future__ import annotations

import json
import tomllib
import warnings
from collections.abc import Callable
from pathlib import PurePosixPath

import tree_sitter
import tree_sitter_javascript

_JAVASCRIPT = tree_sitter.Language(tree_sitter_javascript.language())
_BOM = b"\xef\xbb\xbf"


def check_syntax(path: str, data: bytes) -> str | None:
    """Say what is wrong with the syntax of a file, in one line.

    Args:
        path: The file's path; its suffix names the language.
        data: The whole file.

    Returns:
        None when the file is well-formed or its language is not known here, else the reason.
    """
    checker = _CHECKERS.get(PurePosixPath(path).suffix.lower())
    if checker is None:
        return None
    try:
        return checker(data)
    except (RecursionError, MemoryError):
        return "nested too deeply to be read"


def _check_python(data: bytes) -> str | None:
    try:
        # A SyntaxWarning is the app's affair, and must neither reach our stderr nor become an error.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(data, "<file>", "exec", dont_inherit=True)
    except SyntaxError as error:  # IndentationError and an unknown encoding are SyntaxErrors too
        return f"line {error.lineno or 0}: {error.msg}"
    except ValueError as error:  # null bytes (Python < 3.12), text that is not in its declared encoding
        return str(error)
    return None


def _check_javascript(data: bytes) -> str | None:
    root = tree_sitter.Parser(_JAVASCRIPT).parse(data).root_node
    if not root.has_error:
        return None
    node = root
    while True:  # down to the first thing that is wrong, to name its line
        worse = next((child for child in node.children if child.has_error or child.is_missing), None)
        if worse is None or node.is_error:
            break
        node = worse
    missing = f" (missing {node.type})" if node.is_missing else ""
    return f"line {node.start_point.row + 1}: syntax error{missing}"


def _check_json(data: bytes) -> str | None:
    try:
        json.loads(data.removeprefix(_BOM))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        return str(error)
    return None


def _check_toml(data: bytes) -> str | None:
    try:
        tomllib.loads(data.decode())
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        return str(error)
    return None


_CHECKERS: dict[str, Callable[[bytes], str | None]] = {
    ".cjs": _check_javascript,
    ".js": _check_javascript,
    ".json": _check_json,
    ".jsx": _check_javascript,
    ".mjs": _check_javascript,
    ".py": _check_python,
    ".pyw": _check_python,
    ".toml": _check_toml,
}
