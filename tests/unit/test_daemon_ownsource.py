# SPDX-License-Identifier: MIT
"""What a running supervisor imports late comes from memory: an upgrade may have replaced its files meanwhile."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wolverined
from wolverined.daemon import ownsource

ROOT = Path(wolverined.__file__).parent
ROOMS = ("daemon", "supervise", "sense", "control", "linux", "store", "config", "alerts", "traces", "redact")
CHILDREN = ("alerts/notifier/", "alerts/failure.py", "linux/ports.py")
"""Programs of their own, which are of one version for as long as they run: their imports are their own business."""

AT_START = {
    "wolverined.alerts.post": "made with the voice",
    "wolverined.daemon.inheritance": "by who takes over; kept for who hands over",
    "wolverined.daemon.takeover": "by who takes over, or is asked whether it could",
    "wolverined.linux.group": "opened before the app is started",
    "psutil": "its first look at all processes is before the app's start",
    "sdnotify": "the first thing that is made",
    "structlog": "made with the narrator, where JSON is asked for",
}
"""What functions import before an app is started, and why that is so."""


def run(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout


def in_functions(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported by functions."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module


def test_no_import_in_a_function_escapes() -> None:
    """Each in the supervisor's rooms is of Python itself, done before an app is started, or kept."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    files += [ROOT / f"heal/{name}.py" for name in ("dispatch", "stream", "triage", "door")]
    late = {
        module
        for path in files
        if path.is_file() and not str(path.relative_to(ROOT)).startswith(CHILDREN)
        for module in in_functions(ast.parse(path.read_bytes()))
        if module.split(".")[0] not in sys.stdlib_module_names
    }
    assert late - set(AT_START) <= set(ownsource.LATE)


def test_nothing_else_comes_with_what_is_kept() -> None:
    """What a re-exec imports beside them is there already, from the daemon's start, or of Python itself."""
    code = """
import json, sys
from wolverined.lean import be_lean
be_lean()
import wolverined.daemon.serve
before = set(sys.modules)
import wolverined.daemon.reexec, wolverined.daemon.rooms
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    new = {name for name in json.loads(run(code)) if name.split(".")[0] not in sys.stdlib_module_names}
    assert new == set(ownsource.LATE)


def test_a_kept_module_is_the_one_that_was_there_when_it_was_kept(tmp_path: Path) -> None:
    """It is executed once, knows its file, and shows its own lines of then; what is not kept is read from disk."""
    for name in ("kept", "other", "early"):
        (tmp_path / f"{name}.py").write_text(
            "import sys\nVERSION = 'old'\ndef fail():\n    raise ValueError(VERSION)\n"
        )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.dont_write_bytecode = True
from pathlib import Path
from wolverined.daemon import ownsource
import early
ownsource.keep(("kept", "early", "not_there"))
for name in ("kept", "other", "early"):
    Path({str(tmp_path)!r}, name + ".py").write_text("VERSION = 'newer'")
import kept, other
print(kept.VERSION, other.VERSION, early.VERSION, kept.__file__, kept.__name__, sys.modules["kept"] is kept)
try:
    import not_there
except ModuleNotFoundError:
    print("none")
"""
    path = tmp_path / "kept.py"
    assert run(code).splitlines() == [f"old newer old {path} kept True", "none"]


@pytest.mark.parametrize("name", ownsource.LATE)
def test_each_of_them_can_be_read(name: str) -> None:
    """A name that is wrong would be imported from disk, without a word."""
    assert (ROOT.parent / f"{name.replace('.', '/')}.py").is_file()
