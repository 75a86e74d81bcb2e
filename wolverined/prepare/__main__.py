# SPDX-License-Identifier: MIT
"""Entry point of /usr/lib/wolverine/prepare: `prepare NAME`, `prepare --remove NAME`; for root.

It ends with 0 also when the configuration is refused: the daemon, which starts next, says why and ends with 78,
which PID 1 does not answer with another start. So too with an instance that no application can be called. Whatever
else goes wrong may pass: then it fails, after a rest, and PID 1 tries again; nothing starts on facts of another time.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wolverined.errors import AccessDenied, UsageError, WolverineError
from wolverined.lean import be_lean
from wolverined.linux.runtime import check_name, check_service_name

if TYPE_CHECKING:
    from wolverined.prepare.prepare import Places

_USAGE = "prepare NAME, or prepare --remove NAME; systemd runs it before wolverine@NAME starts and reloads"
TROUBLE = 75
"""EX_TEMPFAIL of sysexits.h."""
REST_S = 1.0
"""How long a preparation that failed rests: PID 1 answers with another one, many times a second if it may."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_ERROR = "<3>"  # sd-daemon(3): the journal takes the line as an error


def main(argv: Sequence[str] | None = None, *, places: Places | None = None) -> int:
    """Prepare or forget one application."""
    if argv is None:  # a process of our own, which an app waits for: a third less time
        be_lean()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if os.geteuid() != 0:
            raise AccessDenied("only root can prepare an application", hint="systemd does it when it starts")
        name = check_name(words[-1]) if words else ""
        if words == ["--remove", name]:
            from wolverined.prepare.prepare import Places, forget  # noqa: PLC0415 - see above

            forget(name, places or Places())
            return 0
        if words != [name]:
            raise UsageError(_USAGE)
        check_service_name(name)
    except WolverineError as error:
        _say(str(error))
        return 0 if os.environ.get("INVOCATION_ID") else error.exit_code  # set in units, where the daemon says it, too
    try:
        return _prepare(name, places)
    except Exception as error:
        # Whatever it is: it says nothing of the configuration, so that it must not be the last word about the app.
        _say(f"{name} could not be prepared: {_words(error)}; hint: {_hint(error, name)}")
        if _runs():
            return TROUBLE  # the reload fails, and nobody tries it again by himself
    time.sleep(REST_S)
    return TROUBLE


def _prepare(name: str, places: Places | None) -> int:
    from wolverined.prepare.prepare import Places, prepare  # noqa: PLC0415 - see above

    told = prepare(name, places or Places(), starts=_starts())
    if told.refused:
        _say(told.refused)
    return 0


def _runs() -> bool:
    """Whether PID 1 asks for the sake of a supervisor that runs (ExecReload=), and not before its start."""
    return "MAINPID" in os.environ


def _starts() -> bool:
    """Whether PID 1 runs this very process before the start of a supervisor; by hand, one may run already."""
    return os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()) and not _runs()


def _words(error: Exception) -> str:
    if isinstance(error, WolverineError):
        return error.message
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"{type(error).__name__}: {error}"


def _hint(error: Exception, name: str) -> str:
    tried = "the old configuration stays, reload it again" if _runs() else "it is tried again every second or so"
    if isinstance(error, WolverineError) and error.hint:
        return f"{error.hint}; {tried}"
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"make room there, mostly in /run (df /run); {tried}"
    return f"{tried}; what the machine says of it: journalctl -b -p warning; by hand: /usr/lib/wolverine/prepare {name}"


def _say(text: str) -> None:
    mark = _ERROR if os.environ.get("JOURNAL_STREAM") else ""
    for line in f"error: {text}".splitlines():
        sys.stderr.write(f"{mark}{line}\n")


if __name__ == "__main__":
    sys.exit(main())
