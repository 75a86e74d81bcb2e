# SPDX-License-Identifier: MIT
"""Looks for the way to start a project's server: what its own files say first, names of files last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from wolverined.config.projects import node, python
from wolverined.config.projects.programs import start_of
from wolverined.config.projects.project import Project, Refused, Start

LOOKED_FOR = (
    "a Procfile with a `web:` line",
    "package.json with scripts.start or main",
    "pyproject.toml with a start task or a script of its own",
    "manage.py",
    f"files such as {', '.join((*node.NAMES[:4], *python.NAMES[:5]))}",
)

Way = tuple[str, Callable[[], Start]]
"""Where a way to start was found, and how to work it out (which may raise Refused)."""


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the ways that work, best first, and those that do not, each with the reason."""

    starts: tuple[Start, ...]
    refused: tuple[str, ...]


def detect(project: Project) -> Detected:
    """Look at everything that can tell how the project's server is started."""
    starts: list[Start] = []
    refused: list[str] = []
    for origin, work_out in _ways(project):
        try:
            start = work_out()
        except Refused as reason:
            refused.append(f"{origin} {reason}")
            continue
        if start.command not in {each.command for each in starts}:
            starts.append(msgspec.structs.replace(start, origin=origin))
    return Detected(starts=tuple(starts), refused=tuple(dict.fromkeys(refused)))


def _ways(project: Project) -> Iterator[Way]:
    yield from _procfile(project)
    yield from node.declared(project)
    yield from python.declared(project)
    yield from node.by_name(project)
    yield from python.by_name(project)


def _procfile(project: Project) -> Iterator[Way]:
    """The `web` process; a Procfile with one process only means that one."""
    lines = re.findall(r"^([A-Za-z0-9_-]+):[ \t]*(\S.*)$", project.text("Procfile"), flags=re.MULTILINE)
    chosen = [(name, line) for name, line in lines if name == "web"] or (lines if len(lines) == 1 else [])
    for name, line in chosen[:1]:
        origin = f"the process {name} in the Procfile"
        # Platforms that read a Procfile choose the port; here the operator does, from what the code takes.
        known = {"PORT": str(python.DEFAULT_PORT if python.is_python(line) else node.DEFAULT_PORT)}
        yield origin, partial(start_of, line, project, origin=origin, known=known)
