# SPDX-License-Identifier: MIT
"""The adviser as PID 1 starts it: a listening socket, a credential, one client, and an end with that client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.model_server import ModelServer, answer, hang

from wolverined.errors import AdviserRefused
from wolverined.heal.stream import Channel
from wolverined.model import Evidence, Incident, IncidentKind

KEY = "sk-test-key-9876543210"
INCIDENT = Incident(id="i1", fingerprint="f", kind=IncidentKind.CRASH, error="TypeError", message="boom")
ARGS: dict[str, Any] = {
    "mode": "fast",
    "evidence": msgspec.to_builtins(Evidence(incident=INCIDENT)),
    "models": {"fast": "dearest"},
    "prices": {"mine": {"input": 0.0, "output": 0.0}, "dearest": {"input": 0.0, "output": 0.0}},
    "timeout_s": 20,
}

# sd_listen_fds(3): the socket is fd 3, and the variables name the process that is to take it.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "CREDENTIALS_DIRECTORY": sys.argv[2]}
os.execve(sys.executable, [sys.executable, "-I", "-m", "wolverined.heal.adviser"], environ)
"""


class Unit:
    """A socket unit and its service, for one activation at a time."""

    def __init__(self, place: Path, credential: str) -> None:
        (place / "ai").write_text(credential)
        self._place = place
        self.path = str(place / "adviser.sock")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()

    def close(self) -> None:
        """Stop the socket."""
        self._listening.close()

    def activate(self) -> subprocess.Popen[str]:
        """Start the service, as for somebody who has connected."""
        fd = self._listening.fileno()
        argv = [sys.executable, "-I", "-c", ACTIVATE, str(fd), str(self._place)]
        return subprocess.Popen(argv, pass_fds=[fd], stderr=subprocess.PIPE, text=True)

    def connect(self) -> socket.socket:
        """Connect as the supervisor does."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        return sock


@pytest.fixture
def unit_of(tmp_path: Path) -> Any:
    """Make a unit whose credential has the given text."""
    with contextlib.ExitStack() as stack:

        def make(credential: str) -> Unit:
            return stack.enter_context(contextlib.closing(Unit(tmp_path, credential)))

        yield make


@contextlib.asynccontextmanager
async def channel(unit: Unit, settled: list[dict[str, Any]] | None = None) -> AsyncIterator[Channel]:
    """A started channel to a service that was activated for it, which ends well with it."""

    async def reserve(_args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Any:
        return {"reservation": 1}, ()

    async def settle(args: dict[str, Any], _blobs: tuple[bytes, ...]) -> Any:
        if settled is not None:
            settled.append(args["usage"])
        return {}, ()

    client = unit.connect()
    process = unit.activate()
    made = Channel(
        client,
        role="heal",
        deadline_s=60,
        handlers={"reserve": reserve, "settle": settle},
        peer_role="adviser",
    )
    try:
        await made.start()
        yield made
    finally:
        await made.close()
        _, said = await asyncio.to_thread(process.communicate, None, 20)
        assert process.returncode == 0, said


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene under a deadline."""

    async def whole() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(whole())


def test_endpoint_model_and_prices_are_roots_and_not_the_heals(unit_of: Callable[[str], Unit]) -> None:
    """A heal that was taken over asks for a dear model at no price, and gets what root wrote down."""

    async def scene() -> None:
        settled: list[dict[str, Any]] = []
        with ModelServer() as server:
            server.script(answer("ROOT: x", usage=(1000, 500)))
            unit = unit_of(
                f'base_url = "{server.url}"\nkey = "{KEY}"\nmodels = {{fast = "mine"}}\n'
                'prices = {"mine" = {input = 1.0, output = 2.0}}\n'
            )
            async with channel(unit, settled) as heal:
                body = (await heal.call("advise", ARGS)).body
            (request,) = server.requests
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert (request.body["model"], body["model"]) == ("mine", "mine")
        assert settled[0]["cost_usd"] == pytest.approx(0.002)

    run(scene)


def test_without_models_and_prices_the_defaults_count(unit_of: Callable[[str], Unit]) -> None:
    """And the cost is unknown, whatever prices the heal says."""

    async def scene() -> None:
        settled: list[dict[str, Any]] = []
        with ModelServer() as server:
            server.script(answer("ROOT: x"))
            async with channel(unit_of(f'base_url = "{server.url}"\nkey = "{KEY}"\n'), settled) as heal:
                await heal.call("advise", ARGS)
            (request,) = server.requests
        assert request.body["model"] not in {"mine", "dearest"}
        assert settled[0]["cost_usd"] is None

    run(scene)


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        ("# none", "there is no key"),
        ("", "there is no key"),
        (f"key = {KEY}", "ai:1"),
        (f'key = "{KEY}"\nbase_url = "http://elsewhere.example/v1"', "ai:2"),
    ],
)
def test_a_credential_without_use_is_an_answer_and_no_silent_end(
    unit_of: Callable[[str], Unit], credential: str, said: str
) -> None:
    """What is wrong, and which file to write; never the key."""

    async def scene() -> None:
        async with channel(unit_of(credential)) as heal:
            with pytest.raises(AdviserRefused) as refused:
                await heal.call("advise", ARGS)
        assert said in refused.value.message
        assert "/etc/wolverine/ai/NAME.toml" in refused.value.hint
        assert KEY not in str(refused.value)

    run(scene)


def test_it_ends_with_its_client_in_the_middle_of_a_question(unit_of: Callable[[str], Unit]) -> None:
    """Nobody pays for an answer that nobody waits for."""

    async def scene() -> None:
        with ModelServer() as server:
            server.script(hang())
            unit = unit_of(f'base_url = "{server.url}"\nkey = "{KEY}"\n')
            async with channel(unit) as heal:
                asking = asyncio.create_task(heal.call("advise", ARGS))
                await asyncio.to_thread(server.wait_for, 1)
                asking.cancel()
                began = time.monotonic()
            assert time.monotonic() - began < 5

    run(scene)


def test_it_takes_one_client_and_leaves_the_next_to_pid_1(unit_of: Callable[[str], Unit]) -> None:
    """Who connects meanwhile waits in the queue, and is served by the next process."""

    async def scene() -> None:
        unit = unit_of("# none")
        async with channel(unit):
            later = unit.connect()
        process = unit.activate()
        with later:
            later.settimeout(20)
            assert await asyncio.to_thread(later.recv, 1) != b""
        assert await asyncio.to_thread(process.wait, 20) == 0
        _, said = await asyncio.to_thread(process.communicate)
        assert "Traceback" not in said

    run(scene)


def test_a_client_that_is_gone_again_is_no_failure(unit_of: Callable[[str], Unit]) -> None:
    """PID 1 starts us for it all the same; the unit has not failed then."""
    unit = unit_of("# none")
    unit.connect().close()
    process = unit.activate()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_another_processs_variables_are_not_taken_for_ours(tmp_path: Path) -> None:
    """With the pid of somebody else, there is no socket for us."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    argv = [sys.executable, "-I", "-m", "wolverined.heal.adviser"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("adviser: ")
