# SPDX-License-Identifier: MIT
"""Entry point of /usr/lib/wolverine/prepare: `prepare NAME`, `prepare --remove NAME`; for root.

It ends with 0 also when the configuration is refused: the daemon, which starts next, says why and ends with 78,
which PID 1 does not answer with another start, as it would if this program failed. So too with an instance that no
application can be called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wolverined.errors import AccessDenied, UsageError, WolverineError
from wolverined.lean import be_lean
from wolverined.linux.runtime import check_name

if TYPE_CHECKING:
    from wolverined.prepare.prepare import Places

_USAGE = "prepare NAME, or prepare --remove NAME; systemd runs it before wolverine@NAME starts and reloads"
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
    except WolverineError as error:
        _say(str(error))
        return 0 if os.environ.get("INVOCATION_ID") else error.exit_code  # set in units, where the daemon says it, too
    _prepare(name, places)
    return 0


def _prepare(name: str, given: Places | None) -> None:
    from wolverined.config import facts  # noqa: PLC0415 - see above
    from wolverined.config.facts import Facts  # noqa: PLC0415
    from wolverined.linux.credentials import group_id  # noqa: PLC0415
    from wolverined.prepare.prepare import Places, prepare  # noqa: PLC0415

    places = given or Places()
    try:
        told = prepare(name, places)
    except Exception as error:
        # Whatever it is: the daemon must not start on the facts of another time, nor be started again and again.
        told = Facts(refused=f"wolverine's prepare failed: {type(error).__name__}: {error}")
        try:
            facts.write(
                name, told, prepared=places.prepared, group=-1 if (own := group_id(places.own)) is None else own
            )
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
