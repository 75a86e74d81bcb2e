# SPDX-License-Identifier: MIT
"""Entry point of /usr/lib/wolverine/prepare: `prepare NAME`, `prepare --remove NAME`; for root.

It ends with 0 also when the configuration is refused: the daemon, which starts next, says why and ends with 78,
which PID 1 does not answer with another start, as it would if this program failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from wolverined.config import facts
from wolverined.config.facts import Facts
from wolverined.errors import AccessDenied, UsageError, WolverineError
from wolverined.linux.credentials import group_id
from wolverined.linux.runtime import check_name
from wolverined.prepare.look import OWN
from wolverined.prepare.prepare import Places, forget, prepare

_USAGE = "prepare NAME, or prepare --remove NAME; systemd runs it before wolverine@NAME starts and reloads"
_ERROR = "<3>"  # sd-daemon(3): the journal takes the line as an error


def main(argv: Sequence[str] | None = None, *, places: Places | None = None) -> int:
    """Prepare or forget one application."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if os.geteuid() != 0:
            raise AccessDenied("only root can prepare an application", hint="systemd does it when it starts")
        name = check_name(words[-1]) if words else ""
        if words == ["--remove", name]:
            forget(name, places or Places())
            return 0
        if words != [name]:
            raise UsageError(_USAGE)
    except WolverineError as error:
        _say(str(error))
        return error.exit_code
    _prepare(name, places or Places())
    return 0


def _prepare(name: str, places: Places) -> None:
    try:
        told = prepare(name, places)
    except Exception as error:
        # Whatever it is: the daemon must not start on the facts of another time, nor be started again and again.
        told = Facts(refused=f"wolverine's prepare failed: {type(error).__name__}: {error}")
        try:
            facts.write(name, told, prepared=places.prepared, group=-1 if (own := group_id(OWN)) is None else own)
        except OSError:
            (facts.directory_of(name, prepared=places.prepared) / "facts.json").unlink(missing_ok=True)
    if told.refused:
        _say(told.refused)


def _say(text: str) -> None:
    mark = _ERROR if os.environ.get("JOURNAL_STREAM") else ""
    for line in f"error: {text}".splitlines():
        sys.stderr.write(f"{mark}{line}\n")


if __name__ == "__main__":
    sys.exit(main())
