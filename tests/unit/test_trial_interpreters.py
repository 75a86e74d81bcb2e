# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest

from wolverined.heal.trial.interpreters import find, homes, questions


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """A directory with programs named like interpreters."""
    place = tmp_path / "env" / "bin"
    place.mkdir(parents=True)
    for name in ("node", "python3", "gunicorn", "serve", "plain"):
        (place / name).write_text(
            {"gunicorn": f"#!{place}/python3 -s\n", "serve": "#!/usr/bin/env node\n"}.get(name, "x")
        )
        (place / name).chmod(0o755)
    return place


@pytest.mark.parametrize(
    ("language", "command", "expected"),
    [
        ("node", ["node", "server.js"], "node"),
        ("node", ["env", "A=1", "node", "server.js"], "node"),
        ("python", ["python3", "-u", "app.py"], "python3"),
        ("python", ["gunicorn", "app:app"], "python3"),
        ("node", ["serve"], "node"),
        ("python", ["node", "server.js"], "python3"),
        ("node", ["plain"], "node"),
        ("node", ["missing"], "node"),
        ("node", [], "node"),
    ],
)
def test_the_apps_own_interpreter(bin_: Path, language: str, command: list[str], expected: str) -> None:
    """In the command, in the first line of its script, else in its PATH."""
    found = find(language, command=command, environment={"PATH": str(bin_)}, directory="/")
    assert found == str(bin_ / expected)


def test_a_relative_program_is_looked_up_in_the_apps_directory(bin_: Path) -> None:
    """As execve does after chdir."""
    found = find("node", command=["bin/node"], environment={"PATH": "/nowhere"}, directory=str(bin_.parent))
    assert found == str(bin_.parent / "bin/node")


def test_no_interpreter_no_question(bin_: Path) -> None:
    """A file that nothing can judge is left out, not called bad."""
    nowhere = {"PATH": str(bin_ / "nowhere")}
    assert questions(["a.js", "b.py"], command=["x"], environment=nowhere, directory="/") == []
    asked = questions(
        ["a.js", "b.mjs", "c.py", "d.py", "e.rb", "f.ts"], command=["x"], environment={"PATH": str(bin_)}, directory="/"
    )
    assert sorted(question.paths for question in asked) == [("a.js",), ("b.mjs",), ("c.py", "d.py")]


def test_a_path_that_looks_like_an_option_is_none(bin_: Path) -> None:
    """File names come from a patch: none may become an option of the interpreter."""
    for question in questions(["--eval=x.js", "-c.py"], command=["x"], environment={"PATH": str(bin_)}, directory="/"):
        assert question.argv[-1].startswith("./")


def test_homes_are_the_trees_that_programs_need(bin_: Path, tmp_path: Path) -> None:
    """The tree around bin, the one that a virtual environment was made from, and where links lead."""
    other = tmp_path / "base" / "bin"
    other.mkdir(parents=True)
    (other / "python3.99").write_text("x")
    (other / "python3.99").chmod(0o755)
    (bin_ / "python").symlink_to(other / "python3.99")
    (bin_.parent / "pyvenv.cfg").write_text("home = /opt/py/bin\nversion = 3\n")
    found = homes(command=["python", "x.py"], environment={"PATH": str(bin_)}, directory="/")
    assert {str(bin_.parent), "/opt/py", str(other.parent)} <= set(found)
    assert homes(command=["missing"], environment={}, directory="/") == ()
    assert "/" not in homes(command=["/bin/sh"], environment={}, directory="/")
    assert "/usr" not in homes(command=["/usr/bin/env", "sh"], environment={"PATH": "/bin"}, directory="/")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """A program that links to itself is no reason to hang."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert homes(command=[str(tmp_path / "a")], environment={}, directory="/") == ()
