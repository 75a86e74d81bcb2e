# SPDX-License-Identifier: MIT
"""Output is hostile: the parsers never raise, stay bounded and take linear time."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wolverined.traces import parse

PIECES = [
    "Traceback (most recent call last):",
    "  + Exception Group Traceback (most recent call last):",
    '  File "/srv/app/a.py", line 3, in f',
    '  File "/srv/app/a.py", line 3',
    '  |   File "x.py", line 99999999999999, in f',
    "    x = 1",
    "    ^^^",
    "ValueError: x",
    "  | ValueError: x",
    "  +-+---------------- 1 ----------------",
    "    +------------------------------------",
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
    "  [Previous line repeated 3 more times]",
    "/srv/app/a.js:3",
    "   ^",
    "TypeError: x",
    "[AggregateError: x] {",
    "  [cause]: Error: y",
    "  [errors]: [",
    "    at f (/srv/app/a.js:1:2)",
    "    at f (/srv/app/a.js:1:2) {",
    "    at eval (eval at x (/a.js:1:1), <anonymous>:2:1)",
    "    at (((((",
    "    at :²:³",
    "}",
    "  code: 'X',",
    "... 5 lines matching cause stack trace ...",
    "Emitted 'error' event on Server instance at:",
    "Node.js v24.0.0",
    "Fatal Python error: Aborted",
    "panic: x",
    "[worker 1] TypeError: x",
    "12:00:00 ERROR Traceback (most recent call last):",
    "",
    "\x1b[31mError: red\x1b[0m",
    "\udc80\x00\ufeff",
    "x" * 5000,
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=40)), max_size=40))
def test_any_order_of_any_lines_is_survived(lines: list[str]) -> None:
    """Whatever the lines: no exception, structs that can be stored, errors never empty, bounded sizes."""
    for trace in parse(lines, app_root="/srv/app"):
        assert trace.errors
        assert len(trace.text) <= 16 << 10
        assert len(trace.frames) <= 16 * 60
        assert all(frame.line >= 0 for frame in trace.frames)
        assert msgspec.json.decode(msgspec.json.encode(trace), type=type(trace)) == trace


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    """Output need not be text."""
    parse(data.decode("utf-8", "surrogateescape"), app_root="/srv/app")


@pytest.mark.parametrize(
    "piece", [*PIECES, "a: ", "[a]", "'", "/a:1\n", "\x1b]", "Error ", "x.y.", "(", "\n", "{[", ": x ("]
)
@pytest.mark.parametrize("joint", ["\n", ""])
def test_a_mebibyte_of_one_thing_takes_linear_time(piece: str, joint: str) -> None:
    """No input makes a parser quadratic (the limit is generous: a quadratic one takes minutes)."""
    text = (piece + joint) * ((1 << 20) // len(piece + joint) or 1) if piece + joint else ""
    started = time.process_time()
    parse(text, app_root="/srv/app")
    assert time.process_time() - started < 2


def test_only_the_newest_output_counts() -> None:
    """More than a MiB: what is older is not read, and the number of traces is bounded."""
    trace = "TypeError: number {}\n    at f (/srv/app/a.js:1:2)\n"
    found = parse("".join(trace.format(number) for number in range(40_000)), app_root="/srv/app")
    assert len(found) == 64
    assert found[-1].errors[0].message == "number 39999"
