# SPDX-License-Identifier: MIT
"""Replaces the running wolverined by the one on disk, in the same process, without the app's noticing.

It waits for what no successor could take over (a heal above all), has a child of the new program say whether
it could, quiets the sockets, and executes. Up to execve(2) nothing is given up: whatever fails before it, or
in it, leaves a daemon that goes on as if nothing had been asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from wolverined import __version__
from wolverined.clock import Clock
from wolverined.daemon.handover import Handover, Unusable, descriptors, encode
from wolverined.daemon.inforce import plain
from wolverined.daemon.inheritance import SECRET, VARIABLE, Secrets, as_memory, as_pairs, as_socket
from wolverined.daemon.rooms import Rooms
from wolverined.daemon.signals import Signals
from wolverined.errors import Conflict, SpawnError, WolverineError
from wolverined.linux.leaf import Leaf
from wolverined.linux.process import Child, spawn

CHECK_S = 20.0
"""How long a child of the new program may take to say that it could take over."""

_QUIET_S = 2.0  # for requests that are being answered
_SHORT_S = 1.0  # what is over in a moment deserves no event
_LOOK_S = 0.1  # there is no one event for "nothing is under way"
_OUTPUT_KEPT = 8192
_PIPE_BYTES = 1 << 20  # what the app may write meanwhile without waiting; more a plain user may not have


class Reexec:
    """Does it, once at a time; whoever asks meanwhile waits for the same.

    Args:
        rooms: The daemon.
        signals: What it obeys.
        ended: Set when it is to end.
        clock: Monotonic time says how long it took.
        hint: What replaces it when this fails for no reason that is known.
        execve: Only tests give another.
    """

    def __init__(
        self,
        rooms: Rooms,
        *,
        signals: Signals,
        ended: asyncio.Event,
        clock: Clock,
        hint: str = "",
        execve: Callable[[str, list[str], dict[str, str]], NoReturn] = os.execve,
    ) -> None:
        self._rooms = rooms
        self._signals = signals
        self._ended = ended
        self._clock = clock
        self._hint = hint
        self._execve = execve
        self._task: asyncio.Task[None] | None = None
        self._changes: list[str] = []
        self._said = ""  # of what it waits for
        self._number = 0

    async def ask(self, change: str = "") -> dict[str, Any]:
        """Replace this program; never returns when that is done, for the change's end is told by the successor.

        Args:
            change: The operation that asks for it, if one does.

        Raises:
            Conflict: It is refused, and nothing has happened; or the daemon ends.
        """
        if change:
            self._changes.append(change)
            if self._said:
                self._rooms.changes.note(change, {"said": self._said})
        if self._task is None:
            self._task = asyncio.create_task(self._run_or_refuse())
            self._task.add_done_callback(self._done)
        await asyncio.shield(self._task)
        raise Conflict("wolverined is still the same program")  # unreachable, but for an execve of a test

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task, self._said = None, ""
        self._changes.clear()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            words = f"wolverined is not replaced, and goes on: {error}"
            self._rooms.narrator.tell("reexec.refused", words, severity="error")

    async def close(self) -> None:
        """The daemon ends: that comes first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run_or_refuse(self) -> None:
        try:
            await self._run()
        except WolverineError:
            raise
        except Exception as error:
            # A fault of ours: who asked must read what to do instead, and the daemon goes on.
            raise Conflict(f"{type(error).__name__}: {error}", hint=self._hint) from error

    async def _run(self) -> None:
        while True:
            await self._until_settled()
            await self._check()
            if self._busy():
                continue
            with self._rooms.service.reloading():
                try:
                    # First, for an answer of the app may take as long as `probe.timeout_s` allows.
                    await self._rooms.supervisor.rest()
                    began = self._clock.monotonic()
                    await self._quiet()
                    self._replace(began)
                finally:
                    self._go_on()

    # --- waiting

    def _busy(self) -> str:
        """What must be over first; empty when nothing is in the way."""
        rooms = self._rooms
        if self._ended.is_set():
            raise Conflict("wolverined is ending")
        if not rooms.server.listening:
            return "the control socket is being made anew"
        if not rooms.store.durable:
            raise Conflict(
                "what is known of incidents is in memory only, and would be lost", hint="see: wolverinectl status"
            )
        others = [change for change in rooms.changes.doing() if change.action != "reexec"]
        doing = f"{others[0].action} ({others[0].id}) is under way" if others else ""
        busy = rooms.desk.busy() or doing or rooms.supervisor.busy() or rooms.listener.busy()
        if busy:
            return busy
        rooms.store.settle()
        return "the store cannot be written just now" if rooms.store.waiting else ""

    async def _until_settled(self) -> None:
        since, told = self._clock.monotonic(), ""
        while busy := self._busy():
            if self._said != f"waits: {busy}":
                self._said = f"waits: {busy}"
                for change in self._changes:
                    self._rooms.changes.note(change, {"said": self._said})
            if busy != told and self._clock.monotonic() - since >= _SHORT_S:
                told = busy
                self._rooms.narrator.tell("reexec.waits", f"wolverined is replaced later: {busy}")
            await asyncio.sleep(_LOOK_S)

    # --- asking the new program

    async def _check(self) -> None:
        """Have the program on disk read its configuration and this very state.

        Raises:
            Conflict: It cannot take over; its own words say why.
        """
        handover = self._compose(self._clock.monotonic())
        self._rooms.server.resume()  # nobody waits for this
        fd = as_memory(encode(handover))
        try:
            said = await self._asked(fd)
        finally:
            os.close(fd)
        if said is not None:
            raise Conflict(f"the new program cannot take over: {said}", hint="this one goes on; mend it and ask again")

    async def _asked(self, fd: int) -> str | None:
        """What the new program says against it; None when it could take over."""
        self._number += 1
        leaf = self._rooms.hierarchy.leaf(f"reexec-{self._number}")
        try:
            # With all that we may: this is what would run in our place the next moment.
            child = spawn(
                _argv(),
                leaf=leaf,
                cwd="/proc/self/cwd",
                env={**_environment(), VARIABLE: f"check:{fd}"},
                credentials=None,
                keep_fds=(fd,),
                keep_power=True,
            )
            with child:
                return await _answer(child)
        except (SpawnError, OSError) as error:
            return str(error)
        finally:
            await _end(leaf)

    # --- the moment itself

    async def _quiet(self) -> None:
        """Answer what was asked of us, accept nobody, and miss no signal."""
        rooms = self._rooms
        rooms.changes.cut_short(on=True)
        await rooms.server.pause(within_s=_QUIET_S)
        await self._signals.write_down()

    def _go_on(self) -> None:
        rooms = self._rooms
        self._signals.go_on()
        rooms.supervisor.go_on()
        rooms.server.resume()
        rooms.changes.cut_short(on=False)

    def _replace(self, began: float) -> None:
        """Execute, unless something has come in between; from here on nothing waits.

        Raises:
            Conflict: It cannot be executed.
        """
        if not self._signals.keep_back() or self._busy():
            return
        kept: tuple[int, ...] = ()
        try:
            handover = self._compose(began)
            with as_socket(self._secrets()) as secrets:
                state = as_memory(encode(handover))
                kept = (state, secrets.fileno(), *descriptors(handover))
                self._widen_pipes(handover)
                for fd in kept:
                    os.set_inheritable(fd, True)
                self._rooms.service.loop_stands()
                left = f"exec:{os.getpid()}:{state}:{secrets.fileno()}"
                argv = _argv()
                self._execve(argv[0], argv, {**_environment(), VARIABLE: left})
        except (OSError, ValueError, Unusable) as error:
            self._rooms.service.loop_turns()
            for fd in kept:
                with contextlib.suppress(OSError):  # the socket of the secrets is closed already
                    os.set_inheritable(fd, False)
            if kept:
                os.close(kept[0])
            raise Conflict(f"{sys.executable} cannot be executed: {error}") from error

    def _compose(self, began: float) -> Handover:
        rooms = self._rooms
        try:
            supervisor = rooms.supervisor.hand_over()  # first: it may bring forth a last line to tell
            return Handover(
                version=__version__,
                began=began,
                config=plain(rooms.force.config),
                begun=rooms.main_line.begun,
                ready=rooms.service.is_ready,
                heals=rooms.dispatcher.number,
                hierarchy=rooms.hierarchy.hand_over(),
                place=rooms.place.hand_over(),
                supervisor=supervisor,
                listener=rooms.listener.hand_over(),
                desk=rooms.desk.hand_over(),
                changes=rooms.changes.hand_over(),
                narrator=rooms.narrator.hand_over(),
                server=rooms.server.hand_over(),
                reports=rooms.reports.hand_over(),
            )
        except SpawnError as error:
            raise Conflict(f"the app cannot be handed over: {error.message}") from error

    def _secrets(self) -> Secrets:
        environment = as_pairs({name: os.environ[name] for name in SECRET if name in os.environ})
        return Secrets(environment=environment, known=as_pairs(self._rooms.known.hand_over()))

    def _widen_pipes(self, handover: Handover) -> None:
        """Let an app that writes much go on writing until somebody reads again."""
        from fcntl import F_SETPIPE_SZ, fcntl  # noqa: PLC0415 - beside its only use

        generation = handover.supervisor.generation
        for pipe in generation.pipes if generation is not None else ():
            with contextlib.suppress(OSError):  # this user has as much as he may have in pipes
                fcntl(pipe.fd, F_SETPIPE_SZ, _PIPE_BYTES)


def _argv() -> list[str]:
    """The command line that we were started with, by the very interpreter that runs us."""
    return [sys.executable, *sys.orig_argv[1:]]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SECRET}


async def _answer(child: Child) -> str | None:
    loop = asyncio.get_running_loop()
    said = bytearray()

    def drain(fd: int) -> None:
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, 65_536)
            if not data:
                loop.remove_reader(fd)
        said.extend(data)
        del said[:-_OUTPUT_KEPT]

    fds = [fd for fd in (child.stdout, child.stderr) if fd is not None]
    for fd in fds:
        loop.add_reader(fd, drain, fd)
    try:
        async with asyncio.timeout(CHECK_S):
            status = await child.wait()
        for fd in fds:
            drain(fd)
    except TimeoutError:
        return f"it said nothing for {CHECK_S:.0f} s"
    finally:
        for fd in fds:
            loop.remove_reader(fd)
    if status.code == 0:
        return None
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    ended = f"it ended with {status.code}" if status.signal is None else f"signal {status.signal} ended it"
    return lines[-1].removeprefix("error: ")[:1000] if lines else ended


async def _end(leaf: Leaf) -> None:
    with contextlib.suppress(WolverineError):
        leaf.kill()
    await leaf.wait_empty(timeout_s=1.0)
    leaf.remove()
