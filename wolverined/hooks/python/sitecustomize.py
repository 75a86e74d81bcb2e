# SPDX-License-Identifier: MIT
# ruff: noqa: INP001, PYI034, SIM105 - Python looks for this very name in a directory; typing and contextlib are not loaded
"""Loaded into a supervised Python application (PYTHONPATH). When an error ends it, the supervisor is told.

Three promises to the application: nothing here raises into it, nothing here changes a request or a
response, and a `sitecustomize` of its own still runs. Python 3.9 and newer, nothing but the standard
library, and of that as little as can be at the start. The protocol stands in ../README.md.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` itself is not loaded: it would cost every start of Python some milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

_BODY_MAX = 16 * 1024
_LINE_MAX = 60 * 1024  # the other end takes 64 KiB
_TOLD_MAX = 8
_SEND_S = 0.5


# ---------------------------------------------------------------- requests in flight


class _Entry:
    """One request whose head has been read; its body grows while the application reads it."""

    def __init__(self, handler: Any) -> None:
        self.method: str = handler.command
        self.path: str = handler.path
        self.headers: Any = handler.headers
        length = self.headers.get("Content-Length", "").strip()
        self.length: int = int(length) if length.isdecimal() and length.isascii() else 0
        self.chunked: bool = "Transfer-Encoding" in self.headers
        self.body = b""
        self.cut = False

    def see(self, data: bytes) -> bytes:
        if data:
            room = _BODY_MAX - len(self.body)
            self.cut = self.cut or len(data) > room
            self.body += data[:room]
        return data

    def describe(self) -> dict[str, Any]:
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        truncated = self.cut or self.chunked or len(self.body) < self.length
        try:
            body = self.body.decode("utf-8")
        except UnicodeDecodeError as error:
            # A character that was cut in two goes; what is no text at all cannot be told in JSON.
            split = error.start >= len(self.body) - 3 and truncated
            body, truncated = (self.body[: error.start].decode("utf-8") if split else ""), True
        return {"method": self.method, "path": self.path, "headers": headers, "body": body, "truncated": truncated}


class _Tap:
    """A request's body, looked at while the application reads it; all else passes through."""

    def __init__(self, file: Any, entry: _Entry) -> None:
        self._wolverine_file = file
        self._wolverine_entry = entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wolverine_file, name)

    def __iter__(self) -> Any:
        return iter(self.readline, b"")

    def __enter__(self) -> _Tap:
        return self

    def __exit__(self, *_told: object) -> None:
        self._wolverine_file.close()

    def read(self, *size: Any) -> bytes:
        return self._wolverine_entry.see(self._wolverine_file.read(*size))

    def read1(self, *size: Any) -> bytes:
        return self._wolverine_entry.see(self._wolverine_file.read1(*size))

    def readline(self, *size: Any) -> bytes:
        return self._wolverine_entry.see(self._wolverine_file.readline(*size))

    def readlines(self, *hint: Any) -> list[bytes]:
        lines: list[bytes] = self._wolverine_file.readlines(*hint)
        self._wolverine_entry.see(b"".join(lines))
        return lines

    def readinto(self, buffer: Any) -> int:
        count: int = self._wolverine_file.readinto(buffer)
        self._wolverine_entry.see(bytes(memoryview(buffer)[: count or 0]))
        return count


class _Requests:
    """Marks each request's handler, and at the end finds the handlers that are at work.

    Only the reading of a request's head is wrapped: no frame of ours stands in the application's
    tracebacks, and nothing has to be forgotten when a request is over.
    """

    def __init__(self) -> None:
        self._handler: type | None = None

    def patch(self, module: Any) -> None:
        """Wrap `parse_request` of `http.server`, on which wsgiref and most development servers stand."""
        handler = module.BaseHTTPRequestHandler
        original = handler.parse_request

        def parse_request(self: Any) -> Any:
            self._wolverine_entry = None
            result = original(self)
            if result:
                try:
                    _mark(self)
                except Exception:  # noqa: S110 - the request goes on without us
                    pass
            return result

        handler.parse_request = parse_request
        self._handler = handler

    def told_by(self, error: BaseException | None) -> list[_Entry]:
        """The requests out of which an error came first, then those that other threads are at."""
        if self._handler is None:
            return []
        stacks = [*_tracebacks(error), *map(_stack, sys._current_frames().values())]  # noqa: SLF001 - documented
        found: list[_Entry] = []
        for stack in stacks:
            entry = self._at_work(stack)
            if entry is not None and not any(entry is other for other in found):
                found.append(entry)
        return found

    def _at_work(self, stack: list[FrameType]) -> _Entry | None:
        """A stack that goes through a handler is at its request, unless it waits there for the next one."""
        inner = "readinto"
        for frame in stack:
            entry = self._entry(frame)
            name = frame.f_code.co_name
            if entry is not None:
                return None if inner == "readinto" and name in ("handle", "handle_one_request") else entry
            inner = name
        return None

    def _entry(self, frame: FrameType) -> _Entry | None:
        own = frame.f_locals.get("self")
        # By its type: asking an object of the application for an attribute could run its code.
        if self._handler is None or not issubclass(type(own), self._handler):
            return None
        entry: _Entry | None = own.__dict__.get("_wolverine_entry")
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
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames: list[FrameType] = []
        trace = error.__traceback__
        while trace is not None:
            frames.insert(0, trace.tb_frame)
            trace = trace.tb_next
        found.append(frames)
        error = error.__cause__ or error.__context__
    return found


def _mark(handler: Any) -> None:
    entry = _Entry(handler)
    if entry.length or entry.chunked:
        # On a connection that is kept open the last request's tap is still there.
        handler.rfile = _Tap(getattr(handler.rfile, "_wolverine_file", handler.rfile), entry)
    handler._wolverine_entry = entry  # noqa: SLF001 - our own mark on the application's object


class _Finder:
    """Patches `http.server` right after it was loaded, whenever the application imports it."""

    def __init__(self, patch: Callable[[Any], None]) -> None:
        self._patch = patch
        self._done = False

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        if name != "http.server" or self._done:
            return None
        import importlib.util  # noqa: PLC0415 - only in applications that serve HTTP

        self._done = True  # the search below comes back here
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self._arm(spec.loader)
        return spec

    def _arm(self, loader: Any) -> None:
        load = loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            try:
                self._patch(module)
            except Exception:  # noqa: S110 - a Python that we do not know: no requests are told
                pass

        try:
            loader.exec_module = exec_module
        except AttributeError:
            pass  # a loader that cannot be changed (zipped, frozen): no requests are told


# ---------------------------------------------------------------- the end


class _Reporter:
    """Tells of an error that ends the process, or one of its threads."""

    def __init__(self, socket_path: str, requests: _Requests) -> None:
        self._path = socket_path
        self._requests = requests

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
                self._send(self._line(kind, error, trace, thread))
        except BaseException:  # noqa: S110 - the application dies of its own error, not of ours
            pass

    def _line(
        self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, thread: str
    ) -> bytes:
        import json  # noqa: PLC0415 - only at the end
        import time  # noqa: PLC0415
        import traceback  # noqa: PLC0415

        place = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
        requests: list[dict[str, Any]] = []
        told = {
            "type": "crash",
            "name": place + kind.__qualname__,
            "message": _words(error)[:4096],
            "stack": "".join(traceback.format_exception(kind, error, trace))[-16384:],
            "requests": requests,
            "pid": os.getpid(),
            "timestamp": int(time.time() * 1000),
            "handled": bool(thread),  # Python goes on when a thread dies
            "thread": thread,
        }
        line = json.dumps(told)
        for entry in self._requests.told_by(error)[:_TOLD_MAX]:
            requests.append(entry.describe())
            longer = json.dumps(told)
            if len(longer) > _LINE_MAX:
                requests[-1].update(body="", truncated=True)
                longer = json.dumps(told)
            if len(longer) > _LINE_MAX:
                break
            line = longer
        return line.encode("ascii") + b"\n"

    def _send(self, line: bytes) -> None:
        import socket  # noqa: PLC0415 - only at the end

        # Connected only now: it takes no descriptor for a lifetime, and a child of fork() makes its own.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SEND_S)
            connection.connect(self._path)
            connection.sendall(line)


def _words(error: BaseException | None) -> str:
    try:
        return str(error)
    except Exception:
        return ""  # the application's `__str__` is broken; the stack is told all the same


# ---------------------------------------------------------------- the start


def _install(socket_path: str) -> None:
    import threading  # noqa: PLC0415 - not before it is known that there is somebody to report to

    requests = _Requests()
    reporter = _Reporter(socket_path, requests)
    sys.meta_path.insert(0, _Finder(requests.patch))
    before, before_thread = sys.excepthook, threading.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        reporter.tell(kind, error, trace)
        before(kind, error, trace)

    def thread_hook(told: Any) -> None:
        name = told.thread.name if told.thread is not None else "unknown"
        reporter.tell(told.exc_type, told.exc_value, told.exc_traceback, thread=name)
        before_thread(told)

    sys.excepthook = excepthook
    threading.excepthook = thread_hook


def _run_next() -> None:
    """Run the `sitecustomize` that Python would have found without this directory in its path."""
    import importlib.machinery  # noqa: PLC0415 - Python has it loaded at this point
    import importlib.util  # noqa: PLC0415

    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded yet
    others = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("WOLVERINE_REPORT_SOCKET"):
    try:
        _install(os.environ["WOLVERINE_REPORT_SOCKET"])
    except Exception:  # noqa: S110 - a reporter that cannot start must not keep the application from starting
        pass

# Not guarded: an error in it is the application's own, and Python tells of it as it always does.
_run_next()
