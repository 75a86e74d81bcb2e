# SPDX-License-Identifier: MIT
"""A tree of processes: a third plain children, a third in sessions of their own, a third double-forked.

usage: forest.py COUNT FIFO. Every process says its pid into the FIFO; COUNT + 1 lines mean that it stands.
Each becomes a `sleep`, as the programs of a real application are programs, no copies of one interpreter.
"""

import os
import signal
import sys


def settle(out: int) -> None:
    """Say the pid and become a program that waits."""
    os.write(out, b"%d\n" % os.getpid())
    os.execv("/bin/sleep", ["sleep", "86400"])


def grow(count: int, out: int) -> None:
    """Fork the tree; only the root returns."""
    for number in range(count):
        sort = number % 3
        pid = os.fork()
        if pid:
            if sort == 2:
                os.waitpid(pid, 0)
            continue
        if sort:
            os.setsid()
        if sort == 2 and os.fork():
            os._exit(0)
        settle(out)


def main() -> None:
    """Grow and wait."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # pm2 asks by SIGINT; Python would print a trace
    out = os.open(sys.argv[2], os.O_WRONLY | os.O_CLOEXEC)
    grow(int(sys.argv[1]), out)
    os.write(out, b"%d\n" % os.getpid())
    signal.pause()


main()
