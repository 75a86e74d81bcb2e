# SPDX-License-Identifier: MIT
"""Can this program be started, from this directory, by this user? Asked before anything is started.

An exec that fails inside a chain of programs answers with a bare 127; what an operator needs is which
of file, directory, interpreter or permission is wrong, and what to do. Never starts the program itself.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_SHEBANG_BYTES = 256  # BINPRM_BUF_SIZE of the kernel


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What to execute and from where. `cwd` is None when the program changes there itself (env --chdir)."""

    argv: tuple[str, ...]
    cwd: str | None


def check(argv: Sequence[str], *, cwd: str | Path, env: Mapping[str, str], credentials: Credentials | None) -> Start:
    """Find the program and make sure that it can be started.

    Args:
        argv: Program and arguments.
        cwd: The working directory.
        env: Its environment, for PATH.
        credentials: The user we change to; None: ours.

    Raises:
        SpawnError: It cannot be started.
    """
    if not argv or not argv[0]:
        raise SpawnError("the command is empty", hint='write app.command = ["program", "argument"]')
    directory = _directory(cwd, credentials)
    search = env.get("PATH", _DEFAULT_PATH)
    path = find(argv[0], cwd=cwd, search=search)
    if path is None:
        raise _not_found(argv[0], search=search)
    if credentials is not None and _searched_in_vain(argv[0], path, cwd=cwd, search=search):
        # Its user may see more of PATH than we do (a version manager in a home, 0750): let it search.
        return Start(argv=("/usr/bin/env", f"--chdir={cwd}", "--", *argv), cwd=None)
    _executable(path, credentials)
    _interpreter(path)
    if directory is None:
        # We may not enter it, the program's user may (0750): so it changes there after it is that user.
        return Start(argv=("/usr/bin/env", f"--chdir={cwd}", "--", path, *argv[1:]), cwd=None)
    return Start(argv=(path, *argv[1:]), cwd=directory)


def find(name: str, *, cwd: str | Path, search: str) -> str | None:
    """The path of a program as execvp(3) finds it; a relative path with a slash counts from `cwd`.

    None when there is none; a file that is there but not executable is returned if nothing better is.
    """
    if "/" in name:
        path = os.path.join(cwd, name)  # noqa: PTH118 - keeps an absolute name and a ".." as they are
        return path if _exists(path) else None
    second_best = None
    for directory in search.split(":"):
        path = os.path.join(cwd, directory, name)  # noqa: PTH118 - an empty entry means the current directory
        if not _exists(path) or os.path.isdir(path):  # noqa: PTH112 - beside os.path.join
            continue
        if os.access(path, os.X_OK):
            return path
        second_best = second_best or path
    return second_best


def _searched_in_vain(name: str, found: str, *, cwd: str | Path, search: str) -> bool:
    """Whether a directory of PATH before the one of `found` is closed to us."""
    if "/" in name:
        return False
    for directory in search.split(":"):
        path = os.path.join(cwd, directory, name)  # noqa: PTH118 - as `find` has it
        try:
            os.stat(path)  # noqa: PTH116 - see `_exists`
        except PermissionError:
            return True
        except OSError:
            continue
        if path == found:
            return False
    return False


def _exists(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - see above
    except PermissionError:
        return True  # we may not look, the program's user may: exec will tell
    except OSError:
        return False
    return True


def _not_found(name: str, *, search: str) -> SpawnError:
    if "/" in name:
        return SpawnError(f"{name} does not exist", hint="correct the path in app.command")
    return SpawnError(f"there is no program {name!r} in {search}", hint=f"install {name}, or write its absolute path")


def _directory(cwd: str | Path, credentials: Credentials | None) -> str | None:
    """The working directory, checked; None when we cannot enter it but another user perhaps can."""
    path = Path(cwd)
    try:
        mode = path.stat().st_mode
    except PermissionError:
        if credentials is None:
            raise SpawnError(
                f"cannot enter the directory {cwd}", hint=f"give this user search permission on {cwd}"
            ) from None
        return None
    except OSError as error:
        raise SpawnError(
            f"the directory {cwd} cannot be used: {error.strerror}", hint="correct app.directory"
        ) from error
    if not stat.S_ISDIR(mode):
        raise SpawnError(f"{cwd} is not a directory", hint="correct app.directory")
    if credentials and _blocked(path, credentials, stat.S_IXOTH) and not _may(credentials, "-x", str(path)):
        raise SpawnError(
            f"user {credentials.name} may not enter {_first_blocked(path, credentials)}",
            hint=f"give {credentials.name} search permission on it, or move the application",
        )
    return str(path) if os.access(path, os.X_OK) else None


def _executable(path: str, credentials: Credentials | None) -> None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a path as execvp has it
    except PermissionError:
        return  # exec will tell
    if not stat.S_ISREG(mode):
        raise SpawnError(f"{path} is not a file that can be executed", hint="name a program in app.command")
    if not mode & 0o111:
        raise SpawnError(f"{path} is not executable", hint=f"chmod +x {path}, or start it with its interpreter")
    if credentials is None:
        if not os.access(path, os.X_OK):
            raise SpawnError(f"this user may not execute {path}", hint=f"chmod o+x {path}")
        return
    if _blocked(Path(path), credentials, stat.S_IXOTH) and not _may(credentials, "-x", path):
        place = _first_blocked(Path(path), credentials)
        raise SpawnError(
            f"user {credentials.name} may not execute {path}"
            + (f": {place} is closed to it" if str(place) != path else ""),
            hint=f"use a program that every user may run, or give {credentials.name} permission",
        )


def _interpreter(path: str) -> None:
    """A script whose `#!` interpreter is missing fails with the misleading "No such file"."""
    try:
        # It may be the application's own file, and so become a pipe between the look at it and now: never wait for it.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            line = (file.read(_SHEBANG_BYTES) or b"").partition(b"\n")[0]
    except OSError:
        return  # executable but not readable: a binary may be
    if not line.startswith(b"#!"):
        return
    interpreter = os.fsdecode(line[2:].strip(b" \t").partition(b" ")[0].partition(b"\t")[0])
    if line.endswith(b"\r"):
        raise SpawnError(
            f"the first line of {path} ends like a Windows text file, so its interpreter is not found",
            hint=f"sed -i 's/\\r$//' {path}",
        )
    if interpreter.startswith("/") and not _exists(interpreter):
        raise SpawnError(
            f"the interpreter {interpreter} of {path} does not exist",
            hint=f"install it, or correct the first line of {path}",
        )


def _blocked(path: Path, credentials: Credentials, bit: int) -> bool:
    """Whether the permission bits along the real path refuse this user; ACLs are not looked at."""
    return _first_blocked(path, credentials, bit) is not None


def _first_blocked(path: Path, credentials: Credentials, bit: int = stat.S_IXOTH) -> Path | None:
    if credentials.uid == 0:
        return None  # root without capabilities is checked by its bits, too, but owns what matters
    real = path.resolve()
    groups = credentials.groups()
    for place in (*reversed(real.parents), real):
        try:
            found = place.stat()
        except OSError:
            return None  # not for us to see: exec will tell
        shift = 6 if found.st_uid == credentials.uid else 3 if found.st_gid in groups else 0
        if not found.st_mode & bit << shift:
            return place
    return None


def _may(credentials: Credentials, test: str, path: str) -> bool:
    """Ask as that user (ACLs, file systems with their own mind): 3 ms, only when the bits say no."""
    groups = "--init-groups" if credentials.known else "--clear-groups"
    who = [f"--reuid={credentials.uid}", f"--regid={credentials.gid}", groups, "--inh-caps=-all", "--ambient-caps=-all"]
    command = ["/usr/bin/setpriv", *who, "--no-new-privs", "/usr/bin/test", test, path]
    try:
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=5, env={}).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def explain(error: OSError | ValueError, *, argv: Sequence[str], cwd: str | Path) -> SpawnError:
    """Put words to what the kernel, or Python, says when a start fails all the same."""
    number = getattr(error, "errno", None)
    if number == errno.E2BIG:
        return SpawnError("the command and its environment are too long", hint="shorten app.environment")
    if number in {errno.EAGAIN, errno.ENOMEM}:
        return SpawnError(f"no process can be made now: {error}", hint="raise the limit of processes, or free memory")
    if isinstance(error, ValueError):
        return SpawnError(f"{argv[0]} cannot be started: {error}", hint="remove NUL bytes from command and environment")
    return SpawnError(f"{argv[0]} cannot be started in {cwd}: {error}", hint="check app.command and app.directory")
