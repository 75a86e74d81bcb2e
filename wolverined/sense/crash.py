# SPDX-License-Identifier: MIT
"""What a dying process told of itself, out of the line that it wrote: hostile data, bounded and redacted.

Redaction costs more than anything else that is done to a report, so a line is kept as it came and read
here only when the exit that it may explain is examined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from wolverined.model import Request
from wolverined.redact import clean

MAX_REQUESTS = 16
_MAX_MESSAGE = 4 << 10
_MAX_STACK = 32 << 10


class CrashLine(msgspec.Struct, frozen=True, kw_only=True):
    """A crash report as it came.

    Attributes:
        line: One JSON object.
        peer_pid: Who wrote it, as the kernel says (0 when it lives in another PID namespace).
        generation: The generation that ran when it came.
        received_at: Our clock, in seconds.
    """

    line: bytes
    peer_pid: int = 0
    generation: int = 0
    received_at: float = 0.0


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a dying process told of itself; redacted.

    Attributes:
        name: The error's type.
        message: Its message.
        stack: Its stack as the runtime gives it, causes below.
        requests: The requests in flight; the one that the error came out of, or the youngest, first.
        pid: The sender's own word, for attribution only.
        peer_pid: What the kernel says (0 when it lives in another PID namespace).
        generation: The generation that ran when the report came.
        timestamp: The sender's clock, in seconds.
        received_at: Our clock, in seconds.
        handled: The application has a handler of its own for uncaught errors, so it may live on.
        thread: The thread that died, when it was not the main one.
    """

    name: str
    message: str = ""
    stack: str = ""
    requests: tuple[Request, ...] = ()
    pid: int = 0
    peer_pid: int = 0
    generation: int = 0
    timestamp: float = 0.0
    received_at: float = 0.0
    handled: bool = False
    thread: str = ""


def read_crash(
    told: CrashLine, *, redact: Callable[[Request], Request], redact_text: Callable[[str], str] = clean
) -> CrashReport | None:
    """Read one crash report; None when it is none.

    Args:
        told: The report as it came.
        redact: Takes secrets out of a request.
        redact_text: Takes secrets out of a message or a stack.
    """
    try:
        report = msgspec.json.decode(told.line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    each = report.get("requests")
    requests = [request for one in (each if isinstance(each, list) else []) if (request := _request(one))]
    return CrashReport(
        name=_text(report, "name", 200),
        message=redact_text(_text(report, "message", _MAX_MESSAGE)),
        stack=redact_text(_text(report, "stack", _MAX_STACK)),
        requests=tuple(redact(request) for request in requests[:MAX_REQUESTS]),
        pid=_number(report, "pid"),
        peer_pid=told.peer_pid,
        generation=told.generation,
        timestamp=_number(report, "timestamp") / 1000,
        received_at=told.received_at,
        handled=report.get("handled") is True,
        thread=_text(report, "thread", 200),
    )


def _text(report: dict[str, Any], key: str, most: int) -> str:
    value = report.get(key)
    return clean(value)[:most] if isinstance(value, str) else ""


def _number(report: dict[str, Any], key: str) -> int:
    value = report.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        return 0
    return int(value)


def _request(told: Any) -> Request | None:
    """Read one request of a report; None when it is none."""
    if not isinstance(told, dict):
        return None
    method, path, body, headers = (told.get(key) for key in ("method", "path", "body", "headers"))
    if not isinstance(method, str) or not isinstance(path, str) or not method or not path.startswith("/"):
        return None
    named = headers.items() if isinstance(headers, dict) else ()
    return Request(
        method=method,
        path=path,
        headers={name: value for name, value in named if isinstance(value, str)},
        body=body if isinstance(body, str) else "",
        truncated=told.get("truncated") is True,
    )
