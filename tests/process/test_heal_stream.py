# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from wolverined.errors import EditRejected, StreamError, UsageError, WolverineError
from wolverined.heal import frames
from wolverined.heal.frames import Message, encode
from wolverined.heal.stream import MAX_CALLS, Channel, Handler
from wolverined.heal.syncstream import SyncChannel, inherited

Answer = tuple[Mapping[str, Any], Sequence[bytes]]
HELLO = encode(frames.hello(role="trial", deadline_s=30))


@pytest.fixture(autouse=True)
def _no_fd_stays_open() -> Iterator[None]:
    """Every test of streams ends with the fds that it began with."""
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene under a deadline; no task may be left when it ends."""

    async def whole() -> None:
        async with asyncio.timeout(20):
            await scene()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


async def pair(
    left: Mapping[str, Handler] | None = None, right: Mapping[str, Handler] | None = None, *, deadline_s: float = 30
) -> tuple[Channel, Channel]:
    """Two started channels that are connected to each other."""
    a, b = socket.socketpair()
    one = Channel(a, role="heal", deadline_s=deadline_s, handlers=left or {}, peer_role="trial")
    two = Channel(b, role="trial", deadline_s=deadline_s, handlers=right or {}, peer_role="heal")
    await asyncio.gather(one.start(), two.start())
    return one, two


async def against(handlers: Mapping[str, Handler] | None = None) -> tuple[Channel, socket.socket]:
    """A started channel, and the raw socket of a peer that has said hello and nothing else."""
    a, b = socket.socketpair()
    b.settimeout(20)
    b.sendall(HELLO)
    channel = Channel(a, role="heal", deadline_s=30, handlers=handlers or {})
    await channel.start()
    return channel, b


async def echo(args: dict[str, Any], blobs: tuple[bytes, ...]) -> Answer:
    """Answer with what was asked."""
    return args, blobs


async def forever(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def test_both_sides_call_each_other_with_blobs() -> None:
    """Calls go both ways at once over one socket, and blobs come back as they were sent."""

    async def scene() -> None:
        one, two = await pair({"echo": echo}, {"echo": echo})
        blob = os.urandom(3_000_000)
        answers = await asyncio.gather(
            *(side.call("echo", {"n": n}, blobs=(blob, b"")) for n in range(4) for side in (one, two))
        )
        assert [answer.body["n"] for answer in answers] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert all(answer.blobs == (blob, b"") for answer in answers)
        await asyncio.gather(one.close(), two.close())

    run(scene)


def test_a_handler_may_call_back_before_it_answers() -> None:
    """The adviser asks heal to reserve money while heal waits for its advice."""

    async def scene() -> None:
        async def advise(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            return (await two.call("reserve", {"usd": 1})).body, ()

        one, two = await pair({"reserve": echo}, {"advise": advise})
        assert (await one.call("advise")).body == {"usd": 1}
        await asyncio.gather(one.close(), two.close())

    run(scene)


def test_errors_of_the_other_side_are_raised_here() -> None:
    """Our errors keep their class; a bug in a handler becomes a plain error and is told to the loop."""

    async def scene() -> None:
        async def refuse(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            raise EditRejected("no match", hint="look again")

        async def bug(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            raise KeyError("secret detail")

        async def unsayable(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            return {"x": object()}, ()

        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        one, two = await pair({}, {"refuse": refuse, "bug": bug, "unsayable": unsayable})
        with pytest.raises(EditRejected, match="look again"):
            await one.call("refuse")
        with pytest.raises(WolverineError, match=r"^bug failed: KeyError$"):
            await one.call("bug")
        with pytest.raises(StreamError, match="JSON"):
            await one.call("unsayable")
        with pytest.raises(UsageError):
            await one.call("nothing-like-this")
        assert isinstance(told[0]["exception"], KeyError)
        await asyncio.gather(one.close(), two.close())

    run(scene)


def test_events_arrive_in_order_and_before_a_later_answer() -> None:
    """Rungs that a trial tells are all seen before the observations that follow them."""

    async def scene() -> None:
        seen: list[int] = []

        async def rung(args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            await asyncio.sleep(0)
            seen.append(args["n"])
            return {}, ()

        async def boot(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            for n in range(50):
                await two.notify("rung", {"n": n})
            await two.notify("unknown event")
            return {}, ()

        one, two = await pair({"rung": rung}, {"boot": boot})
        await one.call("boot")
        assert seen == list(range(50))
        await asyncio.gather(one.close(), two.close())

    run(scene)


def test_a_late_answer_is_dropped_and_the_channel_lives() -> None:
    """A call that timed out leaves no trace; the next one works."""

    async def scene() -> None:
        go = asyncio.Event()

        async def slow(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            await go.wait()
            return {"late": True}, ()

        one, two = await pair({}, {"slow": slow, "echo": echo})
        with pytest.raises(StreamError, match="within"):
            await one.call("slow", timeout_s=0.01)
        go.set()
        assert (await one.call("echo", {"a": 1})).body == {"a": 1}
        assert one.error is None
        await asyncio.gather(one.close(), two.close())

    run(scene)


def test_calls_fail_and_handlers_stop_when_the_other_side_goes() -> None:
    """A peer that dies ends what waits for it and what works for it."""

    async def scene() -> None:
        begun, stopped = asyncio.Event(), asyncio.Event()

        async def forever(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return {}, ()

        one, two = await pair({}, {"forever": forever})
        waiting = asyncio.create_task(one.call("forever"))
        await begun.wait()
        await one.close()
        await two.closed()
        await stopped.wait()
        with pytest.raises(StreamError):
            await waiting
        with pytest.raises(StreamError):
            await two.call("echo")
        with pytest.raises(StreamError):
            await two.notify("echo")
        await two.close()
        await two.close()

    run(scene)


def test_the_deadline_of_either_side_ends_the_channel() -> None:
    """The smaller count of both hellos holds, whoever said it."""

    async def scene() -> None:
        a, b = socket.socketpair()
        one = Channel(a, role="x", deadline_s=30)
        two = Channel(b, role="y", deadline_s=0.2, handlers={"forever": forever})
        await asyncio.gather(one.start(), two.start())
        with pytest.raises(StreamError):
            await one.call("forever", timeout_s=20)
        await asyncio.gather(one.closed(), two.closed())
        await asyncio.gather(one.close(), two.close())

    run(scene)


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        encode(Message({"v": 2, "hello": {"role": "trial", "deadline_s": 1}})),
        encode(frames.hello(role="surgeon", deadline_s=1)),
        encode(frames.call(name="echo", args={}, blobs=(), number=1)),
        encode(Message({"v": 1, "hello": {"role": "trial", "deadline_s": 1}}, (b"blob",))),
        HELLO[:-3],
    ],
    ids=["nothing", "http", "version", "role", "call", "blob", "cut"],
)
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_no_channel_starts_without_a_right_hello(greeting: bytes, kind: str) -> None:
    """Whoever does not greet as agreed is refused, and the socket is closed."""
    a, b = socket.socketpair()
    with b:
        b.sendall(greeting)
        b.shutdown(socket.SHUT_WR)
        if kind == "sync":
            with SyncChannel(a, role="heal", deadline_s=5, peer_role="trial") as channel, pytest.raises(StreamError):
                channel.start()
            return

        async def scene() -> None:
            refused = Channel(a, role="heal", deadline_s=5, peer_role="trial")
            with pytest.raises(StreamError):
                await refused.start()
            with pytest.raises(StreamError):
                await refused.call("echo")
            await refused.closed()
            await refused.close()

        run(scene)


def test_a_silent_peer_is_given_up() -> None:
    """No hello in time ends both kinds of channel."""
    a, b = socket.socketpair()
    with b, SyncChannel(a, role="heal", deadline_s=30, hello_s=0.05) as channel, pytest.raises(StreamError):
        channel.start()

    async def scene() -> None:
        c, d = socket.socketpair()
        with d:
            silent = Channel(c, role="heal", deadline_s=30, hello_s=0.05)
            with pytest.raises(StreamError, match="no hello"):
                await silent.start()

    run(scene)


BREACHES = {
    "noise": b"\xff" * 64,
    "unasked answer": encode(frames.result(7, {}, ())),
    "unasked error": encode(frames.failure(7, WolverineError("x"))),
    "nothing": encode(Message({"id": 1})),
    "both": encode(Message({"id": 1, "result": {}, "error": {"kind": "x", "message": "y"}})),
    "bad id": encode(Message({"id": -1, "call": "x"})),
    "args are a list": encode(Message({"id": 1, "call": "x", "args": []})),
    "huge": struct.pack(">IB", 2**32 - 1, 1),
    "half": encode(Message({"id": 1, "call": "echo"}))[:-2],
}


@pytest.mark.parametrize("wire", BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_ends_the_channel(wire: bytes) -> None:
    """The first wrong message ends everything, with the reason kept."""

    async def scene() -> None:
        channel, raw = await against({"echo": echo})
        with raw:
            waiting = asyncio.create_task(channel.call("never answered"))
            raw.sendall(wire)
            raw.shutdown(socket.SHUT_WR)
            await channel.closed()
            with pytest.raises(StreamError):
                await waiting
            assert channel.error is not None
            await channel.close()

    run(scene)


@pytest.mark.parametrize("wire", BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_ends_the_blocking_channel(wire: bytes) -> None:
    """The blocking twin refuses the same things."""
    a, b = socket.socketpair()
    with b, SyncChannel(a, role="trial", deadline_s=20) as channel:
        b.sendall(HELLO + wire)
        b.shutdown(socket.SHUT_WR)
        with pytest.raises(StreamError):  # noqa: PT012 - what came with the hello may be refused at once
            channel.start()
            channel.serve({})
        with pytest.raises(StreamError):
            channel.call("echo")


def test_a_flood_of_calls_ends_the_channel() -> None:
    """Handlers that wait are bounded; a peer that piles up calls is cut off."""

    async def scene() -> None:
        channel, raw = await against({"forever": forever})
        with raw:
            for number in range(1, MAX_CALLS + 2):
                raw.sendall(encode(frames.call(name="forever", args={}, blobs=(), number=number)))
            await channel.closed()
            assert "at once" in str(channel.error)
            await channel.close()

    run(scene)


def test_a_peer_that_reads_nothing_cannot_hold_a_call_or_a_close() -> None:
    """A full socket buffer is bounded by the call's timeout, and the channel still closes."""

    async def scene() -> None:
        channel, raw = await against()
        with raw:
            with pytest.raises(StreamError, match="within"):
                await channel.call("echo", blobs=(bytes(20_000_000),), timeout_s=0.05)
            await channel.close()

    run(scene)


def test_a_channel_that_never_started_can_be_closed() -> None:
    """close() owns the socket in every state."""

    async def scene() -> None:
        a, b = socket.socketpair()
        with b:
            channel = Channel(a, role="heal", deadline_s=5)
            with pytest.raises(StreamError):
                await channel.call("echo")
            await channel.close()
            assert b.recv(1) == b""

    run(scene)


def test_a_handler_may_close_its_own_channel() -> None:
    """A call such as "finish" ends the job from within, without waiting for itself."""

    async def scene() -> None:
        async def finish(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            await two.close()
            return {}, ()

        one, two = await pair({}, {"finish": finish})
        with pytest.raises(StreamError):
            await one.call("finish")
        await one.close()
        await two.closed()

    run(scene)


def test_the_blocking_side_serves_and_calls_back() -> None:
    """A role in a thread of its own answers, calls back while it works, and ends when the other side goes."""
    a, b = socket.socketpair()
    ended = threading.Event()

    def role() -> None:
        with SyncChannel(b, role="trial", deadline_s=30, peer_role="heal") as channel:
            channel.start()

            def boot(args: dict[str, Any], blobs: tuple[bytes, ...]) -> Answer:
                channel.notify("rung", {"n": 1})
                return {"asked": channel.call("ask", args, blobs=blobs).body}, blobs

            def refuse(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
                raise EditRejected("no")

            def unsayable(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
                return {"x": object()}, ()

            channel.serve({"boot": boot, "refuse": refuse, "unsayable": unsayable})
        ended.set()

    thread = threading.Thread(target=role)
    thread.start()

    async def scene() -> None:
        rungs: list[int] = []

        async def rung(args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
            rungs.append(args["n"])
            return {}, ()

        one = Channel(a, role="heal", deadline_s=30, handlers={"ask": echo, "rung": rung})
        await one.start()
        # Two at once: the second waits its turn while the first one calls back.
        answers = await asyncio.gather(*(one.call("boot", {"n": n}, blobs=(bytes(500_000),)) for n in (1, 2)))
        assert [answer.body["asked"] for answer in answers] == [{"n": 1}, {"n": 2}]
        assert rungs == [1, 1]
        for name, kind in (("refuse", EditRejected), ("unsayable", StreamError), ("missing", UsageError)):
            with pytest.raises(kind):
                await one.call(name)
        await one.close()

    run(scene)
    thread.join(20)
    assert ended.is_set()


def test_the_blocking_side_gives_up_at_its_deadline() -> None:
    """A peer that says hello and then nothing cannot hold a role for longer than the job may take."""
    a, b = socket.socketpair()
    with b, SyncChannel(a, role="trial", deadline_s=0.1) as channel:
        b.sendall(HELLO)
        channel.start()
        with pytest.raises(StreamError, match="deadline"):
            channel.serve({})
        with pytest.raises(StreamError, match="deadline"):
            channel.notify("late")


def test_the_blocking_side_gives_up_on_one_call_alone() -> None:
    """A call's own timeout leaves the stream in order: the late answer is dropped."""
    a, b = socket.socketpair()
    with b, SyncChannel(a, role="trial", deadline_s=20) as channel:
        b.sendall(HELLO)
        channel.start()
        with pytest.raises(StreamError, match="in time"):
            channel.call("slow", timeout_s=0.01)
        b.sendall(encode(frames.result(1, {}, ())) + encode(frames.result(2, {"ok": 1}, (b"x",))))
        assert channel.call("quick") == Message({"ok": 1}, (b"x",))


def test_a_full_buffer_cannot_hold_the_blocking_side() -> None:
    """Writing to a peer that reads nothing ends at the deadline."""
    a, b = socket.socketpair()
    with b, SyncChannel(a, role="trial", deadline_s=0.2) as channel:
        b.sendall(HELLO)
        channel.start()
        with pytest.raises(StreamError, match="deadline"):
            channel.call("echo", blobs=(bytes(20_000_000),))


def test_the_blocking_side_bounds_what_waits() -> None:
    """Calls that pile up while a role waits for an answer end the stream."""
    a, b = socket.socketpair()
    with b, SyncChannel(a, role="trial", deadline_s=20) as channel:
        b.sendall(HELLO + encode(frames.call(name="x", args={}, blobs=(), number=1)) * 40)
        channel.start()
        with pytest.raises(StreamError, match="at once"):
            channel.call("echo")


ROLE = """
import sys
from wolverined.heal.syncstream import SyncChannel, inherited
with SyncChannel(inherited(sys.argv[1]), role="surgeon", deadline_s=20) as channel:
    channel.start()
    channel.serve({"modules": lambda args, blobs: ({"names": sorted(sys.modules)}, ())})
"""


def test_a_role_process_speaks_over_its_inherited_fd_and_stays_light() -> None:
    """argv[1] is the stream; the blocking side loads neither a loop nor anything with a network in it."""
    a, b = socket.socketpair()
    with b:
        fd = b.fileno()
        process = subprocess.Popen([sys.executable, "-I", "-c", ROLE, str(fd)], pass_fds=(fd,))

    async def scene() -> None:
        channel = Channel(a, role="heal", deadline_s=20, peer_role="surgeon")
        await channel.start()
        names = set((await channel.call("modules")).body["names"])
        assert not names & {"asyncio", "ssl", "openai", "httpx2", "http.client", "urllib.request", "dataclasses"}
        await channel.close()

    run(scene)
    assert process.wait(20) == 0


@pytest.mark.parametrize("number", ["", "x", "-1", "99999", "0.5"])
def test_a_wrong_fd_number_is_a_clear_error(number: str) -> None:
    """A role started by hand says who starts roles."""
    with pytest.raises(StreamError):
        inherited(number)


def test_a_file_is_no_stream(tmp_path: Path) -> None:
    """An fd that is a file, or a datagram socket, is refused and left open for its owner."""
    with (tmp_path / "x").open("wb") as file, pytest.raises(StreamError):
        inherited(str(file.fileno()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        with pytest.raises(StreamError):
            inherited(str(datagram.fileno()))
        assert datagram.fileno() >= 0
