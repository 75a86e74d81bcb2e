# SPDX-License-Identifier: MIT
"""Entry point of `wolverine-failure@.service`: one letter that the unit of an application has failed.

PID 1 starts it in place of the supervisor, which is gone, and says by MONITOR_... (systemd.exec(5)) how it ended.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from wolverined.alerts import letter as letters
from wolverined.alerts.letter import Letter, Receipt
from wolverined.errors import ConfigError, StreamError

NOTIFIER = Path("/run/wolverine-sockets/notifier.sock")
ANSWER_S = 110.0
"""Longer than the notifier's own time, shorter than the unit's TimeoutStartSec=."""

_NAME = re.compile(r"[A-Za-z0-9:._-]{1,200}")
_WORD = re.compile(r"[A-Za-z0-9-]{1,40}")
_REFUSED = f"exit-code, exited {ConfigError.exit_code}"


def main(argv: Sequence[str] | None = None, *, path: Path = NOTIFIER) -> int:
    """Hand over the letter; 0 when a human has it, or when there are no addresses."""
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) != 1 or not _NAME.fullmatch(words[0]):
        return _fail("this is for wolverine-failure@NAME.service, with the NAME of an application")
    words_of_it = letter_of(words[0], os.environ, host=os.uname().nodename, at=time.time())
    try:
        receipt = _hand_over(words_of_it, path)
    except (OSError, StreamError) as error:
        return _fail(f"the notifier cannot be asked: {error}; hint: systemctl status wolverine-notifier.socket")
    if receipt.error or receipt.undelivered:
        why = receipt.error or "; ".join(f"{one.where}: {one.why}" for one in receipt.undelivered)
        return _fail(f"a message to a human did not arrive: {why}")
    return 0


def letter_of(name: str, environment: Mapping[str, str], *, host: str, at: float) -> Letter:
    """What a human is told; pure.

    Args:
        name: The application.
        environment: Ours, with what PID 1 says of the unit.
        host: This machine's name.
        at: Now, in Unix seconds.
    """
    unit = f"wolverine@{name}.service"
    how = _how(environment)
    why = ": its configuration cannot be used" if how == _REFUSED else ""
    said = f" ({how}{why})" if how else ""
    return Letter(
        app=name,
        host=host,
        type="human_needed",
        severity="critical",
        event="unit.failed",
        message=f"{unit} has failed{said} and is not started again by itself; see: journalctl -b -e -u {unit}; "
        f"when it is mended: systemctl restart {unit}",
        at=at,
    )


def _how(environment: Mapping[str, str]) -> str:
    """How the unit ended, as systemd calls it; "" when that is not known (two units failed at once, say)."""
    told = [environment.get(f"MONITOR_{key}", "") for key in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")]
    result, code, status = (word if _WORD.fullmatch(word) else "" for word in told)
    return ", ".join(part for part in (result, f"{code} {status}".strip()) if part)


def _hand_over(letter: Letter, path: Path) -> Receipt:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(path))
        connection.sendall(letters.encode(letter))
        connection.shutdown(socket.SHUT_WR)
        return letters.decode_receipt(_line(connection))


def _line(connection: socket.socket) -> bytes:
    data = b""
    while b"\n" not in data and len(data) <= letters.MAX_BYTES and (part := connection.recv(letters.MAX_BYTES)):
        data += part
    return data


def _fail(what: str) -> int:
    sys.stderr.write(f"<3>{what}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
