# SPDX-License-Identifier: MIT
"""The walls of one application's trials: its drop-ins, and what is lacking.

In the units a candidate stands at the app's own path, in an empty tree that heal fills with the source; what
others wrote (dependencies, interpreters) is bound read-only. `drop_in` is pure; `walls` looks, as the app's user.
"""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from wolverined.config.schema import Config
from wolverined.errors import WolverineError
from wolverined.heal.doors import SIDES
from wolverined.heal.trial import interpreters
from wolverined.heal.trial.bound import MAX_BYTES, VARIABLE, Bound, encode
from wolverined.linux.credentials import Credentials
from wolverined.prepare.dependencies import find, on_the_way, readers
from wolverined.prepare.dropins import Dropin, Walls, tmpfs, user_for, value
from wolverined.prepare.dropins import place as quoted
from wolverined.prepare.eyes import as_user
from wolverined.prepare.origins import Origins

HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp")  # noqa: S108  hidden, not used
"""What the unit covers by an empty place: what lies below must be bound to be there."""
CLOSED = ("/boot", "/etc/wolverine", "/var/backups", "/var/lib/wolverine", "/var/log", "/var/mail", "/var/spool")
"""What the unit closes: nothing below can be opened again. As wolverine-trial@.service has it."""
NEEDED = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
"""A trial needs these as they are, so that none of them can be the app's own directory."""
TREE = "mode=0777,size=512M"
HOME = "mode=0777,size=64M"
MEMORY_MB = 1024
"""As wolverine-trial@.service has it; more when the app may have more."""
BESIDE_MB = 768
"""What a trial needs beside the app's own memory: its tree, and who watches."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DYNAMIC_UIDS = range(61184, 65520)
"""Those of DynamicUser=, as systemd is built for Debian (systemd.exec(5))."""
_PATH_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?PATH=(.*)$", re.MULTILINE)
IN_HOME = (".local/bin", ".local/lib")
MANAGERS = (
    ".asdf", ".bun", ".deno", ".fnm", ".local/share/fnm", ".local/share/mise", ".local/share/uv", ".nodenv", ".nvm",
    ".pyenv", ".rbenv", ".rvm", ".sdkman", ".volta",
)  # fmt: skip
"""Version managers' trees in a home: a program in one may need all of it."""
PEOPLES_GIDS = (range(1000, 60000), range(65536, 2**32 - 1))
"""Groups of people, which an administrator or a directory service made: not those of packages (Debian policy 9.2.2)."""
POWERFUL = frozenset(
    {
        "adm", "backup", "disk", "docker", "incus", "incus-admin", "kmem", "kvm", "libvirt", "libvirt-qemu", "lxd",
        "operator", "podman", "root", "shadow", "ssl-cert", "staff", "sudo", "systemd-journal", "tty", "wheel",
    }
)  # fmt: skip
"""Never given, though they be an app's own, or somebody have made them among those of people."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from app to app.

    Attributes:
        directory: The app's own, as configured.
        inside: Paths below it that are bound into the empty tree.
        outside: Absolute paths that are bound where they are.
        empty: Absolute paths at which an empty, writable place stands: the home, places in /run.
        closed: Files that must not be opened.
        groups: What the trial's user needs to read what is bound.
        memory_mb: The limit of memory.
        datagrams: Whether the app reports its readiness over a Unix socket.
        passwd: A file to be seen as /etc/passwd; "" for the machine's own.
        bounds: Where what is bound lay when it was looked at, for the trial to compare.
    """

    directory: str
    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    memory_mb: int = MEMORY_MB
    datagrams: bool = False
    passwd: str = ""
    bounds: tuple[Bound, ...] = ()


def place(path: str) -> str:
    """A path as one word of a directive.

    Raises:
        WolverineError: No unit file can carry it, or systemd 257 loses it on the way to its executor: tried with each
            of these characters, in TemporaryFileSystem= and BindReadOnlyPaths=; some then end up elsewhere.
    """
    if lost := sorted(set(path) & set("\"':\\")):
        raise WolverineError(
            f"{path!r:.200} cannot be shown to a trial: systemd does not carry {' '.join(lost)}",
            hint="rename it, or let a link without these characters lead to it",
        )
    return quoted(path)


def drop_in(settings: Settings, *, user: str) -> str:
    """The drop-in of one side (pure).

    Raises:
        WolverineError: A path cannot stand in a unit file.
    """
    top = settings.directory
    for path in (top, *settings.empty):
        place(path)
    lines = ["[Service]", f"User={user}", f"TemporaryFileSystem={tmpfs(top, TREE)}"]
    # PID 1 makes the directories on the way to what it binds its own: the trial could write nothing there.
    lines += [f"TemporaryFileSystem={tmpfs(f'{top}/{path}', TREE)}" for path in on_the_way(settings.inside)]
    lines += [f"TemporaryFileSystem={tmpfs(path, HOME)}" for path in settings.empty]
    bound = (*(f"{top}/{path}" for path in settings.inside), *settings.outside)
    lines += [f"BindReadOnlyPaths=-{place(path)}" for path in bound]
    if settings.passwd:
        lines.append(f"BindReadOnlyPaths=-{place(settings.passwd)}:/etc/passwd")
    lines.append(f"Environment={_told(settings.bounds)}")
    lines += [f"InaccessiblePaths=-{place(path)}" for path in settings.closed]
    if settings.groups:
        lines.append("SupplementaryGroups=" + " ".join(map(str, settings.groups)))
    if settings.memory_mb != MEMORY_MB:
        lines.append(f"MemoryMax={settings.memory_mb}M")
    if settings.datagrams:
        lines.append("RestrictAddressFamilies=AF_UNIX")
    return "\n".join(lines) + "\n"


def _told(bounds: Sequence[Bound]) -> str:
    """The bounds as one word of Environment=."""
    text = encode(bounds)
    if len(text.encode()) > MAX_BYTES:
        raise WolverineError("there are too many directories of dependencies, or their paths are too long")
    return value(f"{VARIABLE}={text}")


def walls(name: str, config: Config, *, app: Credentials, environment: bytes | None = None, passwd: str = "") -> Walls:
    """What the units of this app's trial need.

    Args:
        name: The application.
        config: Checked; its paths and users are those that root found.
        app: As whom the application runs.
        environment: The content of its environment file.
        passwd: Where `passwd_of` was written to.

    Raises:
        WolverineError: A path cannot stand in a unit file.
    """
    if trouble := impossible(str(config.app.directory)):
        return Walls(trouble=trouble)
    with as_user(app):
        found = _Search(config, app, {"PATH": path_in(environment or b"") or PATH, **config.app.environment})
        settings = msgspec.structs.replace(found.settings(), passwd=passwd)
    dropins = tuple(
        Dropin(
            unit=f"wolverine-trial@{name}:{side}.service",
            text=drop_in(settings, user=user_for("wvt", f"{name}:{side}")),
        )
        for side in SIDES
    )
    return Walls(dropins=dropins, weaknesses=tuple(found.weaknesses))


def impossible(directory: str) -> str:
    """Why no trial can stand in for this directory; "" when one can (pure)."""
    top = os.path.normpath(directory)
    if any(_same_or_below(one, top) for one in (*NEEDED, "/home", "/tmp")):  # noqa: S108  a name, not used
        return f"no trial can stand at {top}: give the application a directory of its own (app.directory)"
    if closed := next((one for one in CLOSED if _same_or_below(top, one)), ""):
        return f"a trial sees nothing below {closed}: move the application elsewhere (app.directory)"
    return ""


def passwd_of(machines: bytes, app: Credentials) -> bytes:
    """A user database in which whoever a trial runs as is called as the app's user is, and lives where he does (pure).

    Programs ask who they are, and some end when nobody knows: PID 1 makes these users up as they are needed.

    Args:
        machines: The machine's own /etc/passwd.
        app: As whom the application runs.
    """
    made_up = (f"{app.name}:x:{uid}:{uid}::{app.home}:{app.shell}" for uid in DYNAMIC_UIDS)
    return machines.rstrip(b"\n") + b"\n" + "\n".join(made_up).encode() + b"\n"


def path_in(data: bytes) -> str:
    """The last PATH that an environment file sets; "" when it sets none (pure)."""
    found = _PATH_LINE.findall(data.decode("utf-8", "replace"))
    return str(found[-1]).strip().strip("\"'") if found else ""


class _Search:
    """One look at an application, as its user; what is weaker gathers in `weaknesses`."""

    def __init__(self, config: Config, app: Credentials, environment: Mapping[str, str]) -> None:
        self._config = config
        self._app = app
        self._environment = environment
        self._top = str(config.app.directory)
        self._groups: set[int] = set()
        self._origins = Origins(self._top)
        self.weaknesses: list[str] = []

    def settings(self) -> Settings:
        found = [*self._dependencies(), *self._programs(), *self._read_only()]
        inside = _outermost([path for path in found if _below(path, self._top)])
        outside = _outermost([path for path in found if not _below(path, self._top)])
        memory = self._config.resources.memory_max_mb
        return Settings(
            directory=self._top,
            inside=tuple(path[len(self._top) + 1 :] for path in inside),
            outside=outside,
            empty=self._empty(),
            closed=self._closed(),
            groups=self._allowed(),
            memory_mb=max(MEMORY_MB, memory + BESIDE_MB) if memory else MEMORY_MB,
            datagrams=self._config.probe.notify,
            bounds=self._origins.bounds([*inside, *outside]),
        )

    def _dependencies(self) -> list[str]:
        found = find(Path(self._top))
        if found.cut:
            self.weaknesses.append(
                f"trials: {self._top} is too big to search; what is deep in it may be missing in a trial: "
                "name it in heal.trial.read_only"
            )
        kept = []
        for path in found.paths:
            try:
                place(path if path.startswith("/") else f"/{path}")
            except WolverineError as error:
                self.weaknesses.append(f"trials: {error.message}")
                continue
            where = f"{self._top}/{path}"
            self._count_readers(where, Path(path), top=Path(self._top))
            self._origins.plain(where)
            kept.append(where)
        return kept

    def _programs(self) -> list[str]:
        """Interpreters and version managers' trees that the unit would hide: in homes, or in the app's directory."""
        homes = interpreters.homes(command=self._config.app.command, environment=self._environment, directory=self._top)
        home = self._app.home.rstrip("/")
        wanted = [narrow for path in homes for narrow in narrowed(path, home=home, directory=self._top)]
        wanted += [f"{home}/{path}" for path in IN_HOME if home and os.path.isdir(f"{home}/{path}")]  # noqa: PTH112 - see below
        hidden = [path for path in wanted if any(_below(path, one) for one in (*HIDDEN, self._top))]
        found = [path for path in dict.fromkeys(hidden) if self._origins.reached(path) and _bindable(path, self._top)]
        for path in found:
            self._count_readers(path, Path(path))
        return found

    def _read_only(self) -> list[str]:
        """What the operator named, wherever it leads; links are his as long as they lead where they led."""
        named = (os.path.normpath(self._config.app.directory / path) for path in self._config.heal.trial.read_only)
        found = []
        for path in named:
            self._count_readers(path, Path(path))
            if self._origins.written(path):
                found.append(path)
        return found

    def _empty(self) -> tuple[str, ...]:
        """Where an app writes beside its own directory: its home, and directories of its own in /run."""
        home = os.path.normpath(self._app.home)
        places = []
        if home != self._top and not _below(home, self._top) and _is_home(home, self._app.uid):
            places.append(home)
        with os.scandir("/run") as entries:
            places += [entry.path for entry in entries if _is_directory_of(entry, self._app.uid)]
        return tuple(path for path in sorted(places)[:20] if path.isprintable())

    def _closed(self) -> tuple[str, ...]:
        file = self._config.app.environment_file
        if file is None or _below(str(file), self._top) or any(_below(str(file), one) for one in (*HIDDEN, *CLOSED)):
            return ()
        return (str(file),)

    def _count_readers(self, words: str, path: Path, *, top: Path | None = None) -> None:
        seen = readers(path, top=top)
        self._groups |= seen.groups
        if seen.closed:
            group = _group_name(self._app.gid)
            self.weaknesses.append(f"trials cannot read all of {words}: chgrp -R {group} and chmod -R g+rX {words}")
        for gid in sorted(seen.groups - set(self._known())):
            self.weaknesses.append(
                f"trials are not given the group {_group_name(gid)}, which alone may read {words}: chgrp -R it to "
                f"{_group_name(self._app.gid)}"
            )

    def _known(self) -> Sequence[int]:
        return [gid for gid in sorted(self._app.groups()) if may_have(gid, _group_name(gid), own=self._app.gid)]

    def _allowed(self) -> tuple[int, ...]:
        return tuple(gid for gid in self._known() if gid in self._groups)


def may_have(gid: int, name: str, *, own: int) -> bool:
    """Whether a trial may be given a group of the app's user (pure).

    His own group, and those of people. What else he is in is a package's, and opens what that package keeps: keys
    below /etc, databases, sockets; nobody can list them all. Whoever is in one can give it to a directory of
    dependencies, and the trial would have it everywhere.

    Args:
        gid: The group.
        name: What it is called.
        own: The primary group of the app's user.
    """
    if gid == 0 or name in POWERFUL or name.startswith("wolverine"):
        return False
    return gid == own or any(gid in gids for gids in PEOPLES_GIDS)


def narrowed(path: str, *, home: str, directory: str) -> list[str]:
    """What of a program's place is bound: never a whole home, nor what the app's directory lies in (pure)."""
    place_of = os.path.normpath(path)
    for manager in MANAGERS:
        if home and _same_or_below(place_of, f"{home}/{manager}"):
            return [f"{home}/{manager}"]
    whole = {home, f"{home}/.local"} if home else set()
    if place_of in whole or _same_or_below(directory, place_of) or (home and _below(home, place_of)):
        return [f"{place_of}/{part}" for part in ("bin", "lib") if not _same_or_below(directory, f"{place_of}/{part}")]
    return [place_of]


def _bindable(path: str, top: str) -> bool:
    """Whether a place can be bound: one in the app's directory only when it is a tree, since its files travel."""
    try:
        place(path)
    except WolverineError:
        return False
    # Not by pathlib, which in Python 3.11 raises for what may not be looked at, as another's home.
    return os.path.isdir(path) if _below(path, top) else os.path.exists(path)  # noqa: PTH110, PTH112


def _is_directory_of(entry: os.DirEntry[str], uid: int) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == uid
    except OSError:
        return False  # gone since it was listed


def _is_home(home: str, uid: int) -> bool:
    if any(_below(home, one) for one in ("/home", "/root")) or home == "/root":
        return True
    try:
        return home.count("/") > 1 and Path(home).stat().st_uid == uid != 0
    except OSError:
        return False


def _outermost(paths: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(path for path in set(paths) if not any(_below(path, other) for other in paths)))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _same_or_below(path: str, directory: str) -> bool:
    return path == directory or _below(path, directory)
