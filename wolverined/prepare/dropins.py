# SPDX-License-Identifier: MIT
"""Run-time drop-ins: what differs from application to application in the units of adviser and trial.

They lie below /run/systemd/system, where PID 1 reads them after a reload and which a reboot empties. A value
that comes from a configuration is written so that it stays one value, whatever characters are in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from wolverined.config.facts import replace
from wolverined.errors import WolverineError

UNITS = Path("/run/systemd/system")
FILE = "50-wolverine.conf"
RELOAD_S = 60.0
_HEAD = "# Written by wolverine's prepare for what its configuration says; it is written anew at each start.\n"
_RELOADED = ".reloaded"
_LOCK = ".lock"


class Dropin(msgspec.Struct, frozen=True, kw_only=True):
    """What is added to one unit."""

    unit: str
    text: str


class Walls(msgspec.Struct, frozen=True, kw_only=True):
    """What a role needs to run for one application.

    Attributes:
        dropins: Of its units.
        trouble: Why the role cannot run at all; "" when it can.
        weaknesses: What it cannot do, or not as well as it could, each with how to mend it.
    """

    dropins: tuple[Dropin, ...] = ()
    trouble: str = ""
    weaknesses: tuple[str, ...] = ()


def units_of(name: str) -> tuple[str, ...]:
    """Every unit of an application that may have a drop-in."""
    trials = tuple(f"wolverine-trial@{name}:{side}.service" for side in ("baseline", "candidate"))
    return (f"wolverine-adviser@{name}.service", *trials)


def user_for(prefix: str, instance: str) -> str:
    """A name for a dynamic user that no other instance has; PID 1 makes its uid of it."""
    return f"{prefix}-{sha256(instance.encode()).hexdigest()[:8]}"


def value(text: str) -> str:
    """`text` as one word of a directive that takes words in quotes, such as BindReadOnlyPaths= or Environment=.

    Raises:
        WolverineError: It holds a character that no unit file can carry there.
    """
    if any(not char.isprintable() and char != " " for char in text) or not text:
        # A line break would begin a directive of somebody's choice, and no escape for it is known everywhere.
        raise WolverineError(f"{text!r:.200} cannot stand in a unit file", hint="rename it to something printable")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def place(path: Path | str) -> str:
    """An absolute path as one word of BindPaths= and the like, where a colon would end it.

    Raises:
        WolverineError: As `value` does.
    """
    if not str(path).startswith("/"):
        raise WolverineError(f"{str(path)!r:.200} is no absolute path")
    return value(str(path))


def tmpfs(path: Path | str, options: str) -> str:
    """A path and mount options as one word of TemporaryFileSystem=, which takes its words apart a second time.

    Raises:
        WolverineError: As `place` does.
    """
    place(path)
    return value(str(path).replace("\\", "\\\\").replace(":", "\\:") + f":{options}")


def lay(name: str, dropins: Sequence[Dropin], *, units: Path = UNITS) -> int:
    """Make the drop-ins of `name` exactly these; how many files were written or removed.

    Raises:
        OSError: One cannot be written.
    """
    wanted = {dropin.unit: _HEAD + dropin.text for dropin in dropins}
    assert wanted.keys() <= set(units_of(name))
    return sum(_lay(units / f"{unit}.d", wanted.get(unit)) for unit in units_of(name))


def _lay(directory: Path, text: str | None) -> bool:
    file = directory / FILE
    if text is None:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
            with contextlib.suppress(OSError):  # somebody else's drop-in lies there too
                directory.rmdir()
            return True
        return False
    with contextlib.suppress(FileNotFoundError):
        if file.read_bytes() == text.encode():
            return False
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace(file, text.encode(), mode=0o644)
    return True


def reload_units(*, since: int, prepared: Path, reload: Callable[[], None]) -> None:
    """Have PID 1 read the units, unless it began to do so after `since` for another instance that starts too.

    Args:
        since: When the last drop-in was written, on the monotonic clock in nanoseconds.
        prepared: Where the turn and the time of the last reload are kept.
        reload: Does it.

    Raises:
        WolverineError: PID 1 refuses; the next call tries again.
    """
    with _turn(prepared / _LOCK):
        if _last_reload(prepared) > since:
            return
        began = time.monotonic_ns()
        reload()
        replace(prepared / _RELOADED, str(began).encode())


def _last_reload(prepared: Path) -> int:
    try:
        last = int((prepared / _RELOADED).read_bytes())
    except (OSError, ValueError):
        return -1
    return last if last <= time.monotonic_ns() else -1  # of another boot


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def daemon_reload() -> None:
    """`systemctl daemon-reload`.

    Raises:
        WolverineError: It fails.
    """
    argv = ["/bin/systemctl", "daemon-reload"]
    try:
        ended = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RELOAD_S,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WolverineError(f"systemctl daemon-reload: {error}") from error
    if ended.returncode != 0:
        said = ended.stderr.decode("utf-8", "replace").strip()[:300]
        raise WolverineError(f"systemctl daemon-reload ended with {ended.returncode}: {said}")
