# SPDX-License-Identifier: MIT
"""Words and plain data about a supervised app, for status answers and for one-line reasons."""

from __future__ import annotations

import errno
import signal

import msgspec

from wolverined.clock import Clock
from wolverined.errors import Conflict, SpawnError, TimedOut
from wolverined.linux.leaf import Stuck
from wolverined.linux.limits import memory_words
from wolverined.model import AppState, Exit
from wolverined.supervise.generation import Generation
from wolverined.supervise.lifecycle import Life, Phase, shown

_PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EBUSY, errno.ETXTBSY}


class Record(msgspec.Struct):
    """What a supervisor remembers beside its machine's state.

    Attributes:
        spawns: How many generations it has started.
        spawn_error: Why nothing can be started.
        last_exit: How the last generation ended, in words.
        ready_at: Since when it is served (wall clock).
        says: What the app says of itself.
        stuck: What does not go although it was killed.
    """

    spawns: int = 0
    spawn_error: SpawnError | None = None
    last_exit: str = ""
    ready_at: float | None = None
    says: str = ""
    stuck: tuple[Stuck, ...] = ()

    @property
    def stuck_names(self) -> str:
        """The stuck processes, for a person."""
        names = (f"{one.name} (pid {one.pid}) in {one.wchan}" for one in self.stuck)
        return ", ".join(names) or "its processes cannot be killed"


def describe(life: Life, record: Record, *, generation: Generation | None, clock: Clock) -> dict[str, object]:
    """The supervisor's part of `status --json`; times are wall-clock seconds, durations are in seconds."""
    waits = life.phase is Phase.WAITING and life.due is not None
    stats = generation.leaf.stats() if generation is not None else None
    return {
        "state": shown(life).value,
        "why": life.why,
        "generation": life.generation,
        "pid": generation.child.pid if generation is not None and generation.exit is None else None,
        "uptime_s": round(generation.uptime_s, 3) if generation is not None else 0.0,
        "restarts": max(0, record.spawns - 1),
        "ready_since": record.ready_at,
        "backoff_until": clock.wall() + (life.due or 0.0) - clock.monotonic() if waits else None,
        "failures": life.record.failures,
        "tree": generation.leaf.pids() if generation is not None else [],
        "memory_bytes": stats.memory_bytes if stats is not None else None,
        "memory_max_bytes": stats.memory_max_bytes if stats is not None else None,
        "memory_peak_bytes": stats.memory_peak_bytes if stats is not None else None,
        "dropped_bytes": sum(pump.dropped_bytes for pump in generation.pumps) if generation is not None else 0,
        "last_exit": record.last_exit,
        "degraded": life.degraded,
        "app_says": record.says,
        "stuck": [msgspec.to_builtins(process) for process in record.stuck],
    }


def check_hope(life: Life, record: Record) -> None:
    """Raise when waiting for ready has become pointless."""
    if life.held:
        raise Conflict("a repair holds the app down", hint="it is started when the repair is done")
    if life.phase is Phase.FAILED:
        raise record.spawn_error or SpawnError(life.why)
    if not life.wanted:
        raise Conflict("the app was stopped meanwhile")
    if shown(life) is AppState.CRASH_LOOP:
        raise Conflict(f"the app crashes again and again: {life.why}", hint="see why: wolverinectl logs")


def not_ready(record: Record, patience_s: float) -> TimedOut:
    """What to say of an app that was waited for long enough."""
    last = f"; the last run ended with {record.last_exit}" if record.last_exit else ""
    return TimedOut(
        f"the app was not ready within {patience_s:.0f} s{last}", hint="see what it says: wolverinectl logs"
    )


def not_down(record: Record) -> TimedOut:
    """What to say of an app whose end was waited for long enough."""
    return TimedOut(
        f"the app does not end: {record.stuck_names}",
        hint="it waits in the kernel, mostly for a disk or a network; nothing is started before it goes",
    )


def exit_words(ended: Exit) -> str:
    """How a generation ended, in words: "exit 3", "SIGKILL", "SIGKILL (out of memory: limit 64 MiB, peak 64 MiB)"."""
    if ended.signal is None:
        words = f"exit {ended.code}"
    else:
        try:
            words = signal.Signals(ended.signal).name
        except ValueError:  # a real-time signal
            words = f"signal {ended.signal}"
    memory = memory_words(ended.memory_max_bytes, ended.memory_peak_bytes)
    if not ended.oom:
        return words
    return f"{words} (out of memory: {memory})" if memory else f"{words} (out of memory)"


def passing(error: Exception) -> bool:
    """Whether what kept a program from starting may be over in a moment (no process, descriptor or memory left)."""
    if not isinstance(error, SpawnError):
        return True  # an OSError of ours, or a leaf that is busy: nothing that the operator configured
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING
