# SPDX-License-Identifier: MIT
"""Probes against real sockets and programs: what is well, what is not, and what says nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.leaves import PATH, python
from support.places import IS_ROOT, eventually_async, public_tmp
from support.supervision import APP_USER, SLEEPER, best_hierarchy, configured, free_port, supervised

from wolverined.config.schema import ProbeTable
from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials
from wolverined.linux.leaf import Hierarchy
from wolverined.model import AppState
from wolverined.sense import http, probes
from wolverined.sense.http import Garbled, get
from wolverined.sense.notices import Notice, NotifySocket
from wolverined.sense.probes import Result, ask_exec, ask_http, ask_tcp
from wolverined.supervise.interfaces import ProbeEvents, ProbeTarget


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Run one scenario with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(limited())


@pytest.fixture
def hierarchy(tmp_path: Path) -> Iterator[Hierarchy]:
    """A hierarchy of the best kind that there is."""
    with best_hierarchy(tmp_path) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the app's user may enter and write to."""
    with public_tmp(mode=0o777) as path:
        yield path


def target(place: Path, *, port: int | None = None, hierarchy: Hierarchy | None = None, **probe: Any) -> ProbeTarget:
    """A generation to probe; without a hierarchy it has no leaf, for probes that do not look at it."""
    none: Any = None
    return ProbeTarget(
        probe=ProbeTable(**{"timeout_s": 0.5, **probe}),
        port=port,
        leaf=hierarchy.leaf("app-1") if hierarchy else none,
        notify_path=None,
        helper_leaf=hierarchy.leaf if hierarchy else none,
        environment=PATH,
        directory=place,
        credentials=Credentials.of_user(APP_USER) if APP_USER else Credentials.own(),
    )


@asynccontextmanager
async def answering(
    reply: bytes, *, host: str = "127.0.0.1", hold: bool = False
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each connection with these bytes; gives its port and what it was asked."""
    asked: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65_536))
        writer.write(reply)
        if hold:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        over.set()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


def open_files() -> int:
    """How many file descriptors we have open."""
    return len(list(Path("/proc/self/fd").iterdir()))


# --- GET


def test_an_answer_is_read() -> None:
    """Status, headers and body, from one request that says who asks and closes."""

    async def scenario() -> None:
        async with answering(b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello") as (port, asked):
            answer = await get(port, "/health?x=1", timeout_s=2)
            assert (answer.status, answer.body, answer.truncated) == (200, b"hello", False)
            assert ("x-a", "b") in answer.headers
            assert asked[0].startswith(b"GET /health?x=1 HTTP/1.1\r\n")
            assert f"host: localhost:{port}".encode() in asked[0].lower()
            assert b"connection: close" in asked[0].lower()

    play(scenario())


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_every_form_of_body_is_read(reply: bytes, body: bytes) -> None:
    """Chunked, until the end of the connection, after an interim answer."""

    async def scenario() -> None:
        async with answering(reply) as (port, _):
            assert (await get(port, "/", timeout_s=2)).body == body

    play(scenario())


def test_a_large_body_is_cut() -> None:
    """No more is read than was asked for."""

    async def scenario() -> None:
        async with answering(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 500_000) as (port, _):
            answer = await get(port, "/", timeout_s=2, max_body=1000)
            assert (len(answer.body), answer.truncated) == (1000, True)

    play(scenario())


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"hello there\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        os.urandom(64),
    ],
)
def test_what_is_no_http_is_garbled(reply: bytes) -> None:
    """Half an answer, another protocol, endless headers, noise: never an unknown error."""

    async def scenario() -> None:
        async with answering(reply) as (port, _):
            with pytest.raises((Garbled, ConnectionResetError)):
                await get(port, "/", timeout_s=2)

    play(scenario())


def test_an_app_that_listens_on_ipv6_only_is_found() -> None:
    """Node's `localhost` may be ::1 alone."""

    async def scenario() -> None:
        try:
            async with answering(b"HTTP/1.1 204 X\r\n\r\n", host="::1") as (port, _):
                assert (await get(port, "/", timeout_s=2)).status == 204
        except OSError as error:
            pytest.skip(f"needs IPv6 on the loopback: {error}")

    play(scenario())


def test_a_connection_to_ourselves_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP can connect a port to itself; that is no server."""

    async def scenario() -> None:
        port = free_port()
        real = asyncio.open_connection

        async def to_itself(host: str, port: int) -> Any:
            if host != "127.0.0.1":
                raise ConnectionRefusedError(111, "refused")
            return await real(host, port, local_addr=("127.0.0.1", port))

        monkeypatch.setattr(http.asyncio, "open_connection", to_itself)
        with pytest.raises(ConnectionRefusedError):
            await http.connect(port)

    play(scenario())


# --- asking by HTTP and TCP


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Result.OK),
        (204, Result.OK),
        (302, Result.OK),
        (404, Result.ANSWERS),
        (401, Result.ANSWERS),
        (500, Result.FAILED),
        (503, Result.FAILED),
    ],
)
def test_the_status_decides(place: Path, status: int, result: Result) -> None:
    """2xx and 3xx are well, 4xx answers, 5xx fails."""

    async def scenario() -> None:
        async with answering(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()) as (port, _):
            found, detail = await ask_http(target(place, port=port, http="/h"))
            assert found is result
            assert detail == f"GET /h answered {status}"

    play(scenario())


def test_silence_and_refusal_are_failures_with_words(place: Path) -> None:
    """The detail says what happened, for people."""

    async def scenario() -> None:
        async with answering(b"", hold=True) as (port, _):
            found = await ask_http(target(place, port=port, http="/h", timeout_s=0.1))
            assert found == (Result.FAILED, "GET /h: no answer within 0.1 s")
        port = free_port()
        assert await ask_http(target(place, port=port, http="/h")) == (Result.FAILED, "GET /h: connection refused")
        assert await ask_tcp(target(place, port=port)) == (
            Result.FAILED,
            f"connecting to port {port}: connection refused",
        )

    play(scenario())


def test_a_headers_only_hang_is_a_failure(place: Path) -> None:
    """An answer whose body never ends is no answer."""

    async def scenario() -> None:
        async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", hold=True) as (port, _):
            found, _ = await ask_http(target(place, port=port, http="/h", timeout_s=0.1))
            assert found is Result.FAILED

    play(scenario())


def test_our_own_want_is_no_failure_of_the_app(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without file descriptors nothing is known of the app."""

    async def scenario() -> None:
        async def none_left(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(http.asyncio, "open_connection", none_left)
        found, _ = await ask_tcp(target(place, port=1))
        assert found is Result.ERROR

    play(scenario())


def test_an_open_port_is_well(place: Path) -> None:
    """A connect is enough."""

    async def scenario() -> None:
        async with answering(b"") as (port, _):
            assert (await ask_tcp(target(place, port=port)))[0] is Result.OK

    play(scenario())


# --- asking a program


@pytest.mark.parametrize(
    ("argv", "result", "words"),
    [
        (("true",), Result.OK, "exited with 0"),
        (("sh", "-c", "echo first; echo db is down >&2; exit 2"), Result.FAILED, "sh exited with 2: db is down"),
        (("sh", "-c", "kill -SEGV $$"), Result.FAILED, f"killed by signal {int(signal.SIGSEGV)}"),
        (("sh", "-c", "sleep 60 & sleep 60"), Result.FAILED, "did not end within"),
        (("/nowhere/check",), Result.ERROR, "could not be run"),
        (("sh", "-c", "head -c 1000000 /dev/zero"), Result.OK, "exited with 0"),
    ],
)
def test_a_program_tells_by_its_exit(
    hierarchy: Hierarchy, place: Path, argv: tuple[str, ...], result: Result, words: str
) -> None:
    """Exit 0 is well; anything else is a failure with its last words; what cannot run says nothing."""

    async def scenario() -> None:
        probed = target(place, hierarchy=hierarchy, exec=argv)
        found, detail = await ask_exec(probed)
        assert found is result, detail
        assert words in detail
        before = open_files()
        await ask_exec(probed)
        assert open_files() <= before

    play(scenario())


@pytest.mark.skipif(not IS_ROOT, reason="needs root to change the user")
def test_a_probes_program_runs_as_the_app(hierarchy: Hierarchy, place: Path) -> None:
    """Its user and directory are the app's."""

    async def scenario() -> None:
        check = ("sh", "-c", f'test "$(id -un)" = {APP_USER} && test "$(pwd)" = {place}')
        assert (await ask_exec(target(place, hierarchy=hierarchy, exec=check)))[0] is Result.OK

    play(scenario())


def test_an_exec_probe_makes_ready(hierarchy: Hierarchy, place: Path) -> None:
    """The whole way: ready only when the program says so."""

    async def scenario() -> None:
        probe = ProbeTable(exec=("test", "-e", str(place / "up")), interval_s=0.1, timeout_s=2)
        async with supervised(configured(python(SLEEPER), place, probe=probe), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: "awake" in run.told.texts())
            assert run.supervisor.state is AppState.STARTING
            (place / "up").touch()
            await starting

    play(scenario())


# --- the poller


def heard() -> tuple[list[str], ProbeEvents]:
    """Events that are kept as words."""
    words: list[str] = []
    return words, ProbeEvents(
        ready=lambda: words.append("ready"),
        unready=lambda detail: words.append(f"unready: {detail}"),
        hung=lambda detail: words.append(f"hung: {detail}"),
        said=lambda text: words.append(f"said: {text}"),
    )


def test_a_probe_held_up_by_ourselves_says_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the loop or the machine stood still, a timeout is not the app's fault."""
    monkeypatch.setattr(probes, "_STALL_S", 0.05)
    asked = 0

    async def scenario() -> None:
        async def late(_: object) -> tuple[Result, str]:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0.1)
            return Result.FAILED, "no answer"

        words, events = heard()
        probed = msgspec.structs.replace(target(place, port=1, interval_s=0.01, timeout_s=0.01, failures=2), ready=True)
        polling = asyncio.create_task(probes.Poller(probed, ask=late).run(events))
        await eventually_async(lambda: asked > 3)
        assert words == []
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    play(scenario())


def test_the_poller_ends_with_the_hang(place: Path) -> None:
    """After a hang nothing is asked any more."""

    async def scenario() -> None:
        answers = iter([Result.FAILED, Result.OK, Result.FAILED, Result.FAILED])

        async def scripted(_: object) -> tuple[Result, str]:
            return next(answers), "it says"

        words, events = heard()
        probed = target(place, port=1, interval_s=0.01, failures=2)
        await probes.Poller(probed, ask=scripted).run(events)
        assert words == ["ready", "hung: it says (2 times in a row)"]

    play(scenario())


# --- the app's own notices

NOTIFIER = """
import os, socket, sys, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(os.environ["NOTIFY_SOCKET"])
        out.send(text.encode())
"""


def test_an_app_tells_that_it_is_ready(hierarchy: Hierarchy, place: Path) -> None:
    """READY=1 makes ready, STATUS= is shown, and without WATCHDOG=1 silence is no hang."""
    program = NOTIFIER + "say('READY=1\\nSTATUS=serving 3 rooms')\n" + SLEEPER

    async def scenario() -> None:
        probe = ProbeTable(notify=True, interval_s=0.05, failures=2)
        async with supervised(configured(python(program), place, probe=probe), hierarchy) as run:
            await run.supervisor.start()
            assert run.supervisor.status()["app_says"] == "serving 3 rooms"
            await asyncio.sleep(0.3)  # three times the period of a watchdog: the absence of an event
            assert run.told.probes == []

    play(scenario())


def test_the_next_generation_is_heard_too(hierarchy: Hierarchy, place: Path) -> None:
    """Each generation has a socket of its own at the same path, and the loop confuses none of them."""
    program = NOTIFIER + "say('READY=1')\n" + SLEEPER

    async def scenario() -> None:
        async with supervised(configured(python(program), place, probe=ProbeTable(notify=True)), hierarchy) as run:
            await run.supervisor.start()
            for generation in range(2, 5):
                os.kill(run.pid, signal.SIGKILL)
                await run.until(lambda number=generation: run.generation == number)  # type: ignore[misc]
                await run.until_state(AppState.READY)

    play(scenario())


def test_a_watchdog_that_falls_silent_is_a_hang(hierarchy: Hierarchy, place: Path) -> None:
    """Once WATCHDOG=1 was sent, silence ends the generation."""
    program = NOTIFIER + (
        "say('READY=1')\nperiod = int(os.environ['WATCHDOG_USEC']) / 1e6\n"
        "for _ in range(6):\n    say('WATCHDOG=1')\n    say('STATUS=busy')\n    time.sleep(period / 2)\n"
    )

    async def scenario() -> None:
        probe = ProbeTable(notify=True, interval_s=0.2, failures=2)
        async with supervised(configured(python(program + SLEEPER), place, probe=probe), hierarchy) as run:
            await run.supervisor.start()
            began = asyncio.get_running_loop().time()
            await run.until(lambda: run.told.probes)
            assert asyncio.get_running_loop().time() - began > 1.0  # it beat for 1.2 s
            assert run.told.probes[0] == ("hang", "the app has not sent WATCHDOG=1 for 0.4 s")

    play(scenario())


def test_an_app_can_ask_for_its_own_end(hierarchy: Hierarchy, place: Path) -> None:
    """WATCHDOG=trigger is a hang at once."""
    program = NOTIFIER + "say('READY=1')\nsay('WATCHDOG=trigger')\n" + SLEEPER

    async def scenario() -> None:
        async with supervised(configured(python(program), place, probe=ProbeTable(notify=True)), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: run.told.probes)
            assert "trigger" in run.told.probes[0][1]
            await asyncio.gather(starting, return_exceptions=True)

    play(scenario())


def test_the_grace_of_a_silent_app_is_told(hierarchy: Hierarchy, place: Path) -> None:
    """No READY=1 within the grace: told once, the app lives on."""

    async def scenario() -> None:
        probe = ProbeTable(notify=True, startup_s=0.1)
        async with supervised(configured(python(SLEEPER), place, probe=probe), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: run.told.probes)
            assert "has not sent READY=1" in run.told.probes[0][1]
            assert run.supervisor.state is AppState.STARTING
            starting.cancel()

    play(scenario())


def test_a_flood_of_notices_leaves_the_loop_to_others(hierarchy: Hierarchy, place: Path) -> None:
    """An app that never stops telling is heard, and the supervisor stays responsive."""
    program = NOTIFIER + "say('READY=1')\nwhile True:\n    say('STATUS=busy')\n"

    async def scenario() -> None:
        async with supervised(configured(python(program), place, probe=ProbeTable(notify=True)), hierarchy) as run:
            await run.supervisor.start()
            loop, late_s = asyncio.get_running_loop(), []
            for _ in range(50):
                asked = loop.time()
                await asyncio.sleep(0.002)
                late_s.append(loop.time() - asked)
            assert sorted(late_s)[25] < 0.05

    play(scenario())


def test_a_stranger_cannot_speak_for_the_app(hierarchy: Hierarchy, place: Path) -> None:
    """READY=1 of a living process outside of the leaf is not heard, also with file descriptors attached."""

    async def scenario() -> None:
        async with supervised(configured(python(SLEEPER), place, probe=ProbeTable(notify=True)), hierarchy) as run:
            starting = asyncio.create_task(run.supervisor.start())
            await run.until(lambda: run.told.starts)
            path = run.supervisor._setting.runtime_dir / "app/notify.sock"
            before = open_files()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.connect(str(path))
                for _ in range(100):
                    socket.send_fds(out, [b"READY=1"], [0, 1, 2])
                    await asyncio.sleep(0.001)  # the queue of such a socket is short
            await asyncio.sleep(0.05)
            assert run.supervisor.state is AppState.STARTING
            assert open_files() <= before
            starting.cancel()

    play(scenario())


def test_a_sender_that_has_ended_is_taken_by_its_user(place: Path) -> None:
    """`systemd-notify` in a script is gone before anybody can look where it lived."""

    async def scenario() -> None:
        path = place / "notify.sock"
        for uid, expected in ((os.geteuid(), Notice(ready=True)), (os.geteuid() + 1, Notice())):
            heard_from = NotifySocket(path, uid=uid, pids=list)
            sender = await asyncio.create_subprocess_exec(
                *python(NOTIFIER + "say('READY=1')"), env={"NOTIFY_SOCKET": str(path)}
            )
            await sender.wait()
            assert heard_from.receive() == expected
            assert heard_from.receive() is None
            heard_from.close()
            assert not path.exists()

    play(scenario())


def test_a_truncated_datagram_does_not_count(place: Path) -> None:
    """What does not fit is not understood in part."""
    heard_from = NotifySocket(place / "notify.sock", uid=0, pids=lambda: [os.getpid()])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(str(place / "notify.sock"))
        out.send(b"READY=1\nSTATUS=" + b"x" * 20_000)
        out.send(b"READY=1")
    assert heard_from.receive() == Notice()
    assert heard_from.receive() == Notice(ready=True)
    heard_from.close()


def test_a_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    """The error names the way out."""
    with pytest.raises(SpawnError) as caught:
        NotifySocket(tmp_path / ("x" * 120), uid=0, pids=list)
    assert "--runtime-dir" in caught.value.hint
