# SPDX-License-Identifier: MIT
"""Which interpreter runs an app, where it lies, and how it is asked whether a file parses.

Nothing is executed of the files: `node --check` and Python's `compile` only parse.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

PYTHON_CHECK = """
import json, sys
told = {}
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec", dont_inherit=True)
        told[path] = ""
    except (SyntaxError, ValueError) as error:
        told[path] = type(error).__name__ + ": " + str(error)
print()
print(json.dumps(told))
"""
_SHEBANG_BYTES = 256
_SETTINGS_BYTES = 16 * 1024
_PYTHON = re.compile(r"(python|pypy)[0-9.]*$")
_NODE = re.compile(r"(node|nodejs)$")


class Question(msgspec.Struct, frozen=True):
    """One command that says of `paths` whether they parse; `language` tells how to read its answer."""

    language: str
    argv: tuple[str, ...]
    paths: tuple[str, ...]


def questions(
    paths: Sequence[str], *, command: Sequence[str], environment: Mapping[str, str], directory: str
) -> list[Question]:
    """What to run to learn whether the files parse; files that nothing here can judge are left out."""
    asked: list[Question] = []
    pythons = tuple(path for path in paths if path.endswith(".py"))
    if pythons and (python := find("python", command=command, environment=environment, directory=directory)):
        argv = (python, "-I", "-S", "-W", "ignore", "-c", PYTHON_CHECK, *(f"./{path}" for path in pythons))
        asked.append(Question("python", argv, pythons))
    scripts = [path for path in paths if path.endswith((".js", ".cjs", ".mjs"))]
    if scripts and (node := find("node", command=command, environment=environment, directory=directory)):
        asked += [Question("node", (node, "--check", f"./{path}"), (path,)) for path in scripts]
    return asked


def find(language: str, *, command: Sequence[str], environment: Mapping[str, str], directory: str) -> str:
    """The app's own interpreter of that language: in its command, in its script's first line, else in its PATH."""
    pattern = _PYTHON if language == "python" else _NODE
    words = [word for word in command if not (word.startswith("-") or "=" in word)]
    if words and Path(words[0]).name == "env":
        words = words[1:]
    for word in words[:1]:
        program = resolve(word, environment=environment, directory=directory)
        if pattern.search(Path(word).name):
            return program or word
        if program and (interpreter := _shebang(program)) and pattern.search(Path(interpreter).name):
            return resolve(interpreter, environment=environment, directory=directory)
    names = ("python3", "python") if language == "python" else ("node", "nodejs")
    found = (resolve(name, environment=environment, directory=directory) for name in names)
    return next((program for program in found if program), "")


def resolve(word: str, *, environment: Mapping[str, str], directory: str) -> str:
    """The program that execvpe would run for `word`, as an absolute path; "" when there is none."""
    if "/" in word:
        places = [Path(directory, word)]
    else:
        places = [Path(directory, place, word) for place in environment.get("PATH", os.defpath).split(":")]
    # Not by pathlib, which in Python 3.11 raises for what may not be looked at, as a place in another's home.
    return next((str(place) for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), "")  # noqa: PTH113


def homes(*, command: Sequence[str], environment: Mapping[str, str], directory: str) -> tuple[str, ...]:
    """The places that the app's program and its interpreter need: a virtual environment, a version manager's tree."""
    found: list[str] = []
    for word in command[:2] if command and Path(command[0]).name == "env" else command[:1]:
        program = resolve(word, environment=environment, directory=directory)
        if not program:
            continue
        for path in _chain(Path(program)):
            found += [str(path), *_prefix(path)]
        if interpreter := _shebang(program):
            for path in _chain(Path(resolve(interpreter, environment=environment, directory=directory) or interpreter)):
                found += [str(path), *_prefix(path)]
    return tuple(dict.fromkeys(found))


def _chain(path: Path) -> list[Path]:
    """A program and where its symbolic links lead, one after the other."""
    chain = [path]
    with contextlib.suppress(OSError):  # it leads on where we may not look
        while path.is_symlink() and len(chain) < 10:  # noqa: PLR2004  a circle ends somewhere
            path = path.parent / path.readlink()
            chain.append(path)
    return chain


def _prefix(program: Path) -> list[str]:
    """The tree that a program in `bin` belongs to; never a whole shared directory such as /tmp."""
    if program.parent.name not in {"bin", "sbin"}:
        return []
    prefix = program.parent.parent
    if len(prefix.parts) < 3:  # noqa: PLR2004  "/", "/usr"
        return []
    places = [str(prefix)]
    settings = _beginning(prefix / "pyvenv.cfg", _SETTINGS_BYTES).decode("utf-8", "replace")
    # A virtual environment names the Python that it was made from; its libraries lie beside that bin.
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home" and value.strip().startswith("/"):
            places.append(str(Path(value.strip()).parent))
    return places


def _shebang(program: str) -> str:
    first = _beginning(Path(program), _SHEBANG_BYTES).partition(b"\n")[0]
    if not first.startswith(b"#!"):
        return ""
    words = first[2:].decode("utf-8", "replace").split()
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0] if words else ""


def _beginning(path: Path, most: int) -> bytes:
    """The first bytes of a regular file; nothing of anything else, which might never give any."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
