# SPDX-License-Identifier: MIT
"""The sandbox's PID namespace: its first process, and the runner's handle on it.

The first process starts commands when the runner says so, reaps whatever ends, and says how. It is a
fork of the runner that never execs, so it needs nothing of the tree; the candidate has its uid but none
of its capabilities and cannot read its memory. When it dies the kernel kills everything in the namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Never

import msgspec

from wolverined.errors import SandboxUnavailable, WolverineError
from wolverined.heal.trial.plan import Plan
from wolverined.linux import sandbox, seccomp

_MESSAGE = 128 * 1024  # SOCK_SEQPACKET: below any default of net.core.wmem_max
_START_S = 10.0
PR_SET_NAME = 15


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the runner asks: start `argv` as job `job`, kill its process group, or kill everything (sweep)."""

    do: str
    job: int = 0
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = {}


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the first process says: it is `up`, a job `started`, `failed` to start, or `ended`; or all is `swept`."""

    what: str
    job: int = 0
    status: int = 0
    message: str = ""
    hint: str = ""


class Cell:
    """The runner's end. Make it after the tree is built; `close` leaves no process.

    Args:
        plan: What is run.
        own_proc: Mount a /proc of the new PID namespace; without, the one that is there stays, whose numbers differ.
    """

    def __init__(self, plan: Plan, *, own_proc: bool = True) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._jobs = 0
        self._pending: list[Told] = []
        self.pid = os.fork()
        if self.pid == 0:
            self._sock.close()
            _first_process(theirs, plan, own_proc=own_proc)
        theirs.close()
        try:
            told = self._answer({"up", "failed"})
        except WolverineError:
            self.close()
            raise
        if told.what == "failed":
            self.close()
            raise SandboxUnavailable(told.message, hint=told.hint)

    def fileno(self) -> int:
        """For poll: readable when `told` has something."""
        return self._sock.fileno()

    def start(self, argv: Sequence[str], *, output: int, environment: Mapping[str, str] | None = None) -> int:
        """Start a command in the app's directory with the plan's environment; give its job number.

        Raises:
            WolverineError: It cannot be started; the message says why.
        """
        self._jobs += 1
        order = Order("run", self._jobs, tuple(argv), dict(environment or {}))
        data = msgspec.json.encode(order)
        if len(data) > _MESSAGE:
            raise WolverineError("a command line that is too long for the sandbox")
        socket.send_fds(self._sock, [data], [output])
        told = self._answer({"started", "failed"})
        if told.what == "failed":
            raise WolverineError(told.message)
        return self._jobs

    def kill(self, job: int) -> None:
        """SIGKILL to the process group of a job."""
        self._send(Order("kill", job))

    def sweep(self) -> None:
        """End every process in the namespace but its first, and wait until they are gone."""
        self._send(Order("sweep"))
        self._answer({"swept"})

    def told(self) -> list[Told]:
        """What was said since the last call; raises `WolverineError` when the first process has gone."""
        while select.select([self._sock], [], [], 0)[0]:
            self._pending.append(self._receive())
        told, self._pending = self._pending, []
        return told

    def close(self) -> None:
        """Kill the namespace and wait until the kernel has emptied it."""
        self._sock.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _answer(self, wanted: set[str]) -> Told:
        while True:
            if not select.select([self._sock], [], [], _START_S)[0]:
                raise WolverineError("the sandbox does not answer")
            told = self._receive()
            if told.what in wanted:
                return told
            self._pending.append(told)

    def _receive(self) -> Told:
        data = self._sock.recv(_MESSAGE)
        if not data:
            raise WolverineError("the sandbox's first process is gone")
        return msgspec.json.decode(data, type=Told)

    def _send(self, order: Order) -> None:
        try:
            self._sock.send(msgspec.json.encode(order))
        except OSError as error:
            raise WolverineError(f"the sandbox's first process is gone: {error}") from error


def _first_process(sock: socket.socket, plan: Plan, *, own_proc: bool) -> Never:
    """Be PID 1 of the namespace; never returns into the runner's code."""
    try:
        # The other end closes when the runner dies, so it tells of a runner that died before the call.
        sandbox.die_with_parent(alive=lambda: not _hung_up(sock))
        _FirstProcess(sock, plan).serve(own_proc=own_proc)
    except WolverineError as error:
        _say(sock, Told("failed", message=error.message, hint=error.hint))
    except Exception as error:  # whatever it is: this process is a fork and must end here, not in its parent's code
        _say(sock, Told("failed", message=f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


class _FirstProcess:
    def __init__(self, sock: socket.socket, plan: Plan) -> None:
        self._sock = sock
        self._plan = plan
        self._jobs: dict[int, int] = {}  # pid -> job
        machine = os.uname().machine
        if not seccomp.supported(machine):
            raise SandboxUnavailable(f"no system call filter for {machine}")
        self._filter = seccomp.program(machine, unix_datagrams=plan.probe.notify)

    def serve(self, *, own_proc: bool) -> Never:
        # A sweep outside of a PID namespace of its own would end every process of the user.
        if os.getpid() != 1:
            raise SandboxUnavailable("no PID namespace for the candidate")
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if own_proc:
            sandbox.mount_proc()
        sandbox.drop_bounding_set()
        _say(self._sock, Told("up"))
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                self._reap(os.WNOHANG)
            if self._sock.fileno() in ready:
                self._obey()

    def _obey(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._sock, _MESSAGE, 1)
        if not data:
            os._exit(0)
        order = msgspec.json.decode(data, type=Order)
        if order.do == "run":
            _say(self._sock, self._run(order, fds[0]))
            os.close(fds[0])
        elif order.do == "kill":
            for pid in [pid for pid, job in self._jobs.items() if job == order.job]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        elif order.do == "sweep":
            # One pass reaches all: a fork that races with it sees the signal first (copy_process).
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            self._reap(0)
            _say(self._sock, Told("swept"))

    def _reap(self, options: int) -> None:
        with contextlib.suppress(ChildProcessError):
            while (done := os.waitpid(-1, options))[0]:
                pid, status = done
                if (job := self._jobs.pop(pid, None)) is not None:
                    _say(self._sock, Told("ended", job, status))

    def _run(self, order: Order, output: int) -> Told:
        failed, tell = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _become(order, self._plan, output, tell, self._filter)
        os.close(tell)
        with os.fdopen(failed, "rb") as pipe:
            said = pipe.read(4096)  # ends at the exec, which closes the other end
        if said:
            os.waitpid(pid, 0)
            return Told("failed", order.job, message=said.decode("utf-8", "replace"))
        self._jobs[pid] = order.job
        return Told("started", order.job)


def _become(order: Order, plan: Plan, output: int, tell: int, filter_code: bytes) -> Never:
    """Turn this fork into the command; what goes wrong is written to `tell`."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(tell, 3, inheritable=False)
        os.closerange(4, 1 << 30)
        os.chdir(plan.directory)
        sandbox.confine(filter_code)
        os.execvpe(order.argv[0], order.argv, {**plan.environment, **order.environment})  # noqa: S606  no shell: the app's own argv
    except OSError as error:
        words = f"cannot run {order.argv[0]!r:.200}: {error.strerror}"
        if error.errno == errno.ENOENT:
            words += " (the program, its interpreter or the directory)"
        os.write(3, words.encode("utf-8", "replace"))
    except Exception as error:  # a fork must end here, whatever happened
        os.write(3, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _say(sock: socket.socket, told: Told) -> None:
    with contextlib.suppress(OSError):  # the runner has gone: the next poll ends this process
        sock.send(msgspec.json.encode(told))


def _hung_up(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLHUP)
    return bool(poll.poll(0))


def exit_of(status: int) -> dict[str, Any]:
    """A wait status as the fields of `model.Exit`."""
    code = os.waitstatus_to_exitcode(status)
    return {"signal": -code} if code < 0 else {"code": code}
