# SPDX-License-Identifier: MIT
"""The notifier's process: reads one letter from standard input, delivers it, answers with a receipt."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from wolverined.alerts import letter as letters
from wolverined.alerts.letter import Letter, Receipt, Undelivered
from wolverined.alerts.notifier import addresses, delivery
from wolverined.errors import WolverineError

CREDENTIAL = "notify-urls"
READ_S = 5.0
ANSWER_S = 90.0
"""After this time an address that has not taken its letter is given up: a receipt comes before the unit's
RuntimeMaxSec= is over, and before the supervisor waits no longer."""
_LONGEST = 300


def main() -> int:
    """Serve one connection; 0 when the letter reached every address."""
    with socket.socket(fileno=os.dup(0)) as connection:
        connection.settimeout(READ_S)
        receipt = _serve(connection, os.environ)
        for one in receipt.undelivered:
            sys.stderr.write(f"<3>{one.where}: {one.why}\n")
        if receipt.error:
            sys.stderr.write(f"<3>{receipt.error}\n")
        with contextlib.suppress(OSError):  # whoever asked has gone; what could be delivered is delivered
            connection.sendall(letters.encode(receipt))
    return 1 if receipt.error or receipt.undelivered else 0


def _serve(connection: socket.socket, environment: Mapping[str, str]) -> Receipt:
    try:
        letter = letters.decode_letter(_line(connection))
        return deliver_all(letter, addresses.parse(_credential(environment)))
    except (WolverineError, OSError) as error:
        return Receipt(error=str(error)[:_LONGEST])


def deliver_all(
    letter: Letter,
    wanted: tuple[addresses.Webhook | addresses.Mail, ...],
    *,
    deliver: Callable[[Letter, addresses.Webhook | addresses.Mail], None] = delivery.deliver,
    within_s: float = ANSWER_S,
) -> Receipt:
    """Every address at once: one that fails, or answers never, keeps no other from its letter."""
    ended: SimpleQueue[tuple[int, str]] = SimpleQueue()

    def one(number: int) -> None:
        try:
            deliver(letter, wanted[number])
        except (delivery.Refused, delivery.Trouble, OSError) as error:
            ended.put((number, str(error)[:_LONGEST] or type(error).__name__))
        except Exception as error:
            # Whatever it is, the receipt comes; without its words, which may quote the address.
            ended.put((number, type(error).__name__))
        else:
            ended.put((number, ""))

    until = time.monotonic() + within_s
    for number in range(len(wanted)):
        try:
            # A daemon's: our end does not wait for who never ends.
            threading.Thread(target=one, args=(number,), daemon=True).start()
        except RuntimeError as error:
            ended.put((number, str(error)))
    why = dict.fromkeys(range(len(wanted)), f"it did not answer within {within_s:g} s")
    for _ in wanted:
        try:
            number, said = ended.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            break
        why[number] = said
    undelivered = tuple(Undelivered(where=wanted[number].where, why=said) for number, said in why.items() if said)
    return Receipt(sent=len(wanted) - len(undelivered), undelivered=undelivered)


def _line(connection: socket.socket) -> bytes:
    data = b""
    while b"\n" not in data and len(data) <= letters.MAX_BYTES and (part := connection.recv(letters.MAX_BYTES)):
        data += part
    return data


def _credential(environment: Mapping[str, str]) -> str:
    directory = environment.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        raise WolverineError("no credentials", hint="the notifier is started by wolverine-notifier.socket")
    try:
        return (Path(directory) / CREDENTIAL).read_text("utf-8", "strict")
    except UnicodeDecodeError:
        raise WolverineError(f"/etc/wolverine/credentials/{CREDENTIAL} is not UTF-8 text") from None
