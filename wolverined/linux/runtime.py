# SPDX-License-Identifier: MIT
"""Where an instance keeps its sockets and its state (DESIGN 7.2), and how such a directory is made safely."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from wolverined.errors import AccessDenied, Conflict, UsageError

RUN = Path("/run/wolverine")
STATE = Path("/var/lib/wolverine")

_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NO_NEW_FILE = {errno.EROFS, errno.ENOSPC, errno.EDQUOT}
_OF_ALL = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # more does not fit into the address of a trial's socket


def check_name(name: str) -> str:
    """The name of an application, which becomes part of paths; returned when it is fit for that.

    Raises:
        UsageError: It is not.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of an application",
            hint="use letters, digits, '.', '_' and '-', at most 63, and start with a letter or a digit",
        )
    return name


def check_service_name(name: str) -> str:
    """The name of an application under systemd, where some names mean something else already; returned when it is fit.

    Raises:
        UsageError: It is not.
    """
    if check_name(name) == _OF_ALL:
        raise UsageError(
            f"{_OF_ALL!r} cannot be the name of an application under systemd: "
            f"/etc/wolverine/ai/{_OF_ALL}.toml is for all of them",
            hint="give it another name",
        )
    return name


def runtime_dir(name: str, explicit: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the sockets of an instance lie: `explicit`, else the user's runtime directory, else /run for root.

    root's own `XDG_RUNTIME_DIR` is used only if others may pass through it: applications of other users
    must reach the sockets that are meant for them.
    """
    check_name(name)
    if explicit is not None:
        return explicit.absolute()
    root = os.geteuid() == 0
    own = environ.get("XDG_RUNTIME_DIR", "")
    if own.startswith("/") and (not root or _passable(Path(own))):
        return Path(own) / "wolverine" / name
    if root:
        return RUN / name
    import tempfile  # noqa: PLC0415 - half a megabyte that few need

    return Path(tempfile.gettempdir()) / f"wolverine-{os.geteuid()}" / name


def state_dir(name: str, explicit: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state of an instance lies: `explicit`, else /var/lib for root, else the user's state directory."""
    check_name(name)
    if explicit is not None:
        return explicit.absolute()
    if os.geteuid() == 0:
        return STATE / name
    own = environ.get("XDG_STATE_HOME", "")
    base = Path(own) if own.startswith("/") else Path.home() / ".local" / "state"
    return base / "wolverine" / name


def make_private_dir(path: Path, mode: int) -> None:
    """Make a directory with exactly `mode`, and refuse one that somebody else made or can swap.

    Missing parents are made 0755. Raises AccessDenied when the path is a link, no directory, another
    user's, or lies in a directory where others may replace it (theirs, or writable without the sticky bit).
    Everything is done to what was looked at, through its descriptor: whoever swaps names meanwhile, in a home
    below which root was told to keep its state, say, has nothing of his choice made or opened to others.
    """
    try:
        with _opened(path.parent) as parent:
            _refuse_replaceable(parent, path.parent)
            with contextlib.suppress(FileExistsError):  # from an earlier time, or somebody's: it is looked at next
                os.mkdir(path.name, mode, dir_fd=parent)
            with _ours(path, parent) as found:
                _give_mode(found, path, mode)
    except OSError as error:
        raise AccessDenied(
            f"cannot make the directory {path}: {error.strerror}", hint="name another with --runtime-dir or --state-dir"
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A directory and, where it is missing, everything above it, made 0755."""
    if path.exists():
        fd = os.open(path, _LOOK)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    with _opened(path.parent) as parent:
        _refuse_replaceable(parent, path.parent)
        made = False
        try:
            os.mkdir(path.name, 0o755, dir_fd=parent)
            made = True
        except FileExistsError:
            pass  # another daemon was quicker
        with _ours(path, parent) as fd:
            # The umask does not decide this: applications must pass through on the way to their sockets.
            if made:
                _give_mode(fd, path, 0o755)
            yield fd


@contextlib.contextmanager
def _ours(path: Path, parent: int) -> Iterator[int]:
    """The last part of `path`, looked up in `parent`; a link is not followed."""
    try:
        fd = os.open(path.name, _LOOK | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise _stranger(path) from error
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise _stranger(path)
        yield fd
    finally:
        os.close(fd)


def _stranger(path: Path) -> AccessDenied:
    return AccessDenied(f"{path} is not a directory of ours", hint=f"remove {path}, or name another directory")


def _refuse_replaceable(fd: int, path: Path) -> None:
    found = os.fstat(fd)
    shared = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if shared or found.st_uid not in {0, os.geteuid()}:
        raise AccessDenied(
            f"others may replace what lies in {path}", hint="name a directory that only you or root may write to"
        )


def _give_mode(fd: int, path: Path, mode: int) -> None:
    if stat.S_IMODE(os.fstat(fd).st_mode) == mode:
        return
    try:
        # Not fchmod: it wants a descriptor to read from, and a directory of ours may deny even us that.
        Path(f"/proc/self/fd/{fd}").chmod(mode)
    except OSError as error:
        raise AccessDenied(
            f"cannot give {path} the mode {mode:04o}: {error.strerror}", hint=f"chmod {mode:04o} {path}"
        ) from error


def identity(path: Path) -> tuple[int, int, int] | None:
    """What tells the file at `path` from any other that is put there later; None when there is nothing.

    The number of a removed file is given to the next, mostly at once: so the time of its last change belongs to it.
    """
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def lock_state(state_dir: Path, name: str) -> int:
    """Claim a directory for this supervisor until the returned file descriptor is closed.

    Raises:
        Conflict: Another supervisor has it.
        AccessDenied: It cannot be claimed.
    """
    path = state_dir / "supervisor.lock"
    try:
        fd = _open_lock(path)
    except OSError as error:
        hint = f"it is a file of wolverined's own: rm -r {path}, and see that {state_dir} belongs to wolverined's user"
        raise AccessDenied(f"cannot open {path}: {error.strerror}", hint=hint) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Conflict(
            f"another supervisor of {name} is running", hint="stop it first, or give this one another name"
        ) from error
    except OSError as error:
        os.close(fd)
        hint = f"a file system that knows no locks? name another directory than {state_dir}"
        raise AccessDenied(f"cannot lock {path}: {error.strerror}", hint=hint) from error
    return fd


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno not in _NO_NEW_FILE:
            raise
        # A disk that is full or read-only keeps no app from being supervised: the directory itself is locked.
        return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _passable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IXOTH)
    except OSError:
        return False
