# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from support.control_server import operator_access, parse, read_all, request, serving
from support.fake_instance import FakeInstance
from support.places import eventually

from wolverined.control.http import Limits
from wolverined.control.listener import listen
from wolverined.control.server import Server
from wolverined.errors import Conflict, SpawnError

QUICK = Limits(idle_s=0.2, heartbeat_s=0.1)


def records(sock: socket.socket, count: int) -> list[dict[str, Any]]:
    """The first NDJSON records of a chunked answer."""
    data = b""
    while True:
        body = data.partition(b"\r\n\r\n")[2]
        lines = [line for line in body.replace(b"\r\n", b"\n").split(b"\n")[:-1] if line.startswith(b"{")]
        if len(lines) >= count:
            return [json.loads(line) for line in lines[:count]]
        piece = sock.recv(65536)
        assert piece, f"the stream ended after {lines}"
        data += piece


def follow(sock: socket.socket, path: str) -> None:
    """Begin a stream."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


# --- requests and answers


def test_envelopes() -> None:
    """A read is sync, a mutation async with its change, an error an error with a stable kind."""
    with serving() as served:
        status, envelope = served.ask("GET", "/v1/status")
        assert (status, envelope["type"], envelope["result"]["app"]) == (200, "sync", "shop")
        status, envelope = served.ask("POST", "/v1/stop", {})
        assert (status, envelope["type"], envelope["change"]) == (202, "async", "c1")
        assert envelope["result"]["action"] == "stop"
        status, envelope = served.ask("GET", "/v1/incidents/i9")
        assert (status, envelope["type"]) == (404, "error")
        assert envelope["result"]["kind"] == "not-found"
        assert envelope["result"]["hint"]


def test_lists_leave_out_what_is_heavy() -> None:
    """Lists carry neither traces nor diffs; one thing is shown whole."""
    with serving() as served:
        listed = served.ask("GET", "/v1/incidents")[1]["result"]
        assert [one["id"] for one in listed] == ["i1", "i2"]
        assert not {"trace", "request", "exit"} & listed[0].keys()
        assert len(served.ask("GET", "/v1/incidents?open=true&limit=1")[1]["result"]) == 1
        assert served.ask("GET", "/v1/incidents/i1")[1]["result"]["trace"]["frames"][0]["own"]
        assert "diff" not in served.ask("GET", "/v1/repairs")[1]["result"][0]
        assert served.ask("GET", "/v1/repairs/r1")[1]["result"]["diff"].startswith("diff --git")
        assert served.ask("GET", "/v1/repairs/r1/patch")[1]["result"].startswith("From 0000")


def test_config_hides_environments() -> None:
    """The configuration is shown without the values of environments."""
    with serving() as served:
        assert "s3cret" not in served.raw(request("GET", "/v1/config")).decode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/hold", {}),
        ("/v1/hold", {"for_s": -1}),
        ("/v1/hold", {"for_s": "10m"}),
        ("/v1/hold", {"for_s": 1e9}),
        ("/v1/hold", {"for_s": float("nan")}),
        ("/v1/stop", {"force": True}),
        ("/v1/stop", []),
        ("/v1/heal", {"incident": "../x"}),
        ("/v1/heal", {"report": "x" * 70000}),
        ("/v1/heal", {"dry_run": "yes"}),
        ("/v1/repairs/r1/approve", {"sha256": "ABC"}),
        ("/v1/repairs/r1/reject", {"why": "?"}),
    ],
)
def test_bodies_that_do_not_fit(path: str, body: Any) -> None:
    """A wrong body is a 400 that says what is wrong, and nothing is begun."""
    with serving() as served:
        status, envelope = served.ask("POST", path, body)
        assert (status, envelope["result"]["kind"]) == (400, "bad-request")
        assert served.do(lambda: served.instance.submitted) == []


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'"x"', b'{"for_s":1,"for_s":2}x'])
def test_bodies_that_are_no_json(body: bytes) -> None:
    """Bytes that are no JSON object are a 400."""
    head = f"POST /v1/hold HTTP/1.1\r\nHost: _\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serving() as served:
        assert parse(served.raw(head + body))[0] == 400


@pytest.mark.parametrize("query", ["n=x", "n=-1", "n=", "follow=maybe", "after=1.5", "n=1&" * 30])
def test_queries_that_do_not_fit(query: str) -> None:
    """A wrong query is a 400."""
    with serving() as served:
        assert served.ask("GET", f"/v1/logs?{query}")[0] == 400


def test_a_failing_operation_tells_why() -> None:
    """What an operation raised is read in its change."""
    with serving() as served:
        served.do(lambda: setattr(served.instance, "state", "failed"))
        change = served.ask("POST", "/v1/start", {})[1]["change"]
        ended = served.ask("GET", f"/v1/changes/{change}/wait?timeout=5")[1]["result"]
        assert (ended["state"], ended["kind"], ended["hint"]) == ("failed", "conflict", "see its logs")


def test_a_bug_behind_an_endpoint_is_an_answer() -> None:
    """An exception that nobody expected is a 500, is recorded, and the connection goes on."""
    with serving() as served, served.connect() as sock:
        served.do(lambda: setattr(served.instance, "broken", ZeroDivisionError("oops")))
        sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: _\r\n\r\n" + request("GET", "/v1/usage"))
        answer = read_all(sock)
        assert answer.count(b"HTTP/1.1 500") == 1
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"oops" not in answer
        assert [name for name, _, _ in served.instance.audits] == ["control.error"]


# --- the protocol's limits


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS hello
        (b"GET /v1/status HTTP/1.1\r\n\r\n", 400),  # 1.1 without Host
        (b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 403),
        (b"GET /v1/status HTTP/1.1\r\nHost:\r\n\r\n", 403),
        (b"GET /v1/status HTTP/1.0\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /v1/status HTTP/1.0\r\n\r\n", 200),
        (b"GET /v1/status HTTP/1.1\r\nHost: _\r\nConnection: close\r\n\r\n", 200),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n", 403),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n", 403),
        (b"GET http://localhost/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"DELETE /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"HEAD /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"CONNECT /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /v1/%2e%2e/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n\r\n", 200),
        (b"POST /v1/stop HTTP/1.1\r\nHost: _\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 202),
        (b"POST /v1/stop HTTP/1.1\r\nHost: _\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST /v1/stop HTTP/1.1\r\nHost: _\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /v1/stop HTTP/1.1\r\nHost: _\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: _\r\n\r\n", 431),
        (b"GET /v1/status HTTP/1.1\r\nHost: _\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431),
        (b"GET /v1/status HTTP/1.1\r\nHost: _\r\n" + b"X: y\r\n" * 4000 + b"\r\n", 431),
        (b"GET /v1/status HTTP/1.1\r\nHost: _\r\nX: " + b"x" * 10_000_000, 431),
    ],
)
def test_requests_at_the_edges_of_the_protocol(data: bytes, status: int) -> None:
    """Each odd request has its one status; none hangs, none is answered by something else."""
    with serving() as served:
        answer = served.raw(data)
        assert int(answer.split()[1]) == status, answer[:300]
        assert served.ask("GET", "/v1/status")[0] == 200


def test_bodies_that_are_too_large() -> None:
    """A body beyond the limit is refused by its length, and in chunks once the limit is passed."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST /v1/stop HTTP/1.1\r\nHost: _\r\n"
    with serving() as served:
        told = served.raw(head + b"Content-Length: 1048577\r\n\r\n" + b"x" * 1048577)
        assert parse(told)[0] == 413
        assert parse(told)[1]["result"]["kind"] == "too-large"
        assert parse(served.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17 + b"0\r\n\r\n"))[0] == 413
        body = b"{" + b" " * (1048576 - 2) + b"}"
        fits = served.raw(head + b"Connection: close\r\nContent-Length: 1048576\r\n\r\n" + body)
        assert parse(fits)[0] == 202


def test_expect_continue() -> None:
    """A client that asks first is told to go on, or refused before it sends a body."""
    head = b"POST /v1/stop HTTP/1.1\r\nHost: _\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: "
    with serving() as served, served.connect() as sock:
        sock.sendall(head + b"2\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"{}")
        assert read_all(sock).startswith(b"HTTP/1.1 202 ")
        assert served.raw(head + b"2000000\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_pipelining_and_keep_alive() -> None:
    """Requests sent at once are answered in their order, on one connection."""
    get = "GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    names = ["status", "usage", "nowhere", "backups"] * 25
    with serving() as served, served.connect() as sock:
        sock.sendall("".join(get.format(name) for name in names).encode() + request("GET", "/v1/status"))
        answer = read_all(sock)
    codes = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert codes == [b"200", b"200", b"404", b"200"] * 25 + [b"200"]


def test_half_open_client_gets_its_answer() -> None:
    """A client that has ended its own side is answered; one that sent nothing is let go."""
    with serving() as served:
        assert parse(served.raw(request("GET", "/v1/status")))[0] == 200
        assert served.raw(b"") == b""
        assert served.raw(b"GET /v1/sta")[:12] == b"HTTP/1.1 400"
        served.until(lambda: not served.server._served)


@pytest.mark.parametrize(
    "data",
    [b"", b"GET /v1/status HTTP/1.1\r\nHost: lo", b"POST /v1/stop HTTP/1.1\r\nHost: _\r\nContent-Length: 5\r\n\r\n{"],
)
def test_slow_requests_end(data: bytes) -> None:
    """A connection that brings no whole request in time is ended: silently when it was idle, else with 408."""
    with serving(limits=QUICK) as served, served.connect() as sock:
        sock.sendall(data)
        answer = read_all(sock)
        assert answer[:12] == (b"HTTP/1.1 408" if data else b"")
        served.until(lambda: not served.server._served)


def test_a_byte_now_and_then_does_not_keep_a_connection() -> None:
    """The deadline is for the whole request, so trickling bytes cannot move it."""
    with serving(limits=QUICK) as served, served.connect() as sock:
        stopped = threading.Event()

        def trickle() -> None:
            for byte in b"GET /v1/status HTTP/1.1\r\nX: " + b"x" * 10_000:
                try:
                    sock.send(bytes([byte]))
                except OSError:
                    return
                if stopped.wait(0.02):
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert read_all(sock)[:12] == b"HTTP/1.1 408"
        finally:
            stopped.set()
            thread.join()


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    """A client that asks much and reads nothing costs one buffer for a while, then nothing."""
    with serving(limits=QUICK) as served, served.connect() as sock:
        served.do(lambda: [served.instance.line("x" * 60_000) for _ in range(100)])
        sock.sendall(b"GET /v1/logs?n=100 HTTP/1.1\r\nHost: _\r\n\r\n" * 20)
        served.until(lambda: len(served.server._served) == 1)
        served.until(lambda: not served.server._served)
        assert served.ask("GET", "/v1/status")[0] == 200


def test_too_many_connections() -> None:
    """The connection beyond the limit is told to try again; when one ends there is room."""
    with serving(limits=Limits(connections=3, view_connections=3)) as served:
        held = [served.connect() for _ in range(3)]
        try:
            served.until(lambda: len(served.server._served) == 3)
            status, envelope = served.ask("GET", "/v1/status")
            assert (status, envelope["result"]["kind"]) == (503, "busy")
            held.pop().close()
            served.until(lambda: len(served.server._served) == 2)
            assert served.ask("GET", "/v1/status")[0] == 200
        finally:
            for sock in held:
                sock.close()


def test_a_flood_of_connections_is_survived() -> None:
    """Thousands of connections that come and go leave nothing behind."""
    with serving() as served:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(1000):
            served.connect().close()
        # Dead connections still hold their places for a moment: the next client may be told to try again.
        eventually(lambda: served.ask("GET", "/v1/status")[0] == 200)
        served.until(lambda: not served.server._served)
        eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


# --- changes


def test_concurrent_posts_of_one_key_are_one_operation() -> None:
    """However often a request is repeated under one key, at once or later, it is done once."""
    with serving() as served:
        answers: list[tuple[int, dict[str, Any]]] = []
        post = lambda: answers.append(served.ask("POST", "/v1/restart", {}, Idempotency_Key="abc"))  # noqa: E731
        threads = [threading.Thread(target=post) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {(status, envelope["change"]) for status, envelope in answers} == {(202, "c1")}
        assert served.do(lambda: served.instance.submitted) == [("restart", {})]
        assert served.ask("POST", "/v1/stop", {}, Idempotency_Key="abc")[0] == 409
        assert served.ask("POST", "/v1/restart", {})[1]["change"] == "c2"
        assert served.ask("POST", "/v1/restart", {}, Idempotency_Key="x" * 129)[0] == 400


def test_wait_returns_at_the_end_or_in_time() -> None:
    """A wait ends with the change, or at its timeout with the change as it stands."""
    with serving() as served:
        served.do(served.instance.gate.clear)
        assert served.ask("POST", "/v1/stop", {})[1]["change"] == "c1"
        assert served.ask("GET", "/v1/changes/c1/wait?timeout=0.05")[1]["result"]["state"] == "doing"
        with served.connect() as sock:
            sock.sendall(request("GET", "/v1/changes/c1/wait?timeout=30"))
            served.until(lambda: len(served.server._served) == 1)
            served.do(served.instance.gate.set)
            assert parse(read_all(sock))[1]["result"]["state"] == "done"
        assert served.ask("GET", "/v1/changes/c1")[1]["result"]["state"] == "done"
        assert served.ask("GET", "/v1/changes/c7/wait")[0] == 404
        assert served.ask("GET", "/v1/changes/c1/wait?timeout=x")[0] == 400


def test_who_leaves_while_waiting_frees_its_place() -> None:
    """A client that hangs up during a wait or a stream holds no connection."""
    with serving() as served:
        served.do(served.instance.gate.clear)
        served.ask("POST", "/v1/stop", {})
        for path in ("/v1/changes/c1/wait?timeout=60", "/v1/logs?follow=true", "/v1/events?follow=true"):
            with served.connect() as sock:
                follow(sock, path)
                served.until(lambda: len(served.server._served) == 1)
            served.until(lambda: not served.server._served, within_s=5)


# --- streams


def test_logs_and_events_by_cursor() -> None:
    """Without follow, `n` gives the last so many and `after` what follows a cursor."""
    with serving(keep=50) as served:
        served.do(lambda: [served.instance.line(str(number)) for number in range(80)])
        cursors = lambda query: [one["cursor"] for one in served.ask("GET", f"/v1/logs{query}")[1]["result"]]  # noqa: E731
        assert cursors("?n=3") == [78, 79, 80]
        assert cursors("?after=77&n=2") == [78, 79]
        assert cursors("?after=0&n=1") == [31]
        assert cursors("?n=1000") == list(range(31, 81))
        assert cursors("?after=80") == []
        assert cursors("?n=0") == []


def test_follow_brings_lines_as_they_come() -> None:
    """A stream begins with the last lines and goes on with each new one."""
    with serving() as served, served.connect() as sock:
        served.do(lambda: [served.instance.line(str(number)) for number in range(10)])
        follow(sock, "/v1/logs?follow=true&n=2")
        served.until(lambda: len(served.server._served) == 1)
        served.do(lambda: served.instance.line("new"))
        got = records(sock, 4)
    assert [record["type"] for record in got] == ["start", "line", "line", "line"]
    assert [record.get("text") for record in got[1:]] == ["8", "9", "new"]
    assert got[0]["cursor"] == 8


def test_asking_for_the_last_lines_drops_nothing() -> None:
    """Who asks for more of the last lines than are kept is not told of a loss."""
    with serving(keep=5) as served, served.connect() as sock:
        served.do(lambda: [served.instance.line(str(number)) for number in range(10)])
        follow(sock, "/v1/logs?follow=true&n=100")
        assert [record["type"] for record in records(sock, 3)] == ["start", "line", "line"]


def test_heartbeats_over_the_wire() -> None:
    """A silent stream sends heartbeats."""
    with serving(limits=QUICK) as served, served.connect() as sock:
        follow(sock, "/v1/events?follow=true")
        assert [record["type"] for record in records(sock, 3)] == ["start", "heartbeat", "heartbeat"]


def test_a_reader_that_stops_reading_is_told_what_it_missed() -> None:
    """A stalled client loses records, learns their number, and holds up neither the daemon nor other clients."""
    with serving(keep=200) as served, served.connect() as slow:
        follow(slow, "/v1/logs?follow=true&after=0")
        served.until(lambda: len(served.server._served) == 1)
        for _ in range(100):
            served.do(lambda: [served.instance.line("x" * 1000) for _ in range(50)])
        assert served.ask("GET", "/v1/status")[0] == 200
        served.do(lambda: served.instance.line("end"))
        seen, data = {"line": 0, "dropped": 0}, b""
        while b'"end"' not in data[-400:]:
            data += slow.recv(1 << 20)
        for line in data.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n").split(b"\n"):
            if line.startswith(b'{"type":"dropped"'):
                seen["dropped"] += json.loads(line)["count"]
            seen["line"] += line.startswith(b'{"type":"line"')
    assert seen["dropped"] > 1000
    assert seen["line"] + seen["dropped"] == 5001


def test_http_1_0_stream() -> None:
    """A client of HTTP/1.0 gets the stream without chunks."""
    with serving() as served, served.connect() as sock:
        served.do(lambda: served.instance.line("hello"))
        sock.sendall(b"GET /v1/logs?follow=true&n=1 HTTP/1.0\r\n\r\n")
        assert records(sock, 2)[1]["text"] == "hello"


# --- the socket


def test_socket_mode_and_takeover(tmp_path: Path) -> None:
    """The socket is 0666 from its first moment, replaces a dead one, and goes with its server alone."""
    path = tmp_path / "control.sock"

    async def main() -> None:
        dead = listen(path)
        dead.close()
        first = Server(FakeInstance(), path, operator_access())
        await first.start()
        assert path.stat().st_mode & 0o777 == 0o666
        second = Server(FakeInstance(), path, operator_access())
        with pytest.raises(Conflict):
            await second.start()
        await second.close()
        assert path.exists()
        path.unlink()
        successor = listen(path)
        await first.close()
        assert path.exists()
        successor.close()

    asyncio.run(main())


def test_close_ends_everything(tmp_path: Path) -> None:
    """After close the socket is gone and every client has been let go."""
    with serving() as served:
        streams = [served.connect() for _ in range(3)]
        for sock in streams:
            follow(sock, "/v1/logs?follow=true")
            records(sock, 1)
        path = served.path
    assert not path.exists()
    for sock in streams:
        read_all(sock)
        sock.close()


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    """A socket that cannot be made is an error with a hint."""
    with pytest.raises(SpawnError) as error:
        asyncio.run(Server(FakeInstance(), tmp_path / "no" / "control.sock", operator_access()).start())
    assert error.value.hint


def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    """A runtime directory may have any length."""
    from wolverined.control.client import Client

    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with serving_in(directory):
        assert Client(str(directory)).get("/v1/status")["app"] == "shop"


def serving_in(directory: Path) -> Any:
    """A server in a directory of the test's own."""
    return serving(directory=directory)


def test_out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process has no descriptor left, accepting pauses, and goes on afterwards."""
    from wolverined.control import server as module

    monkeypatch.setattr(module, "NO_FDS_PAUSE_S", 0.05)
    with serving() as served:
        listener = served.server._listener
        assert listener is not None
        calls = _FailingOnce(listener)
        served.do(lambda: setattr(served.server, "_listener", calls))
        assert served.ask("GET", "/v1/status")[0] == 200
        assert calls.failed
        served.do(lambda: setattr(served.server, "_listener", listener))


class _FailingOnce:
    """A listener whose first accept finds no descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.failed = False

    def accept(self) -> Any:
        """As a socket."""
        if not self.failed:
            self.failed = True
            raise OSError(24, "Too many open files")
        return self._sock.accept()

    def fileno(self) -> int:
        """As a socket."""
        return self._sock.fileno()
