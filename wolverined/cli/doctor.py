# SPDX-License-Identifier: MIT
"""`wolverinectl doctor [NAME]`: what this machine offers, one line a thing, and how to mend what it does not.

Nothing is changed: what is tried (a cgroup, a sandbox) is taken down again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from wolverined.cli import application, enrolled, installation, instances, machine, units
from wolverined.cli.findings import BAD, OK, WEAK, Finding
from wolverined.cli.terminal import GREEN, RED, YELLOW, Terminal, clean
from wolverined.config import check
from wolverined.errors import WolverineError
from wolverined.linux.credentials import Credentials
from wolverined.linux.runtime import STATE, check_name, runtime_dir, state_dir

_COLOURS = {OK: GREEN, WEAK: YELLOW, BAD: RED}
_NOBODY = "nobody"


def main(args: argparse.Namespace) -> int:
    """Look at the machine and, when named, at one application; 1 when something is bad, else 0."""
    terminal = Terminal.of_process(args.color)
    found: list[Finding] = []
    for finding in _look(args):
        found.append(finding)
        if not args.json:  # as it is found: the sandbox takes a moment
            terminal.say(_line(finding, terminal))
            terminal.flush()
    good = not any(finding.level == BAD for finding in found)
    if args.json:
        terminal.json({"ok": good, "checks": [finding._asdict() for finding in found]})
    return 0 if good else 1


def _look(args: argparse.Namespace) -> Iterator[Finding]:
    system = installation.present()
    if not args.name:
        yield from machine.look(who=_user_of_trials(None), directory=None, service=system)
        if system:
            yield from installation.look()
            yield installation.adviser("")
        yield machine.place(_parent(runtime_dir("doctor")), "runtime directory")
        yield machine.place(_parent(state_dir("doctor")), "state directory")
        return
    path = check.locate(args.name).absolute()
    name = check_name(path.stem)
    service = system and path.parent == check.DIRECTORY
    if service and os.geteuid() != 0:
        yield from _as_a_plain_user(name)
        return
    loaded, findings = application.read(path)
    user = Credentials.of_user(loaded.config.app.user) if loaded else None
    directory = loaded.config.app.directory if loaded else None
    yield from machine.look(who=_user_of_trials(user), directory=directory, service=service)
    if service:
        yield from installation.look()
    explicit = args.runtime_dir or os.environ.get("WOLVERINE_RUNTIME_DIR", "")
    yield machine.place(runtime_dir(name, Path(explicit) if explicit else None), "runtime directory")
    yield machine.place(STATE / name if service else state_dir(name), "state directory")
    yield from findings
    if loaded:
        yield from application.look(loaded.config, name=name, running=_running(name, explicit), service=service)
    if service:
        yield from enrolled.look(name, path, loaded.config if loaded else None)


def _as_a_plain_user(name: str) -> Iterator[Finding]:
    """What can be said of a service whose files are root's."""
    yield from machine.look(who=None, directory=None, service=True)
    yield from installation.look()
    yield from enrolled.state(units.ask([name]).get(name), name)
    yield Finding(WEAK, f"the files of {name} are for root to see", f"sudo wolverinectl doctor {name}")


def _parent(path: Path) -> Path:
    """The directory that all instances share: no name was given."""
    return path.parent


def _user_of_trials(user: Credentials | None) -> Credentials | None:
    """Root tries as the application's user, or as a user without anything; everybody else as themselves."""
    if os.geteuid() != 0:
        return None
    return user if user is not None and user.uid != 0 else Credentials.of_user(_NOBODY)


def _running(name: str, directory: str) -> frozenset[int]:
    """The pids of the running instance; none when it does not run or may not be asked."""
    try:
        found = instances.Found(name, directory) if directory else instances.locate(name, os.environ)
        status = found.client().get("/v1/status")
    except WolverineError:
        return frozenset()
    tree = status.get("tree") if isinstance(status, dict) and status.get("app") == name else None
    return frozenset(pid for pid in tree or () if isinstance(pid, int))


def _line(finding: Finding, terminal: Terminal) -> str:
    level = terminal.paint(finding.level.ljust(4), _COLOURS[finding.level])
    mend = f"  {terminal.arrow} {clean(finding.mend)}" if finding.mend else ""
    return f"{level}  {clean(finding.what)}{mend}"
