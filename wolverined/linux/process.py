# SPDX-License-Identifier: MIT
"""The one place that starts programs: born in their leaf, with no capability, under their own user.

A start goes clone into the leaf (`clone`) -> `setpriv` (sheds power, changes the user) -> the program, by
exec all the way, so the pid never changes; where there is no cgroup, or the kernel refuses that clone,
`/bin/sh` stands in for it and joins the leaf. What can be known to fail is said before anything is
started (`program`); death comes through a pidfd in the event loop.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from wolverined.errors import SpawnError
from wolverined.linux import clone, proc, program
from wolverined.linux.credentials import CAP_SETPCAP, Credentials, may_change_user
from wolverined.linux.handover import HandedChild
from wolverined.linux.leaf import Leaf

__all__ = ["Child", "Credentials", "ExitStatus", "spawn"]

_SETPRIV = "/usr/bin/setpriv"
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_JOIN_FAILED = 125  # as docker, env(1) and nice(1) answer for themselves
_SHIM_NAMES = ("setpriv", "env")
_CLOSE_WAIT_MS = 1000
_NO_STAT = proc.Stat(name="", state="", ppid=0, session=0, start_ticks=0)

# stdin *is* cgroup.procs, which spares us a file descriptor number that the shell would have to know.
# The shell exports PWD on its own; the program gets it only if it was given.
_JOIN = "{ echo 0 >&0; } 2>/dev/null || { echo 'wolverined: cannot join the leaf' >&2; exit 125; }\n"
_CLEAN = "{ echo 0 >/proc/self/oom_score_adj; } 2>/dev/null\numask 0022\n"
_EXEC = 'exec "$@" </dev/null'

# dash drops variables whose names are not identifiers (`spring.profiles.active`); an application that
# needs them is started through this instead, which is the same in 30 ms more.
_JOIN_PY = """
import os, sys
try:
    sys.argv[1] == "join" and os.write(0, b"0")
except OSError:
    os.write(2, b"wolverined: cannot join the leaf\\n")
    os._exit(125)
try:
    with open("/proc/self/oom_score_adj", "w") as adj:
        adj.write("0")
except OSError:
    pass
os.umask(0o022)
null = os.open("/dev/null", os.O_RDONLY)
os.dup2(null, 0)
os.close(null)
os.execv(sys.argv[2], sys.argv[2:])
"""

# Whoever executes as root is given what the bounding set allows and it had before: under a supervisor that may not
# lower that set, root has to lay down what is left by itself. In linux/capability.h: version 3, of this process.
_POWERLESS_PY = """
import ctypes, os, sys
if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
    os.write(2, b"wolverined: cannot give up capabilities\\n")
    os._exit(125)
os.execv(sys.argv[1], sys.argv[1:])
"""


class ExitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended: exactly one of `code` and `signal` is set.

    `never_ran` means that the program itself was not reached: the leaf could not be joined, or the
    last exec failed (it was removed since we looked, say). Then `code` is 125, 126 or 127.
    """

    code: int | None
    signal: int | None
    core: bool = False
    never_ran: bool = False


class Child:
    """A started process; a context manager that leaves neither process nor file descriptor.

    Attributes:
        pid: Its pid, which is also its session and process group.
        stdout: Non-blocking read end of its output, closed with the child unless taken; None: not captured.
        stderr: The same for its errors.
    """

    def __init__(self, *, pid: int, pidfd: int, stdout: int | None, stderr: int | None, name: str) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self._pidfd: int | None = pidfd
        self._name = name
        self._status: ExitStatus | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @classmethod
    def adopt(cls, handed: HandedChild) -> Child:
        """Take over a child that this process had before it executed another program.

        Raises:
            SpawnError: The process of that pid is not that child.
            OSError: No file descriptor is to be had.
        """
        # Nobody else can have reaped it, so that its pid cannot be another's; unless what we were handed lies.
        found = proc.stat(handed.pid)
        if found is None or found.ppid != os.getpid() or found.start_ticks != handed.start_ticks:
            raise SpawnError(f"process {handed.pid} is not the child that it was")
        return cls(pid=handed.pid, pidfd=os.pidfd_open(handed.pid), stdout=None, stderr=None, name=handed.name)

    def hand_over(self) -> HandedChild:
        """What a successor of ours in this process knows it by; it has not been waited for."""
        found = proc.stat(self.pid)
        if found is None or self._status is not None:
            raise SpawnError(f"process {self.pid} cannot be found in /proc")
        return HandedChild(pid=self.pid, start_ticks=found.start_ticks, name=self._name)

    @property
    def status(self) -> ExitStatus | None:
        """How it ended; None while nobody has waited for that or it has not happened."""
        return self._status

    def take_output(self) -> tuple[int | None, int | None]:
        """Hand stdout and stderr over to the caller, who closes them from now on."""
        taken = self.stdout, self.stderr
        self.stdout = self.stderr = None
        return taken

    async def wait(self) -> ExitStatus:
        """Wait for its end; any number of tasks may, and later calls answer at once."""
        if self._status is None and self._pidfd is not None:
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            if not self._waiting:
                loop.add_reader(self._pidfd, self._reap)
            self._waiting.append(ended)
            try:
                await ended
            finally:
                self._waiting.remove(ended)
                if not self._waiting and self._pidfd is not None:
                    loop.remove_reader(self._pidfd)
        if self._status is None:
            raise SpawnError(f"process {self.pid} was given up before it ended")
        return self._status

    def signal(self, signum: int) -> bool:
        """Send a signal to this very process, never to a reused pid; False when it has ended."""
        if self._pidfd is None or self._status is not None:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, signum)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Kill it if it still runs, reap it, close what is ours. Blocks up to a second without a loop."""
        for fd in self.take_output():
            if fd is not None:
                os.close(fd)
        if self._pidfd is None:
            return
        if self._status is None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap_later()
        else:
            self._drop_pidfd()

    def _reap_later(self) -> None:
        assert self._pidfd is not None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            poller.poll(_CLOSE_WAIT_MS)
            self._reap()
            self._drop_pidfd()
        else:
            loop.add_reader(self._pidfd, self._reap_and_drop)

    def _reap_and_drop(self) -> None:
        self._reap()
        self._drop_pidfd()

    def _drop_pidfd(self) -> None:
        fd, self._pidfd = self._pidfd, None
        self._wake()
        if fd is not None:
            with suppress(RuntimeError):  # no loop: then none watches it
                asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def _reap(self) -> None:
        assert self._pidfd is not None
        died_as = (proc.stat(self.pid) or _NO_STAT).name  # of the zombie: what it was when it ended
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # Someone set SIGCHLD to be ignored, or waited for any child: how it ended is lost.
            self._status = ExitStatus(code=255, signal=None)
        else:
            if result is None:
                return
            self._status = _status_of(result, died_as=died_as, name=self._name)
        if self._waiting:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def spawn(
    argv: Sequence[str],
    *,
    leaf: Leaf,
    cwd: str | Path,
    env: Mapping[str, str],
    credentials: Credentials | None,
    keep_fds: Sequence[int] = (),
    capture_output: bool = True,
    die_with_parent: bool = False,
    keep_power: bool = False,
) -> Child:
    """Start a program in a leaf: session of its own, stdin /dev/null, umask 0022, no capability, no new privileges.

    Args:
        argv: The program (looked up in the PATH of `env`) and its arguments.
        leaf: Where it and its descendants live.
        cwd: Its working directory.
        env: Its whole environment; nothing of ours is added (but `leaf.mark`, where a leaf needs one).
        credentials: The user it runs as; None: ours.
        keep_fds: File descriptors that it inherits under the same numbers; all others are closed.
        capture_output: Give it pipes for stdout and stderr; else it writes to ours.
        die_with_parent: Have the kernel kill it when the *thread* that calls this ends (prctl(2)):
            call it from the main thread then.
        keep_power: Take none of our capabilities from it: for the program alone that is to take our own place.

    Raises:
        SpawnError: It cannot be started; the hint says what to do.
    """
    try:
        power = proc.effective_capabilities()
        start = program.check(argv, cwd=cwd, env=env, credentials=_wanted(credentials, power=power))
        shed = [] if keep_power else _shed(credentials, power=power, die_with_parent=die_with_parent)
        pipes = _Pipes() if capture_output else _NoPipes()
        name = Path(argv[0]).name
        command, environment = [*shed, *start.argv], {**env, **leaf.mark}
        return _start(command, leaf=leaf, cwd=start.cwd, env=environment, keep_fds=keep_fds, pipes=pipes, name=name)
    except (OSError, ValueError) as error:
        raise program.explain(error, argv=argv, cwd=cwd) from error


def _start(
    command: Sequence[str],
    *,
    leaf: Leaf,
    cwd: str | None,
    env: Mapping[str, str],
    keep_fds: Sequence[int],
    pipes: _Pipes | _NoPipes,
    name: str,
) -> Child:
    with pipes:
        born = _born(command, leaf=leaf, cwd=cwd, env=env, keep_fds=keep_fds, pipes=pipes)
        pid, pidfd = born or _joined(command, leaf=leaf, cwd=cwd, env=env, keep_fds=keep_fds, pipes=pipes)
        stdout, stderr = pipes.take()
    child = Child(pid=pid, pidfd=pidfd, stdout=stdout, stderr=stderr, name=name)
    if born is None:
        try:
            leaf.admit(pid)
        except OSError:
            child.close()
            raise
    return child


def _born(
    command: Sequence[str],
    *,
    leaf: Leaf,
    cwd: str | None,
    env: Mapping[str, str],
    keep_fds: Sequence[int],
    pipes: _Pipes | _NoPipes,
) -> tuple[int, int] | None:
    """Make a child that is in its leaf from its first instant; its pid and pidfd, or None when that cannot be."""
    cradle = leaf.cradle()
    if cradle is None:
        return None
    try:
        stdout, stderr = pipes.out_write, pipes.err_write
        become = clone.Program(argv=command, env=env, cwd=cwd, stdout=stdout, stderr=stderr, keep_fds=keep_fds)
        return clone.start(become, cgroup=cradle)
    finally:
        os.close(cradle)


def _joined(
    command: Sequence[str],
    *,
    leaf: Leaf,
    cwd: str | None,
    env: Mapping[str, str],
    keep_fds: Sequence[int],
    pipes: _Pipes | _NoPipes,
) -> tuple[int, int]:
    """Make a child that joins its leaf by itself, before it becomes the program; its pid and pidfd."""
    with ExitStack() as stack:
        entrance = leaf.entrance()
        if entrance is not None:
            stack.callback(os.close, entrance)
        # A real fork (preexec_fn, user=) would copy our page tables and leak ambient capabilities;
        # this is vfork and exec.
        process = subprocess.Popen(
            [*_shim(env, joins=entrance is not None), *command],
            stdin=subprocess.DEVNULL if entrance is None else entrance,
            stdout=pipes.out_write,
            stderr=pipes.err_write,
            cwd=cwd,
            env=env,
            pass_fds=keep_fds,
            start_new_session=True,
        )
        process.returncode = 0  # the pidfd reaps it: Popen shall neither warn nor wait
        return process.pid, _pidfd_of(process.pid)


def _pidfd_of(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        # Out of file descriptors, say. It is still our unreaped child, so its pid cannot be another's.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


class _NoPipes:
    """The child writes to where we write."""

    out_write = err_write = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to close."""

    def take(self) -> tuple[None, None]:
        return None, None


class _Pipes:
    """Two pipes whose write ends go to the child; what nobody took is closed at the end of the `with`."""

    def __enter__(self) -> Self:
        self._open: list[int] = []
        try:
            self._out, self.out_write = self._pipe()
            self._err, self.err_write = self._pipe()
        except OSError:
            self._close()
            raise
        return self

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        self._open += [read, write]
        os.set_blocking(read, False)
        # A pipe belongs to us who made it; without this a program of another user cannot open
        # /dev/stdout, which many a logging configuration names.
        os.fchmod(write, 0o622)
        return read, write

    def take(self) -> tuple[int, int]:
        self._open = [self.out_write, self.err_write]
        return self._out, self._err

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for fd in self._open:
            os.close(fd)


def _wanted(credentials: Credentials | None, *, power: int) -> Credentials | None:
    """The credentials to change to; None when we are that user already."""
    if credentials is None:
        return None
    may_change = may_change_user(power)
    if not may_change and credentials.uid != os.geteuid():
        raise SpawnError(
            f"cannot start a program as {credentials.name}: that takes CAP_SETUID and CAP_SETGID",
            hint="run wolverined as root (a unit: AmbientCapabilities=), or set app.user to the user that you are",
        )
    return credentials if may_change else None


def _shed(credentials: Credentials | None, *, power: int, die_with_parent: bool) -> list[str]:
    if not Path(_SETPRIV).exists():
        raise SpawnError(f"{_SETPRIV} is missing", hint="install util-linux")
    wanted = _wanted(credentials, power=power)
    command = [_SETPRIV]
    if wanted:
        groups = "--init-groups" if wanted.known else "--clear-groups"
        command += [f"--reuid={wanted.uid}", f"--regid={wanted.gid}", groups]
    command += ["--inh-caps=-all", "--ambient-caps=-all"]
    if power >> CAP_SETPCAP & 1:
        command.append("--bounding-set=-all")
    if die_with_parent:
        command.append("--pdeathsig=KILL")  # setpriv sets it last: a change of user would clear it
    command += ["--no-new-privs", "--"]
    if wanted and wanted.uid == 0 and not power >> CAP_SETPCAP & 1:
        import sys  # noqa: PLC0415 - for the few who let their application be root

        command += [sys.executable, "-I", "-S", "-c", _POWERLESS_PY]
    return command


def _shim(environment: Mapping[str, str], *, joins: bool) -> list[str]:
    if all(map(_SHELL_NAME.fullmatch, environment)):
        unset = "" if "PWD" in environment else "unset PWD\n"
        return ["/bin/sh", "-c", (_JOIN if joins else "") + _CLEAN + unset + _EXEC, "sh"]
    import sys  # noqa: PLC0415 - beside its only use

    return [sys.executable, "-I", "-S", "-c", _JOIN_PY, "join" if joins else "stay"]


def _status_of(result: os.waitid_result, *, died_as: str, name: str) -> ExitStatus:
    if result.si_code != os.CLD_EXITED:
        return ExitStatus(code=None, signal=result.si_status, core=result.si_code == os.CLD_DUMPED)
    code = result.si_status
    # A process keeps the name of the last program that it executed: if that is still one of the shim's,
    # the program was never reached. A program that bears the same name gets the benefit of the doubt.
    in_shim = died_as in _SHIM_NAMES or (died_as == "sh" and code == _JOIN_FAILED)
    return ExitStatus(code=code, signal=None, never_ran=in_shim and name != died_as)
