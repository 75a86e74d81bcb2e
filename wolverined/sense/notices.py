# SPDX-License-Identifier: MIT
"""What the app tells of itself over its own NOTIFY_SOCKET (the datagrams of sd_notify(3)).

Only processes of the app are heard: the kernel attaches the sender's pid and uid, and the pid must live in
the generation's leaf. A sender that has already ended (`systemd-notify` in a script) is taken by its uid.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from wolverined.errors import SpawnError
from wolverined.linux.runtime import identity, make_private_dir
from wolverined.model import Probing

_DATAGRAM = 8192
_UCRED = struct.Struct("iII")  # unix(7): pid, uid, gid
_PATH_MAX = 107  # unix(7): sun_path without its NUL
_TEXT = 200


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One datagram's meaning. `watchdog` is "" or the word that was sent ("1", "trigger")."""

    ready: bool = False
    status: str | None = None
    watchdog: str = ""


def parse_notice(data: bytes) -> Notice:
    """Read the assignments of one datagram; what is not understood is skipped."""
    fields = dict(line.partition("=")[::2] for line in data.decode("utf-8", "replace").split("\n"))
    status = fields.get("STATUS")
    return Notice(
        ready=fields.get("READY") == "1",
        status=None if status is None else "".join(filter(str.isprintable, status))[:_TEXT],
        watchdog=fields.get("WATCHDOG", ""),
    )


class NotifySocket:
    """The bound socket of one generation; owns the path.

    Args:
        path: Where the app looks for it.
        uid: The app's user.
        pids: The processes of the generation now.
        earlier: Where it stood when wolverined replaced itself: its socket is taken over, if there is one.

    Attributes:
        inode: What tells the path from another that is put there later; None when there was nothing.

    Raises:
        SpawnError: The path is too long for a Unix socket.
        OSError: It cannot be bound.
    """

    def __init__(self, path: Path, *, uid: int, pids: Callable[[], list[int]], earlier: Probing | None = None) -> None:
        if len(os.fsencode(path)) > _PATH_MAX:
            raise SpawnError(f"the path of the notify socket is too long: {path}", hint="use a shorter --runtime-dir")
        self._path = path
        self._uid = uid
        self._pids = pids
        if earlier is not None and earlier.notices >= 0:
            self._socket, self.inode = socket.socket(fileno=earlier.notices), earlier.inode
            self._socket.setblocking(False)
        else:
            self._socket, self.inode = _bound(path)

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def there(self) -> bool:
        """Whether the app still finds it."""
        return self.inode is not None and identity(self._path) == self.inode

    def renew(self) -> None:
        """Bind another in its place, for somebody removed it; on failure the old one stays.

        Raises:
            OSError: It cannot be bound now.
            AccessDenied: Its directory is not ours.
        """
        bound = _bound(self._path)
        self._socket.close()
        self._socket, self.inode = bound

    def receive(self) -> Notice | None:
        """The next notice of the app; an empty one for a datagram that does not count; None when all is read."""
        try:
            # Room for the credentials alone: file descriptors that come along are dropped by the kernel.
            data, ancillary, flags, _ = self._socket.recvmsg(_DATAGRAM, socket.CMSG_SPACE(_UCRED.size))
        except BlockingIOError:
            return None
        sender = next((_UCRED.unpack(raw) for level, kind, raw in ancillary if _is_credentials(level, kind, raw)), None)
        if sender is None or flags & socket.MSG_TRUNC or not self._counts(sender[0], sender[1]):
            return Notice()
        return parse_notice(data)

    def _counts(self, pid: int, uid: int) -> bool:
        return pid in self._pids() or (uid == self._uid and not Path(f"/proc/{pid}").exists())

    def close(self) -> None:
        """Close the socket and remove its path, unless a successor's is there."""
        self._socket.close()
        if self.there():
            with suppress(OSError):  # somebody removed the directory
                self._path.unlink(missing_ok=True)


def _bound(path: Path) -> tuple[socket.socket, tuple[int, int, int] | None]:
    """A socket at `path`, and what tells it from another there."""
    make_private_dir(path.parent, 0o711)
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        bound.bind(str(path))
        # Another user's app must be able to write; who may be heard is decided by its credentials.
        path.chmod(0o666)
    except BaseException:
        bound.close()
        raise
    return bound, identity(path)


def _is_credentials(level: int, kind: int, raw: bytes) -> bool:
    return level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(raw) == _UCRED.size
