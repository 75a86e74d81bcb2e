# SPDX-License-Identifier: MIT
"""Makes the lines of the protocol (../../README.md). Loaded with the first line that there is to send."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import traceback
from time import monotonic, time

from .crash import clean, name_of, words
from .routes import route_of
from .seen import live
from .sender import hold, sender
from .tally import tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .seen import Seen

_LINE_MAX = 60 * 1024
_MESSAGE_MAX = 4096
_STACK_MAX = 16 * 1024
_LINK_STACK_MAX = 4096
_CHAIN_MAX = 8
_FIRST, _LAST = 8, 40  # frames of a deep recursion
_VALUE_MAX = 4096
_PENDING_S = 1.0
_SERVER_ERROR = 500
_GONE = frozenset(
    {"ClientConnectionResetError", "ClientDisconnect", "ClientDisconnected", "RequestAborted", "UnreadablePostError"}
)
_SERVERS = ("/socketserver.py", "/http_writer.py", "/web_protocol.py", "/base_protocol.py", "/wsgiref/handlers.py")

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded
_FOREIGN = tuple(
    {
        place.rstrip(os.sep) + os.sep
        for name in ("stdlib", "platstdlib")
        if (place := sysconfig.get_paths().get(name) or "")
    }
    | {_HERE + os.sep, os.path.dirname(os.__file__) + os.sep, "<"}  # noqa: PTH120
)


def line(told: dict[str, Any]) -> bytes:
    """One line, with who tells it."""
    return json.dumps(told | {"pid": os.getpid(), "worker": worker()}).encode("ascii") + b"\n"


def worker() -> str:
    """Which of several workers this is; empty for the only one."""
    gunicorn = sys.modules.get(f"{__package__}.servers")
    if gunicorn is not None and gunicorn.worker_name():
        return str(gunicorn.worker_name())
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return clean(str(processes.current_process().name)[:100])
    return ""


def tell(seen: Seen, error: BaseException, trace: TracebackType | None, *, held: bool) -> None:
    """Tell of an error that a request ended with."""
    if client_has_gone(error):
        return
    request = seen.describe()
    file, number = place_of(error, trace)
    report = {
        "type": "route_error",
        "path": request["path"].partition("?")[0],
        "method": seen.method,
        "statusCode": max(seen.status, _SERVER_ERROR),
        "name": name_of(type(error)),
        "message": clean(words(error)[:_MESSAGE_MAX]),
        "stack": clean(stack_of(error, trace)),
        "file": clean(file),
        "line": number,
        "timestamp": round(time() * 1000),
        "route": route_of(seen.rule, seen.path),
        "chain": [_link(cause) for cause in causes(error)],
        "request": request,
    }
    told = line(report)
    shorter: dict[str, Any]
    for shorter in ({"chain": []}, {"stack": report["stack"][-_LINK_STACK_MAX:]}, {"request": None}):
        if len(told) <= _LINE_MAX:
            break
        if "request" in shorter:
            report["request"] = request | {"body": "", "headers": {}, "truncated": True}
        else:
            report.update(shorter)
        told = line(report)
    if held:
        hold(told, error)
        tally.wake()
    else:
        sender.put(told)
        if sender.waiting():
            tally.wake()


def pending() -> dict[str, Any] | None:
    """The oldest request that has no answer yet, when it is older than a second."""
    waiting = [seen for seen in list(live) if not seen.status]
    if not waiting:
        return None
    oldest = min(waiting, key=lambda seen: seen.began)
    age = monotonic() - oldest.began
    if age <= _PENDING_S:
        return None
    return {
        "type": "pending",
        "method": oldest.method,
        "path": clean(oldest.path[:_VALUE_MAX]),
        "age_ms": round(age * 1000),
        "count": len(waiting),
    }


# ---------------------------------------------------------------- errors


def cause_of(error: BaseException) -> BaseException | None:
    """What an error came from, as Python prints it; of a group its first."""
    if error.__cause__ is not None:
        return error.__cause__
    if error.__context__ is not None and not error.__suppress_context__:
        return error.__context__
    parts = getattr(error, "exceptions", None) if type(error).__name__.endswith("ExceptionGroup") else None
    return parts[0] if isinstance(parts, tuple) and parts and isinstance(parts[0], BaseException) else None


def causes(error: BaseException) -> list[BaseException]:
    """What an error came from, the nearest first; each once, also when they go round in a circle."""
    found: list[BaseException] = [error]
    while len(found) <= _CHAIN_MAX and (cause := cause_of(found[-1])) is not None:
        if any(cause is other for other in found):
            break
        found.append(cause)
    return found[1:]


def _link(error: BaseException) -> dict[str, str]:
    return {
        "name": name_of(type(error)),
        "message": clean(words(error)[:1024]),
        "stack": clean(_one_stack(error, error.__traceback__)[-_LINK_STACK_MAX:]),
    }


def stack_of(error: BaseException, trace: TracebackType | None) -> str:
    """An error and its causes as Python prints them, the last cause first."""
    text = _one_stack(error, trace)
    below = error
    for cause in causes(error):
        how = "The above exception was the direct cause of the following exception:"
        if below.__cause__ is not cause:
            how = "During handling of the above exception, another exception occurred:"
        text = f"{_one_stack(cause, cause.__traceback__)}\n{how}\n\n{text}"
        below = cause
    return text[-_STACK_MAX:]


def _one_stack(error: BaseException, trace: TracebackType | None) -> str:
    frames = [each for each in _frames(trace) if not each[0].f_code.co_filename.startswith(_HERE)]
    if len(frames) > _FIRST + _LAST:
        frames = frames[:_FIRST] + frames[-_LAST:]
    summary = traceback.StackSummary.extract(iter(frames))
    text = words(error)[:1024]
    name = name_of(type(error))
    last = f"{name}: {text}\n" if text else f"{name}\n"
    return "".join(["Traceback (most recent call last):\n", *summary.format(), last])


def _frames(trace: TracebackType | None) -> list[tuple[Any, int]]:
    found: list[tuple[Any, int]] = []
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def place_of(error: BaseException, trace: TracebackType | None) -> tuple[str, int]:
    """The innermost frame in the application's own source, of the error or else of its causes."""
    last = ("", 0)
    for each, frames in [(error, _frames(trace)), *((cause, _frames(cause.__traceback__)) for cause in causes(error))]:
        for frame, number in reversed(frames):
            name = frame.f_code.co_filename
            if not is_foreign(name):
                return os.path.abspath(name), number  # noqa: PTH100
        if each is error and frames:
            last = (frames[-1][0].f_code.co_filename, frames[-1][1])
    return last


def is_foreign(name: str) -> bool:
    """Whether a file is no source of the application's own."""
    return name.startswith(_FOREIGN) or "/site-packages/" in name or "/dist-packages/" in name


def client_has_gone(error: BaseException) -> bool:
    """Whether an error only says that nobody is there any more to be answered."""
    if type(error).__name__ in _GONE:
        return True
    if not isinstance(error, ConnectionError):
        return False  # the application's own connections are told: what breaks them is its trouble
    frames = _frames(error.__traceback__)
    return bool(frames) and frames[-1][0].f_code.co_filename.endswith(_SERVERS)
