# SPDX-License-Identifier: MIT
"""Checks what the values mean on this machine, and fills in what is derived from others.

Everything is looked at, so that one run of `config check` says all there is to mend. Whoever may not look at
the application (the supervisor under systemd), or must not by such means (root, whom a stranger's directory
could lead astray), brings the facts instead.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from wolverined.config import numbers, pending, words
from wolverined.config.facts import Facts
from wolverined.config.problems import Loaded, Problems
from wolverined.config.schema import AppTable, Config, HealTable, PlatformTable, ProbeTable, RoutesTable, Unprovable

_FIRST_UNPRIVILEGED_PORT = 1024
_LAST_PORT = 65535
_ENVIRONMENT_BYTES = 256 << 10
_PATH_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?PATH=(.*)$", re.MULTILINE)


def check(
    tables: Mapping[str, msgspec.Struct], *, problems: Problems, origin: Path, facts: Facts | None = None
) -> Loaded:
    """Complete the tables to a Config; what is wrong goes to `problems`.

    Args:
        tables: What the file says.
        problems: Takes what is wrong.
        origin: The file.
        facts: What was seen of the app already; then nothing of it is looked at.
    """
    warnings: list[str] = []
    numbers.check(tables, problems=problems)
    words.check(tables, problems=problems)
    app_table, heal_table = cast("AppTable", tables["app"]), cast("HealTable", tables["heal"])
    if facts is None:
        app = _check_app(app_table, problems, base=origin.parent)
        heal = _check_heal(heal_table, app, problems, warnings)
    else:
        app = _told_app(app_table, facts, problems, base=origin.parent)
        heal = _told_heal(heal_table, app, facts, problems, warnings)
    _check_needs_port(cast("ProbeTable", tables["probe"]), cast("RoutesTable", tables["routes"]), app, problems)
    platform = cast("PlatformTable", tables["platform"])
    if not platform.instance_name:
        platform = msgspec.structs.replace(platform, instance_name=origin.stem)
    made: dict[str, Any] = {**tables, "app": app, "heal": heal, "platform": platform}
    config = Config(**made)
    return Loaded(config=config, warnings=(*warnings, *pending.warnings(config)))


def _check_app(app: AppTable, problems: Problems, *, base: Path) -> AppTable:
    directory = absolute(app.directory, base)
    there = False
    if not problems.has("app.directory"):
        why = no_directory(directory)
        there = not why
        if why:
            problems.add("app.directory", f"app.directory {directory} {why}", "write the directory of the application")
    environment_file, search = _check_environment_file(app, base, problems)
    if not problems.has("app.command"):
        check_command(app, directory if there else None, problems, search=search)
    _check_port(app, problems)
    user = _check_user(app, directory if there else None, problems)
    return msgspec.structs.replace(app, directory=directory, user=user, environment_file=environment_file)


def _told_app(app: AppTable, facts: Facts, problems: Problems, *, base: Path) -> AppTable:
    """As `_check_app`, without a look at anything of the app's; `environment_file` becomes the copy that was made."""
    if not app.command or not app.command[0]:
        check_command(app, None, problems)
    _check_port(app, problems)
    user = "" if problems.has("app.user") else facts.user or app.user
    if user and (entry := _named(user, problems)) is not None:
        _refuse_root(app, entry.pw_uid, f"{app.directory} belongs to root", problems)
    environment_file = app.environment_file and Path(facts.environment or absolute(app.environment_file, base))
    directory = absolute(app.directory, base)
    return msgspec.structs.replace(app, directory=directory, user=user, environment_file=environment_file)


def absolute(path: Path, base: Path) -> Path:
    """What a path of the file means; `base` is where the file lies."""
    return Path(os.path.normpath(Path(base).absolute() / path))


def no_directory(path: Path) -> str:
    """Why `path` cannot be used as a directory; "" when it can."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "" if stat.S_ISDIR(mode) else "is not a directory"


def path_in(data: bytes) -> str:
    """The last PATH that an environment file sets; "" when it sets none (pure)."""
    found = _PATH_LINE.findall(data.decode("utf-8", "replace"))
    return str(found[-1]).strip().strip("\"'") if found else ""


def check_command(app: AppTable, directory: Path | None, problems: Problems, *, search: str = "") -> None:
    """Look for the program of the command.

    Args:
        app: What the file says.
        directory: The app's; None when that is not there.
        problems: Takes what is wrong.
        search: The PATH of the app's environment file; "" when it sets none.
    """
    places = app.environment.get("PATH", search or os.environ.get("PATH", os.defpath))
    program = app.command[0] if app.command else ""
    if not program:
        problems.add("app.command", "app.command is empty", 'write command = ["node", "server/index.js"]')
    elif "/" in program:
        if directory is not None and not _executable(directory / program):
            what = f"the program {program!r} is not found or not executable"
            problems.add("app.command", what, "write its absolute path, or one from app.directory")
    elif shutil.which(program, path=places) is None:
        what = f"the program {program!r} is not found or not executable"
        problems.add("app.command", what, "install it, or write its absolute path")


def _executable(path: Path) -> bool:
    try:
        # effective_ids: root asks this with the eyes of the app's user.
        return stat.S_ISREG(path.stat().st_mode) and os.access(path, os.X_OK, effective_ids=True)
    except OSError:
        return False


def _check_port(app: AppTable, problems: Problems) -> None:
    if app.port is None or problems.has("app.port"):
        return
    if not 0 < app.port <= _LAST_PORT:
        problems.add("app.port", f"app.port {app.port} is no port", f"write a number from 1024 to {_LAST_PORT}")
    elif app.port < _FIRST_UNPRIVILEGED_PORT:
        problems.add(
            "app.port",
            f"app.port {app.port} is privileged, and the app gets no capability",
            "let a reverse proxy (nginx, caddy, haproxy) listen there and pass to a port from 1024 up",
        )


def _check_user(app: AppTable, directory: Path | None, problems: Problems) -> str:
    if problems.has("app.user"):
        return ""
    if app.user:
        named = _named(app.user, problems)
        if named is None:
            return app.user
        entry = named
    elif directory is None:
        return ""
    else:
        owner = directory.stat().st_uid
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            problems.add("app.user", f"{directory} belongs to uid {owner}, which has no name", "write app.user")
            return ""
    refused = _refuse_root(app, entry.pw_uid, f"{directory} belongs to root", problems)
    if not refused and os.geteuid() not in (0, entry.pw_uid):
        what = f"only root can run the app as {entry.pw_name}"
        problems.add("app.user", what, f"run as root, or as {entry.pw_name}, or write user = {_own_name()!r}")
    return entry.pw_name


def _named(user: str, problems: Problems) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        problems.add("app.user", f"there is no user {user!r}", f"adduser --system --group {user}")
        return None


def _refuse_root(app: AppTable, uid: int, derived: str, problems: Problems) -> bool:
    """Whether the app would run as root without that having been asked for, which is a problem."""
    if uid != 0 or app.allow_root:
        return False
    why = "app.user is root" if app.user else f"{derived}, so the app would run as root"
    problems.add("app.user", why, "write user = the app's own user, or allow_root = true if you must")
    return True


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's bare uid
        return "a user with a name"


def _check_environment_file(app: AppTable, base: Path, problems: Problems) -> tuple[Path | None, str]:
    """The file, and the PATH that it sets."""
    if app.environment_file is None:
        return None, ""
    file = Path(base).absolute() / app.environment_file
    try:
        # Looked at before it is opened: a pipe would be waited for.
        if not stat.S_ISREG(file.stat().st_mode):
            problems.add("app.environment_file", f"{file} is no file", "write the path of a file of KEY=VALUE lines")
        else:
            with file.open("rb") as opened:
                return file, path_in(opened.read(_ENVIRONMENT_BYTES))
    except OSError as error:
        problems.add("app.environment_file", f"cannot read {file}: {error.strerror}", "check the path, owner and mode")
    return file, ""


def _told_heal(heal: HealTable, app: AppTable, facts: Facts, problems: Problems, warnings: list[str]) -> HealTable:
    _warn_of_daring(heal, warnings)
    if problems.has("app.directory") or problems.has("heal.source") or _outside(heal, app, problems):
        return heal
    apply_as = facts.apply_as or heal.apply_as
    if not apply_as:
        return heal
    try:
        entry = pwd.getpwnam(apply_as)
    except KeyError:
        problems.add("heal.apply_as", f"there is no user {apply_as!r}", "write the owner of the source")
        return heal
    if entry.pw_uid == 0 and not heal.allow_root_owner:
        warnings.append(_root_owned("heal.apply_as is root" if heal.apply_as else "the source belongs to root"))
    return msgspec.structs.replace(heal, apply_as=apply_as)


def _outside(heal: HealTable, app: AppTable, problems: Problems) -> bool:
    """Whether the source is no part of the app's directory, which is a problem."""
    if Path(os.path.normpath(app.directory / heal.source)).is_relative_to(app.directory):
        return False
    problems.add("heal.source", "heal.source lies outside app.directory", 'write a path below it, such as "."')
    return True


def _warn_of_daring(heal: HealTable, warnings: list[str]) -> None:
    if heal.unprovable is Unprovable.APPLY:
        warnings.append('heal.unprovable = "apply": fixes that could not be tried are applied all the same')
    if heal.auto_risk == "any":
        warnings.append('heal.auto_risk = "any": a model\'s fixes are applied without a look at what they touch')


def _check_heal(heal: HealTable, app: AppTable, problems: Problems, warnings: list[str]) -> HealTable:
    _warn_of_daring(heal, warnings)
    if problems.has("app.directory") or problems.has("heal.source") or _outside(heal, app, problems):
        return heal
    source = Path(os.path.normpath(app.directory / heal.source))
    if why := no_directory(source):
        problems.add("heal.source", f"heal.source {source} {why}", "write a path below app.directory")
        return heal
    return _check_apply_as(heal, source, problems, warnings)


def _check_apply_as(heal: HealTable, source: Path, problems: Problems, warnings: list[str]) -> HealTable:
    owner = source.stat().st_uid
    try:
        entry = pwd.getpwnam(heal.apply_as) if heal.apply_as else pwd.getpwuid(owner)
    except KeyError:
        if heal.apply_as:
            problems.add("heal.apply_as", f"there is no user {heal.apply_as!r}", "write the owner of the source")
        else:
            problems.add("heal.apply_as", f"{source} belongs to uid {owner}, which has no name", "write heal.apply_as")
        return heal
    if entry.pw_uid == 0 and not heal.allow_root_owner:
        warnings.append(_root_owned("heal.apply_as is root" if heal.apply_as else f"{source} belongs to root"))
    elif os.geteuid() not in (0, entry.pw_uid):
        warnings.append(f"only root can write files as {entry.pw_name}: repairs are written as {_own_name()}")
    return msgspec.structs.replace(heal, apply_as=entry.pw_name)


def _root_owned(whose: str) -> str:
    return (
        f"{whose}: repairs are proposed and proven but not applied; "
        "chown the source to a user of its own, or write heal.allow_root_owner = true"
    )


def _check_needs_port(probe: ProbeTable, routes: RoutesTable, app: AppTable, problems: Problems) -> None:
    if app.port is not None or problems.has("app.port"):
        return
    for key, needed in (("probe.http", bool(probe.http)), ("probe.tcp", probe.tcp), ("routes.watch", routes.watch)):
        if needed and not problems.has(key):
            problems.add(key, f"{key} needs app.port", "write port = 3000, or the port of yours, in [app]")
