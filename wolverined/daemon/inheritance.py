# SPDX-License-Identifier: MIT
"""How a wolverined that replaces another in its own process comes by what it is left: through three numbers.

A variable of the environment names this process, a sealed memory file with the state, and a socket with
what no other process of our user shall read in /proc meanwhile. The same variable asks a child to say
whether it could take over, before anything is given up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import msgspec

from wolverined.daemon.handover import Handover, Unusable, decode, descriptors
from wolverined.linux import proc
from wolverined.linux.handover import HandedChild
from wolverined.linux.memory import hide_memory

VARIABLE = "WOLVERINE_HANDOVER"
"""`exec:PID:STATE:SECRETS` for who takes over, `check:STATE` for who says whether it could."""

SECRET = ("OPENAI_API_KEY",)
"""What does not stay in the environment of a program of ours while the app runs beside it."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FIRST_FD = 3
_MOST_FDS = 65_536


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What goes through the socket: variables of the environment, and secrets that were known; all as bytes."""

    environment: tuple[tuple[bytes, bytes], ...] = ()
    known: tuple[tuple[bytes, bytes], ...] = ()


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """What was left.

    Attributes:
        checking: Only say whether it could be used.
        handover: The state; None when it cannot be used.
        why: Why it cannot be.
        known: Secrets that the predecessor knew.
        orphans: The children that this process had, and that nobody waits for as long as nobody takes them over.
    """

    checking: bool = False
    handover: Handover | None = None
    why: str = ""
    known: dict[str, str] = {}
    orphans: tuple[HandedChild, ...] = ()


def as_memory(state: bytes) -> int:
    """A sealed memory file; nobody can change it any more. Gives its file descriptor."""
    fd = os.memfd_create("wolverine-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(state)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def as_socket(secrets: Secrets) -> socket.socket:
    """A socket with those words in it. Unlike a pipe it cannot be opened a second time through /proc.

    Raises:
        OSError: They are too long for it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)
        try:
            ours.send(msgspec.msgpack.encode(secrets))
        except OSError:
            theirs.close()
            raise
    return theirs


def inherit(environ: MutableMapping[str, str], *, hide: bool) -> Inherited | None:
    """Take what was left, out of the environment too; None for a program that was started like any other.

    What cannot be used is closed, all of it: locks that nobody knows of would keep us out of our own places.

    Args:
        environ: Our environment.
        hide: Keep our memory from others of our user from now on: the app may be one, and it runs already.
    """
    words = environ.pop(VARIABLE, "").split(":")
    match words:
        case ["check", state] if state.isdecimal():
            return _checked(int(state))
        case ["exec", pid, state, secrets] if pid == str(os.getpid()) and state.isdecimal() and secrets.isdecimal():
            if hide:
                hide_memory()
            return _taken(int(state), int(secrets), environ)
        case _:
            return None  # none, or that of another process, from which we have it as a child


def _checked(fd: int) -> Inherited:
    try:
        return Inherited(checking=True, handover=decode(_read(fd), strict=True))
    except Unusable as error:
        return Inherited(checking=True, why=error.message)


def _taken(state: int, secrets: int, environ: MutableMapping[str, str]) -> Inherited:
    told = _secrets_in(secrets)
    environ.update(_texts(told.environment))
    known, orphans = _texts(told.known), tuple(_children())
    try:
        handover = decode(_read(state), strict=False)
        for fd in descriptors(handover):
            os.set_inheritable(fd, False)
    except (Unusable, OSError) as error:
        os.closerange(_FIRST_FD, _MOST_FDS)
        return Inherited(why=str(error), known=known, orphans=orphans)
    os.close(state)
    return Inherited(handover=handover, known=known, orphans=orphans)


def _read(fd: int) -> bytes:
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise Unusable("the state that was handed over is not sealed")
        size = os.fstat(fd).st_size
        parts, at = [], 0
        while at < size and (part := os.pread(fd, size - at, at)):
            parts.append(part)
            at += len(part)
    except OSError as error:
        raise Unusable(f"the state that was handed over cannot be read: {error.strerror}") from error
    return b"".join(parts)


def _secrets_in(fd: int) -> Secrets:
    # Without them we know less, and go on: no reason to let go of an app.
    with contextlib.suppress(OSError, msgspec.DecodeError), socket.socket(fileno=fd) as sock:
        sock.setblocking(False)
        return msgspec.msgpack.decode(sock.recv(1 << 20), type=Secrets)
    return Secrets()


def as_pairs(texts: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values as the bytes that they were; an environment may hold what is no text."""
    return tuple((os.fsencode(name), os.fsencode(value)) for name, value in texts.items())


def _texts(pairs: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}


def _children() -> list[HandedChild]:
    """The children of this process as it is now; unknown where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    lists = (proc.read(task / "children") or "" for task in Path("/proc/self/task").iterdir())
    found = ((int(pid), proc.stat(int(pid))) for pids in lists for pid in pids.split())
    return [HandedChild(pid=pid, start_ticks=stat.start_ticks, name=stat.name) for pid, stat in found if stat]
