# SPDX-License-Identifier: MIT
"""Builds the sandbox of a trial around nothing and says how far it came: `doctor` runs this as the app's user.

A process of its own, since it ends inside the namespaces that it made. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Never

from wolverined.errors import SandboxUnavailable
from wolverined.linux import sandbox, seccomp


def main(argv: list[str]) -> int:
    """Try each wall on the empty directory `argv[1]`; print `{"kind", "step", "error", "hint"}`."""
    step, kind = "namespaces", ""
    try:
        sandbox.enter()
        sandbox.raise_loopback()
        step = "tree"
        kind = sandbox.build_tree(directory=argv[1], changes=[("new.txt", b"new", 0o644)], hide=[], keep=[])
        step = "processes"
        sandbox_pid = os.fork()
        if sandbox_pid == 0:
            _inside(kind)
        return os.waitstatus_to_exitcode(os.waitpid(sandbox_pid, 0)[1])
    except (SandboxUnavailable, OSError) as error:
        _say(kind=kind, step=step, error=error)
    return 0


def _inside(kind: str) -> Never:
    """What only the first process of the new PID namespace can try."""
    step = "proc"
    try:
        sandbox.mount_proc()
        sandbox.drop_bounding_set()
        step = "seccomp"
        sandbox.confine(_filter(os.uname().machine))
        _say(kind=kind, step="", error=None)
    except (SandboxUnavailable, OSError) as error:
        _say(kind=kind, step=step, error=error)
    finally:
        os._exit(0)


def _filter(machine: str) -> bytes:
    if not seccomp.supported(machine):
        raise SandboxUnavailable(f"no system call filter for {machine}", hint="x86_64 and aarch64 have one")
    return seccomp.program(machine)


def _say(*, kind: str, step: str, error: Exception | None) -> None:
    said = getattr(error, "message", str(error)) if error else ""
    answer = {"kind": kind, "step": step, "error": said, "hint": getattr(error, "hint", "")}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
