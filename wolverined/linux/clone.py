# SPDX-License-Identifier: MIT
"""Makes a child that is born in a cgroup: clone3(2) with CLONE_INTO_CGROUP, which Python does not offer.

A process that *moves* into a cgroup waits for a grace period of RCU (the kernel's lock against forks in
progress, cgroup_threadgroup_rwsem): 8 to 20 ms, in which the whole event loop stands still. One that is
born there waits for nothing. The child is a fork of us that only calls the kernel before it executes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import msgspec

# The same numbers on every architecture that has these calls (asm-generic/unistd.h).
_NR_CLONE3 = 435
_NR_CLOSE_RANGE = 436
# linux/sched.h
_CLONE_PIDFD = 0x1000
_CLONE_INTO_CGROUP = 0x2_0000_0000
_LAST_FD = 0xFFFF_FFFF
_FIRST_FREE_FD = 3
_EXIT_NEVER_RAN = 125
_ABOUT_TO_EXEC = b"x"
_PATIENCE_MS = 5000  # for what takes one: a child that hangs before its exec is not waited for for ever


class _CloneArgs(ctypes.Structure):
    """`struct clone_args` of linux/sched.h, in its third version (88 bytes)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What the child becomes.

    Attributes:
        argv: An absolute path and its arguments.
        env: Its whole environment.
        cwd: Where it starts; None: where we are.
        stdout: What becomes its output; None: ours stays.
        stderr: The same for its errors.
        keep_fds: What it inherits besides, under the same numbers.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    stdout: int | None
    stderr: int | None
    keep_fds: Sequence[int]


def start(program: Program, *, cgroup: int) -> tuple[int, int] | None:
    """Start a program in a cgroup: session of its own, stdin from nowhere, umask 0022, OOM score 0.

    Args:
        program: What to start.
        cgroup: An open directory of cgroup v2.

    Returns:
        Its pid and a pidfd of it; None when that cannot be done this way here: then it has to move there.

    Raises:
        OSError: The program, or its directory, cannot be used.
        ValueError: NUL in an argument or a variable.
    """
    if not _possible(program):
        return None
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            made = _clone(program, cgroup=cgroup, report=write)
        finally:
            os.close(write)
        return made if made is not None and _executed(read, *made) else None
    finally:
        os.close(read)


def _possible(program: Program) -> bool:
    # The child sets signal handlers, which Python allows the main thread only; and it puts descriptors on
    # 0, 1 and 2, so that none of those it needs may lie there (when we were started without).
    needed = [fd for fd in (program.stdout, program.stderr, *program.keep_fds) if fd is not None]
    return threading.current_thread() is threading.main_thread() and min(needed, default=3) >= _FIRST_FREE_FD


def _clone(program: Program, *, cgroup: int, report: int) -> tuple[int, int] | None:
    # PyDLL keeps the GIL: no other thread runs Python while the address space is copied, so that in the
    # child no lock of Python's is held by a thread that is not there any more. No signal may reach the
    # child before it has executed, because our handler would tell *us* of it through the wakeup pipe; and
    # no garbage collection may run in it, which might end what is still alive here.
    call = ctypes.PyDLL(None, use_errno=True).syscall
    pidfd = ctypes.c_int(-1)
    flags = _CLONE_PIDFD | _CLONE_INTO_CGROUP
    args = _CloneArgs(flags=flags, pidfd=ctypes.addressof(pidfd), exit_signal=signal.SIGCHLD, cgroup=cgroup)
    argv, env = _encoded(program)
    collecting = gc.isenabled()
    gc.disable()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = call(ctypes.c_long(_NR_CLONE3), ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args)))
        if pid == 0:
            _become(program, argv, env, report=report, mask=mask, call=call)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if collecting:
            gc.enable()
    # ENOSYS or EPERM of a container's seccomp filter, EACCES, EBUSY: moving may be allowed all the same.
    return None if pid < 0 else (pid, pidfd.value)


def _encoded(program: Program) -> tuple[list[bytes], dict[bytes, bytes]]:
    """What execve(2) takes, made and checked while an exception can still be raised."""
    argv = [os.fsencode(word) for word in program.argv]
    env = {os.fsencode(name): os.fsencode(value) for name, value in program.env.items()}
    if any(b"\0" in text for text in (*argv, *env, *env.values())) or any(b"=" in name or not name for name in env):
        raise ValueError("embedded null byte, or an illegal name of an environment variable")
    return argv, env


def _become(
    program: Program,
    argv: list[bytes],
    env: dict[bytes, bytes],
    *,
    report: int,
    mask: Iterable[int],
    call: ctypes._NamedFuncPointer,
) -> NoReturn:
    """Run in the child: become the program, or say why not and end."""
    try:
        os.setsid()
        os.umask(0o022)
        _make_ordinary()
        for fd, target in ((os.open(os.devnull, os.O_RDONLY), 0), (program.stdout, 1), (program.stderr, 2)):
            if fd is not None:
                os.dup2(fd, target)
        _close_all_but([report, *program.keep_fds], call)
        if program.cwd is not None:
            os.chdir(program.cwd)
        _reset_signals(mask)
        os.write(report, _ABOUT_TO_EXEC)
        os.execve(argv[0], argv, env)  # noqa: S606 - no shell is wanted
    except BaseException as error:
        # Nothing may unwind into what is a copy of the supervisor.
        os.write(report, b"%d" % (getattr(error, "errno", 0) or 0))
    finally:
        os._exit(_EXIT_NEVER_RAN)


def _make_ordinary() -> None:
    """Give up the supervisor's protection against the OOM killer; where /proc is read-only it has none."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, b"0")
    except OSError:
        return
    finally:
        os.close(fd)


def _close_all_but(kept: list[int], call: ctypes._NamedFuncPointer) -> None:
    for fd in kept[1:]:
        os.set_inheritable(fd, True)
    first = _FIRST_FREE_FD
    for fd in (*sorted(set(kept)), _LAST_FD + 1):
        if fd > first:
            call(ctypes.c_long(_NR_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(fd - 1), ctypes.c_uint(0))
        first = fd + 1


def _reset_signals(mask: Iterable[int]) -> None:
    # What has a handler becomes default by exec itself; but from here on the mask is open.
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them for itself, programs do not expect that
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _executed(report: int, pid: int, pidfd: int) -> bool:
    """Wait until the child has executed; False when it was killed before, or hung and so was killed by us.

    Raises:
        OSError: What the kernel told it.
    """
    told = _all_told(report)
    if told == _ABOUT_TO_EXEC:
        return True
    # Silence: some kernels (6.18 is one) kill a child at its birth in a cgroup in which, or in whose parent's,
    # `cgroup.kill` was ever written: they compare the counters of two different cgroups. It can still move there.
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pidfd)
    if not told:
        return False
    number = int(told.removeprefix(_ABOUT_TO_EXEC))
    raise OSError(number, os.strerror(number))


def _all_told(report: int) -> bytes:
    """What the child says until it has executed or ended; nothing when it hangs."""
    poller = select.poll()
    poller.register(report, select.POLLIN)
    told = b""
    while poller.poll(_PATIENCE_MS):
        more = os.read(report, 64)
        if not more:
            return told
        told += more
    return b""
