# SPDX-License-Identifier: MIT
"""Asks an app that already runs which path answers 2xx, so that no probe is written that nobody has seen work.

Loopback only, GET only, two seconds for each path; and only when what listens belongs to this project.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from wolverined.config.projects.project import Project

PATHS = ("/health", "/healthz", "/ready", "/")
_LISTEN = "0A"
_ANY = {"00000000": "127.0.0.1", "0100007F": "127.0.0.1"}
_ANY6 = {"0" * 32: "127.0.0.1", "0" * 24 + "01000000": "::1"}
_MAX_ANSWER = 4096


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at the port: whether the project's app listens, the path that answered 2xx, or why none did."""

    listens: bool
    path: str = ""
    status: int = 0
    why: str = ""


def look(port: int, project: Project, *, timeout_s: float = 2.0) -> Seen:
    """Look at a port on this machine and ask what listens there."""
    sockets = list(_listening(port))
    if not sockets:
        return Seen(listens=False, why=f"nothing listened on port {port}")
    host, uid, inode = sockets[0]
    if uid != project.uid or not _belongs(inode, project):
        return Seen(listens=False, why=f"what listened on port {port} was not this application")
    for path in PATHS:
        status = _get(host, port, path, timeout_s)
        if 200 <= status < 300:  # noqa: PLR2004  (success of HTTP)
            return Seen(listens=True, path=path, status=status)
    return Seen(listens=True, why=f"none of {', '.join(PATHS)} answered 2xx")


def _listening(port: int) -> Iterator[tuple[str, int, str]]:
    """Address, uid and inode of each socket that listens on `port` and can be reached by loopback."""
    for name, reachable in (("tcp", _ANY), ("tcp6", _ANY6)):
        try:
            lines = (Path("/proc/net") / name).read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6 here
        for fields in (line.split() for line in lines):
            address, _, number = fields[1].rpartition(":")
            if int(number, 16) == port and fields[3] == _LISTEN and address in reachable:
                yield reachable[address], int(fields[7]), fields[9]


def _belongs(inode: str, project: Project) -> bool:
    """Whether a process that holds the socket works in the project; true where that is not for us to see."""
    wanted, seen = f"socket:[{inode}]", False
    for pid in (name for name in os.listdir("/proc") if name.isdecimal()):  # noqa: PTH208
        with suppress(OSError):  # it ended, or is not for us to see
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == wanted for fd in os.listdir(f"/proc/{pid}/fd")):  # noqa: PTH115,PTH208
                seen = True
                if Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(project.directory.resolve()):  # noqa: PTH115
                    return True
    return not seen


def _get(host: str, port: int, path: str, timeout_s: float) -> int:
    """The status that GET answers; 0 when there is none in time."""
    deadline = time.monotonic() + timeout_s
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: wolverinectl\r\nConnection: close\r\n\r\n"
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(request.encode())
            while b"\r\n" not in answer and len(answer) < _MAX_ANSWER:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                data = connection.recv(_MAX_ANSWER)
                if not data:
                    break
                answer += data
    except OSError:
        return 0
    words = answer.partition(b"\r\n")[0].split()
    good = len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].isdigit() and len(words[1]) == 3  # noqa: PLR2004
    return int(words[1]) if good else 0
