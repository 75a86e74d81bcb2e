# SPDX-License-Identifier: MIT
"""Roles that PID 1 starts: a connection to the socket where such a role's unit listens (DESIGN 1).

Used by the supervisor, so nothing here waits: a Unix stream socket connects at once or not at all, and
what it is connected to may still have to be started.
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from wolverined.errors import SandboxUnavailable, Unreachable, WolverineError

SOCKETS = Path("/run/wolverine-sockets")
"""Root's directory; each socket in it is for the one uid that may use it."""

SIDES = ("baseline", "candidate")
"""What a trial runs; each side has walls, and a uid, of its own."""


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """Where a role of the application `name` listens."""

    role: str
    name: str
    sockets: Path = SOCKETS

    def path(self, side: str = "candidate") -> Path:
        """The socket of this role, for a trial that of one side."""
        return self.sockets / f"{self.role}-{self._instance(side)}.sock"

    def unit(self, side: str = "candidate") -> str:
        """The unit that listens there."""
        return f"wolverine-{self.role}@{self._instance(side)}.socket"

    def _instance(self, side: str) -> str:
        return f"{self.name}:{side}" if self.role == "trial" else self.name

    def connect(self, side: str = "candidate") -> socket.socket:
        """Give a connection, to be served by a fresh process of the role.

        Raises:
            WolverineError: Nobody listens there, or too many wait already.
        """
        path = self.path(side)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(str(path))
        except OSError as error:  # a path that is too long has no number
            sock.close()
            raise self._shut(path, side, error) from error
        return sock

    def _shut(self, path: Path, side: str, error: OSError) -> WolverineError:
        hint = f"systemctl status {self.unit(side)}"
        if isinstance(error, BlockingIOError):
            return Unreachable(f"too many wait for the {self.role} at {path}", hint=hint)
        # Without a trial there is no verdict, which is no failure of the heal: it goes on as unprovable.
        kind = SandboxUnavailable if self.role == "trial" else Unreachable
        return kind(f"the {self.role} cannot be reached at {path}: {error.strerror or error}", hint=hint)
