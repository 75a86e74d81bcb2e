# SPDX-License-Identifier: MIT
"""Prepares one application, and forgets one: the facts, the copy of its environment, the spool, the walls.

Only a configuration that cannot be used keeps an application from starting. Whatever else fails here makes
heals weaker, and is told as that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from wolverined.config import ai, facts
from wolverined.config.facts import Facts
from wolverined.errors import ConfigError, WolverineError
from wolverined.linux.credentials import Credentials, group_id
from wolverined.prepare import trial
from wolverined.prepare.adviser import adviser_walls, model_of
from wolverined.prepare.dropins import UNITS, Walls, daemon_reload, lay, reload_units
from wolverined.prepare.look import OWN, Seen, look


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything lies, for whom it is, and how PID 1 is told."""

    etc: Path = Path("/etc/wolverine")
    prepared: Path = facts.PREPARED
    spool: Path = Path("/var/spool/wolverine")
    units: Path = UNITS
    reload: Callable[[], None] = daemon_reload
    own: str = OWN
    spool_group: str = "wolverine-spool"


def prepare(name: str, places: Places, *, starts: bool = True) -> Facts:
    """Do all of it for `name`; give what was left for the supervisor.

    Args:
        name: The application.
        places: Where everything lies.
        starts: Whether its supervisor is started next; else one may run, with what was prepared before in force.

    Raises:
        OSError: It cannot be looked at now, or not even the facts can be left.
        SpawnError: There is no user of the supervisor's.
    """
    own = Credentials.of_user(places.own)
    _make_directory(places.prepared, uid=0, gid=0, mode=0o755)  # tmpfiles' work, without which no app would start
    _make_directory(facts.directory_of(name, prepared=places.prepared), uid=0, gid=own.gid, mode=0o750)
    copy = facts.environment_of(name, prepared=places.prepared)
    seen = look(places.etc / f"{name}.toml", environment=copy, own=places.own)
    if not starts:
        seen = _beside_what_runs(seen, _user_in_force(name, places))
    told = seen.facts if seen.config is None else _beside(name, seen, places, own)
    if seen.config is not None:
        # A refused configuration leaves the copy: one that is in force may still need it.
        if seen.environment is None:
            copy.unlink(missing_ok=True)
        else:
            facts.replace(copy, seen.environment, group=own.gid)
    facts.write(name, told, prepared=places.prepared, group=own.gid)
    return told


def _user_in_force(name: str, places: Places) -> str:
    """As whom the app was last prepared to run; "" when that is not known."""
    try:
        return facts.read(name, prepared=places.prepared).user
    except ConfigError:
        return ""


def _beside_what_runs(seen: Seen, user: str) -> Seen:
    """Refuse what a supervisor that runs will not take, before the app of one user is given what is another's.

    The user in force stays in facts that refuse something: the next reload is measured by it, too.
    """
    new = seen.facts.user
    if seen.config is None or not user or new == user:
        return msgspec.structs.replace(seen, facts=msgspec.structs.replace(seen.facts, user=new or user))
    words = ConfigError(
        f"app.user is now {new!r}, and {user!r} is in force",
        hint="stop wolverined and start it again: the user of the app does not change while it runs",
    )
    return Seen(facts=Facts(refused=str(words), user=user, config_digest=seen.facts.config_digest))


def forget(name: str, places: Places) -> None:
    """Remove what was prepared for `name`; the spool stays when there is something in it.

    Raises:
        OSError: It cannot be removed.
    """
    if lay(name, (), units=places.units):
        places.reload()
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(facts.directory_of(name, prepared=places.prepared))
    with contextlib.suppress(OSError):
        (places.spool / name).rmdir()


def _beside(name: str, seen: Seen, places: Places, own: Credentials) -> Facts:
    """Lay down what is beside the configuration; give its facts with all that came of it."""
    assert seen.config is not None
    model = model_of(name, directory=places.etc / "ai")
    weak = [*model.weaknesses, *_without_effect(seen, name), *_spool(name, places, own)]
    tried = _walls_of_trial(name, seen, places)
    trouble = _install(name, (adviser_walls(name, model), tried), places)
    weak += [*tried.weaknesses, *([trouble] if trouble else [])]
    return msgspec.structs.replace(
        seen.facts,
        ai=bool(model.key),
        ai_base_url=model.url,
        ai_file=model.file,
        trial=tried.trouble or trouble,
        weaknesses=tuple(weak),
    )


def _without_effect(seen: Seen, name: str) -> list[str]:
    """Keys of `[ai]` that only `wolverined run` takes from the configuration."""
    assert seen.config is not None
    table = seen.config.ai
    keys = [key for key in ("base_url", "models", "prices") if getattr(table, key) != getattr(type(table)(), key)]
    where = ai.candidates(name)[0]
    return [f"[ai] {key} has no effect under systemd: write it into {where}, as root" for key in keys]


def _walls_of_trial(name: str, seen: Seen, places: Places) -> Walls:
    assert seen.config is not None
    assert seen.app is not None
    try:
        passwd = facts.directory_of(name, prepared=places.prepared) / "passwd"
        facts.replace(passwd, trial.passwd_of(Path("/etc/passwd").read_bytes(), seen.app), mode=0o644)
        return trial.walls(name, seen.config, app=seen.app, environment=seen.environment, passwd=str(passwd))
    except (WolverineError, OSError) as error:
        return Walls(trouble=f"no walls for a trial: {error}")


def _install(name: str, walls: tuple[Walls, ...], places: Places) -> str:
    """Have PID 1 know these drop-ins; "" when it does, else what is in the way."""
    stamp = facts.directory_of(name, prepared=places.prepared) / "walls"
    dropins = [dropin for each in walls for dropin in each.dropins]
    known = facts.digest_of(msgspec.json.encode(sorted((dropin.unit, dropin.text) for dropin in dropins))).encode()
    try:
        changed = lay(name, dropins, units=places.units)
        since = time.monotonic_ns()
        # Without the stamp somebody was killed between writing and reloading.
        if not changed and stamp.is_file() and stamp.read_bytes() == known:
            return ""
        stamp.unlink(missing_ok=True)
        reload_units(since=since, prepared=places.prepared, reload=places.reload)
        facts.replace(stamp, known)
    except (OSError, WolverineError) as error:
        return f"adviser and trial have no walls of this app's ({error}); `systemctl daemon-reload`, and start it again"
    return ""


def _spool(name: str, places: Places, own: Credentials) -> list[str]:
    """Make the directory where heartbeats wait; what is in the way, if anything is."""
    group = group_id(places.spool_group)
    if group is None:
        return [f"heartbeats cannot wait on disk: there is no group {places.spool_group}; run systemd-sysusers"]
    try:
        _make_directory(places.spool / name, uid=own.uid, gid=group, mode=0o2770)
    except OSError as error:
        place = places.spool / name
        return [f"heartbeats cannot wait on disk: {place}: {error.strerror}; {place.parent} must be root's, 0755"]
    return []


def _make_directory(path: Path, *, uid: int, gid: int, mode: int) -> None:
    """Make a directory in one of root's, or correct it: everything is done to what was opened."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=parent)
        fd = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            found = os.fstat(fd)
            if (found.st_uid, found.st_gid) != (uid, gid):
                os.fchown(fd, uid, gid)  # before the mode, whose set-group-ID bit it would clear: chown(2)
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                os.fchmod(fd, mode)
        finally:
            os.close(fd)
    finally:
        os.close(parent)
