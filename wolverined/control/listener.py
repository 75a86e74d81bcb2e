# SPDX-License-Identifier: MIT
"""The listening socket: made without a moment of wrong permissions, taken over from a dead predecessor."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from wolverined.control.address import short_path
from wolverined.errors import Conflict, SpawnError
from wolverined.linux.runtime import identity

BACKLOG = 128
MODE = 0o666  # anyone may connect; who may be answered is decided at accept


def listen(path: Path, *, claimed: bool = False) -> socket.socket:
    """A non-blocking listening socket at `path`, mode 0666.

    It gets its mode between bind and listen: until it listens nobody can connect, so there is no
    moment in which the mode is wrong and matters.

    Args:
        path: Where.
        claimed: The place is known to be ours: what answers there is a predecessor's socket that a service
            manager still holds.

    Raises:
        Conflict: A living daemon answers there.
        SpawnError: The directory is missing or not ours.
    """
    if not claimed and _answers(path):
        raise Conflict(f"another wolverined answers on {path}", hint="stop it first, or choose another --runtime-dir")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)  # a dead predecessor's
        with short_path(str(path)) as address:
            sock.bind(address)
        path.chmod(MODE)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise SpawnError(
            f"cannot make the control socket {path}: {error.strerror}",
            hint="the directory must exist and belong to the user that runs wolverined",
        ) from error
    return sock


def adopt(fd: int, path: Path) -> socket.socket | None:
    """Take over a listening socket of our predecessor, with those who wait in its queue.

    Args:
        fd: Its descriptor, which is ours from now on.
        path: Where it should listen.

    Returns:
        The socket; None (and `fd` is closed) when it is another thing, or nobody can find it at `path` any more.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)  # no socket at all
        return None
    try:
        listens = sock.family == socket.AF_UNIX and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listens and sock.getsockname() == str(path) and path.is_socket():
            sock.setblocking(False)
            return sock
    except OSError:
        pass  # whatever it is, it is not what we left
    sock.close()
    return None


def withdraw(path: Path, inode: tuple[int, int, int] | None) -> None:
    """Remove the socket at `path`, unless a successor has put its own there."""
    if inode is not None and identity(path) == inode:
        path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Never wait: a full backlog (EAGAIN) is an answer too, and this runs in the daemon's loop.
        probe.setblocking(False)
        try:
            with short_path(str(path)) as address:
                probe.connect(address)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True
