# SPDX-License-Identifier: MIT
"""`wolverinectl init NAME`: looks at a project and writes a configuration that can be used as it is.

Nothing of the project is executed. The file is checked before it is written, written whole or not at
all, and never replaces another one unless that is asked for.
"""

from __future__ import annotations

import argparse
import grp
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config import check
from wolverined.config.load import parse
from wolverined.config.problems import Problem, visible
from wolverined.config.projects import brought, detect, draft, listening, ports, unit
from wolverined.config.projects.brought import Brought
from wolverined.config.projects.draft import Draft
from wolverined.config.projects.project import SYSTEM_PATH, Project, Start
from wolverined.errors import AccessDenied, ConfigError, Conflict, NotFound, UsageError
from wolverined.redact import Redactor, known_secrets

OWN = "wolverine"
"""The user of the system's supervisors, and the group that may read configurations."""

_FIRST_UNPRIVILEGED_PORT = 1024
_DOTENV = ("dotenv", "python-dotenv", "environs", "pydantic-settings", "decouple", "--env-file")


class Step(msgspec.Struct, frozen=True):
    """A command to type next, and why."""

    command: str
    why: str = ""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What else the operator should know, and do."""

    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


Advise = Callable[[str, Draft, Path], Advice]
"""Looks at a machine for an application of that name, found so, written into that file."""


def main(args: argparse.Namespace, *, advise: Advise | None = None) -> int:
    """Write, or print, a configuration for the project in `args.directory`; the exit code is 0.

    Args:
        args: The command line.
        advise: What is to be said to whoever enrols a service of this machine.

    Raises:
        NotFound: Nothing was recognised there.
        Conflict: The file exists.
        ConfigError: What was found cannot be used on this machine; nothing was written.
    """
    output = Path(args.output).absolute() if args.output else check.DIRECTORY / f"{args.name}.toml"
    if not args.print and os.path.lexists(output) and not args.force:
        raise Conflict(f"{output} is there already", hint="--force replaces it, --print only shows the new one")
    project, start, more = _look(args)
    if start is None:
        return _nothing(args, project, more)
    carried = _bring(args, project)
    made = _draft(args.name, project, start, notes=more, carried=carried)
    text = draft.render(made)
    if args.print:
        return _show(args, text, output=output, made=made, carried=carried)
    warnings = _checked(text, output)
    _write(output, text, force=args.force)
    notes = [*made.notes, *warnings, *carried.notes, *_write_keys(carried, force=args.force)]
    advice = Advice(steps=(Step(f"wolverined run --config {output}"),))
    if advise is not None and output.parent == check.DIRECTORY:
        advice = advise(args.name, made, output)
    _tell(args, output=output, made=made, notes=[*notes, *advice.notes], steps=advice.steps)
    return 0


def _look(args: argparse.Namespace) -> tuple[Project, Start | None, list[str]]:
    """The project, its best start, and what the operator should know; no start when nothing was recognised."""
    if args.from_unit:
        start = unit.start_of(unit.find(args.from_unit), name=args.name)
        place = Path(args.directory) if args.directory != "." or start.directory is None else start.directory
        project = Project.of(place, user=start.user)
        return project, start, list(start.notes)
    project = Project.of(Path(args.directory))
    found = detect.detect(project)
    if not found.starts:
        return project, None, list(found.refused)
    best, *others = found.starts
    notes = [*best.notes, *(f"passed over: {reason}" for reason in found.refused)]
    if others:
        notes.append("it could also be started by " + "; ".join(each.origin for each in others[:3]))
    return project, best, notes


def _nothing(args: argparse.Namespace, project: Project, refused: list[str]) -> int:
    """Say what was looked for; with --print, give a template."""
    why = f"{project.directory} does not tell how its server is started"
    if refused:
        why += ": " + "; ".join(refused)
    else:
        why += "; looked for " + ", ".join(detect.LOOKED_FOR)
    if not args.print:
        raise NotFound(
            why, hint="wolverinectl init NAME --print gives a template; --from-unit takes over a systemd unit"
        )
    text = draft.template(args.name, project.directory)
    sys.stderr.write(f"warning: {_said(why)}\n")
    sys.stdout.write(_json({"text": text, "recognised": False}) if args.json else text)
    return 0


def _bring(args: argparse.Namespace, project: Project) -> Brought:
    if not args.import_env:
        return Brought()
    root = os.geteuid() == 0
    return brought.bring(project, name=args.name, environ=os.environ, etc=check.DIRECTORY, as_root=root)


def _draft(name: str, project: Project, start: Start, *, notes: list[str], carried: Brought) -> Draft:
    """Put together what goes into the file.

    Raises:
        UsageError: The application would run as root.
    """
    inner = msgspec.structs.replace(project, directory=start.directory or project.directory)
    if project.uid == 0:
        raise UsageError(
            f"the application would run as root, to whom {project.directory} belongs",
            hint=f"give it a user of its own: adduser --system --group {name}; chown -R {name}: {project.directory}",
        )
    if project.user == OWN:
        raise UsageError(
            f"the application would run as {OWN}, the user of its supervisors: it could signal and read them",
            hint=f"give it a user of its own: adduser --system --group {name}; chown -R {name}: {project.directory}",
        )
    port, origin = ports.find(start, inner)
    if port is not None and port < _FIRST_UNPRIVILEGED_PORT:
        notes.append(f"port {port} (from {origin}) is privileged: choose one from 1024 up behind a reverse proxy")
        port = None
    environment, hidden = _without_secrets(start.environment)
    if hidden:
        notes.append(
            f"{', '.join(hidden)} of {start.origin} looks secret and is not copied: put it into environment_file"
        )
    start = msgspec.structs.replace(
        start, port=port, port_origin=origin, environment={**_path(start), **environment}, origin=start.origin
    )
    return Draft(
        name=name,
        start=start,
        directory=inner.directory,
        user=project.user,
        user_origin="as in the unit" if start.user else "the owner of the directory",
        seen=listening.look(port, inner) if port is not None and not start.notify else None,
        hints=_environment_hint(start, inner),
        tables=carried.tables,
        notes=tuple(notes),
    )


def _checked(text: str, output: Path) -> tuple[str, ...]:
    """The warnings of a file that can be used.

    Raises:
        ConfigError: It cannot.
    """
    try:
        return parse(text, origin=output).warnings
    except ConfigError as error:
        said = "; ".join(
            f"{problem.message} ({problem.hint})" for problem in error.problems if isinstance(problem, Problem)
        )
        raise ConfigError(
            f"nothing was written, since what was found cannot be used: {said}",
            hint="--print shows the file, for you to complete",
            problems=error.problems,
        ) from error


def _without_secrets(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    hidden = [key for key, value in environment.items() if known_secrets({key: value})]
    return {key: value for key, value in environment.items() if key not in hidden}, hidden


def _path(start: Start) -> dict[str, str]:
    """PATH for an interpreter that lies elsewhere: the application may start it again by its name."""
    place = str(Path(start.command[0]).parent)
    if not start.command[0].startswith("/") or place in SYSTEM_PATH.split(":") or not start.language:
        return {}
    return {"PATH": f"{place}:{SYSTEM_PATH}"}


def _environment_hint(start: Start, project: Project) -> tuple[str, ...]:
    """What to do about a .env that nobody reads under a supervisor."""
    if start.environment_file is not None or not project.has(".env"):
        return ()
    names = ports.names_in(project.text(".env"))
    declared = " ".join(project.text(name) for name in ("package.json", "requirements.txt", "pyproject.toml"))
    said = f".env has {len(names)} variables ({', '.join(names[:12])}{', …' if len(names) > 12 else ''})"  # noqa: PLR2004
    if any(word in declared or word in " ".join(start.command) for word in _DOTENV):
        return (f"{said}, which the application seems to read by itself.",)
    return (f'{said}. Unless the application reads it by itself: environment_file = ".env", with its full path.',)


def _show(args: argparse.Namespace, text: str, *, output: Path, made: Draft, carried: Brought) -> int:
    with suppress(BrokenPipeError):
        sys.stdout.write(_json({"text": text, "recognised": True, **_summary(made)}) if args.json else text)
        sys.stdout.flush()
    for note in (*carried.notes, *(f"{path} would hold a key" for path in carried.keys)):
        sys.stderr.write(f"note: {_said(note)}\n")
    try:
        _checked(text, output)
    except ConfigError as error:
        sys.stderr.write(f"warning: {error.message.replace('nothing was written, since', 'as it stands')}\n")
    return 0


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write the file whole or not at all.

    Readable for everyone, since it holds no secret; one of the system's is for root and the supervisors alone, for
    it will hold what its operator writes into it.

    Raises:
        AccessDenied: It cannot be written there.
        Conflict: Somebody else was faster.
    """
    hint = "as root (sudo), or to a file of yours: --output NAME.toml"
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft_path = path.with_name(f".{path.name}.{os.getpid()}.new")
        fd = os.open(draft_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                own = _own_group() if path.parent == check.DIRECTORY else None
                if own is not None:
                    os.fchown(fd, -1, own)
                os.fchmod(fd, 0o644 if own is None else 0o640)
                os.fsync(fd)
            if force:
                draft_path.replace(path)
            else:
                path.hardlink_to(draft_path)  # unlike rename(2), this never replaces what is there
        finally:
            draft_path.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError as error:
        raise Conflict(f"{path} is there already", hint="--force replaces it") from error
    except OSError as error:
        raise AccessDenied(f"cannot write {path}: {error.strerror}", hint=hint) from error


def _own_group() -> int | None:
    """The group of the supervisors; None where the package is not installed, or we are not root."""
    try:
        return grp.getgrnam(OWN).gr_gid if os.geteuid() == 0 else None
    except KeyError:
        return None


def _write_keys(carried: Brought, *, force: bool) -> list[str]:
    said = []
    for path, text in carried.keys.items():
        try:
            written = brought.write_key(Path(path), text, force=force)
        except OSError as error:
            raise AccessDenied(f"cannot write {path}: {error.strerror}", hint="check the directory") from error
        said.append(f"{path} holds a key, for root's eyes" if written else f"{path} has another key and was left alone")
    return said


def _summary(made: Draft) -> dict[str, Any]:
    return {
        "command": list(made.start.command),
        "directory": str(made.directory),
        "user": made.user,
        "port": made.start.port,
        "origin": made.start.origin,
    }


def _tell(args: argparse.Namespace, *, output: Path, made: Draft, notes: list[str], steps: tuple[Step, ...]) -> None:
    if args.json:
        about = {"notes": [_said(note) for note in notes], "next": [step.command for step in steps]}
        sys.stdout.write(_json({"file": str(output), "written": True, **_summary(made), **about}))
        return
    sys.stdout.write(f"{output} is written.\n")
    sys.stdout.write(f"  found in  {visible(made.start.origin)}\n")
    sys.stdout.write(f"  command   {visible(' '.join(made.start.command))}\n")
    sys.stdout.write(f"  user      {made.user}\n")
    if made.start.port:
        sys.stdout.write(f"  port      {made.start.port}\n")
    for note in notes:
        sys.stdout.write(f"  note: {_said(note)}\n")
    sys.stdout.write("Next:\n")
    width = max((len(step.command) for step in steps if step.why), default=0)
    for step in steps:
        why = f"{step.command.ljust(width)}    # {_said(step.why)}" if step.why else step.command
        sys.stdout.write(f"  {why}\n")


def _said(text: str) -> str:
    return visible(Redactor({}).text(text))


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode() + "\n"
