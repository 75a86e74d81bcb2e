# SPDX-License-Identifier: MIT
"""What this room gives to a successor that takes over by execve(2), so that the app does not notice.

Plain data: the state of the machine, the output that is kept, and the running generation by its pid, its
leaf's name and its pipes. Monotonic times are the kernel's, which a new program of the same process shares.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wolverined.linux.handover import HandedChild
from wolverined.model import LogLine, Probing
from wolverined.supervise.lifecycle import Life


class HandedPipe(msgspec.Struct, frozen=True, kw_only=True):
    """One pipe of the app's that is still read.

    Attributes:
        stream: `stdout` or `stderr`.
        fd: Its read end.
        rest: The start of a line whose end has not come.
        skipping: The rest of a line that was too long is being thrown away.
        dropped_bytes: How much of such lines was thrown away.
        capacity: What the pipe held before it was widened for the time in which nobody reads; 0: not known.
    """

    stream: str
    fd: int
    rest: bytes = b""
    skipping: bool = False
    dropped_bytes: int = 0
    capacity: int = 0


class HandedGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """The generation that runs.

    Attributes:
        number: Its number.
        leaf: Its leaf's name.
        child: Its main process.
        pipes: Its output.
        started: When it was started (monotonic).
        oom_before: The leaf's count of kills for want of memory when it was started.
        first_line: The cursor of the line before its first.
        port: Its port.
        notify: It speaks for itself, on its notify socket.
        probe: The `[probe]` table that it is probed by.
        environment: What it was started with.
        probing: Where the probing stands; None: nobody probes it.
    """

    number: int
    leaf: str
    child: HandedChild
    pipes: tuple[HandedPipe, ...]
    started: float
    oom_before: int
    first_line: int
    port: int | None
    notify: bool
    probe: dict[str, Any]
    environment: tuple[tuple[bytes, bytes], ...]
    probing: Probing | None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors in it."""
        notices = self.probing.notices if self.probing is not None else -1
        return (*(pipe.fd for pipe in self.pipes), *((notices,) if notices >= 0 else ()))


class HandedSupervisor(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor.

    Attributes:
        life: Where the machine stands.
        generation: What runs, if anything does.
        lines: The output that is kept, oldest first.
        cursor: That of the newest line.
        spawns: How many generations were started.
        cannot_start: Message and hint of why nothing can be started; None when that is not so.
        last_exit: How the last generation ended, in words.
        ready_at: Since when it is served (wall clock).
        says: What the app says of itself.
    """

    life: Life
    generation: HandedGeneration | None
    lines: tuple[LogLine, ...]
    cursor: int
    spawns: int
    cannot_start: tuple[str, str] | None
    last_exit: str
    ready_at: float | None
    says: str
