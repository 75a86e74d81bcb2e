# SPDX-License-Identifier: MIT
"""The walls that heal and adviser put around themselves before they read a word of anybody's.

Under `wolverined run` there is no PID 1 to build them. Landlock leaves them the files that they need,
a system call filter the rest: heal may open no socket and neither may start a program, signal anybody or
change whose a file is, so that being root's (uid 0 without a capability still owns root's files) is no power.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from wolverined.errors import WolverineError
from wolverined.linux import landlock, seccomp
from wolverined.linux.credentials import Credentials

_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")
_NETWORK = (
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
)
_DNS = 53
_NOBODY = 65534
_SPARE_UID = 65533


def weaknesses() -> tuple[str, ...]:
    """What these walls lack on this machine, one line each."""
    lines = []
    if landlock.abi() == 0:
        lines.append("no Landlock in this kernel: heal and adviser could read what their user may read")
    if os.geteuid() == 0 and not _reachable():
        lines.append("the program lies in a private directory: the adviser runs as root, behind its walls")
    machine = os.uname().machine
    if not seccomp.supported(machine):
        lines.append(f"no system call filter for {machine}: heal could open sockets, and no trial is possible")
    return tuple(lines)


def credentials_of_adviser(*, taken: Collection[int]) -> Credentials | None:
    """As whom root starts the adviser: somebody who owns nothing and is no other role; None: nobody is.

    Args:
        taken: The uids of app and surgeon.
    """
    if not _reachable():
        return None
    # 65000 to 65533 are reserved and given to nobody (Debian policy 9.2.2).
    somebody = Credentials.of_user(_NOBODY if _NOBODY not in taken else _SPARE_UID)
    return msgspec.structs.replace(somebody, known=False)  # unknown to the database: of no further group


def _reachable() -> bool:
    """Whether a stranger can import us: no private directory lies on the way to the program."""
    places = {Path(__file__).resolve().parent, Path(sys.executable).resolve(), Path(sys.prefix).resolve()}
    ways = {above for place in places for above in (place, *place.parents)}
    try:
        return all(way.stat().st_mode & stat.S_IXOTH for way in ways)
    except OSError:
        return False


def around_heal(state_dir: str) -> None:
    """Leave this process our own program to read and the state directory to write: no network, no app.

    Raises:
        WolverineError: The kernel refuses a wall that it has.
    """
    # SQLite's scratch files; its other places are not ours.
    os.environ["SQLITE_TMPDIR"] = state_dir
    _build(readable=(*_SYSTEM, *program_places()), writable=(state_dir,), ports=(), network=False)


def around_adviser(port: int) -> None:
    """Leave this process what a TLS connection to one port needs, and nothing to write.

    Raises:
        WolverineError: The kernel refuses a wall that it has.
    """
    _build(readable=(*_SYSTEM, *_NETWORK, *program_places()), writable=(), ports=(port, _DNS), network=True)


def program_places() -> tuple[str, ...]:
    """Where this interpreter and all that it may import lie; of a source checkout the package alone."""
    package = Path(__file__).parent.parent
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path}
    return (str(package), *sorted(place for place in places if place and Path(place) not in _too_much(package)))


def _too_much(package: Path) -> tuple[Path, ...]:
    """An editable install puts the checkout on the path, and there may be anything in it."""
    above = package.parent
    return (Path("/"),) if above.name in {"site-packages", "dist-packages"} else (Path("/"), above)


def _build(*, readable: Sequence[str], writable: Sequence[str], ports: Sequence[int], network: bool) -> None:
    machine = os.uname().machine
    try:
        landlock.restrict(readable=readable, writable=writable, ports=ports)
        if seccomp.supported(machine):
            seccomp.install(seccomp.program(machine, network=network, power=False))
    except OSError as error:
        raise WolverineError(f"a wall cannot be built: {error}") from error
