# SPDX-License-Identifier: MIT
"""The process beside the candidate: builds the sandbox, starts the candidate, asks it, notes what it sees.

It is a fork of the role process, in the sandbox's network and tree, outside of its PID namespace. It
holds no end of heal's stream: orders come over a private pair. One loop waits for everything, so that
a candidate that prints without end, or never answers, holds nothing up.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from wolverined.errors import SandboxUnavailable, UsageError, WolverineError
from wolverined.heal.trial import interpreters
from wolverined.heal.trial.cell import Cell, exit_of
from wolverined.heal.trial.exchange import Connecting, Exchange
from wolverined.heal.trial.ground import Lay
from wolverined.heal.trial.observations import Alive, Boot, Prepared, Replay, Syntax, Tests
from wolverined.heal.trial.observe import Tail, body_shape
from wolverined.heal.trial.plan import Plan
from wolverined.heal.trial.room import Room
from wolverined.linux.sandboxtree import Change
from wolverined.model import Exit, Request

HOSTS = ("127.0.0.1", "::1")
BETWEEN_PROBES_S = 0.01
ALIVE_S = 1.0
LAST_WORDS_S = 1.0
"""How long a server that dropped a connection may take to die of it: a runtime writes its trace first."""
SETUP_S = 60.0
CHECK_S = 20.0
NOTIFY_PATH = "/run/notify.sock"


class Polled(Protocol):
    """A thing that the loop waits for together with all else."""

    def fileno(self) -> int:
        """For poll."""
        ...

    @property
    def events(self) -> int:
        """What to poll for."""
        ...

    def advance(self) -> None:
        """Go on without waiting."""
        ...


class Running:
    """A command in the sandbox: its output so far, and its exit once it has ended."""

    def __init__(self, output: int) -> None:
        self.output = output
        self.tail = Tail()
        self.exit: Exit | None = None

    def drain(self) -> bool:
        """Read what is there; False at the end of the output."""
        # Bounded: what prints faster than it is read must not keep the loop from its deadlines.
        for _ in range(64):
            try:
                data = os.read(self.output, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.tail.feed(data)
        return True


class Runner:
    """The sandbox with the candidate in it.

    Args:
        plan: What to run.
        changes: What the candidate changes in its directory.
        orders: The role's end of the private pair; its hang-up ends everything.
        lay: Makes the ground that the candidate stands on.

    Raises:
        SandboxUnavailable: A wall cannot be built, or the setup commands fail.
        EditRejected: A change cannot be put into this tree.
    """

    def __init__(self, plan: Plan, changes: Sequence[Change], *, orders: socket.socket, lay: Lay) -> None:
        self._plan = plan
        self._orders = orders
        self._running: dict[int, Running] = {}
        self._open: dict[int, Running] = {}  # output descriptors that have not ended
        self._main: Running | None = None
        self._host = HOSTS[0]
        self._notify: socket.socket | None = None
        self._told_ready = False
        started = time.monotonic()
        ground = lay(plan, changes, lambda: not _hung_up(orders))
        if plan.probe.notify:
            self._notify = _notify_socket()
        self._cell = Cell(plan, own_proc=ground.own_proc)
        self._room = Room() if ground.sandbox == "unit" else None
        self.prepared = Prepared(sandbox=ground.sandbox, weaknesses=ground.weaknesses, ms=_ms_since(started))
        for argv in plan.setup:
            done = self.test({"argv": list(argv), "timeout_s": SETUP_S})
            if done.code != 0:
                words = done.tail[-1] if done.tail else ""
                raise SandboxUnavailable(f"setup command {argv[0]!r:.100} failed: {words:.200}")

    def close(self) -> None:
        """Leave no process."""
        self._cell.close()

    def serve_until_order(self) -> None:
        """Wait for the next order; the candidate's output is read meanwhile."""
        self._wait(lambda: _readable(self._orders), until=None)

    def boot(self, _args: Mapping[str, Any]) -> Boot:
        """Start the app's command, after the end of all that ran before, and wait until it is ready."""
        self._cell.sweep()
        self._collect()
        self._running.clear()
        self._told_ready = False
        environment = {"NOTIFY_SOCKET": NOTIFY_PATH} if self._notify else {}
        started = time.monotonic()
        try:
            self._main = main = self._start(self._plan.command, environment)
        except WolverineError as error:
            self._main = None
            return Boot(ready=False, detail=error.message)
        until = started + self._plan.startup_s
        ready, detail = self._await_ready(main, until=until)
        if not ready and main.exit is None:
            detail = f"not ready within {self._plan.startup_s:g} s: {detail}"
        return Boot(ready=ready, ready_ms=_ms_since(started), exit=main.exit, tail=main.tail.since(), detail=detail)

    def replay(self, args: Mapping[str, Any]) -> Replay:
        """Send one request; watch the process until `settle_s` after the answer."""
        request = msgspec.convert(args["request"], Request)
        timeout_s, settle_s = _seconds(args, "timeout_s", 10.0), _seconds(args, "settle_s", 0.05)
        main = self._main
        if main is None or main.exit is not None or self._plan.port is None:
            gone = "there is no port to send it to" if self._plan.port is None else "the app was not running"
            return Replay(crashed=main is not None and main.exit is not None, detail=gone)
        mark, started = main.tail.mark(), time.monotonic()
        exchange = self._exchange(request, until=started + timeout_s)
        ms = _ms_since(started)
        dropped = exchange.done and exchange.status is None
        self._wait(lambda: main.exit is not None, until=time.monotonic() + (LAST_WORDS_S if dropped else settle_s))
        return Replay(
            status=exchange.status,
            crashed=main.exit is not None,
            timed_out=not exchange.done,
            exit=main.exit,
            content_type=exchange.content_type,
            body_shape=body_shape(exchange.body, exchange.content_type),
            tail=main.tail.since(mark),
            ms=ms,
            detail=exchange.failure if exchange.done else f"no answer within {timeout_s:g} s",
        )

    def alive(self, args: Mapping[str, Any]) -> Alive:
        """Watch the main process for `settle_s`; it ends at once when the process does."""
        settle_s = _seconds(args, "settle_s", 0.1)
        main = self._main
        if main is None:
            return Alive(alive=False)
        self._wait(lambda: main.exit is not None, until=time.monotonic() + settle_s)
        return Alive(alive=main.exit is None, exit=main.exit, tail=main.tail.since())

    def check(self, args: Mapping[str, Any]) -> dict[str, Syntax]:
        """Ask the app's own interpreters whether files parse."""
        paths = msgspec.convert(args["paths"], list[str])
        told = {path: Syntax(ok=None) for path in paths}
        present = [path for path in paths if Path(self._plan.directory, path).is_file()]
        for path in present:
            if path.endswith(".json"):
                told[path] = _check_json(Path(self._plan.directory, path))
        plan = self._plan
        for question in interpreters.questions(
            present, command=plan.command, environment=plan.environment, directory=plan.directory
        ):
            done = self.test({"argv": list(question.argv), "timeout_s": CHECK_S})
            told.update(_syntax(question, done))
        return told

    def test(self, args: Mapping[str, Any]) -> Tests:
        """Run a command to its end, beside whatever runs."""
        argv = msgspec.convert(args["argv"], list[str])
        if not argv:
            raise UsageError("no command to run")
        started = time.monotonic()
        try:
            running = self._start(argv, {})
        except WolverineError as error:
            return Tests(code=None, tail=(error.message,))
        until = started + _seconds(args, "timeout_s", 60.0)
        self._wait(lambda: running.exit is not None, until=until)
        timed_out = running.exit is None
        if timed_out:
            self._end(running)
        code = running.exit.code if running.exit and not timed_out else None
        return Tests(code=code, tail=running.tail.since(), timed_out=timed_out, ms=_ms_since(started))

    def _start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Running:
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        try:
            job = self._cell.start(argv, output=write, environment=environment)
        except WolverineError:
            os.close(read)
            raise
        finally:
            os.close(write)
        running = Running(read)
        self._running[job] = self._open[read] = running
        return running

    def _end(self, running: Running) -> None:
        for job, known in self._running.items():
            if known is running:
                self._cell.kill(job)
        self._wait(lambda: running.exit is not None, until=time.monotonic() + 2.0)

    def _await_ready(self, main: Running, *, until: float) -> tuple[bool, str]:
        detail = ""
        while main.exit is None and time.monotonic() < until:
            ready, said = self._probe(main, until)
            if ready and main.exit is None:
                return True, ""
            # A probe that the deadline cut short knows less than the one before it.
            detail = said if time.monotonic() < until or not detail else detail
            self._wait(lambda: main.exit is not None, until=time.monotonic() + BETWEEN_PROBES_S)
        return False, detail

    def _probe(self, main: Running, until: float) -> tuple[bool, str]:
        probe = self._plan.probe
        if probe.notify:
            return self._notified(main, until), "no READY=1 came"
        if probe.exec:
            done = self.test({"argv": list(probe.exec), "timeout_s": probe.timeout_s})
            return done.code == 0, f"the probe's command gave {done.code}"
        if self._plan.port is None:
            self._wait(lambda: main.exit is not None, until=time.monotonic() + ALIVE_S)
            return main.exit is None, ""
        if probe.http:
            return self._probe_http(until)
        return self._probe_tcp(), f"nothing listens on port {self._plan.port}"

    def _probe_http(self, until: float) -> tuple[bool, str]:
        if not self._probe_tcp():
            return False, f"nothing listens on port {self._plan.port}"
        timeout = time.monotonic() + self._plan.probe.timeout_s
        exchange = self._exchange(Request(method="GET", path=self._plan.probe.http), until=min(until, timeout))
        if exchange.status is None:
            return False, exchange.failure or "no answer in time"
        return 200 <= exchange.status < 400, f"{self._plan.probe.http} answered {exchange.status}"  # noqa: PLR2004  HTTP

    def _probe_tcp(self) -> bool:
        assert self._plan.port is not None
        for host in HOSTS:
            connecting = Connecting(host, self._plan.port)
            with connecting.sock:
                # Loopback answers at once; only a full accept queue does not.
                self._wait(lambda c=connecting: c.result() is not None, until=time.monotonic() + 0.05)  # type: ignore[misc]
                if connecting.result():
                    self._host = host
                    return True
        return False

    def _notified(self, main: Running, until: float) -> bool:
        self._wait(lambda: main.exit is not None or self._told_ready, until=until)
        return self._told_ready

    def _exchange(self, request: Request, *, until: float) -> Exchange:
        assert self._plan.port is not None
        exchange = Exchange(request, host=self._host, port=self._plan.port)
        try:
            exchange.advance()
            self._wait(lambda: exchange.done, until=until, beside=exchange)
        finally:
            exchange.close()
        return exchange

    def _wait(self, done: Callable[[], bool], *, until: float | None, beside: Polled | None = None) -> None:
        """Let everything go on until `done` or the time is over."""
        while not done():
            now = time.monotonic()
            if self._room is not None:
                self._room.check(now)
            left = None if until is None else until - now
            if left is not None and left <= 0:
                return
            poll = select.poll()
            poll.register(self._cell, select.POLLIN)
            poll.register(self._orders, select.POLLIN if until is None else 0)
            for fd in self._open:
                poll.register(fd, select.POLLIN)
            if self._notify is not None:
                poll.register(self._notify, select.POLLIN)
            if beside is not None:
                poll.register(beside.fileno(), beside.events)
            # Capped: what `done` looks at may be a socket that is not in the list.
            ready = dict(poll.poll(None if left is None else min(left * 1000 + 1, 20)))
            if ready.get(self._orders.fileno(), 0) & (select.POLLHUP | select.POLLERR):
                os._exit(1)  # the role has gone; the kernel ends all below this process
            self._go_on(ready, beside)

    def _go_on(self, ready: Mapping[int, int], beside: Polled | None) -> None:
        for fd in [fd for fd in ready if fd in self._open]:
            if not self._open[fd].drain():
                del self._open[fd]
                os.close(fd)
        if self._cell.fileno() in ready:
            self._collect()
        if self._notify is not None and self._notify.fileno() in ready:
            # Always read, or an app that pings a watchdog would wait on a full queue.
            self._told_ready |= b"READY=1" in self._notify.recv(4096).split(b"\n")
        if beside is not None and beside.fileno() in ready:
            beside.advance()

    def _collect(self) -> None:
        """Take over what the first process said of ends; read the last output of what ended."""
        for told in self._cell.told():
            running = self._running.get(told.job)
            if told.what == "ended" and running is not None:
                if running.output in self._open:
                    running.drain()
                running.exit = Exit(generation=0, **exit_of(told.status))


def _notify_socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind(NOTIFY_PATH)
    Path(NOTIFY_PATH).chmod(0o666)
    return sock


def _syntax(question: interpreters.Question, done: Tests) -> dict[str, Syntax]:
    if question.language == "node":
        words = next((line for line in reversed(done.tail) if "Error" in line), done.tail[-1] if done.tail else "")
        return {question.paths[0]: Syntax(ok=done.code == 0, message="" if done.code == 0 else words)}
    try:
        told = msgspec.json.decode(done.tail[-1] if done.tail else "", type=dict[str, str])
    except msgspec.DecodeError:
        words = done.tail[-1] if done.tail else "the interpreter said nothing"
        return {path: Syntax(ok=False, message=words) for path in question.paths}
    return {path: Syntax(ok=not (words := told.get(f"./{path}", "")), message=words) for path in question.paths}


def _check_json(path: Path) -> Syntax:
    try:
        msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        return Syntax(ok=False, message=str(error))
    return Syntax(ok=True)


def _seconds(args: Mapping[str, Any], name: str, default: float) -> float:
    value = args.get(name, default)
    if not isinstance(value, int | float) or not 0 <= value <= 3600:  # noqa: PLR2004  an hour
        raise UsageError(f"{name} must be between 0 and 3600 seconds")
    return float(value)


def _readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def _hung_up(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLHUP)
    return bool(poll.poll(0))


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
