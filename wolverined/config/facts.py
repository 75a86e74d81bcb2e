# SPDX-License-Identifier: MIT
"""What root saw of one application before its unit started, left for a supervisor that may not look itself.

`wolverined.prepare` (root) writes `facts.json`; `wolverined service` (user `wolverine`) reads it in place of
looking into homes and at credentials. The directory is root's, so nobody but root can have written the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import NoReturn

import msgspec

from wolverined.errors import NotPrepared

PREPARED = Path("/run/wolverine-prepared")
"""Where each application's directory lies: root's, 0755, made by tmpfiles."""

MAX_BYTES = 1 << 20
_FILE = "facts.json"
_ENVIRONMENT = "environment"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one application; additions have defaults, so that an older file can be read.

    Attributes:
        v: The version of this shape; another one is not understood.
        refused: Every problem of the configuration as `config check` prints it; "" when it can be used.
        user: As whom the app runs, a name of the user database.
        apply_as: As whom repairs are written.
        directory_owner: To whom `app.directory` belongs.
        ai: Whether there is a key for a model.
        ai_base_url: Where source may be sent to; "" without AI.
        ai_file: Which file says so; "" when there is none.
        trial: Why no trial can run; "" when one can.
        weaknesses: What makes trials or heals weaker than they could be, each with how to mend it.
        environment: The path of the copy of `app.environment_file`; "" when none is set.
        config_digest: SHA-256 (hex) of the bytes of the configuration that these facts are about.
    """

    v: int = 1
    refused: str = ""
    user: str = ""
    apply_as: str = ""
    directory_owner: str = ""
    ai: bool = False
    ai_base_url: str = ""
    ai_file: str = ""
    trial: str = ""
    weaknesses: tuple[str, ...] = ()
    environment: str = ""
    config_digest: str = ""


def directory_of(name: str, *, prepared: Path = PREPARED) -> Path:
    """Where the facts of `name` lie, and the copy of its environment file."""
    return prepared / name


def environment_of(name: str, *, prepared: Path = PREPARED) -> Path:
    """Where the copy of the environment file of `name` lies when there is one."""
    return directory_of(name, prepared=prepared) / _ENVIRONMENT


def digest_of(data: bytes) -> str:
    """What `config_digest` holds of a file with these bytes."""
    return hashlib.sha256(data).hexdigest()


def read(name: str, *, prepared: Path = PREPARED) -> Facts:
    """Give the facts of `name`.

    Raises:
        NotPrepared: There are none, or they cannot be understood.
    """
    path = directory_of(name, prepared=prepared) / _FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        _unusable(name, f"{path} cannot be read: {error.strerror}", error)
    try:
        facts = msgspec.json.decode(data, type=Facts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _unusable(name, f"{path} cannot be understood: {error}", error)
    if facts.v != 1:
        _unusable(name, f"{path} is of version {facts.v}, which this wolverined does not know", None)
    return facts


def write(name: str, facts: Facts, *, prepared: Path = PREPARED, group: int = -1) -> None:
    """Leave the facts of `name`, whole or not at all: 0640, of the caller and of `group` (-1: the caller's)."""
    replace(directory_of(name, prepared=prepared) / _FILE, msgspec.json.encode(facts), group=group)


def replace(path: Path, data: bytes, *, group: int = -1, mode: int = 0o640) -> None:
    """Put `data` at `path` by a rename, so that no reader ever sees half of it.

    Nothing is synced: what lies in /run need not outlive the machine.

    Raises:
        OSError: It cannot be written; what was there before is there still.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):  # of a process with our number that was killed at this work
        draft.unlink()
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchown(fd, -1, group)
            os.fchmod(fd, mode)
            file.write(data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _unusable(name: str, what: str, error: Exception | None) -> NoReturn:
    raise NotPrepared(what, hint=f"`systemctl restart wolverine@{name}` prepares it anew") from error
