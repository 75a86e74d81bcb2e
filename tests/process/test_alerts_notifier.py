# SPDX-License-Identifier: MIT
"""Letters from a supervisor's post office through the notifier's process to real servers on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wolverined.alerts import letter as letters
from wolverined.alerts.letter import Letter, Receipt, Undelivered
from wolverined.alerts.notifier import addresses, delivery, process
from wolverined.alerts.notifier.addresses import Mail, Webhook, parse
from wolverined.alerts.post import ANSWER_S, AT_ONCE, PostOffice
from wolverined.model import Event

LETTER = Letter(
    app="shop",
    host="web1",
    type="awaiting_approval",
    severity="warn",
    event="heal.approval",
    message="r1 waits",
    at=1.0,
    repair="r1",
)


class Hook(BaseHTTPRequestHandler):
    """Answers what its server is scripted to."""

    server: Any

    def do_POST(self) -> None:
        """Note the request, answer the next status of the script."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        status = self.server.script.pop(0) if self.server.script else 204
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Smtp(socketserver.StreamRequestHandler):
    """Just enough of RFC 5321 to take one mail."""

    server: Any

    def handle(self) -> None:
        """Converse until QUIT."""
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.server.got.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            elif verb == b"RCPT" and b"nobody@" in line:
                self.wfile.write(b"550 no such user\r\n")
                continue
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 fine\r\n")


@contextmanager
def serving(server: Any, *script: int) -> Iterator[Any]:
    """A server on loopback; `got` is what it was told."""
    server.got, server.script, server.daemon_threads = [], list(script), True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def webhook(*script: int) -> Any:
    """A web server."""
    return serving(ThreadingHTTPServer(("127.0.0.1", 0), Hook), *script)


def mail_server() -> Any:
    """A mail server."""
    return serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp))


def notify(words: bytes, place: Path, urls: str) -> tuple[int, Receipt, str]:
    """Run the notifier as its unit does: the connection is standard input."""
    (place / "notify-urls").write_text(urls)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(words)
        ours.shutdown(socket.SHUT_WR)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "wolverined.alerts.notifier"],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"CREDENTIALS_DIRECTORY": str(place), "PATH": "/usr/bin:/bin"},
        )
        theirs.close()
        return done.returncode, letters.decode_receipt(b"".join(iter(lambda: ours.recv(65536), b""))), done.stderr


def test_a_letter_reaches_every_address(tmp_path: Path) -> None:
    """Webhook signed, mail readable, and a receipt that says so."""
    with webhook() as hook, mail_server() as post:
        urls = f"http://127.0.0.1:{hook.server_port}/ops?a=b secret=word\n"
        urls += f"smtp://127.0.0.1:{post.server_address[1]}/?from=w@example.net&to=ops@example.net\n"
        code, receipt, _ = notify(letters.encode(LETTER), tmp_path, urls)
    assert (code, receipt) == (0, Receipt(sent=2))
    [(path, headers, body)] = hook.got
    assert path == "/ops?a=b"
    assert headers["X-Wolverine-Signature"] == f"sha256={hmac.new(b'word', body, hashlib.sha256).hexdigest()}"
    assert json.loads(body)["repair"] == "r1"
    assert json.loads(body)["text"] == "[warn] shop on web1: awaiting approval (r1)\nr1 waits"
    [mail] = post.got
    assert "Subject: [warn] shop on web1: awaiting approval (r1)" in mail
    assert "wolverinectl repairs shop show r1" in mail


def test_an_address_that_fails_keeps_no_other_from_its_letter(tmp_path: Path) -> None:
    """Refused recipient first, webhook second: the second has it, the receipt names the first without its password."""
    with webhook() as hook, mail_server() as post:
        urls = f"smtp://127.0.0.1:{post.server_address[1]}/?from=w@example.net&to=nobody@example.net\n"
        urls += f"http://127.0.0.1:{hook.server_port}/hunter2\n"
        code, receipt, said = notify(letters.encode(LETTER), tmp_path, urls)
    assert code == 1
    assert receipt == Receipt(
        sent=1, undelivered=(Undelivered(where="smtp://127.0.0.1", why="every recipient was refused"),)
    )
    assert len(hook.got) == 1
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("words", "urls", "why"),
    [
        (b"{}\n", "", "no letter"),
        (b"\n", "", "no letter"),
        (b"", "", "no letter"),
        (b"x" * 70_000, "", "no letter"),
        (letters.encode(LETTER).replace(b'"v":1', b'"v":2'), "", "version 2"),
        (letters.encode(LETTER), "mail:hunter2\n", "line 1"),
    ],
)
def test_what_cannot_be_read_is_said_and_not_shown(tmp_path: Path, words: bytes, urls: str, why: str) -> None:
    """A letter or a credential that is none: the receipt says what is wrong."""
    code, receipt, said = notify(words, tmp_path, urls)
    assert code == 1
    assert why in receipt.error
    assert "hunter2" not in receipt.error + said


def test_trouble_on_the_other_side_is_tried_again() -> None:
    """503, then 429, then fine: one letter."""
    with webhook(503, 429) as hook:
        [address] = parse(f"http://127.0.0.1:{hook.server_port}/")
        delivery.deliver(LETTER, address, wait_s=0.0)
    assert len(hook.got) == 3


@pytest.mark.parametrize(
    ("script", "error", "asked"),
    [((404,), delivery.Refused, 1), ((302,), delivery.Refused, 1), ((500,) * 9, delivery.Trouble, 3)],
)
def test_a_refusal_is_no_trouble(script: tuple[int, ...], error: type[Exception], asked: int) -> None:
    """A no is not asked again, a redirect is not followed, and trouble is not asked for ever."""
    with webhook(*script) as hook:
        [address] = parse(f"http://127.0.0.1:{hook.server_port}/")
        with pytest.raises(error):
            delivery.deliver(LETTER, address, wait_s=0.0)
    assert len(hook.got) == asked


def test_addresses_that_never_answer_starve_nobody() -> None:
    """Nineteen dead ones before a live one: it is told at once, and the receipt names them after their time."""
    wanted = parse("".join(f"https://dead{number}.example/\n" for number in range(19)) + "https://live.example/\n")
    over, heard = threading.Event(), threading.Event()

    def deliver(_: Letter, address: Webhook | Mail) -> None:
        if "dead" not in address.where:
            heard.set()
        elif not over.wait(20):
            raise delivery.Trouble("still dead")

    try:
        receipt = process.deliver_all(LETTER, wanted, deliver=deliver, within_s=0.5)
    finally:
        over.set()
    assert heard.is_set()
    assert receipt.sent == 1
    assert [one.where for one in receipt.undelivered] == [f"https://dead{number}.example" for number in range(19)]
    assert {one.why for one in receipt.undelivered} == {"it did not answer within 0.5 s"}


def test_whatever_goes_wrong_with_an_address_is_in_the_receipt() -> None:
    """A password that no mail server can be told, say; its words, which may quote it, are left out."""

    def deliver(_: Letter, address: Webhook | Mail) -> None:
        if address.where == "https://b.example":
            raise UnicodeError("hunter2")

    wanted = parse("https://a.example/\nhttps://b.example/\n")
    receipt = process.deliver_all(LETTER, wanted, deliver=deliver)
    assert receipt == Receipt(sent=1, undelivered=(Undelivered(where="https://b.example", why="UnicodeError"),))


def test_the_receipt_comes_before_anybody_stops_waiting() -> None:
    """The notifier's own time is shorter than its unit's and than the supervisor's; its threads fit into the unit."""
    unit = (Path(__file__).parents[2] / "systemd" / "wolverine-notifier@.service").read_text()
    told = dict(line.split("=", 1) for line in unit.splitlines() if line.startswith(("RuntimeMaxSec=", "TasksMax=")))
    assert min(float(told["RuntimeMaxSec"]), ANSWER_S) >= process.READ_S + process.ANSWER_S + 10
    assert int(told["TasksMax"]) > addresses.MAX_ADDRESSES


def event(name: str = "heal.approval") -> Event:
    """An event as the store gives it."""
    return Event(cursor=1, at=1.0, name=name, message="r1 waits", severity="info", repair="r1")


def office(path: Path, failed: list[str]) -> PostOffice:
    """A post office before a socket."""
    return PostOffice(
        app="shop", host="web1", min_severity=lambda: "warn", monotonic=lambda: 0.0, failed=failed.append, path=path
    )


def test_the_post_office_hands_over_what_deserves_a_human(tmp_path: Path) -> None:
    """One letter for an alert, none for what happens every day."""

    async def scenario() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.put_nowait(await reader.readline())
            writer.write(letters.encode(Receipt(sent=1)))
            writer.close()

        failed: list[str] = []
        async with await asyncio.start_unix_server(serve, tmp_path / "sock"):
            post = office(tmp_path / "sock", failed)
            post.event(event("app.exit"))
            post.event(event())
            letter = letters.decode_letter(await asyncio.wait_for(got.get(), 5))
            await post.close()
        assert (letter.app, letter.severity, letter.repair) == ("shop", "warn", "r1")
        assert failed == []
        assert got.empty()

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", [b"", b"what\n", b"x" * 100_000, letters.encode(Receipt(error="no key"))])
def test_a_letter_that_does_not_arrive_is_told(tmp_path: Path, answer: bytes) -> None:
    """A notifier that breaks off, talks nonsense or fails: somebody hears of it."""

    async def scenario() -> None:
        told = asyncio.Event()
        failed: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        def note(why: str) -> None:
            failed.append(why)
            told.set()

        async with await asyncio.start_unix_server(serve, tmp_path / "sock"):
            post = office(tmp_path / "sock", failed)
            post._failed = note
            post.event(event())
            await asyncio.wait_for(told.wait(), 5)
            await post.close()
        assert len(failed) == 1

    asyncio.run(scenario())


def test_without_a_notifier_it_is_told_once(tmp_path: Path) -> None:
    """No socket: one complaint, not one a letter."""

    async def scenario() -> None:
        failed: list[str] = []
        post = office(tmp_path / "none", failed)
        for number in range(3):
            post.event(Event(cursor=number, at=1.0, name="heal.approval", message="m", repair=f"r{number}"))
        await asyncio.gather(*post._under_way)
        assert len(failed) == 1

    asyncio.run(scenario())


def waiting(number: int) -> Event:
    """One of several repairs that wait for approval."""
    return Event(cursor=number, at=1.0, name="heal.approval", message="m", repair=f"r{number}")


def test_a_letter_that_did_not_arrive_is_written_again_and_counts_until_then(tmp_path: Path) -> None:
    """The notifier is away, then back: the next event of the same trouble is told, and how many were not."""

    async def scenario() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.put_nowait(await reader.readline())
            writer.write(letters.encode(Receipt(sent=1)))
            writer.close()

        post = office(tmp_path / "sock", [])
        for number in range(2):
            post.event(waiting(number))
        await asyncio.gather(*post._under_way)
        async with await asyncio.start_unix_server(serve, tmp_path / "sock"):
            post.event(waiting(0))
            letter = letters.decode_letter(await asyncio.wait_for(got.get(), 5))
            await asyncio.gather(*post._under_way)
            post.event(waiting(0))
            assert not post._under_way
            await post.close()
        assert (letter.repair, letter.withheld) == ("r0", 2)

    asyncio.run(scenario())


def test_more_letters_than_the_notifier_takes_at_once_are_withheld(tmp_path: Path) -> None:
    """The fifth is told later, with its number, and somebody hears that the notifier is slow."""

    async def scenario() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()
        go_on = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.put_nowait(await reader.readline())
            await go_on.wait()
            writer.write(letters.encode(Receipt(sent=1)))
            writer.close()

        failed: list[str] = []
        async with await asyncio.start_unix_server(serve, tmp_path / "sock"):
            post = office(tmp_path / "sock", failed)
            for number in range(AT_ONCE + 1):
                post.event(waiting(number))
            for _ in range(AT_ONCE):
                await asyncio.wait_for(got.get(), 5)
            go_on.set()
            await asyncio.gather(*post._under_way)
            post.event(waiting(AT_ONCE))
            letter = letters.decode_letter(await asyncio.wait_for(got.get(), 5))
            await asyncio.gather(*post._under_way)
            await post.close()
        assert failed == ["the notifier is slower than what there is to tell"]
        assert (letter.repair, letter.withheld) == (f"r{AT_ONCE}", 1)

    asyncio.run(scenario())


def test_a_letter_that_reached_somebody_is_told(tmp_path: Path) -> None:
    """One of two addresses failed: it is complained of, and nobody hears of the same trouble again at once."""

    async def scenario() -> None:
        half = Receipt(sent=1, undelivered=(Undelivered(where="https://b.example", why="it answered 500"),))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(letters.encode(half))
            writer.close()

        failed: list[str] = []
        async with await asyncio.start_unix_server(serve, tmp_path / "sock"):
            post = office(tmp_path / "sock", failed)
            post.event(waiting(0))
            await asyncio.gather(*post._under_way)
            post.event(waiting(0))
            assert not post._under_way
            await post.close()
        assert len(failed) == 1

    asyncio.run(scenario())
