# SPDX-License-Identifier: MIT
"""What a candidate must not read though its user may: settings files with real keys, and a home's credentials.

Read by the runner before the sandbox stands, as the app's user. The files keep their places, names
and modes; what is secret in them is a fake.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from wolverined.heal.source import NEVER
from wolverined.linux.sandboxtree import Change
from wolverined.redact import with_fakes

PATTERNS = (".env*", "*.env")
"""Names of settings files; a directory that is called so is a virtual environment."""
HOME_PLACES = (
    ".aws",
    ".azure",
    ".bash_history",
    ".config",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".ssh",
    ".vault-token",
)
MAX_BYTES = 1 << 20
MAX_ENTRIES = 200_000
TOO_BIG = "the app's directory is too big to search: the candidate may read a settings file deep inside it"


class Kept(NamedTuple):
    """Fakes to lay over the directory, paths to hide outside of it, and what is weaker."""

    fakes: tuple[Change, ...]
    hide: tuple[str, ...]
    weaknesses: tuple[str, ...] = ()


def keep_from(
    *, directory: str, hide: Collection[str], environment: Mapping[str, str], changed: Collection[str]
) -> Kept:
    """Find what to keep from a candidate.

    Args:
        directory: The app's own.
        hide: What is hidden in any case; a file inside the directory gets fakes instead, so that it parses.
        environment: The candidate's; its HOME counts beside the one of the user database.
        changed: Paths that the candidate changes itself.
    """
    root = os.path.realpath(directory)
    fakes: dict[str, Change] = {}
    hidden: list[str] = []
    seen = _Counter(MAX_ENTRIES)
    for path in (*_settings_files(root, seen), *(path for path in hide if Path(path).is_file())):
        _keep(path, root, fakes, hidden)
    others = [path for path in hide if not Path(path).is_file()]
    places = places_of_homes(home_of_user(), environment.get("HOME", ""))
    kept = tuple(change for path, change in fakes.items() if path not in changed)
    return Kept(kept, (*others, *hidden, *places), (TOO_BIG,) if seen.over else ())


def places_of_homes(*homes: str) -> list[str]:
    """Where credentials of a user lie in each of these homes."""
    known = sorted({home.rstrip("/") for home in homes if home.startswith("/")})
    return [f"{home}/{name}" for home in known for name in HOME_PLACES]


class _Counter:
    def __init__(self, most: int) -> None:
        self._left = most

    @property
    def over(self) -> bool:
        return self._left < 0

    def took(self, count: int) -> bool:
        """Count; false once it is too many."""
        self._left -= count
        return not self.over


def _settings_files(root: str, seen: _Counter) -> Iterator[str]:
    for place, directories, names in os.walk(root):
        if not seen.took(1 + len(names)):
            return
        if "pyvenv.cfg" in names:
            directories.clear()
            continue
        directories[:] = [name for name in directories if name not in NEVER]
        # A link to a directory is among the directories, one to a file among the names.
        yield from (f"{place}/{name}" for name in names if any(fnmatchcase(name, glob) for glob in PATTERNS))


def _keep(path: str, root: str, fakes: dict[str, Change], hidden: list[str]) -> None:
    """Fake the file at a path, and what it links to."""
    real = os.path.realpath(path)
    change = faked(real)
    if change is None:
        return  # no file, or not for this user to read, and so not for the candidate
    data, mode = change
    for one in {f"{os.path.realpath(Path(path).parent)}/{Path(path).name}", real}:
        if one.startswith(f"{root}/"):
            relative = one[len(root) + 1 :]
            fakes[relative] = (relative, data, mode)
        else:
            hidden.append(one)


def faked(path: str) -> tuple[bytes, int] | None:
    """The content of a settings file with a fake for each secret, and its permission bits; None: there is no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        with contextlib.suppress(OSError):
            found = Path(path).stat()
            if found.st_uid == os.geteuid():
                return b"", stat.S_IMODE(found.st_mode)  # the candidate could give itself the permission
        return None
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return None
        data = file.read(MAX_BYTES + 1)
    return fake_of(data), stat.S_IMODE(found.st_mode)


def fake_of(data: bytes) -> bytes:
    """The content of a settings file with a fake for each secret; empty when nobody can say what in it is secret."""
    if len(data) > MAX_BYTES or b"\0" in data:
        return b""
    return with_fakes(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def home_of_user() -> str:
    """Where the user database puts this process's user; "" for a user that it does not know."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""
