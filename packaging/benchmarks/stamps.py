# SPDX-License-Identifier: MIT
"""What applications say of themselves: pids through a FIFO, stamped when they arrive, and pidfds of a tree."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

KILL_WAIT_S = 10.0
LOOK_S = 0.001
"""How often a tree is looked at: waking for each of a thousand deaths would slow them down."""


class Stamps:
    """A FIFO into which any user may write; a context manager.

    Args:
        path: Where it is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        path.chmod(0o666)
        # Open for both, so that it never comes to an end.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, count: int, *, within_s: float) -> tuple[list[int], int]:
        """Wait for so many pids.

        Returns:
            The pids, and the monotonic nanosecond at which the last of them was here.

        Raises:
            TimeoutError: They did not come.
        """
        text = b""
        deadline = time.monotonic() + within_s
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                came = text.count(b"\n")
                raise TimeoutError(f"{came} of {count} processes came up in {within_s:.0f} s")
            poller.poll(left * 1000)
            now = time.monotonic_ns()
            with suppress(BlockingIOError):
                text += os.read(self._fd, 65536)
            if text.count(b"\n") >= count:
                return [int(word) for word in text.split()], now

    def drain(self) -> None:
        """Forget what came uncalled."""
        with suppress(BlockingIOError):
            while os.read(self._fd, 65536):
                pass


class Tree:
    """Processes watched by pidfd, so that no reused pid is taken for one of them; a context manager.

    Args:
        pids: The processes; all must be alive. Those that are still alive at the end are killed.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._epoll = select.epoll()
        self._fds = [os.pidfd_open(pid) for pid in pids]
        self._alive = set(self._fds)
        for fd in self._fds:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._alive:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        self.watch(lambda: True, grace_s=KILL_WAIT_S)
        for fd in self._fds:
            os.close(fd)
        self._epoll.close()

    @property
    def survivors(self) -> int:
        """How many had not ended when `watch` looked last."""
        return len(self._alive)

    def watch(self, stopped: Callable[[], bool], *, grace_s: float) -> int:
        """Watch until all have ended, or for `grace_s` after `stopped()` says that nobody is ending them any more.

        Returns:
            The monotonic nanosecond at which the last of those that ended was seen to have.
        """
        last, deadline = time.monotonic_ns(), float("inf")
        while self._alive and time.monotonic() < deadline:
            if self._look():
                last = time.monotonic_ns()
            if deadline == float("inf") and stopped():
                deadline = time.monotonic() + grace_s
            time.sleep(LOOK_S)
        return last

    def _look(self) -> bool:
        ended = self._epoll.poll(0, len(self._fds))
        self._alive.difference_update(fd for fd, _ in ended)
        return bool(ended)
