# SPDX-License-Identifier: MIT
"""What systemd knows of the units of our instances, asked once for all of them.

Made for `wolverinectl list`: no subprocess, pathlib or re here. Where systemd is not what runs this machine,
or does not answer in time, nothing is known and every command goes on without it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

BOOTED = "/run/systemd/system"  # sd_booted(3)
TEMPLATE = "wolverine@"
TEMPLATE_FILES = tuple(
    f"{place}/wolverine@.service"
    for place in ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
)
EXIT_CONFIG = 78
_PROPERTIES = (
    "Id,ActiveState,SubState,UnitFileState,Result,ExecMainCode,ExecMainStatus,StatusText,StateChangeTimestamp,"
    "NRestarts,MainPID,NeedDaemonReload,LoadState"
)
_PLACES = ("/usr/bin", "/bin")
_LONGEST = 1 << 20
_CODES = {"1": "exited", "2": "killed", "3": "dumped"}  # CLD_... of siginfo(3type)


class Unit(NamedTuple):
    """One `wolverine@NAME.service`, in systemd's own words."""

    name: str
    active: str  # active, inactive, failed, activating, deactivating, reloading
    sub: str
    enabled: str  # enabled, disabled, masked, …; empty when systemd does not say
    result: str  # success, exit-code, signal, watchdog, …
    code: str  # how its main process ended: exited, killed, dumped; empty while it runs
    status: int  # with which status, or by which signal
    since: float  # of its state now, a time of the wall clock; 0 when it never ran
    restarts: int
    said: str  # its STATUS=
    stale: bool  # its files have changed since systemd read them

    @property
    def id(self) -> str:
        """Its name for systemctl."""
        return f"{TEMPLATE}{self.name}"

    @property
    def down(self) -> bool:
        """Whether wolverined does not run."""
        return self.active in {"inactive", "failed"}

    def plain(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "name": f"{self.id}.service",
            "active": self.active,
            "sub": self.sub,
            "enabled": self.enabled,
            "result": self.result,
            "code": self.code,
            "status": self.status,
            "since": self.since or None,
            "restarts": self.restarts,
        }


def booted() -> bool:
    """Whether systemd runs this machine."""
    return os.path.isdir(BOOTED)  # noqa: PTH112  no pathlib here


def installed() -> bool:
    """Whether there is a unit to start instances by."""
    return any(os.path.exists(path) for path in TEMPLATE_FILES)  # noqa: PTH110


def ask(names: Iterable[str]) -> dict[str, Unit]:
    """The units of these instances, and of every other that systemd has in mind; empty where it does not answer."""
    if not booted():
        return {}
    wanted = [f"{TEMPLATE}{name}.service" for name in sorted(set(names))]
    argv = ["systemctl", "show", "--timestamp=unix", f"--property={_PROPERTIES}", f"{TEMPLATE}*.service", *wanted]
    return parse(output(argv))


def parse(text: str) -> dict[str, Unit]:
    """The answer of `systemctl show`: a block of KEY=VALUE lines for each unit."""
    found: dict[str, Unit] = {}
    for block in text.split("\n\n"):
        said = dict(line.partition("=")[::2] for line in block.splitlines())
        name = said.get("Id", "").removeprefix(TEMPLATE).removesuffix(".service")
        if not name or "@" in name or not said["Id"].startswith(TEMPLATE):
            continue
        since = said.get("StateChangeTimestamp", "").removeprefix("@")
        found[name] = Unit(
            name=name,
            active=said.get("ActiveState", ""),
            sub=said.get("SubState", ""),
            enabled=said.get("UnitFileState", ""),
            result=said.get("Result", ""),
            code=_CODES.get(said.get("ExecMainCode", ""), ""),
            status=_number(said.get("ExecMainStatus", "")),
            since=float(_number(since)),
            restarts=_number(said.get("NRestarts", "")),
            said=said.get("StatusText", ""),
            stale=said.get("NeedDaemonReload") == "yes",
        )
    return found


def output(argv: Sequence[str], *, timeout_s: float = 5.0) -> str:
    """What a program of the system prints; empty when it cannot be run. What came before the time was over counts."""
    program = next((path for place in _PLACES if os.access(path := f"{place}/{argv[0]}", os.X_OK)), "")
    if not program:
        return ""
    reading, writing = os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    environment = {"PATH": ":".join(_PLACES), "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    try:
        pid = os.posix_spawn(program, list(argv), environment, file_actions=actions)
    except OSError:
        os.close(reading)
        return ""
    finally:
        os.close(writing)
    try:
        return _read(reading, time.monotonic() + timeout_s).decode("utf-8", "replace")
    finally:
        os.close(reading)
        _end(pid)


def _read(fd: int, deadline: float) -> bytes:
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(found) < _LONGEST and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(fd, 65536)
        if not data:
            break
        found += data
    return found


def _end(pid: int) -> None:
    """Nobody reads what it says any more."""
    if os.waitpid(pid, os.WNOHANG) == (0, 0):
        os.kill(pid, 9)  # not reaped, so the number is still its own
        os.waitpid(pid, 0)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0  # noqa: PLR2004  64 bits
