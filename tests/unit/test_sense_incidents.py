# SPDX-License-Identifier: MIT
"""Which incident an exit is: its kind, its name, its trace, its request."""

from __future__ import annotations

from typing import Any

import pytest

from wolverined.model import Exit, IncidentKind, NewIncident, Request
from wolverined.sense.incidents import describe_exit, from_exit
from wolverined.sense.reports import CrashReport
from wolverined.traces import fingerprint, parse

ROOT = "/srv/app"
CRASHED = """\
TypeError: x is not a function
    at f (/srv/app/a.js:1:2)

Node.js v24.0.0"""
REQUEST = Request(method="GET", path="/orders/7")


def incident(output: str = "", *, report: CrashReport | None = None, **fields: Any) -> NewIncident:
    """Make the incident of an exit with that output."""
    tail = output.split("\n")
    ended = Exit(generation=3, at=1000.0, **({"ready": True} | fields))
    return from_exit(ended, traces=parse(tail, app_root=ROOT), report=report, tail=tail, app_root=ROOT)


def told(**fields: Any) -> CrashReport:
    """Make a crash report of a moment ago."""
    return CrashReport(**({"name": "TypeError", "message": "x is not a function", "received_at": 999.9} | fields))


@pytest.mark.parametrize(
    ("fields", "kind", "error"),
    [
        ({"code": 3}, IncidentKind.CRASH, "exit 3"),
        ({"code": 3, "ready": False}, IncidentKind.BOOT, "exit 3"),
        ({"signal": 9}, IncidentKind.CRASH, "SIGKILL"),
        ({"signal": 64}, IncidentKind.CRASH, "SIGRTMAX"),
        ({"signal": 35}, IncidentKind.CRASH, "signal 35"),
        ({"signal": 9, "oom": True}, IncidentKind.OOM, "out of memory"),
        ({"code": 0}, IncidentKind.EXIT, "exit 0"),
        ({"code": 0, "ready": False}, IncidentKind.EXIT, "exit 0"),
    ],
)
def test_the_kind_is_told_by_how_it_ended(fields: dict[str, Any], kind: IncidentKind, error: str) -> None:
    """Memory first, then exit 0, then whether it was ever ready; without a trace the exit is the error."""
    new = incident(**fields)
    assert (new.kind, new.error, new.message, new.trace) == (kind, error, "", None)
    assert new.exit is not None
    assert describe_exit(new.exit) == error
    assert (new.generation, new.at) == (3, 1000.0)


def test_an_uncaught_error_names_the_incident() -> None:
    """The newest trace of the output, its last error, and the fingerprint over both and the kind."""
    new = incident("RangeError: older\n    at g (/srv/app/b.js:1:2)\nlog\n" + CRASHED, code=1)
    assert (new.error, new.message) == ("TypeError", "x is not a function")
    assert new.trace is not None
    assert new.fingerprint == fingerprint(IncidentKind.CRASH, new.trace, None)


def test_a_trace_of_long_ago_is_not_blamed_for_another_exit() -> None:
    """Exit 1 is what an uncaught error ends with; any other code needs the trace to be among the last lines."""
    old = CRASHED + "\n" + "\n".join(f"served {number}" for number in range(50))
    assert incident(old, code=3).trace is None
    assert incident(old, code=1).trace is not None
    assert incident(CRASHED + "\ngood bye", code=3).trace is not None
    assert incident(CRASHED, code=0).error == "TypeError"


def test_a_signal_from_outside_has_no_trace() -> None:
    """Nothing in the output tells why somebody sent SIGKILL or memory ran out; an abort is the process's own."""
    assert incident(CRASHED, signal=9).trace is None
    assert incident(CRASHED, signal=15).trace is None
    new = incident(CRASHED, signal=9, oom=True, memory_max_bytes=64 << 20, memory_peak_bytes=63 << 20)
    assert (new.trace, new.message) == (None, "limit 64 MiB, peak 63 MiB")
    assert "resources.memory_max_mb" in new.note
    assert incident("Fatal Python error: Aborted\n\n" + 'File "/srv/app/a.py", line 1 in f', signal=6).trace is not None


def test_warnings_are_no_reason() -> None:
    """A warning that was printed with its stack did not end anything."""
    text = "(node:1) DeprecationWarning: old\n    at f (/srv/app/a.js:1:2)"
    assert incident(text, code=1).trace is None


def test_the_report_brings_the_request_and_says_which_trace_it_was() -> None:
    """The trace with the reported error wins over newer ones; its text is the output's, with more in it."""
    output = CRASHED + "\nRangeError: printed later\n    at g (/srv/app/b.js:1:2)"
    new = incident(output, code=1, report=told(requests=(REQUEST, Request(method="GET", path="/other"))))
    assert (new.error, new.request) == ("TypeError", REQUEST)


def test_a_report_alone_is_enough() -> None:
    """An application that hides its stderr still told its stack."""
    new = incident(code=7, report=told(stack=CRASHED, requests=(REQUEST,)))
    assert (new.error, new.message, new.request) == ("TypeError", "x is not a function", REQUEST)
    assert new.trace is not None
    assert new.trace.frames[0].path == "a.js"
    assert incident(code=7, report=told(stack="")).error == "exit 7"


def test_a_report_of_long_ago_explains_nothing() -> None:
    """A thread that died an hour before did not end the process."""
    new = incident(CRASHED, code=1, report=told(received_at=900.0, requests=(REQUEST,)))
    assert new.request is None
