# SPDX-License-Identifier: MIT
"""Looks at one application for its supervisor: the configuration, whose it is, its program, its environment file.

What is wrong is collected, so that one start says all there is to mend. Nothing is written here.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import cast

import msgspec

from wolverined.config import load, meaning
from wolverined.config.facts import Facts, digest_of
from wolverined.config.schema import AppTable, Config, HealTable
from wolverined.errors import ConfigError, SpawnError
from wolverined.linux.credentials import Credentials, group_id
from wolverined.prepare.eyes import as_user, passes, read_bounded, read_of_root
from wolverined.prepare.ways import Way, way_to

OWN = "wolverine"
"""The supervisor's user, and the group that reads what is prepared."""

MAX_ENVIRONMENT = 256 << 10


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to prepare; when the facts refuse the configuration, only they count."""

    facts: Facts
    config: Config | None = None
    app: Credentials | None = None
    environment: bytes | None = None


def look(file: Path, *, environment: Path, own: str = OWN) -> Seen:
    """See what there is of the application that `file` describes.

    Args:
        file: Its configuration.
        environment: Where the copy of its environment file will lie.
        own: The supervisor's user and group, whom nobody else may be.

    Raises:
        OSError: It cannot be seen now; another time it may.
    """
    digest = ""
    try:
        data = _read_configuration(file)
        digest = digest_of(data)
        seen = _Look(load.decode(data, origin=file), file, own).seen(environment)
    except ConfigError as error:
        return Seen(facts=Facts(refused=str(error), config_digest=digest))
    return msgspec.structs.replace(seen, facts=msgspec.structs.replace(seen.facts, config_digest=digest))


def _read_configuration(file: Path) -> bytes:
    """The bytes of a configuration, which only root may have written: it says as whom programs run."""
    try:
        way = way_to(file)
        if not way.is_roots:
            raise ConfigError(
                f"{file} can be changed by others than root, and says as whom programs run",
                hint=f"chown root: {way.target} && chmod go-w {way.target}, and so for the directories above it",
            )
        return read_of_root(way, most=load.MAX_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {file}", hint=f"`wolverinectl init {file.stem}` writes one") from error
    except OSError as error:
        if passes(error):
            raise
        raise ConfigError(f"cannot read {file}: {error.strerror}", hint="write a file of TOML") from error


class _Look:
    """One look, from what the file says to what it means on this machine."""

    def __init__(self, text: str, file: Path, own: str) -> None:
        raw, self._problems = load.read_toml(text, origin=file)
        self._tables = load.shape(raw, self._problems)
        self._file = file
        self._own = own
        self._app = cast("AppTable", self._tables["app"])
        self._heal = cast("HealTable", self._tables["heal"])
        self._directory = meaning.absolute(self._app.directory, file.parent)

    def seen(self, environment: Path) -> Seen:
        """Everything together.

        Raises:
            ConfigError: With every problem found.
        """
        problems, app, heal = self._problems, self._app, self._heal
        way = self._way("app.directory", self._directory)
        user = app.user or self._owner("app.user", way)
        source = self._way("heal.source", meaning.absolute(Path(heal.source), self._directory)) if way else None
        apply_as = heal.apply_as or self._owner("heal.apply_as", source)
        who = self._credentials("app.user", user)
        self._credentials("heal.apply_as", apply_as)
        copied = self._environment(who)
        if who is not None:
            self._check_as(who, there=way is not None, search=meaning.path_in(copied or b""))
        told = "" if app.environment_file is None else str(environment)
        owner = "" if way is None else _name_of(way.uid)
        facts = Facts(user=user, apply_as=apply_as, directory_owner=owner, environment=told)
        loaded = meaning.check(self._tables, problems=problems, origin=self._file, facts=facts)
        load.refuse(problems, origin=self._file)
        return Seen(facts=facts, config=loaded.config, app=who, environment=copied)

    def _way(self, key: str, path: Path) -> Way | None:
        """The way to a directory that the file names; None when there is none, which is a problem."""
        if self._problems.has(key):
            return None
        try:
            way = way_to(path)
        except OSError as error:
            if passes(error):
                raise
            self._problems.add(key, f"{key} {path}: {error.strerror}", "write the directory of the application")
            return None
        if not stat.S_ISDIR(way.mode):
            self._problems.add(key, f"{key} {path} is not a directory", "write the directory of the application")
            return None
        return way

    def _owner(self, key: str, way: Way | None) -> str:
        """The user to whom a directory belongs, where nobody else could have put somebody's directory there."""
        if way is None or self._problems.has(key):
            return ""
        try:
            name = pwd.getpwuid(way.uid).pw_name
        except KeyError:
            self._problems.add(key, f"{way.target} belongs to uid {way.uid}, which has no name", f"write {key}")
            return ""
        if not way.only_of(way.uid):
            others = way.shared or ", ".join(_name_of(uid) for uid in sorted(way.deciders - {way.uid}))
            who = f"whoever may write to {others}" if way.shared else others
            what = f"{way.target} belongs to {name}, but {who} can put another directory in its place"
            self._problems.add(key, what, f'write {key.partition(".")[2]} = "{name}" if that is who you mean')
        return name

    def _credentials(self, key: str, user: str) -> Credentials | None:
        """Who that is; never the supervisor's own user, nor one who reads what is prepared for others."""
        if not user or self._problems.has(key):
            return None
        try:
            who = Credentials.of_user(pwd.getpwnam(user).pw_name)
        except (KeyError, SpawnError):
            return None  # told by what is checked next
        group = group_id(self._own)
        if who.uid != 0 and (who.name == self._own or (group is not None and group in who.groups())):
            what = f"{key} is {who.name}, who belongs to the group {self._own}, which is wolverined's alone"
            self._problems.add(key, what, f"gpasswd -d {who.name} {self._own}, or write another user")
            return None
        return who

    def _check_as(self, who: Credentials, *, there: bool, search: str) -> None:
        """Whether the app's user finds its directory and its program."""
        with as_user(who):
            if there and not os.access(self._directory, os.X_OK, effective_ids=True):
                what = f"app.directory {self._directory} cannot be entered by {who.name}"
                self._problems.add("app.directory", what, f"let {who.name} enter it, and every directory above it")
            elif not self._problems.has("app.command"):
                meaning.check_command(self._app, self._directory if there else None, self._problems, search=search)

    def _environment(self, who: Credentials | None) -> bytes | None:
        """The bytes of `app.environment_file`, read as root only where nobody else decides what lies there."""
        key = "app.environment_file"
        if self._app.environment_file is None or who is None or self._problems.has(key):
            return None
        path = meaning.absolute(self._app.environment_file, self._file.parent)
        try:
            way = way_to(path)
            data = read_bounded(way, path, most=MAX_ENVIRONMENT, who=who)
        except OSError as error:
            if passes(error):
                raise
            hint = f"let {who.name} read it, or keep it where root alone may write (/etc/wolverine), 0600"
            self._problems.add(key, f"cannot read {path} as {who.name}: {error.strerror}", hint)
            return None
        if len(data) > MAX_ENVIRONMENT:
            self._problems.add(key, f"{path} is larger than 256 KiB", "is it the right file?")
            return None
        return data


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
