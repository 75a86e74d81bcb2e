# SPDX-License-Identifier: MIT
"""Words and plain data about a supervised app, for status answers and for one-line reasons."""

from __future__ import annotations

import errno
import signal

import msgspec

from wolverined.clock import Clock
from wolverined.errors import SpawnError
from wolverined.linux.leaf import Stuck
from wolverined.model import Exit
from wolverined.supervise.generation import Generation
from wolverined.supervise.lifecycle import Life, Phase, shown

_PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EBUSY, errno.ETXTBSY}


def describe(
    life: Life,
    *,
    generation: Generation | None,
    clock: Clock,
    restarts: int,
    ready_at: float | None,
    last_exit: str,
    stuck: tuple[Stuck, ...],
    says: str,
) -> dict[str, object]:
    """The supervisor's part of `status --json`; times are wall-clock seconds, durations are in seconds."""
    waits = life.phase is Phase.WAITING and life.due is not None
    stats = generation.leaf.stats() if generation is not None else None
    return {
        "state": shown(life).value,
        "why": life.why,
        "generation": life.generation,
        "pid": generation.child.pid if generation is not None and generation.exit is None else None,
        "uptime_s": round(generation.uptime_s, 3) if generation is not None else 0.0,
        "restarts": restarts,
        "ready_since": ready_at,
        "backoff_until": clock.wall() + (life.due or 0.0) - clock.monotonic() if waits else None,
        "failures": life.record.failures,
        "tree": generation.leaf.pids() if generation is not None else [],
        "memory_bytes": stats.memory_bytes if stats is not None else None,
        "dropped_bytes": sum(pump.dropped_bytes for pump in generation.pumps) if generation is not None else 0,
        "last_exit": last_exit,
        "degraded": life.degraded,
        "app_says": says,
        "stuck": [msgspec.to_builtins(process) for process in stuck],
    }


def exit_words(ended: Exit) -> str:
    """How a generation ended, in words: "exit 3", "SIGKILL", "SIGKILL (out of memory)"."""
    if ended.signal is None:
        words = f"exit {ended.code}"
    else:
        try:
            words = signal.Signals(ended.signal).name
        except ValueError:  # a real-time signal
            words = f"signal {ended.signal}"
    return f"{words} (out of memory)" if ended.oom else words


def passing(error: Exception) -> bool:
    """Whether what kept a program from starting may be over in a moment (no process, descriptor or memory left)."""
    if not isinstance(error, SpawnError):
        return True  # an OSError of ours, or a leaf that is busy: nothing that the operator configured
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING
