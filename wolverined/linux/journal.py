# SPDX-License-Identifier: MIT
"""Native journal entries: fields of our own vocabulary, sent as datagrams, never waiting for journald.

Protocol: systemd's JOURNAL_NATIVE_PROTOCOL. A field is `NAME=value`, or, when the value holds a
newline or is bytes, the name, its length and the value. What does not fit a datagram goes as a sealed memfd.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET_PATH = Path("/run/systemd/journal/socket")

_FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LENGTH = struct.Struct("<Q")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_TOO_BIG = (errno.EMSGSIZE, errno.ENOBUFS)

Value = str | bytes | int


def field_name(key: str) -> str:
    """The nearest name that journald keeps: upper case, 64 characters; a leading underscore is journald's own."""
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper()).lstrip("_0123456789")
    return name[:64] or "FIELD"


def encode(fields: Mapping[str, Value]) -> bytes:
    """One entry in the native protocol.

    Raises:
        ValueError: A name that journald would drop (see `field_name`).
    """
    parts = []
    for name, value in fields.items():
        if not _FIELD.fullmatch(name):
            raise ValueError(f"not a journal field: {name!r}")
        data = value if isinstance(value, bytes) else _bytes(str(value))
        if isinstance(value, bytes) or b"\n" in data:
            parts.append(name.encode() + b"\n" + _LENGTH.pack(len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", errors="surrogateescape")  # bytes that were no text come out as they went in
    except UnicodeEncodeError:
        return text.encode("utf-8", errors="replace")


class Journal:
    """The journal of this machine, or its absence.

    Args:
        path: journald's socket.

    Attributes:
        lost: How many entries `send` could not deliver: journald full, or gone.
    """

    def __init__(self, path: Path = SOCKET_PATH) -> None:
        self._path = str(path)
        self._socket: socket.socket | None = None
        self.lost = 0

    @property
    def present(self) -> bool:
        """Whether there is a journal to send to."""
        return Path(self._path).is_socket()

    def send(self, fields: Mapping[str, Value]) -> bool:
        """Send one entry; False when there is no journal or it takes nothing now (then counted in `lost`)."""
        if self.offer(encode(fields)):
            return True
        self.lost += 1
        return False

    def offer(self, entry: bytes) -> bool:
        """Send one encoded entry if that can be done at once; what becomes of it else is the caller's business."""
        try:
            self._send(entry)
        except OSError:
            # journald restarts, is full, or was never there: a supervisor does not wait for it.
            return False
        return True

    def close(self) -> None:
        """Close the socket; a later send opens it anew."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.sendto(data, self._path)  # not connected: a journald that restarted is found again
        except OSError as error:
            if error.errno not in _TOO_BIG:
                raise
            self._send_sealed(self._socket, data)

    def _send_sealed(self, sock: socket.socket, data: bytes) -> None:
        # journald maps the file, so it insists on seals: nobody may change it afterwards.
        fd = os.memfd_create("wolverine-journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        with os.fdopen(fd, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) or 0 :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            sock.sendmsg([], rights, 0, self._path)


def stderr_is_journal(environ: Mapping[str, str] = os.environ, *, fd: int = 2) -> bool:
    """Whether stderr is a stream to journald: `$JOURNAL_STREAM` names its device and inode (systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
