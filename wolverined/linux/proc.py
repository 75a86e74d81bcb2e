# SPDX-License-Identifier: MIT
"""Single facts out of /proc, each read so that a process which ends meanwhile is no error."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """The part of /proc/PID/stat that we use. `start_ticks` since boot tells a reused pid apart."""

    name: str
    state: str
    ppid: int
    session: int
    start_ticks: int
    cpu_ticks: int = 0


def parse_stat(text: str) -> Stat:
    """Read one line of /proc/PID/stat; the name may itself hold blanks and brackets (proc(5))."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Stat(
        name=head.partition("(")[2],
        state=fields[0],
        ppid=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
    )


def read(path: str | Path) -> str | None:
    """The text of a small kernel file; None when the process or the file has gone, or is not for us."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def stat(pid: int) -> Stat | None:
    """The state of a process; None when there is none of that pid."""
    text = read(f"/proc/{pid}/stat")
    return parse_stat(text) if text else None


def stuck_thread(pid: int) -> tuple[str, str] | None:
    """Name and wait channel of a thread of `pid` in uninterruptible sleep; None when none is.

    The wait channel is "?" where the kernel does not tell it to us.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names, of a directory that may go
    except OSError:
        return None
    for thread in threads:
        text = read(f"/proc/{pid}/task/{thread}/stat")
        if text and (found := parse_stat(text)).state == "D":
            wchan = read(f"/proc/{pid}/task/{thread}/wchan") or ""
            return found.name, wchan if wchan not in {"", "0"} else "?"
    return None


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, shared pages included; 0 when it has gone."""
    text = read(f"/proc/{pid}/statm")
    return int(text.split()[1]) * _PAGE_BYTES if text else 0


def cpu_usec(pid: int) -> int:
    """CPU time of a process, user and system; 0 when it has gone."""
    found = stat(pid)
    return found.cpu_ticks * 1_000_000 // _TICKS_PER_S if found else 0


def command_line(pid: int) -> str:
    """The command of a process as one line; its name in brackets for a kernel thread, "" when it has gone."""
    text = read(f"/proc/{pid}/cmdline")
    if text:
        return " ".join(text.rstrip("\0").split("\0"))
    found = stat(pid)
    return f"[{found.name}]" if found else ""


def boot_id() -> str:
    """The identity of this boot: pids and start times mean nothing in another."""
    return (read("/proc/sys/kernel/random/boot_id") or "").strip()


def effective_capabilities() -> int:
    """The bit set of our own effective capabilities (capabilities(7)); raises OSError rather than guess."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:"))
