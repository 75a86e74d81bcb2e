# SPDX-License-Identifier: MIT
"""What supervisor and notifier say to each other: one line of JSON there, one line back."""

from __future__ import annotations

import msgspec

from wolverined.errors import StreamError

MAX_BYTES = 64 * 1024
VERSION = 1


class Letter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message to a human; every text is redacted already. Times are Unix seconds."""

    v: int = VERSION
    app: str
    host: str
    type: str
    severity: str
    event: str
    message: str
    at: float
    incident: str = ""
    repair: str = ""
    withheld: int = 0


class Undelivered(msgspec.Struct, frozen=True):
    """One address that could not be reached: where (never a password), and why."""

    where: str
    why: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a letter; `sent` 0 and nothing undelivered: there are no addresses."""

    sent: int = 0
    undelivered: tuple[Undelivered, ...] = ()
    error: str = ""


def encode(message: Letter | Receipt) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def decode_letter(line: bytes) -> Letter:
    """Read a letter.

    Raises:
        StreamError: It is none, or of another version.
    """
    try:
        letter = msgspec.json.decode(line, type=Letter)
    except msgspec.DecodeError as error:
        raise StreamError(f"this is no letter: {error}") from error
    if letter.v != VERSION:
        raise StreamError(f"a letter of version {letter.v}, and this notifier reads {VERSION}")
    return letter


def decode_receipt(line: bytes) -> Receipt:
    """Read a receipt.

    Raises:
        StreamError: It is none.
    """
    try:
        return msgspec.json.decode(line, type=Receipt)
    except msgspec.DecodeError as error:
        raise StreamError(f"the notifier's answer cannot be read: {error}") from error
