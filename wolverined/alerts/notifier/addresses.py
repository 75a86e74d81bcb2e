# SPDX-License-Identifier: MIT
"""The credential `notify-urls` -> addresses (pure).

One address a line, `#` begins a comment:

    https://example.net/hook secret=WORD        a webhook; with a secret the body is signed (HMAC-SHA256)
    smtps://USER:PASSWORD@mail.example.net/?from=wolverine@example.net&to=ops@example.net
    smtp://mail.example.net:587/?from=...&to=...  STARTTLS when there is a password; without one, as the server offers

Plain http is for loopback alone: a message tells what is broken where.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from wolverined.config.words import is_loopback
from wolverined.errors import ConfigError

MAX_ADDRESSES = 20
_SMTP_PORT, _SMTPS_PORT = 25, 465


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where JSON is posted."""

    url: str
    secret: str = ""
    where: str


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """Where e-mail is handed over."""

    host: str
    port: int
    tls: bool
    user: str = ""
    password: str = ""
    sender: str
    to: tuple[str, ...]
    where: str


def parse(text: str) -> tuple[Webhook | Mail, ...]:
    """Every address of the file.

    Raises:
        ConfigError: A line is none; the message names the line and never what stands in it.
    """
    found = tuple(_addresses(text))
    if len(found) > MAX_ADDRESSES:
        raise ConfigError(f"notify-urls has {len(found)} addresses", hint=f"at most {MAX_ADDRESSES}")
    return found


def _addresses(text: str) -> Iterator[Webhook | Mail]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            yield _address(words)
        except ValueError as error:
            raise ConfigError(
                f"notify-urls, line {number}: {error}",
                hint="https://HOST/PATH [secret=WORD], or smtps://USER:PASSWORD@HOST/?from=ADDRESS&to=ADDRESS",
            ) from None


def _address(words: list[str]) -> Webhook | Mail:
    try:
        parts = urlsplit(words[0])
        port = parts.port
    except ValueError:  # whose own words quote the address
        raise ValueError("host or port cannot be read") from None
    if not parts.hostname:
        raise ValueError("no host")
    options = _options(words[1:])
    if parts.scheme in {"http", "https"}:
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("plain http leaves this machine; write https")
        return Webhook(url=words[0], secret=options, where=f"{parts.scheme}://{parts.hostname}")
    if parts.scheme in {"smtp", "smtps"}:
        if options:
            raise ValueError("secret= belongs to a webhook")
        return _mail(parts, port)
    raise ValueError("it begins with none of https:, smtps:, smtp:")


def _options(words: list[str]) -> str:
    match words:
        case []:
            return ""
        case [word] if word.startswith("secret=") and word != "secret=":
            return word.removeprefix("secret=")
    raise ValueError("behind the address only secret=WORD may stand")


def _mail(parts: SplitResult, port: int | None) -> Mail:
    query = parse_qs(parts.query)
    senders, to = query.get("from", []), tuple(query.get("to", []))
    if len(senders) != 1 or not to or not all("@" in one and one.isprintable() for one in (*senders, *to)):
        raise ValueError("mail needs one from= and at least one to=, each an address")
    tls = parts.scheme == "smtps"
    password = unquote(parts.password or "")
    if password and not tls and port == _SMTP_PORT:
        raise ValueError("a password to port 25; use smtps, or the port for submission, 587")
    assert parts.hostname
    return Mail(
        host=parts.hostname,
        port=port or (_SMTPS_PORT if tls else _SMTP_PORT),
        tls=tls,
        user=unquote(parts.username or ""),
        password=password,
        sender=senders[0],
        to=to,
        where=f"{parts.scheme}://{parts.hostname}",
    )
