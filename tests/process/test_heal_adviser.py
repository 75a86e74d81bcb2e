# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.model_server import ModelServer, Recorded, Reply, answer, status

from wolverined.errors import AdviserFailed, AdviserRefused, OverBudget, UsageError
from wolverined.heal.stream import Channel
from wolverined.heal.windows import Window
from wolverined.model import Evidence, Incident, IncidentKind

KEY = "sk-test-key-0123456789"
EVIDENCE = Evidence(
    incident=Incident(id="i1", fingerprint="f", kind=IncidentKind.CRASH, error="TypeError", message="boom"),
    tail=("the tail",),
)
WINDOW = Window(path="server.js", start=1, lines=("const x = 1",), sha256="0" * 64)
ARGS: dict[str, Any] = {
    "mode": "fast",
    "evidence": msgspec.to_builtins(EVIDENCE),
    "windows": msgspec.to_builtins((WINDOW,)),
    "prior": ["was refuted"],
    "models": {"fast": "m"},
    "prices": {"m": {"input": 1.0, "output": 2.0}},
    "timeout_s": 20,
}

Answer = tuple[Mapping[str, Any], Sequence[bytes]]


class Heal:
    """The other end: holds the money."""

    def __init__(self) -> None:
        self.poor = False
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def reserve(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        """Hold one call, or refuse."""
        self.calls.append(("reserve", args))
        if self.poor:
            raise OverBudget("nothing left", hint="wait")
        return {"reservation": len(self.calls)}, ()

    async def settle(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Answer:
        """Settle it."""
        self.calls.append(("settle", args))
        return {}, ()


def start(handed: Mapping[str, str], *, user: int | None = None) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a real adviser process with these keys; our end of its stream."""
    ours, theirs = socket.socketpair()
    keys, keys_theirs = socket.socketpair()
    with theirs, keys, keys_theirs:
        keys.sendall(msgspec.json.encode(handed))
        fds = (theirs.fileno(), keys_theirs.fileno())
        argv = [sys.executable, "-I", "-m", "wolverined.heal.adviser", *map(str, fds)]
        return ours, subprocess.Popen(argv, env={}, pass_fds=fds, user=user)


@contextlib.asynccontextmanager
async def adviser(heal: Heal, environment: Mapping[str, str]) -> AsyncIterator[tuple[Channel, int]]:
    """A channel to a real adviser process, and its pid; the process ends in good order."""
    ours, process = start(environment)
    handlers = {"reserve": heal.reserve, "settle": heal.settle}
    channel = Channel(ours, role="heal", deadline_s=60, handlers=handlers, peer_role="adviser")
    try:
        await channel.start()
        yield channel, process.pid
    finally:
        await channel.close()
        assert await asyncio.to_thread(process.wait, 20) == 0


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene under a deadline."""

    async def whole() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(whole())


def test_a_heal_gets_its_advice() -> None:
    """Evidence goes in, text and usage come out; money was reserved before the request and settled after."""

    async def scene() -> None:
        heal = Heal()

        def reply(_request: Recorded) -> Reply:
            seen.append([name for name, _ in heal.calls])
            return answer("ROOT: x", usage=(1000, 500))

        seen: list[list[str]] = []
        with ModelServer() as server:
            server.script(reply)
            async with adviser(heal, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}) as (channel, _pid):
                body = (await channel.call("advise", ARGS)).body
            (request,) = server.requests
        assert seen == [["reserve"]]
        assert (body["text"], body["model"]) == ("ROOT: x", "m")
        assert body["usage"]["cost_usd"] == pytest.approx(0.002)
        assert [name for name, _ in heal.calls] == ["reserve", "settle"]
        assert heal.calls[0][1]["mode"] == "fast"
        assert heal.calls[1][1]["usage"]["input_tokens"] == 1000
        for part in ("TypeError: boom", "the tail", "1| const x = 1", "was refuted"):
            assert part in request.prompt
        assert KEY not in request.prompt

    run(scene)


def test_failures_arrive_as_what_they_are() -> None:
    """A refused key, a limit, an empty purse and a wrong call are told apart, and the role lives on."""

    async def scene() -> None:
        with ModelServer() as server:
            heal = Heal()
            async with adviser(heal, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}) as (channel, _pid):
                server.script(status(401))
                with pytest.raises(AdviserRefused):
                    await channel.call("advise", ARGS)
                server.script(status(429, retry_after=100))
                with pytest.raises(AdviserFailed) as limited:
                    await channel.call("advise", ARGS)
                assert limited.value.retryable
                for wrong in ({}, {**ARGS, "mode": "agent"}, {**ARGS, "base_url": "http://evil.example.org"}):
                    with pytest.raises(UsageError):
                        await channel.call("advise", wrong)
                heal.poor = True
                with pytest.raises(OverBudget):
                    await channel.call("advise", ARGS)
                assert len(server.requests) == 2

    run(scene)


UNUSABLE = [{}, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://ai.example.org/v1"}]


@pytest.mark.parametrize("environment", UNUSABLE, ids=["no key", "clear text"])
def test_without_a_usable_endpoint_nothing_is_asked(environment: dict[str, str]) -> None:
    """The reason comes as an answer; no money is reserved."""

    async def scene() -> None:
        heal = Heal()
        async with adviser(heal, environment) as (channel, _pid):
            with pytest.raises(AdviserRefused, match="OPENAI"):
                await channel.call("advise", ARGS)
        assert heal.calls == []

    run(scene)


def test_the_key_is_out_of_reach_of_others() -> None:
    """Not dumpable: /proc gives its environment to root alone, whatever uid it runs as; no core is written."""
    ours, process = start({"OPENAI_API_KEY": KEY}, user=65534 if os.geteuid() == 0 else None)
    with ours, process:
        ours.settimeout(20)
        if not ours.recv(1):
            pytest.skip("the project is out of reach of another uid here")
        assert Path(f"/proc/{process.pid}/environ").stat().st_uid == 0
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file")] == ["0"]
        ours.close()
        assert process.wait(20) == 1


@pytest.mark.parametrize("argv", [[], ["x"], ["99"]])
def test_started_by_hand_it_says_who_starts_it(argv: list[str]) -> None:
    """One line and exit 1, no traceback."""
    done = subprocess.run(
        [sys.executable, "-I", "-m", "wolverined.heal.adviser", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ.get("PATH", "")},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("adviser: ")
    assert "Traceback" not in done.stderr
