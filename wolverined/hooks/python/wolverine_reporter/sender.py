# SPDX-License-Identifier: MIT
"""Carries lines to the supervisor without ever waiting: a bounded buffer in front of a socket that does not block.

Who puts a line in tries to send it at once; what the socket does not take stays in the buffer, the
oldest goes first when it is full, and is counted. A child of fork() starts with an empty one of its own.
"""

from __future__ import annotations

import _socket
import os
from collections import deque
from time import monotonic

from .start import THREADS, report_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINES_MAX = 256
BYTES_MAX = 1 << 20
_AGAIN_S = 0.5  # after nobody listened
_HELD_MAX = 16


class Sender:
    """A connection that is made when there is something to tell, and again after the other end went away.

    Args:
        path: Where the supervisor listens.

    Attributes:
        dropped: Lines that were lost for want of room.
    """

    def __init__(self, path: str) -> None:
        self.dropped = 0
        self._path = path
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._line = b""  # the one that is under way
        self._sent = 0  # so much of it
        self._socket: Any = None
        self._inode = (0, 0)
        self._not_before = 0.0
        self._busy = THREADS[1]()

    def put(self, line: bytes) -> None:
        """Send a line, now or later."""
        self._lines.append(line)
        self._size += len(line)
        while len(self._lines) > LINES_MAX or self._size > BYTES_MAX:
            try:
                self._size -= len(self._lines.popleft())
            except IndexError:
                break  # another thread sent it meanwhile
            self.dropped += 1
        self.flush()

    def flush(self) -> None:
        """Send what is in the buffer as far as the socket takes it."""
        # Another thread that is at it takes our line along; what it just misses goes with the next second's.
        while self.waiting() and self._busy.acquire(False):
            try:
                if not self._drain():
                    return
            finally:
                self._busy.release()

    def waiting(self) -> bool:
        """Whether something is left to send."""
        return bool(self._lines or self._line)

    def leave(self) -> None:
        """In a child of fork(): what the parent has under way is the parent's."""
        self._busy = THREADS[1]()
        self._lines.clear()
        self._size, self._line, self._sent, self.dropped = 0, b"", 0, 0
        self._hang_up()

    def _drain(self) -> bool:
        """Send until all is gone (True) or no more is taken."""
        broken = False
        while self._line or self._lines:
            if not self._connected():
                return False
            if not self._line:
                try:
                    self._line = self._lines.popleft()
                except IndexError:
                    return True
                self._size -= len(self._line)
            try:
                self._sent += self._socket.send(self._line[self._sent :] if self._sent else self._line)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                # The supervisor was replaced, or hung up. The line is told anew, once at a time: it may hang up again.
                self._hang_up()
                if broken:
                    self._not_before = monotonic() + _AGAIN_S
                broken = True
            if self._sent >= len(self._line):
                self._line, self._sent = b"", 0
        return True

    def _connected(self) -> bool:
        if self._socket is not None:
            if self._ours():
                return True
            self._socket.detach()  # the application closed every descriptor, and the number may be its own now
            self._socket, self._sent = None, 0
        if monotonic() < self._not_before:
            return False
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self._path)
            found = os.fstat(connection.fileno())
        except OSError:  # nobody listens, or too many wait
            connection.close()
            self._not_before = monotonic() + _AGAIN_S
            return False
        self._socket, self._inode = connection, (found.st_dev, found.st_ino)
        return True

    def _ours(self) -> bool:
        try:
            found = os.fstat(self._socket.fileno())
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def _hang_up(self) -> None:
        if self._socket is None:
            return
        if self._ours():
            self._socket.close()
        else:
            self._socket.detach()
        self._socket, self._sent = None, 0


sender = Sender(report_socket())
_held: deque[tuple[bytes, BaseException]] = deque(maxlen=_HELD_MAX)


def hold(line: bytes, error: BaseException) -> None:
    """Send a line a moment later: the error goes on, and if it ends the process it is told as a crash instead."""
    _held.append((line, error))


def release() -> None:
    """Send what was held: the process lives on."""
    while _held:
        try:
            line, _ = _held.popleft()
        except IndexError:
            return  # another thread was faster
        sender.put(line)


def forget(error: BaseException | None) -> None:
    """An error is told as a crash now, and so are those that it came from."""
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen):
        seen.append(error)
        error = error.__cause__ or error.__context__
    for entry in list(_held):
        if any(entry[1] is other for other in seen):
            _held.remove(entry)


def _in_child() -> None:
    _held.clear()
    sender.leave()


os.register_at_fork(after_in_child=_in_child)
