# SPDX-License-Identifier: MIT
"""One request, from its beginning to its answer, whatever number of layers sees it.

The outermost layer begins it and ends it; those within find it in a context variable and add what they
know: the error that was caught, the framework's rule. Only when the answer turns out to be 500 or above
is the error told, once. This runs on every request: it does as little as can be and leaves the counting to `tally`.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from time import monotonic

from .tally import tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

BODY_MAX = 16 * 1024
_BAD = 400
_SERVER_ERROR = 500
_LIVE_MAX = 10_000

live: set[Seen] = set()


class Seen:
    """A request that is being answered.

    Attributes:
        method: As the client wrote it.
        path: What was asked for, without the query.
        source: What the layer that began it keeps of it, and `describe` reads it out of.
        copy: Makes what a replay needs, out of `source` and `body`.
        body: What the application has read of its body; None: nothing is looked at.
        began: When.
        rule: The framework's pattern, or what it can be told from; None: not known.
        status: What was answered; 0: nothing yet.
        error: What was caught, and where it had come through.
    """

    # Of the class, so that a request that goes well need not set them.
    body: Body | None = None
    rule: Any = None
    status = 0
    error: BaseException | None = None
    trace: TracebackType | None = None
    sure = told = over = counted = False

    def __init__(self, method: str, path: str, source: Any, copy: Callable[[Seen], dict[str, Any]]) -> None:
        self.method = method
        self.path = path
        self.source = source
        self.copy = copy
        self.began = monotonic()
        if len(live) < _LIVE_MAX:
            live.add(self)

    def describe(self) -> dict[str, Any]:
        """What a replay needs."""
        return self.copy(self)

    def note(self, error: BaseException | None, *, sure: bool = True) -> None:
        """An error was caught on the way; a sure one is the framework's word, another one a guess."""
        if isinstance(error, Exception) and (sure or not self.sure) and not self.over:
            self.error, self.trace, self.sure = error, error.__traceback__, sure

    def answer(self, status: int) -> None:
        """An answer begins; in the middle of an `except` its error is the cause."""
        self.status = status
        if status >= _SERVER_ERROR and not self.sure:
            self.note(sys.exc_info()[1], sure=False)

    def tell(self, *, held: bool = False) -> None:
        """Tell the error, if there is one and nobody did."""
        if self.told or self.error is None:
            return
        self.told = True
        from .told import tell  # noqa: PLC0415 - only where there is an error

        tell(self, self.error, self.trace, held=held)

    def finish(self, error: BaseException | None = None, *, held: bool = False) -> None:
        """The request is over; `error` is what came out of the application, and the server answers for it."""
        if self.over:
            return
        try:
            if error is not None:
                self._failed(error)
            if self.status >= _SERVER_ERROR:
                self.tell(held=held)
            self.count()
        except Exception:
            tally.lost += 1
        self.over = True
        live.discard(self)
        self.source = self.body = None
        if self.error is not None:
            self.error = self.trace = None

    def count(self) -> None:
        """Count it, if it was answered."""
        if self.status and not self.counted:
            self.counted = True
            live.discard(self)
            took_s = monotonic() - self.began
            target = ""
            if tally.sample_left > 0 and self.status < _BAD:
                tally.sample_left -= 1
                target = self.path + _query(self.source)
            tally.add((self.method, self.rule, self.path, target, self.status, took_s))

    def _failed(self, error: BaseException) -> None:
        from .told import client_has_gone  # noqa: PLC0415

        if not isinstance(error, Exception) or client_has_gone(error):
            self.error = None  # cancelled, or nobody is there any more to be answered
            return
        self.note(error)
        self.status = max(self.status, _SERVER_ERROR)


current: ContextVar[Seen | None] = ContextVar("wolverine_request", default=None)


def note(error: BaseException | None, *, sure: bool = True) -> None:
    """Note an error on the request that is being answered here, if there is one."""
    seen = current.get()
    if seen is not None:
        seen.note(error, sure=sure)


def note_current(*, sure: bool = False) -> None:
    """Note the error that is being handled here, if there is one."""
    error = sys.exc_info()[1]
    if error is not None:
        note(error, sure=sure)


def in_flight() -> list[Seen]:
    """The requests without an answer, the youngest first."""
    return sorted((seen for seen in list(live) if not seen.over), key=lambda seen: -seen.began)


def _query(source: Any) -> str:
    """The query of a request, with its question mark, as its layer keeps it."""
    if type(source) is dict:
        query = source.get("QUERY_STRING") or source.get("query_string") or ""
        text = query if isinstance(query, str) else query.decode("latin-1")
        return f"?{text}" if text else ""
    target = str(getattr(source, "raw_path", None) or getattr(source, "path", ""))
    return "".join(target.partition("?")[1:])


class Body:
    """What the application has read of a request's body.

    Args:
        length: How long it is said to be; 0 when that is not known.
    """

    __slots__ = ("cut", "data", "length", "whole")

    def __init__(self, length: int) -> None:
        self.length = length
        self.data = b""
        self.cut = False
        self.whole = False

    def see(self, data: bytes) -> bytes:
        """Keep a copy of what is read, as far as there is room."""
        if data and not self.cut:
            room = BODY_MAX - len(self.data)
            self.cut = len(data) > room
            self.data += data[:room]
        return data

    def text(self) -> tuple[str, bool]:
        """The body as text, and whether that is not all of it."""
        truncated = self.cut or (len(self.data) < self.length if self.length else not self.whole)
        try:
            return self.data.decode("utf-8"), truncated
        except UnicodeDecodeError as error:
            # A character that was cut in two goes; what is no text at all cannot be told in JSON.
            split = error.start >= len(self.data) - 3 and truncated
            return (self.data[: error.start].decode("utf-8") if split else ""), True


# ruff: noqa: D102 - a file's methods
class Tap:
    """A request's body, looked at while the application reads it; all else passes through."""

    def __init__(self, file: Any, see: Callable[[bytes], bytes]) -> None:
        self._wolverine_file = file
        self._wolverine_see = see

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wolverine_file, name)

    def __iter__(self) -> Any:
        return iter(self.readline, b"")

    def __enter__(self) -> Tap:  # noqa: PYI034 - `typing` is not loaded
        return self

    def __exit__(self, *_told: object) -> None:
        self._wolverine_file.close()

    def read(self, *size: Any) -> bytes:
        return self._wolverine_see(self._wolverine_file.read(*size))

    def read1(self, *size: Any) -> bytes:
        return self._wolverine_see(self._wolverine_file.read1(*size))

    def readline(self, *size: Any) -> bytes:
        return self._wolverine_see(self._wolverine_file.readline(*size))

    def readlines(self, *hint: Any) -> list[bytes]:
        lines: list[bytes] = self._wolverine_file.readlines(*hint)
        self._wolverine_see(b"".join(lines))
        return lines

    def readinto(self, buffer: Any) -> int:
        count: int = self._wolverine_file.readinto(buffer)
        self._wolverine_see(bytes(memoryview(buffer)[: count or 0]))
        return count
