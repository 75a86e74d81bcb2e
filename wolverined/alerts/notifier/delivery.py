# SPDX-License-Identifier: MIT
"""One letter to one address: a signed POST, or a mail. Nothing is followed: no redirect, no proxy."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from urllib.parse import urlsplit

import msgspec
import tenacity

from wolverined import __version__
from wolverined.alerts.letter import Letter
from wolverined.alerts.notifier.addresses import Mail, Webhook

TRIES = 3
TIMEOUT_S = 10.0
_READ = 4096
_FINE = range(200, 300)
_OF_THE_SERVER = 500
_TOO_MANY = 429


class Refused(Exception):
    """The other side does not want it, and will not want it in a moment either."""


class Trouble(Exception):
    """The other side could not take it just now."""


def deliver(letter: Letter, address: Webhook | Mail, *, wait_s: float = 1.0) -> None:
    """Hand over a letter; some tries, each a little later.

    Raises:
        Refused: Asking again is of no use.
        Trouble: It was not taken, however often it was tried.
        OSError: Nobody answers.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential(multiplier=wait_s, max=10),
        retry=tenacity.retry_if_exception_type((Trouble, OSError)),
        reraise=True,
    )
    retrying(_post if isinstance(address, Webhook) else _mail, letter, address)


def body_of(letter: Letter) -> bytes:
    """What a webhook gets: the letter, and its words once more as chats like them (`text`)."""
    return msgspec.json.encode({**msgspec.to_builtins(letter), "text": f"{subject_of(letter)}\n{letter.message}"})


def subject_of(letter: Letter) -> str:
    """One line: how grave, what, where."""
    about = letter.repair or letter.incident
    return f"[{letter.severity}] {letter.app} on {letter.host}: {letter.type.replace('_', ' ')}" + (
        f" ({about})" if about else ""
    )


def _post(letter: Letter, address: Webhook) -> None:
    parts = urlsplit(address.url)
    assert parts.hostname
    body = body_of(letter)
    headers = {"Content-Type": "application/json", "User-Agent": f"wolverined/{__version__}"}
    if address.secret:
        signature = hmac.new(address.secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Wolverine-Signature"] = f"sha256={signature}"
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        tls = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", body, headers)
        answer = connection.getresponse()
        answer.read(_READ)
    except http.client.HTTPException as error:
        raise Trouble(f"its answer is no HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status in _FINE:
        return
    if answer.status == _TOO_MANY or answer.status >= _OF_THE_SERVER:
        raise Trouble(f"it answered {answer.status}")
    raise Refused(f"it answered {answer.status}")


def _mail(letter: Letter, address: Mail) -> None:
    message = EmailMessage()
    message["Subject"] = " ".join(subject_of(letter).split())
    message["From"] = address.sender
    message["To"] = ", ".join(address.to)
    message["Date"] = format_datetime(localtime())
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text_of(letter))
    tls = ssl.create_default_context()
    server: smtplib.SMTP
    try:
        if address.tls:
            server = smtplib.SMTP_SSL(address.host, address.port, timeout=TIMEOUT_S, context=tls)
        else:
            server = smtplib.SMTP(address.host, address.port, timeout=TIMEOUT_S)
        with server:
            if address.password and not address.tls:
                server.starttls(context=tls)
            if address.user:
                server.login(address.user, address.password)
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        raise Refused("every recipient was refused") from error
    except smtplib.SMTPResponseException as error:
        words = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        kind = Trouble if 400 <= error.smtp_code < _OF_THE_SERVER else Refused  # noqa: PLR2004  4yz: RFC 5321 4.2.1
        raise kind(f"it answered {error.smtp_code} {words:.100}") from error
    except smtplib.SMTPException as error:
        raise Refused(str(error)) from error


def _text_of(letter: Letter) -> str:
    lines = [letter.message, "", f"event      {letter.event}"]
    lines += [f"incident   {letter.incident}"] if letter.incident else []
    lines += [f"repair     {letter.repair}"] if letter.repair else []
    lines += [f"withheld   {letter.withheld} messages before this one"] if letter.withheld else []
    see = f"repairs {letter.app} show {letter.repair}" if letter.repair else f"status {letter.app}"
    return "\n".join([*lines, "", f"See: wolverinectl {see}", ""])
