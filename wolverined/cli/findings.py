# SPDX-License-Identifier: MIT
"""What `doctor` says of one thing: it is well, it works but less well, or it does not work; and how to mend it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wolverined.linux.credentials import Credentials

OK, WEAK, BAD = "ok", "weak", "bad"
_SETPRIV = "/usr/bin/setpriv"
_OUTPUT = 65536


class Finding(NamedTuple):
    """One line of `doctor`. `mend` says what to do; empty when there is nothing to do."""

    level: str
    what: str
    mend: str = ""


class Ran(NamedTuple):
    """How a program ended and what it printed; `code` is None when it could not be run, or not in time."""

    code: int | None
    out: str
    err: str


def run_as(
    who: Credentials | None, argv: Sequence[str], *, cwd: str = "/", env: Mapping[str, str], timeout_s: float = 5.0
) -> Ran:
    """Run a program with no power and no input, as `who` (None: as we are), and wait for its end.

    A program of the application belongs to the application's user: root must not be the one who runs it.
    """
    shed = [_SETPRIV, "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"]
    if who is not None:
        shed += [f"--reuid={who.uid}", f"--regid={who.gid}", "--init-groups" if who.known else "--clear-groups"]
    try:
        done = subprocess.run(
            [*shed, "--", *argv],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Ran(None, "", "it did not end in time" if isinstance(error, subprocess.TimeoutExpired) else str(error))
    return Ran(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(data: bytes) -> str:
    return data[:_OUTPUT].decode("utf-8", "replace").strip()
