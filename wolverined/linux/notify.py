# SPDX-License-Identifier: MIT
"""Words to the service manager (sd_notify(3)), and the silence of one that is not there.

`sdnotify` carries them. It swallows every error, which is right for a service manager that is busy, and
it takes Latin-1 only and passes no file descriptors: STATUS is made ASCII here, and what the manager keeps for
our successor goes through its socket by hand.
"""

from __future__ import annotations

import os
import re
import socket
import time
import warnings
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Protocol

_STATUS_CHARS = 400
_FIRST_FD = 3  # sd_listen_fds(3): what is handed over begins here
_MOST_FDS = 1024
_FD_NAME = re.compile(r"[!-9;-~]{1,255}")  # sd_pid_notify_with_fds(3), FDNAME=: no colon


class Notifier(Protocol):
    """What a daemon has to say to who started it."""

    @property
    def watchdog_s(self) -> float | None:
        """How often at least `watchdog` must be called; None: nobody watches."""
        ...

    def ready(self) -> None:
        """Started, or a reload is done."""
        ...

    def status(self, text: str) -> None:
        """One line for people."""
        ...

    def watchdog(self) -> None:
        """Still alive."""
        ...

    def expect_within(self, seconds: float) -> None:
        """Alive, and expect the next sign of life within so long, from now on."""
        ...

    def stopping(self) -> None:
        """The end has begun."""
        ...

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        ...

    def extend(self, seconds: float) -> None:
        """Starting or stopping may take that much longer from now on."""
        ...

    def keep(self, name: str, fd: int) -> None:
        """Keep a copy of that descriptor for our successor, in place of one kept under that name."""
        ...

    def forget(self, name: str) -> None:
        """Keep nothing under that name."""
        ...

    def close(self) -> None:
        """Give the socket back."""
        ...


class NullNotifier:
    """Nobody listens."""

    watchdog_s: float | None = None

    def ready(self) -> None:
        """Say nothing."""

    def status(self, text: str) -> None:
        """Say nothing."""

    def watchdog(self) -> None:
        """Say nothing."""

    def expect_within(self, seconds: float) -> None:
        """Say nothing."""

    def stopping(self) -> None:
        """Say nothing."""

    def reloading(self) -> None:
        """Say nothing."""

    def extend(self, seconds: float) -> None:
        """Say nothing."""

    def keep(self, name: str, fd: int) -> None:
        """Keep nothing."""

    def forget(self, name: str) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Nothing to give back."""


class SystemdNotifier:
    """A service manager listens on `$NOTIFY_SOCKET`.

    Args:
        watchdog_s: The watchdog's period, when it watches this very process.
    """

    def __init__(self, *, watchdog_s: float | None) -> None:
        import sdnotify  # noqa: PLC0415 - only where it is of use

        self.watchdog_s = watchdog_s
        with warnings.catch_warnings():
            # It forgets to close its socket when it cannot connect.
            warnings.simplefilter("ignore", ResourceWarning)
            self._wire = sdnotify.SystemdNotifier()
        if self._wire.socket is not None:
            # The supervisor never waits: a manager that reads nothing loses a word, it does not stop us.
            self._wire.socket.setblocking(False)

    def ready(self) -> None:
        """Started, or a reload is done."""
        self._wire.notify("READY=1")

    def status(self, text: str) -> None:
        """One line for people; what is not ASCII becomes `?`."""
        line = " ".join(text.split()).encode("ascii", errors="replace").decode("ascii")
        self._wire.notify(f"STATUS={line[:_STATUS_CHARS]}")

    def watchdog(self) -> None:
        """Still alive; silent when another process is the watched one."""
        if self.watchdog_s is not None:
            self._wire.notify("WATCHDOG=1")

    def expect_within(self, seconds: float) -> None:
        """Alive, and another period from now on; silent when another process is the watched one."""
        if self.watchdog_s is not None:
            self._wire.notify(f"WATCHDOG_USEC={int(seconds * 1e6)}\nWATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._wire.notify("STOPPING=1")

    def reloading(self) -> None:
        """A reload has begun; with the time that newer managers ask for."""
        self._wire.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def extend(self, seconds: float) -> None:
        """Starting or stopping may take `seconds` from now."""
        self._wire.notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def keep(self, name: str, fd: int) -> None:
        """Keep a copy of that descriptor, unless the unit's FileDescriptorStoreMax= has no room."""
        self.forget(name)
        if self._wire.socket is not None:
            with suppress(OSError):  # a manager that is too busy: our successor makes a new one
                socket.send_fds(self._wire.socket, [f"FDSTORE=1\nFDNAME={name}".encode("ascii")], [fd])

    def forget(self, name: str) -> None:
        """Keep nothing under that name."""
        self._wire.notify(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def close(self) -> None:
        """Give the socket back; later words are swallowed."""
        if self._wire.socket is not None:
            self._wire.socket.close()


def open_notifier(environ: Mapping[str, str] = os.environ) -> Notifier:
    """The notifier for this process: silent without `NOTIFY_SOCKET`.

    `sdnotify` reads the variable from the real environment; `environ` decides whether it is asked at all.
    """
    if not environ.get("NOTIFY_SOCKET"):
        return NullNotifier()
    return SystemdNotifier(watchdog_s=_watchdog_s(environ))


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    try:
        period = int(environ["WATCHDOG_USEC"]) / 1e6
        watched = int(environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return period if watched == os.getpid() and period > 0 else None


def kept_for_us(environ: MutableMapping[str, str] = os.environ) -> list[tuple[str, int]]:
    """Names and descriptors that the manager kept from our predecessor; now they are the caller's to close.

    The variables that tell of them are taken away: neither a child nor a later image of this process may take
    other descriptors of these numbers for them.
    """
    told = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid()) or not told["LISTEN_FDS"].isdecimal():
        return []
    count = min(int(told["LISTEN_FDS"]), _MOST_FDS)
    names = [name if _FD_NAME.fullmatch(name) else "" for name in told["LISTEN_FDNAMES"].split(":")]
    names += [""] * (count - len(names))
    kept = []
    for fd, name in zip(range(_FIRST_FD, _FIRST_FD + count), names, strict=False):
        with suppress(OSError):  # somebody closed it before us
            os.set_inheritable(fd, False)
            kept.append((name, fd))
    return kept
