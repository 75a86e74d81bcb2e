# SPDX-License-Identifier: MIT
"""How a command is worded for a machine's systemd, and how its end is told: the same for every kind of machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

Completed = subprocess.CompletedProcess[str]


def shell_words(cmd: str | Sequence[str]) -> list[str]:
    """An argv as it is; a string as a shell command."""
    return ["sh", "-c", cmd] if isinstance(cmd, str) else list(cmd)


def unit_words(argv: Sequence[str], *, user: str | None, timeout_s: float, properties: Sequence[str]) -> list[str]:
    """Words that run `argv` as a transient unit and wait for it: own cgroup, clean environment, real status."""
    settings = [word for one in (*properties, f"RuntimeMaxSec={timeout_s}") for word in ("-p", one)]
    settings += [f"--uid={user}"] if user else []
    run = ["systemd-run", "-q", "--pipe", "--wait", "--collect", "--service-type=exec", *settings, "--"]
    return run + [word.replace("$", "$$") for word in argv]  # systemd.service(5): ExecStart expands variables


def told(
    raw: subprocess.CompletedProcess[bytes], *, argv: list[str], who: str, check: bool, late: bool = False
) -> Completed:
    """What a command told, as text.

    Raises:
        TimeoutError: It was `late`.
        AssertionError: `check`, and its status is not 0; with both outputs.
    """
    done = Completed(argv, raw.returncode, *(text.decode(errors="replace") for text in (raw.stdout, raw.stderr)))
    if late:
        raise TimeoutError(f"{who}: {argv} took too long\n{done.stdout}{done.stderr}")
    if check and done.returncode:
        raise AssertionError(f"{who}: {argv} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(
    condition: Callable[[], object] | str, *, run: Callable[..., Completed], who: str, within_s: float
) -> Any:
    """Wait until a predicate answers something true, or a command given to `run` ends with 0; what it answered.

    Raises:
        AssertionError: Not so within `within_s`; with what the last command told.
    """
    deadline = time.monotonic() + within_s
    while True:
        done = run(condition, check=False) if isinstance(condition, str) else None
        answer: object = done if isinstance(condition, str) else condition()
        if answer and (done is None or done.returncode == 0):
            return answer
        if time.monotonic() > deadline:
            said = f"\n{done.stdout}{done.stderr}" if done else ""
            raise AssertionError(f"{who}: not so within {within_s} s: {condition!r}{said}")
        time.sleep(0.02)
