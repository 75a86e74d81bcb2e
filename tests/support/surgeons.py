# SPDX-License-Identifier: MIT
"""Real surgeons for tests: a forked process that serves the real calls, killed at a named point when asked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from wolverined.heal.stream import Channel
from wolverined.heal.surgeon.client import SurgeonClient
from wolverined.heal.surgeon.process import serve

Faults = Callable[[str], None]


def no_faults(_point: str) -> None:
    """Nothing fails."""


class Nth:
    """A fault seam that kills its own process at the n-th point it passes; n = 0 never does, and counts."""

    def __init__(self, n: int = 0, *, before: Callable[[], None] = lambda: None) -> None:
        self.n = n
        self.before = before
        self.names: list[str] = []

    def __call__(self, point: str) -> None:
        """Pass a point, or die there."""
        self.names.append(point)
        if len(self.names) == self.n:
            self.before()
            os.kill(os.getpid(), signal.SIGKILL)


def forked(main: Callable[[], int]) -> int:
    """Run `main` in a child process; its pid. The child never returns into the test."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = main()
    except BaseException:  # the child ends here, whatever happened: it must not run the test a second time
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


@contextlib.contextmanager
def surgeon_process(faults: Faults = no_faults, *, setup: Callable[[], None] = lambda: None) -> Iterator[socket.socket]:
    """The heal end of a stream to a forked surgeon; the surgeon is gone at the end."""
    ours, theirs = socket.socketpair()

    def main() -> int:
        ours.close()
        setup()
        return serve(theirs, faults=faults)

    pid = forked(main)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        os.waitpid(pid, 0)


@contextlib.asynccontextmanager
async def surgeon(
    root: Path, faults: Faults = no_faults, *, setup: Callable[[], None] = lambda: None
) -> AsyncIterator[SurgeonClient]:
    """A client of a fresh surgeon for `root`."""
    with surgeon_process(faults, setup=setup) as sock:
        channel = Channel(sock, role="heal", deadline_s=60.0, peer_role="surgeon")
        try:
            await channel.start()
            yield SurgeonClient(channel, root=root)
        finally:
            await channel.close()


def tree_of(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below `root`, hidden and temporary ones too: path -> content and permission bits."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def plant(root: Path, files: dict[str, bytes]) -> None:
    """Write files below `root`."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
