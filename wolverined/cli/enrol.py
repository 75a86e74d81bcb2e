# SPDX-License-Identifier: MIT
"""What `wolverinectl init` says to whoever enrols a service of this machine: what would surprise, what to type.

Looks, changes nothing, asks nothing. Each surprise comes with the command that prevents it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from wolverined.cli import units
from wolverined.config.init import Advice, Step
from wolverined.config.projects.draft import Draft
from wolverined.config.projects.interpreters import VENVS
from wolverined.config.projects.project import SYSTEM_PATH
from wolverined.config.projects.rivals import rivals
from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials, group_id
from wolverined.linux.protection import dropin_command, protected

DEPENDENCIES = (*VENVS, "node_modules", ".yarn", "__pypackages__", "vendor")
_PASSED_OVER = {".git", ".hg", ".svn", "__pycache__", *DEPENDENCIES}
_GROUP, _OTHERS = stat.S_IRGRP | stat.S_IXGRP, stat.S_IROTH | stat.S_IXOTH
_MOST_FILES = 5000
_MOST_ENTRIES = 200


def advise(name: str, made: Draft, file: Path) -> Advice:
    """Look at this machine for the application `name`, which was written into `file`."""
    try:
        who = Credentials.of_user(made.user)
    except SpawnError:
        who = None
    notes, steps = [], []
    for what, command in _surprises(name, made, who):
        notes.append(what)
        if command:
            steps.append(Step(command))
    return Advice(notes=tuple(notes), steps=(*steps, *_next(name, file)))


def _surprises(name: str, made: Draft, who: Credentials | None) -> Iterator[tuple[str, str]]:
    directory = made.directory
    for rival in rivals(directory, home=Path(who.home if who else "/"), user=made.user):
        yield f"{rival.what}: it would fight with wolverine over the application's port", rival.command
    if protected(str(directory)):
        what = (
            f"{directory} is read-only in the unit (ProtectSystem=full): neither the app nor a repair can write there"
        )
        yield what, dropin_command(name, str(directory), str(directory))
    if said := of_root(directory):
        yield (
            f"{said}: repairs cannot change what belongs to root",
            f"chown -R {made.user}: {shlex.quote(str(directory))}",
        )
    for place in closed(made):
        yield (
            f"{place} cannot be read by its group, so no fix can be tried before it is applied",
            f"chmod -R g+rX {shlex.quote(str(place))}",
        )


def of_root(directory: Path) -> str:
    """Which files of a source belong to root, in words; "" when none does, or all do, which is told elsewhere."""
    try:
        if directory.stat().st_uid == 0:
            return ""
    except OSError:
        return ""
    count, first, seen = 0, "", 0
    for place, below, names in os.walk(directory):
        below[:] = [each for each in below if each not in _PASSED_OVER]
        for entry in (*below, *names):
            seen += 1
            path = f"{place}/{entry}"
            try:
                count += (mine := os.lstat(path).st_uid == 0)
            except OSError:
                continue
            first = first or (path if mine else "")
        if seen > _MOST_FILES:
            break
    others = f" and {count - 1} more below {directory}" if count > 1 else ""
    return f"{first}{others} belongs to root" if count else ""


def closed(made: Draft) -> list[Path]:
    """Directories that a trial needs and that neither their group nor everybody may read."""
    places = [made.directory / name for name in DEPENDENCIES]
    program = Path(made.start.command[0])
    if program.is_absolute() and str(program.parent) not in SYSTEM_PATH.split(":"):
        places.append(program.resolve().parent.parent)  # of a version manager: bin/node lies below its version
    return [place for place in dict.fromkeys(places) if place.is_dir() and not _open(place)]


def _open(place: Path) -> bool:
    try:
        entries = [entry.stat(follow_symlinks=False) for entry in list(os.scandir(place))[:_MOST_ENTRIES]]
        found = [place.stat(), *(entry for entry in entries if stat.S_ISDIR(entry.st_mode))]
    except OSError:
        return False
    return all(any(each.st_mode & bits == bits for bits in (_GROUP, _OTHERS)) for each in found)


def _next(name: str, file: Path) -> Iterator[Step]:
    if not (units.booted() and units.installed()):
        why = "systemd does not run here" if not units.booted() else "the unit wolverine@.service is not installed"
        yield Step(f"wolverined run --config {file}", why)
        return
    yield Step(f"systemctl enable --now wolverine@{name}", "start it now, and at each boot")
    yield Step(f"wolverinectl status {name}", "how it is; wolverinectl doctor " + name + " when it is not well")
    who = os.environ.get("SUDO_USER", "")
    if group_id("wolverine-admin") is None or who == "root":
        return
    adds = "adduser {who} {group}" if os.access("/usr/sbin/adduser", os.X_OK) else "usermod -aG {group} {who}"
    acts, looks = (adds.format(who=who or "YOU", group=group) for group in ("wolverine-admin", "wolverine-view"))
    yield Step(acts, "who is in it may start, stop, approve: decide what runs as the app")
    yield Step(looks, "who is in it may look, and nothing else")
