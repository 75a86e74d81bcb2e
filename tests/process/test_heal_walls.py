# SPDX-License-Identifier: MIT
"""The walls of heal and adviser: what they cannot do even as root's, and that every role hides its memory first."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.healing import KEY, NODE_SHOP, asked, mend
from support.model_server import Recorded, Reply, answer
from support.places import IS_ROOT, public_tmp

from wolverined.heal import walls
from wolverined.linux import landlock

needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
needs_ports = pytest.mark.skipif(landlock.abi() < 4, reason="this kernel's Landlock knows no ports")

_TRY = """
import errno, json, os, socket, sys
from wolverined.heal import walls

def tried(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.connect(address)

def write(path):
    with open(path, "w") as file:
        file.write("x")

place, port, other = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
{wall}
told = {{
    "read the system's secrets": tried(lambda: open("/etc/passwd").close()),
    "read an app's file": tried(lambda: open(place + "/app/app.py").close()),
    "list an app": tried(lambda: os.listdir(place + "/app")),
    "write an app's file": tried(lambda: write(place + "/app/app.py")),
    "make a file": tried(lambda: write(place + "/new")),
    "look at a process": tried(lambda: open("/proc/1/status").close()),
    "change a mode": tried(lambda: os.chmod(place + "/app/app.py", 0o666)),
    "change an open file's mode": tried(lambda: os.fchmod(os.open("/usr/bin/env", os.O_RDONLY), 0o755)),
    "change an owner": tried(lambda: os.chown(place + "/app/app.py", -1, os.getgid())),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "execute": tried(lambda: os.execv("/usr/bin/true", ["true"])),
    "write its state": tried(lambda: write(place + "/state/new")),
    "move in its state": tried(lambda: os.rename(place + "/state/new", place + "/state/newer")),
    "read its program": tried(lambda: open(walls.__file__).close()),
    "read hosts": tried(lambda: open("/etc/hosts").close()),
    "connect": tried(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
    "connect elsewhere": tried(lambda: connect(socket.AF_INET, ("127.0.0.1", other))),
    "connect to a Unix socket": tried(lambda: connect(socket.AF_UNIX, place + "/socket")),
    "listen": tried(lambda: socket.create_server(("127.0.0.1", 0)).close()),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
    "a thread": tried(lambda: __import__("threading").Thread(target=int).start()),
    "an own pair": tried(lambda: [one.close() for one in socket.socketpair()]),
}}
print(json.dumps(told))
"""
_REFUSED = {"EACCES", "EPERM", "EAFNOSUPPORT"}


def behind(wall: str, *, unharmed: bool = True) -> dict[str, str]:
    """What a process of ours can do behind a wall: each thing with `done` or the refusal."""
    with (
        public_tmp() as place,
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        for name in ("app", "state"):
            (place / name).mkdir()
        (place / "app" / "app.py").write_text("secret")
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(place / "socket"))
            unix.listen()
            ports = [str(server.getsockname()[1]) for server in (one, two)]
            argv = [sys.executable, "-I", "-c", _TRY.format(wall=wall), str(place), *ports]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not unharmed or (place / "app" / "app.py").read_text() == "secret"
        told: dict[str, str] = json.loads(done.stdout)
        return told


@needs_landlock
def test_heal_reads_its_program_writes_its_state_and_nothing_else() -> None:
    """Whoever it runs as: no file of the app or the system, no socket, no program, no signal, no mode changed."""
    told = behind("walls.around_heal(place + '/state')")
    allowed = {"write its state", "move in its state", "read its program", "a thread", "an own pair"}
    assert {what for what, how in told.items() if how == "done"} == allowed
    assert set(told.values()) <= {"done", *_REFUSED}


@needs_ports
def test_an_adviser_reaches_its_endpoint_and_writes_nothing() -> None:
    """One port, and the files that names and certificates need; no file of anybody, no Unix socket."""
    told = behind("walls.around_adviser(port)")
    allowed = {"read its program", "read hosts", "connect", "netlink", "a thread", "an own pair"}
    assert {what for what, how in told.items() if how == "done"} == allowed


def test_without_landlock_the_filter_stands_and_the_weakness_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel: no socket, program or signal all the same, and one line at start says what is weaker."""
    told = behind("walls.landlock.abi = lambda: 0; walls.around_heal(place + '/state')", unharmed=False)
    for what in ("connect", "connect to a Unix socket", "execute", "signal", "change a mode", "change an owner"):
        assert told[what] in _REFUSED
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert any("no Landlock" in line for line in walls.weaknesses())


@pytest.mark.parametrize("version", range(1, 8))
@needs_landlock
def test_every_abi_is_spoken(version: int) -> None:
    """Only what an ABI knows is asked of the kernel, so that an older one than ours takes it as well."""
    if version > landlock.abi():
        pytest.skip("this kernel's Landlock is older")
    told = behind(f"walls.landlock.abi = lambda: {version}; walls.around_heal(place + '/state')")
    assert told["read an app's file"] == "EACCES"
    assert told["write its state"] == "done"


@pytest.mark.parametrize("role", ["", ".surgeon", ".adviser", ".trial"])
def test_every_role_hides_its_memory_before_it_says_a_word(role: str) -> None:
    """Not dumpable: /proc gives memory and environment to root alone, whatever uid a role runs as."""
    ours, theirs = socket.socketpair()
    others, more = socket.socketpair(type=socket.SOCK_STREAM if role else socket.SOCK_SEQPACKET)
    others.sendall(b"{}")
    user = 65534 if IS_ROOT else None
    with public_tmp(mode=0o777) as place, ours, theirs, more:
        others.close()
        words = {"": [more, str(place)], ".adviser": [more]}.get(role, [])
        argv = [str(one.fileno()) if isinstance(one, socket.socket) else one for one in (theirs, *words)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", f"wolverined.heal{role}", *argv],
            pass_fds=[theirs.fileno(), more.fileno()],
            stderr=subprocess.DEVNULL,
            user=user,
        )
        theirs.close()
        with process:
            ours.settimeout(20)
            if not ours.recv(1):
                pytest.skip("the project is out of reach of another uid here")
            assert Path(f"/proc/{process.pid}/environ").stat().st_uid == 0
            process.kill()


def test_in_a_real_heal_adviser_and_heal_stand_behind_their_walls() -> None:
    """While the model is asked: both filtered, the key in nobody's environment, and no role runs as root."""
    seen: dict[str, dict[str, Any]] = {}

    def look(_request: Recorded) -> Reply:
        for child in children(os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                command = (child / "cmdline").read_bytes().split(b"\0")
                role = next((word.decode() for word in command if word.startswith(b"wolverined.heal")), "")
                status = dict(line.split(":\t", 1) for line in (child / "status").read_text().splitlines())
                secret = IS_ROOT and role and KEY.encode() in (child / "environ").read_bytes()
                seen[role] = {**status, "secret": secret}
        return answer(mend(NODE_SHOP, NODE_SHOP.right))

    with asked(NODE_SHOP, look) as (running, _server):
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("repair.verified", "heal.failed", "heal.nothing")
    heal, adviser = seen["wolverined.heal"], seen["wolverined.heal.adviser"]
    for role in (heal, adviser):
        assert role["Seccomp"] == "2"
        assert not role["secret"]
        assert int(role["CapPrm"], 16) == 0
    if IS_ROOT:
        uid = int(adviser["Uid"].split()[0])
        assert uid not in {0, 65534}  # the app of these tests is nobody's
        assert adviser["Groups"].split() in ([], [str(uid)])


def children(pid: int) -> list[Path]:
    """/proc of every process below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [Path(f"/proc/{child}"), *children(int(child))]
    return found
