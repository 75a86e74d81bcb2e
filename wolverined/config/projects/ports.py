# SPDX-License-Identifier: MIT
"""The port that a project's code listens on, as far as its text tells (pure but for reading files)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from wolverined.config.projects.project import Project, Start

_NUMBER = r"['\"]?(\d{2,5})['\"]?"
_FROM_ENVIRONMENT = re.compile(
    rf"process\.env\.PORT\s*(?:\|\||\?\?)\s*{_NUMBER}"
    rf"|(?:Number|parseInt)\(\s*process\.env\.PORT\s*(?:,\s*10\s*)?\)\s*(?:\|\||\?\?)\s*{_NUMBER}"
    rf"|environ\.get\(\s*['\"]PORT['\"]\s*,\s*{_NUMBER}"
    rf"|getenv\(\s*['\"]PORT['\"]\s*,\s*{_NUMBER}"
    rf"|process\.env\[['\"]PORT['\"]\]\s*(?:\|\||\?\?)\s*{_NUMBER}"
)
_FIXED = re.compile(
    rf"\.listen\(\s*{_NUMBER}"
    rf"|\bport\s*[:=]\s*{_NUMBER}"
    rf"|HTTPServer\(\s*\(\s*['\"][^'\"]{{0,64}}['\"]\s*,\s*{_NUMBER}",
    re.IGNORECASE,
)
_READS_PORT = re.compile(r"process\.env\.PORT|environ(?:\.get\(|\[)\s*['\"]PORT['\"]|getenv\(\s*['\"]PORT['\"]")
_ENV_PORT = re.compile(r"^(?:export\s+)?PORT\s*=\s*['\"]?(\d{1,5})['\"]?\s*(?:#.*)?$", re.MULTILINE)
_SUFFIXES = (".js", ".mjs", ".cjs", ".ts", ".py")
_SKIPPED = {
    "node_modules",
    "venv",
    "env",
    "dist",
    "build",
    "coverage",
    "__pycache__",
    "test",
    "tests",
    "public",
    "static",
}
_MAX_FILES = 200
_MAX_DEPTH = 3


def find(start: Start, project: Project) -> tuple[int | None, str]:
    """The port of a start and where it was read; None when nothing tells.

    The command line counts first, then PORT in the file of variables, then the file that runs first, then
    whatever other file has a default for PORT.
    """
    if start.port is not None:
        return start.port, start.port_origin
    for name in ([str(start.environment_file)] if start.environment_file else []) + [".env"]:
        if found := _ENV_PORT.search(project.text(name)):
            return int(found[1]), f"PORT in {name}"
    others = list(_sources(project))
    for name in dict.fromkeys([*([start.entry] if start.entry else []), *others]):
        if port := _first(_FROM_ENVIRONMENT, project.text(name)):
            return port, f"the default of PORT in {name}"
    if start.entry and (port := _first(_FIXED, project.text(start.entry))):
        return port, f"{start.entry}, which takes no other"
    if start.entry and _READS_PORT.search(project.text(start.entry)):
        default = 3000 if start.language == "node" else 8000
        return default, f"{start.entry}, which takes whatever PORT says"
    return None, ""


def names_in(text: str) -> list[str]:
    """The names of the variables of an environment file; their values are nobody's business."""
    return list(dict.fromkeys(re.findall(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", text, flags=re.MULTILINE)))


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    for found in pattern.finditer(text):
        port = int(next(group for group in found.groups() if group))
        if 0 < port < 65536:  # noqa: PLR2004  (ports)
            return port
    return None


def _sources(project: Project) -> Iterator[str]:
    """Names of source files, near the top first, no more than a project of bearable size has."""
    count = 0
    for place, directories, files in os.walk(project.directory):
        relative = os.path.relpath(place, project.directory).removeprefix(".").lstrip("/")
        depth = relative.count("/") + 1 if relative else 0
        directories[:] = sorted(
            name for name in directories if depth < _MAX_DEPTH and name not in _SKIPPED and not name.startswith(".")
        )
        for name in sorted(files):
            if name.endswith(_SUFFIXES) and ".test." not in name and ".spec." not in name:
                count += 1
                if count > _MAX_FILES:
                    return
                yield f"{relative}/{name}" if relative else name
