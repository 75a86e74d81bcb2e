# SPDX-License-Identifier: MIT
"""A project on disk and what was learnt of its start. Reading is bounded: no pipe, no device, no huge file."""

from __future__ import annotations

import json
import os
import pwd
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from wolverined.errors import UsageError

MAX_BYTES = 1 << 20
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Refused(Exception):
    """Why a way to start the project was not taken; the text is for the operator."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A directory, the user that the app will run as, and the environment of whoever runs `init`."""

    directory: Path
    user: str
    uid: int
    gids: frozenset[int]
    home: Path
    environ: Mapping[str, str] = {}

    @classmethod
    def of(cls, directory: Path, *, user: str = "", environ: Mapping[str, str] = os.environ) -> Project:
        """Look at `directory`, whose owner is the user unless `user` says another one.

        Raises:
            UsageError: There is no such directory or user.
        """
        directory = Path(os.path.normpath(directory.absolute()))
        try:
            found = directory.stat()
            if not stat.S_ISDIR(found.st_mode):
                raise UsageError(f"{directory} is not a directory", hint="name the application's with --directory")
            entry = pwd.getpwnam(user) if user else pwd.getpwuid(found.st_uid)
        except OSError as error:
            raise UsageError(
                f"cannot look at {directory}: {error.strerror}", hint="name the application's with --directory"
            ) from error
        except KeyError as error:
            what = (
                f"there is no user {user!r}" if user else f"{directory} belongs to uid {found.st_uid}, without a name"
            )
            raise UsageError(
                what, hint=f"adduser --system --group {user or 'NAME'}; chown -R it {directory}"
            ) from error
        return cls(
            directory=directory,
            user=entry.pw_name,
            uid=entry.pw_uid,
            gids=frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)),
            home=Path(entry.pw_dir or "/"),
            environ=dict(environ),
        )

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return is_file(self.directory / name)

    def text(self, name: str) -> str:
        """The text of a file of the project; "" when there is none that can be read."""
        return read_text(self.directory / name)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the project; {} when there is none."""
        try:
            found = json.loads(self.text(name) or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def toml(self, name: str) -> dict[str, Any]:
        """A TOML file of the project; {} when there is none."""
        try:
            return tomllib.loads(self.text(name))
        except (ValueError, RecursionError):
            return {}

    def may_run(self, program: Path) -> bool:
        """Whether the app's user may execute `program`, as far as permission bits along its real path tell."""
        try:
            real = program.resolve(strict=True)
            if not stat.S_ISREG(real.stat().st_mode):
                return False
            return all(self._may_pass(place.stat()) for place in (real, *real.parents))
        except (OSError, RuntimeError):  # RuntimeError: a circle of links
            return False

    def _may_pass(self, found: os.stat_result) -> bool:
        if self.uid == 0:
            return bool(found.st_mode & 0o111)
        whose = (
            stat.S_IXUSR if found.st_uid == self.uid else stat.S_IXGRP if found.st_gid in self.gids else stat.S_IXOTH
        )
        return bool(found.st_mode & whose)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One way to start the project's server: argv, where it was found, and what belongs to it."""

    command: tuple[str, ...]
    origin: str = ""
    language: str = ""
    directory: Path | None = None  # when it is not the project's own
    entry: str = ""  # the source file that runs first, relative to the directory
    port: int | None = None
    port_origin: str = ""
    environment: dict[str, str] = {}
    environment_file: Path | None = None
    user: str = ""
    notify: bool = False
    stop: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file that we may look at."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """The text of a regular file of bearable size; "" for everything else."""
    if not is_file(path):
        return ""  # a pipe or a device: reading could last for ever
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        return ""
    return "" if len(data) > MAX_BYTES else data.decode("utf-8", "replace").removeprefix("\ufeff")


def table(value: Any, *names: str) -> dict[str, Any]:
    """The table at a path of keys inside a parsed file; {} when anything else stands there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def strings(value: dict[str, Any]) -> dict[str, str]:
    """The entries of a table that are texts."""
    return {key: inner for key, inner in value.items() if isinstance(inner, str)}
