# SPDX-License-Identifier: MIT
"""Tells of an error that ends the process, or one of its threads: at once, synchronously, before it is over."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_LINE_MAX = 60 * 1024  # the other end takes 64 KiB
_STACK_MAX = 16 * 1024
_TOLD_MAX = 8
_SEND_S = 0.5
_HEADERS_MAX = 64
_VALUE_MAX = 4096
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})


class Crashes:
    """Writes `crash` lines.

    Args:
        socket_path: Where the supervisor listens.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path

    def tell(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        thread: str = "",
    ) -> None:
        """Write one line to the supervisor; never raises."""
        try:
            if kind is not None and issubclass(kind, Exception):  # Ctrl-C and sys.exit are no crashes
                self.send(crash_line(kind, error, trace, thread, _in_flight(error)))
                if not thread:
                    _forget_held(error)
        except BaseException:  # noqa: S110 - the application dies of its own error, not of ours
            pass

    def send(self, line: bytes) -> None:
        """Connect, write, hang up; waits half a second at most."""
        import _socket  # noqa: PLC0415 - only at the end; what gevent puts in place of `socket` needs its loop

        # Connected only now: it takes no descriptor for a lifetime, and a child of fork() makes its own.
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.settimeout(_SEND_S)
            connection.connect(self._path)
            connection.sendall(line)
        finally:
            connection.close()


def crash_line(
    kind: type[BaseException],
    error: BaseException | None,
    trace: TracebackType | None,
    thread: str,
    in_flight: list[Any],
) -> bytes:
    """One report, with as many of the requests in flight as go into a line."""
    import json  # noqa: PLC0415 - only at the end
    import time  # noqa: PLC0415
    import traceback  # noqa: PLC0415

    requests: list[dict[str, Any]] = []
    told = {
        "type": "crash",
        "name": name_of(kind),
        "message": clean(words(error)[:4096]),
        "stack": clean("".join(traceback.format_exception(kind, error, trace))[-_STACK_MAX:]),
        "requests": requests,
        "pid": os.getpid(),
        "timestamp": int(time.time() * 1000),
        "handled": bool(thread),  # Python goes on when a thread dies
        "thread": thread,
    }
    line = json.dumps(told)
    for entry in in_flight[:_TOLD_MAX]:
        requests.append(entry.describe())
        longer = json.dumps(told)
        if len(longer) > _LINE_MAX:
            requests[-1].update(body="", truncated=True)
            longer = json.dumps(told)
        if len(longer) > _LINE_MAX:
            break
        line = longer
    return line.encode("ascii") + b"\n"


def name_of(kind: type[BaseException]) -> str:
    """An error's type as Python prints it."""
    place = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return place + kind.__qualname__


def words(error: BaseException | None) -> str:
    """An error's message; empty when the application's `__str__` is broken: the stack is told all the same."""
    try:
        return str(error)
    except Exception:
        return ""


def clean(text: str) -> str:
    """A text that JSON can carry: halves of characters (file names that are no UTF-8) are none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def request_copy(method: str, target: str, headers: list[tuple[str, str]], body: tuple[str, bool]) -> dict[str, Any]:
    """A request as a replay needs it, without what must not leave the process."""
    named: dict[str, str] = {}
    for name, value in headers[:_HEADERS_MAX]:
        key = name.lower()
        value = "" if key in _SECRET else clean(value[:_VALUE_MAX])  # noqa: PLW2901 - what is kept of it
        named[key] = f"{named[key]}, {value}" if named.get(key) and value else named.get(key) or value
    text, truncated = body
    return {
        "method": method,
        "path": clean(target[:_VALUE_MAX]),
        "query": clean(target.partition("?")[2][:_VALUE_MAX]),
        "headers": named,
        "body": clean(text),
        "truncated": truncated,
    }


def _in_flight(error: BaseException | None) -> list[Any]:
    """The requests at work, the one that the error came out of first."""
    found: list[Any] = []
    served = sys.modules.get(f"{__package__}.httpserver")  # not loaded: no such server here
    if served is not None:
        found += served.told_by(error)
    others = sys.modules.get(f"{__package__}.seen")
    if others is not None:
        found += [seen for seen in others.in_flight() if not any(seen.source is other for other in found)]
    return found


def _forget_held(error: BaseException | None) -> None:
    """The same error is not told twice, as a request's and as the end of the process."""
    sender = sys.modules.get(f"{__package__}.sender")
    if sender is not None:
        sender.forget(error)
