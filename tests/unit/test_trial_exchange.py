# SPDX-License-Identifier: MIT
from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.trial.exchange import MAX_BODY, Connecting, Exchange
from wolverined.model import Request

Server = Callable[[socket.socket], None]


@contextmanager
def served(act: Server) -> Iterator[int]:
    """A server for one connection; gives its port."""

    def serve() -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        with sock:
            sock.settimeout(5)
            try:
                act(sock)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(10)


def drive(exchange: Exchange, *, within_s: float = 5.0) -> Exchange:
    """Poll until it is done or the time is over."""
    until = time.monotonic() + within_s
    try:
        exchange.advance()
        while not exchange.done and time.monotonic() < until:
            poll = select.poll()
            poll.register(exchange.fileno(), exchange.events)
            if poll.poll(50):
                exchange.advance()
    finally:
        exchange.close()
    return exchange


def ask(act: Server, request: Request | None = None, *, within_s: float = 5.0) -> Exchange:
    """One request to a server that does `act`."""
    with served(act) as port:
        asked = request or Request(method="GET", path="/")
        return drive(Exchange(asked, host="127.0.0.1", port=port), within_s=within_s)


def answering(data: bytes) -> Server:
    """Read the head, send bytes, close."""

    def act(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(data)

    return act


def test_an_answer_comes_whole() -> None:
    """Status, kind and body of a plain answer."""
    found = ask(answering(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"))
    assert (found.status, found.content_type, found.body, found.failure) == (201, "application/json", b"{}", "")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 500),
    ],
)
def test_framings(data: bytes, status: int) -> None:
    """Bodies end by length, by chunks, by the connection; interim answers are skipped."""
    assert ask(answering(data)).status == status


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"garbage\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_or_no_http_has_no_status(data: bytes) -> None:
    """A server that dies while it answers has not answered."""
    found = ask(answering(data))
    assert found.done
    assert found.status is None
    assert found.failure


def test_an_endless_body_is_cut() -> None:
    """More than MAX_BODY is not read; the status stands."""

    def act(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"x" * 65536)

    found = ask(act)
    assert found.status == 200
    assert len(found.body) <= MAX_BODY


def test_a_server_that_never_answers_leaves_it_undone() -> None:
    """Time is the caller's: the exchange just stays open."""

    def silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    found = ask(silent, within_s=0.1)
    assert not found.done
    assert found.status is None


def test_nobody_listens() -> None:
    """A refused connection is an end, not an exception."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = drive(Exchange(Request(method="GET", path="/"), host="127.0.0.1", port=port))
    assert found.done
    assert found.failure == "connection refused"
    connecting = Connecting("127.0.0.1", port)
    with connecting.sock:
        assert [connecting.result() for _ in range(3)] == [False] * 3, "a refusal stays one"


def heard(request: Request) -> bytes:
    """The bytes that a server gets."""
    got = bytearray()

    def act(sock: socket.socket) -> None:
        sock.settimeout(0.5)
        while chunk := sock.recv(65536):
            got.extend(chunk)
            if b"\r\n\r\n" in got and len(got) >= got.index(b"\r\n\r\n") + 4 + len(request.body.encode()):
                break
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert ask(act, request).status == 200
    return bytes(got)


def test_what_is_sent_is_what_was_recorded() -> None:
    """Method, path, headers and body arrive; hop-by-hop headers are ours."""
    data = heard(
        Request(
            method="POST",
            path="/a b/ü?q=«secret:X»#frag",
            headers={"X-One": "1", "x-one": "2", "Content-Length": "99", "Connection": "keep-alive", "Bad Name": "x"},
            body='{"ü": 1}',
        )
    )
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a%20b/%C3%BC?q=%C2%ABsecret:X%C2%BB HTTP/1.1\r\n")
    assert body == '{"ü": 1}'.encode()
    low = head.lower()
    assert b"x-one: 1" in low
    assert b"content-length: 9" in low
    assert b"connection: close" in low
    assert b"bad name" not in low


@given(
    st.builds(
        Request,
        method=st.text(max_size=8),
        path=st.text(max_size=40),
        headers=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4),
        body=st.text(max_size=40),
    )
)
def test_any_recorded_request_can_be_encoded(request: Request) -> None:
    """Evidence is hostile: whatever was recorded becomes one sane request, with no line of its own making."""
    exchange = Exchange(request, host="127.0.0.1", port=1)
    try:
        head = exchange._out.partition(b"\r\n\r\n")[0]
    finally:
        exchange.close()
    lines = head.split(b"\r\n")
    assert lines[0].endswith(b" HTTP/1.1")
    assert len(lines[0].split(b" ")) == 3
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert len(lines) <= 1 + len(request.headers) + 4
