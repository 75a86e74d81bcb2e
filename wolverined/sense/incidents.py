# SPDX-License-Identifier: MIT
"""Turns what was noticed into an incident (pure): which trouble it is, what it is called, what belongs to it."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from wolverined.linux.limits import memory_words
from wolverined.model import Exit, IncidentKind, NewIncident, Trace
from wolverined.sense.crash import CrashReport
from wolverined.traces import fingerprint, parse

# Signals by which a process ends itself; any other was sent by somebody, and no trace in the output tells why.
_OWN_SIGNALS = frozenset(
    {
        signal.SIGABRT,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)
_UNCAUGHT = 1  # what Node and Python exit with after an uncaught error
_NEAR_END = 20
_REPORT_MAX_AGE_S = 10.0
_OOM_NOTE = "look for what keeps growing (wolverinectl status shows the memory), or raise resources.memory_max_mb"


def from_exit(
    exit: Exit,  # noqa: A002 - the word of the vocabulary
    *,
    traces: Sequence[Trace],
    report: CrashReport | None,
    app_root: str,
    tail: Sequence[str] = (),
) -> NewIncident:
    """Make an incident out of the end of a generation that nobody asked for.

    Args:
        exit: How it ended.
        traces: The traces in its output, newest last.
        report: What the dying process told of itself.
        app_root: The application's directory.
        tail: The output in which the traces stood; tells whether a trace stood near its end.
    """
    kind = _kind(exit)
    if report is not None and not _fits(report, exit):
        report = None
    trace = _trace(exit, traces, report, app_root, tail)
    error, message = describe_exit(exit), ""
    if kind is IncidentKind.OOM:
        message = memory_words(exit.memory_max_bytes, exit.memory_peak_bytes)
    elif trace is not None:
        last = trace.errors[-1]
        error, message = last.type or error, last.message
    return NewIncident(
        fingerprint=fingerprint(kind, trace, exit),
        kind=kind,
        error=error,
        message=message,
        generation=exit.generation,
        at=exit.at,
        trace=trace,
        exit=exit,
        request=report.requests[0] if report and report.requests else None,
        note=_OOM_NOTE if kind is IncidentKind.OOM else "",
    )


def describe_exit(exit: Exit) -> str:  # noqa: A002 - the word of the vocabulary
    """Say an exit in words: "exit 3", "SIGKILL", "out of memory"."""
    if exit.oom:
        return "out of memory"
    if exit.signal is None:
        return f"exit {exit.code}"
    try:
        return signal.Signals(exit.signal).name
    except ValueError:
        return f"signal {exit.signal}"


def _kind(exit: Exit) -> IncidentKind:  # noqa: A002 - the word of the vocabulary
    if exit.oom:
        return IncidentKind.OOM
    if exit.code == 0:
        return IncidentKind.EXIT
    return IncidentKind.CRASH if exit.ready else IncidentKind.BOOT


def _fits(report: CrashReport, exit: Exit) -> bool:  # noqa: A002 - the word of the vocabulary
    """A report of long ago was survived (an error in a thread, a handler of the app) and explains nothing."""
    return not exit.at or abs(exit.at - report.received_at) <= _REPORT_MAX_AGE_S


def _trace(
    exit: Exit,  # noqa: A002 - the word of the vocabulary
    traces: Sequence[Trace],
    report: CrashReport | None,
    app_root: str,
    tail: Sequence[str],
) -> Trace | None:
    """Choose the trace that tells of this exit."""
    if exit.oom or (exit.signal is not None and exit.signal not in _OWN_SIGNALS):
        return None
    candidates = [trace for trace in traces if not trace.errors[-1].type.endswith("Warning")]
    if report is not None:
        # What the output shows has more in it (source lines, causes) than what the hook told.
        for trace in reversed(candidates):
            if (trace.errors[-1].type, trace.errors[-1].message) == (report.name, report.message.partition("\n")[0]):
                return trace
        told = parse(report.stack, app_root=app_root)
        if told:
            return told[-1]
    if not candidates:
        return None
    newest = candidates[-1]
    return newest if exit.code == _UNCAUGHT or _near_end(newest, tail) else None


def _near_end(trace: Trace, tail: Sequence[str]) -> bool:
    """Whether a trace stands among the last lines: an older one was survived."""
    if not tail:
        return True
    last = trace.text.rstrip().rpartition("\n")[2].strip()
    newest = [line for line in tail if line.strip()][-_NEAR_END:]
    return any(line.rstrip().endswith(last) for line in newest)
