# SPDX-License-Identifier: MIT
"""Who else starts this application: enabled systemd services, and what pm2 keeps. Only files are read.

Two starters of one application fight over its port at the next boot, and the loser restarts for ever.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wolverined.config.projects import unit
from wolverined.config.projects.project import read_text
from wolverined.errors import NotFound

OURS = ("wolverine@", "wolverine-")
_WANTS = ("*.wants/*.service", "*.requires/*.service")
_MOST = 400


class Rival(msgspec.Struct, frozen=True):
    """One other starter: what it is, and the command that ends it for good."""

    what: str
    command: str


def rivals(directory: Path, *, home: Path, user: str, places: tuple[str, ...] = unit.PLACES) -> list[Rival]:
    """Everything that is known to start what lies in `directory`."""
    return [*_services(directory, places), *_pm2(directory, home, user)]


def _services(directory: Path, places: tuple[str, ...]) -> Iterator[Rival]:
    for name in enabled(places):
        try:
            found = unit.find(name)
        except NotFound:
            continue  # a link that leads nowhere
        if starts(found, directory):
            yield Rival(f"{name} is enabled and starts what lies in {directory}", f"systemctl disable --now {name}")


def enabled(places: tuple[str, ...]) -> list[str]:
    """The services that the machine's own administrator lets start at boot, ours left out."""
    found = {
        path.name
        for place in places
        if place.startswith(("/etc", "/run")) or places is not unit.PLACES
        for pattern in _WANTS
        for path in Path(place).glob(pattern)
    }
    return sorted(name for name in found if not name.startswith(OURS))[:_MOST]


def starts(found: unit.Unit, directory: Path) -> bool:
    """Whether a service works in `directory`, or runs a program or a script that lies there."""
    words = found.last("WorkingDirectory").lstrip("-").split()
    for line in found.service.get("ExecStart", []):
        try:
            words += shlex.split(line.lstrip("-@:+!"))
        except ValueError:
            continue  # systemd cannot read it either
    return any(word.startswith("/") and Path(word).is_relative_to(directory) for word in words)


def _pm2(directory: Path, home: Path, user: str) -> Iterator[Rival]:
    """What `pm2 save` wrote down, to be started again by `pm2 resurrect`."""
    try:
        kept = json.loads(read_text(home / ".pm2/dump.pm2") or "[]")
    except (ValueError, RecursionError):
        return
    for app in kept if isinstance(kept, list) else []:
        place = app.get("pm_cwd") if isinstance(app, dict) else None
        name = str(app.get("name", "all")) if isinstance(app, dict) else ""
        if isinstance(place, str) and Path(place).is_relative_to(directory):
            command = f"su - {user} -c {shlex.quote(f'pm2 delete {shlex.quote(name)} && pm2 save')}"
            yield Rival(f"pm2 of {user} starts {name} in {place}", command)
