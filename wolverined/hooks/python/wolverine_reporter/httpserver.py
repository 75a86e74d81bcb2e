# SPDX-License-Identifier: MIT
# ruff: noqa: SIM105 - contextlib is not loaded
"""Requests of `http.server`, and of what stands on it: wsgiref, the development servers of Flask and Django.

What is wrapped returns before the application runs, or is called by it: no frame of ours stands between
an error and who catches it. An error that no one answered is seen when the connection is closed over it.
"""

from __future__ import annotations

import sys

from . import crash, seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_FINAL = 200
_SERVER_ERROR = 500
_handler: list[type] = []


class Entry:
    """One request whose head has been read; its body grows while the application reads it."""

    def __init__(self, handler: Any) -> None:
        self.method: str = handler.command
        self.path: str = handler.path
        self.headers: Any = handler.headers
        length = self.headers.get("Content-Length", "").strip()
        self.body = seen.Body(int(length) if length.isdecimal() and length.isascii() else 0)
        self.chunked: bool = "Transfer-Encoding" in self.headers
        self.body.whole = not self.chunked
        self.seen = seen.Seen(self.method, self.path.partition("?")[0], self, lambda mine: mine.source.describe())

    def describe(self) -> dict[str, Any]:
        """What a replay needs."""
        text, truncated = self.body.text()
        return crash.request_copy(self.method, self.path, list(self.headers.items()), (text, truncated or self.chunked))


def patch(module: Any) -> None:
    """Wrap what is called at the head of a request, at its answer and at the end of its connection."""
    handler = module.BaseHTTPRequestHandler
    parse, respond, close = handler.parse_request, handler.send_response_only, handler.finish

    def parse_request(self: Any) -> Any:
        self._wolverine_entry = None
        result = parse(self)
        if result:
            try:
                _begin(self)
            except Exception:  # noqa: S110 - the request goes on without us
                pass
        return result

    def send_response_only(self: Any, code: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            _answer(self, int(code))
        except Exception:  # noqa: S110 - the answer goes on without us
            pass
        return respond(self, code, *args, **kwargs)

    def finish(self: Any) -> Any:
        try:
            _end(self, sys.exc_info()[1])
        except Exception:  # noqa: S110 - the connection ends without us
            pass
        return close(self)

    handler.parse_request, handler.send_response_only = parse_request, send_response_only
    handler.finish = finish
    _handler[:] = [handler]


def _begin(handler: Any) -> None:
    entry = Entry(handler)
    if entry.body.length or entry.chunked:
        # On a connection that is kept open the last request's tap is still there.
        handler.rfile = seen.Tap(getattr(handler.rfile, "_wolverine_file", handler.rfile), entry.body.see)
    handler._wolverine_entry = entry  # noqa: SLF001 - our own mark on the application's object
    seen.current.set(entry.seen)


def _answer(handler: Any, status: int) -> None:
    """The answer's head is as far as a request is followed; what goes wrong after it is seen at the end."""
    entry = handler.__dict__.get("_wolverine_entry")
    if entry is None or status < _FINAL or entry.seen.status:
        return
    entry.seen.answer(status)
    if status >= _SERVER_ERROR:
        entry.seen.tell()
    entry.seen.count()


def _end(handler: Any, error: BaseException | None) -> None:
    entry = handler.__dict__.get("_wolverine_entry")
    if entry is not None:
        # It may be on its way to end the process: then it is told as the crash that it is.
        entry.seen.finish(error, held=True)
    seen.current.set(None)


# ---------------------------------------------------------------- at the end of the process


def told_by(error: BaseException | None) -> list[Entry]:
    """The requests out of which an error came first, then those that other threads are at."""
    stacks = [*_tracebacks(error), *map(_stack, sys._current_frames().values())]  # noqa: SLF001 - documented
    found: list[Entry] = []
    for stack in stacks:
        entry = _at_work(stack)
        if entry is not None and not any(entry is other for other in found):
            found.append(entry)
    return found


def _at_work(stack: list[FrameType]) -> Entry | None:
    """A stack that goes through a handler is at its request, unless it waits there for the next one."""
    inner = "readinto"
    for frame in stack:
        entry = _entry(frame)
        name = frame.f_code.co_name
        if entry is not None:
            return None if inner == "readinto" and name in ("handle", "handle_one_request") else entry
        inner = name
    return None


def _entry(frame: FrameType) -> Entry | None:
    own = frame.f_locals.get("self")
    # By its type: asking an object of the application for an attribute could run its code.
    if not _handler or not issubclass(type(own), _handler[0]):
        return None
    entry: Entry | None = own.__dict__.get("_wolverine_entry")
    return entry


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a running thread, innermost first."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _tracebacks(error: BaseException | None) -> list[list[FrameType]]:
    """The frames that an error and its causes came through, innermost first."""
    found: list[list[FrameType]] = []
    known: set[int] = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        frames: list[FrameType] = []
        trace = error.__traceback__
        while trace is not None:
            frames.insert(0, trace.tb_frame)
            trace = trace.tb_next
        found.append(frames)
        error = error.__cause__ or error.__context__
    return found
