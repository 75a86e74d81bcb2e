# SPDX-License-Identifier: MIT
"""Hierarchies on the real kernel for tests, of both kinds, and small programs that make trees of processes."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.places import public_python

from wolverined.linux.group import GroupHierarchy
from wolverined.linux.hierarchy import Unavailable, open_cgroup_hierarchy
from wolverined.linux.leaf import Hierarchy, Leaf
from wolverined.linux.process import Child, Credentials, spawn

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}

# argv[1]: a directory. Writes `ready` there once one plain, one setsid'd and one double-forked descendant
# sleep; each of those writes its pid. All end by themselves after a minute, whatever the test does.
FOREST = """
import os, sys, time
place = sys.argv[1]
def rest(name):
    open(f"{place}/{name}.new", "w").write(str(os.getpid()))
    os.rename(f"{place}/{name}.new", f"{place}/{name}")
    time.sleep(60)
    os._exit(0)
if os.fork() == 0:
    rest("plain")
if os.fork() == 0:
    os.setsid()
    rest("setsid")
middle = os.fork()
if middle == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        rest("daemon")
    os._exit(0)
os.waitpid(middle, 0)
while not all(os.path.exists(f"{place}/{name}") for name in ("plain", "setsid", "daemon")):
    time.sleep(0.002)
open(f"{place}/ready", "w").close()
if len(sys.argv) > 2:
    os._exit(int(sys.argv[2]))
time.sleep(60)
"""

# Walks: many processes, each of which forks its successor in a new session and ends, for at most
# `argv[2]` seconds. Who reads a list of pids and kills them one by one always comes too late for some.
RUNAWAY = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
for _ in range(40):
    if os.fork() == 0:
        break
else:
    time.sleep(0.05)
    open(f"{sys.argv[1]}/ready", "w").close()
while time.monotonic() < end:
    if os.fork() == 0:
        os.setsid()
    else:
        os._exit(0)
"""


@contextmanager
def cgroup_hierarchy(state_dir: Path, name: str = "") -> Iterator[Hierarchy]:
    """A hierarchy of cgroups, or a skip where there is none; leaves nothing."""
    try:
        hierarchy = open_cgroup_hierarchy(name or f"test-{secrets.token_hex(4)}", state_dir=state_dir)
    except Unavailable as reason:
        pytest.skip(f"needs a writable cgroup v2: {reason}")
    try:
        yield hierarchy
    finally:
        hierarchy.close()


@contextmanager
def group_hierarchy(state_dir: Path, name: str = "") -> Iterator[Hierarchy]:
    """A hierarchy of process groups; leaves nothing."""
    hierarchy = GroupHierarchy(
        name or f"test-{secrets.token_hex(4)}", state_dir=state_dir, reason="a test asked for it"
    )
    try:
        yield hierarchy
    finally:
        hierarchy.close()


def start(
    argv: Sequence[str], leaf: Leaf, *, env: Mapping[str, str] = PATH, user: str | None = None, **more: object
) -> Child:
    """Start a program in a leaf with the least that a test must say."""
    credentials = Credentials.of_user(user) if user else None
    return spawn(argv, leaf=leaf, cwd=str(more.pop("cwd", "/")), env=env, credentials=credentials, **more)  # type: ignore[arg-type]


def python(program: str, *arguments: object) -> list[str]:
    """The command for a small Python program that starts fast and that any user may run."""
    return [public_python(), "-I", "-S", "-c", program, *map(str, arguments)]


def read_all(fd: int) -> bytes:
    """What a non-blocking pipe holds now."""
    parts = []
    while True:
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def output_of(argv: Sequence[str], leaf: Leaf, **more: object) -> str:
    """Run a program to its end and return what it wrote to stdout (at most a pipe full)."""

    async def run() -> str:
        with start(argv, leaf, **more) as child:  # type: ignore[arg-type]
            status = await asyncio.wait_for(child.wait(), 20)
            assert child.stdout is not None
            assert child.stderr is not None
            assert status.code == 0, (status, read_all(child.stderr))
            return read_all(child.stdout).decode()

    return asyncio.run(run())
