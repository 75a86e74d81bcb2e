# SPDX-License-Identifier: MIT
"""Trial processes for tests: started as another user when the tests run as root, as ourselves otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import pytest
from support.places import IS_ROOT, unused_user

from wolverined.heal.stream import Channel
from wolverined.heal.trial.client import TrialClient
from wolverined.heal.trial.observations import Boot, Prepared
from wolverined.heal.trial.plan import Plan
from wolverined.model import FileChange

P = ParamSpec("P")


def in_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test in a loop of its own, with a limit."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(60.0):
                await test(*args, **kwargs)

        asyncio.run(limited())

    return run


def why_no_sandbox() -> str:
    """Why a sandbox cannot be built by the user that trials run as; "" when it can."""
    wanted = ["unshare", "--user", "--map-current-user", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]
    done = subprocess.run([*as_trial_user(), *wanted], capture_output=True, text=True, check=False, timeout=20)
    return "" if done.returncode == 0 else f"no user namespaces here: {done.stderr.strip()}"


def as_trial_user() -> list[str]:
    """What to put before a command so that it runs as the user of trials, without capabilities."""
    if not IS_ROOT:
        return []
    user = unused_user()
    setpriv = shutil.which("setpriv") or "setpriv"
    shed = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", *shed]


def trial_uid() -> int:
    """The uid that trials of these tests have."""
    return unused_user().pw_uid if IS_ROOT else os.getuid()


_WHY_NOT = why_no_sandbox()
needs_sandbox = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "a sandbox can be built")


def start_trial(stream: socket.socket, *, before: Sequence[str] = (), as_user: bool = True) -> subprocess.Popen[bytes]:
    """The role process, as wolverined starts it, or what `before` makes of the stream's number."""
    role = before or [sys.executable, "-I", "-m", "wolverined.heal.trial"]
    argv = [*(as_trial_user() if as_user else []), *role, str(stream.fileno())]
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.Popen(argv, pass_fds=[stream.fileno()], cwd="/", env=environment, stderr=subprocess.PIPE)


@contextlib.asynccontextmanager
async def open_trial(started: list[subprocess.Popen[bytes]] | None = None) -> AsyncIterator[Channel]:
    """A started channel to a fresh trial process; the process is waited for at the end."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = start_trial(theirs)
    if started is not None:
        started.append(process)
    async with channel_to(ours, process) as channel:
        yield channel


@contextlib.asynccontextmanager
async def channel_to(stream: socket.socket, process: subprocess.Popen[bytes]) -> AsyncIterator[Channel]:
    """A started channel to a role process that holds the other end; both are gone at the end."""
    channel = Channel(stream, role="heal", deadline_s=60.0, peer_role="trial")
    try:
        await channel.start()
        yield channel
    finally:
        await channel.close()
        await asyncio.to_thread(_finish, process)


def still_running(pids: Sequence[int]) -> list[int]:
    """Those of the processes that run; a zombie does not."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                found.append(pid)
    return found


def children_of(pid: int) -> list[int]:
    """The processes below `pid`, at any depth."""
    below = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*below, *(inner for child in below for inner in children_of(child))]


def _finish(process: subprocess.Popen[bytes]) -> None:
    with process:
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise


def make_app(place: Path, files: dict[str, str]) -> Path:
    """An app owned by the trial's user."""
    app = place / "app"
    for name, text in files.items():
        file = app / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path in (app, *app.rglob("*")):
        if IS_ROOT:
            os.chown(path, trial_uid(), trial_uid(), follow_symlinks=False)
    return app


def change(path: str, before: str | None, after: str | None, mode: int = 0o644) -> FileChange:
    """A change of a text file."""
    return FileChange(
        path=path,
        before=None if before is None else before.encode(),
        after=None if after is None else after.encode(),
        mode=mode,
    )


def plan(app: Path, *command: str, **given: Any) -> Plan:
    """How to run `command` in `app`; without a port, so that its end is waited for."""
    return Plan(**{"directory": str(app), "command": command, "environment": {"PATH": "/usr/bin:/bin"}, **given})


def command(*argv: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, check=True, capture_output=True)


async def run(what: Plan, changes: Sequence[FileChange] = ()) -> tuple[Prepared, Boot]:
    """Prepare and boot once."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        prepared = await client.prepare(what, changes)
        return prepared, await client.boot()
