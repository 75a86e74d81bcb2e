# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.control_server import Served, read_all, serving

from wolverined.control.http import Limits

PIECES = [
    b"GET ",
    b"POST ",
    b"/v1/status",
    b"/v1/stop",
    b"/v1/logs?follow=true&n=1",
    b"/v1/changes/c1/wait?timeout=0",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"Host: localhost",
    b"Host: _",
    b"Content-Length: 2",
    b"Content-Length: 18446744073709551616",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Expect: 100-continue",
    b"Upgrade: websocket",
    b"Idempotency-Key: \xff",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"{}",
    b"\x00",
    b"%00%ff",
    b"?after=99999999999999999999",
]

requests = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=14).map(b"".join)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One server for all examples: what one leaves behind, the next one meets."""
    with serving(limits=Limits(idle_s=0.3, heartbeat_s=0.05, wait_max_s=0.1)) as served:
        yield served


@given(data=requests, cuts=st.lists(st.integers(0, 400), max_size=4), half_close=st.booleans())
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_or_hang_the_server(served: Served, data: bytes, cuts: list[int], *, half_close: bool) -> None:
    """Any bytes, in any pieces, end in answers or a closed connection, and the next client is served."""
    with served.connect(timeout_s=5) as sock:
        places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        try:
            for begin, end in pairwise(places):
                sock.sendall(data[begin:end])
            if half_close:
                sock.shutdown(socket.SHUT_WR)
                # A stream has no end of its own: take what comes first, then leave.
                first = sock.recv(65536) if b"follow=true" in data else read_all(sock)
                assert first == b"" or first.startswith(b"HTTP/1.1 ")
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert served.ask("GET", "/v1/status")[0] == 200


def test_nothing_is_left_of_the_fuzzing(served: Served) -> None:
    """After all those bytes no connection and no recorded bug is left."""
    served.until(lambda: not served.server._served)
    assert [fields for name, _, fields in served.instance.audits if name == "control.error"] == []
