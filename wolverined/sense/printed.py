# SPDX-License-Identifier: MIT
"""Finds the errors in what an application printed (pure): the traces of Python and Node that mean trouble.

Not every trace does. Warnings, what was logged below the level of an error, what a client is to blame for
and what has no frame in the application's own source are none. What nobody could tell for sure, such as
the tracebacks of two workers that were printed into each other, is none either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from wolverined.model import Trace
from wolverined.traces import Located, located, template

SERVER_ERROR = 500
_STACK_LINES = 200
_HEADER = "Traceback (most recent call last)"

# What Python, pino, winston, structlog and their like write before a message, below the level of an error.
_BELOW_ERROR = re.compile(
    r"(?:^|[\s\[|(])(?:(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING)(?=[\s\]:|)]|$)|(?:debug|info|warn|warning)[\]:|])"
)
_ERROR_LEVEL = re.compile(r"(?:^|[\s\[|(])(?:(?:ERROR|FATAL|CRITICAL)(?=[\s\]:|)]|$)|(?:error|fatal)[\]:|])")
_LEVEL_PART = 160  # of a line; levels stand at its begin
_ACCESS = re.compile(r"\" ?[1-5]\d\d\b|HTTP/\d")
_IGNORED = ("Exception ignored in", "Exception ignored on ")

# What frameworks write above a trace: Flask; Django; gunicorn.
_ASKED = (
    re.compile(r"Exception on (?P<path>/\S*) \[(?P<method>[A-Z]{3,10})\]"),
    re.compile(r"Internal Server Error: (?P<path>/\S*)"),
    re.compile(r"Error handling request (?P<path>/\S*)"),
)
_STATUS = re.compile(r"^\s*['\"]?(?:status|statusCode)['\"]?: (\d{3}),?$", re.MULTILINE)

_NO_ERRORS = frozenset({"Trace", "AbortError", "CancelledError", "KeyboardInterrupt", "SystemExit", "GeneratorExit"})
_CLIENT_GONE = frozenset({"BrokenPipeError", "ConnectionResetError", "ConnectionAbortedError", "ClientDisconnect"})
_CLIENT_GONE_CODES = frozenset({"EPIPE", "ECONNRESET", "ECONNABORTED", "ERR_STREAM_PREMATURE_CLOSE"})
# What http-errors, NestJS and Werkzeug call answers of 400 to 499.
_CLIENT_ERROR_NAMES = re.findall(
    r"\w+",
    """
    BadRequest Unauthorized PaymentRequired Forbidden NotFound MethodNotAllowed NotAcceptable RequestTimeout Conflict
    Gone LengthRequired PreconditionFailed PayloadTooLarge RequestEntityTooLarge URITooLong UnsupportedMediaType
    RangeNotSatisfiable ExpectationFailed ImATeapot MisdirectedRequest UnprocessableEntity Locked FailedDependency
    TooEarly UpgradeRequired PreconditionRequired TooManyRequests RequestHeaderFieldsTooLarge UnavailableForLegalReasons
    """,
)
_CLIENT_ERRORS = frozenset(name + end for name in _CLIENT_ERROR_NAMES for end in ("", "Error", "Exception"))


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """An error that an application printed and may live on after.

    Attributes:
        trace: What it printed of it.
        status: What was answered, as far as that was printed; 500 where it was not.
        method: What was asked for, as far as that was printed.
        path: What was asked for, with its query, as far as that was printed.
    """

    trace: Trace
    status: int = SERVER_ERROR
    method: str = ""
    path: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a logger that writes JSON: the stack in it, and what it tells of the request."""

    stack: tuple[str, ...]
    status: int = SERVER_ERROR
    method: str = ""
    path: str = ""


def record(line: str) -> Record | None:
    """Read one line of a logger that writes JSON (pino, hence Fastify; winston, structlog); None: no error is in it."""
    if not line.startswith("{") or not ("stack" in line or "Traceback" in line):
        return None
    try:
        told = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    stack = _stack_of(told)
    if stack is None or not _is_error_level(told.get("level", told.get("levelname"))):
        return None
    asked, error = _part(told, "req", "request"), _part(told, "err", "error")
    statuses = (_part(told, "res", "response").get("statusCode"), error.get("statusCode"), told.get("statusCode"))
    return Record(
        stack=tuple(stack.splitlines()[:_STACK_LINES]),
        status=next((each for each in statuses if type(each) is int), SERVER_ERROR),
        method=_word(asked.get("method")),
        path=_word(asked.get("url")),
    )


def errors(lines: Sequence[str], *, app_root: str, hooks: Sequence[str] = ()) -> list[Printed]:
    """Find the errors in lines that were printed, oldest first; one that was printed twice in them is one.

    Args:
        lines: The output, without what `record` reads.
        app_root: The application's directory.
        hooks: The directories of our own reporters: what is raised there is not the application's trouble.
    """
    found = [each for each in located(lines, app_root=app_root) if _is_an_error(each.trace, hooks)]
    texts = [*lines]
    tangles = _tangles(texts)
    mixed = {number for tangle in tangles for number in tangle}
    told = [_asked(each, texts) for each in found if each.numbers[0] not in mixed and not _quiet(each, texts)]
    for tangle in tangles:
        told += _untangled(texts[tangle.start : tangle.stop], app_root=app_root, hooks=hooks)
    return _once([each for each in told if each.status >= SERVER_ERROR])


def recorded(told: Record, *, app_root: str, hooks: Sequence[str] = ()) -> list[Printed]:
    """The error in the line of a logger that writes JSON; none when it is none of the application's."""
    if told.status < SERVER_ERROR:
        return []
    traces = [each.trace for each in located(told.stack, app_root=app_root) if _is_an_error(each.trace, hooks)]
    return [Printed(trace=trace, status=told.status, method=told.method, path=told.path) for trace in traces[-1:]]


def _is_an_error(trace: Trace, hooks: Sequence[str]) -> bool:
    last = trace.errors[-1]
    name = last.type.rpartition(".")[2]
    if not last.type or name.endswith("Warning") or name in _NO_ERRORS or name in _CLIENT_ERRORS:
        return False
    if name in _CLIENT_GONE or last.code in _CLIENT_GONE_CODES or not any(frame.own for frame in trace.frames):
        return False
    raised = [trace.frames[0].path, *(error.frame.path for error in trace.errors if error.frame is not None)]
    return not any(path.startswith(tuple(hooks)) for path in raised) if hooks else True


def _quiet(found: Located, lines: Sequence[str]) -> bool:
    """Whether it was logged as something less than an error, or Python ignored it."""
    named = _HEADER if found.trace.language == "python" else found.trace.errors[-1].type
    head = lines[found.numbers[0]][:_LEVEL_PART].partition(named)[0]
    if _BELOW_ERROR.search(head) and not _ERROR_LEVEL.search(head):
        return True
    if found.above < 0:
        return False
    above = lines[found.above][:_LEVEL_PART]
    if above.startswith(_IGNORED):
        return True
    # A logger writes its line right above the trace; the line of an access log there is somebody else's.
    near = found.numbers[0] - found.above == 1
    return near and _BELOW_ERROR.search(above) is not None and not (_ERROR_LEVEL.search(above) or _ACCESS.search(above))


def _asked(found: Located, lines: Sequence[str]) -> Printed:
    """Add what the line above tells of the request, and the properties of the error of its answer."""
    status = _STATUS.search(found.trace.text)
    about: dict[str, Any] = {"status": int(status[1])} if status else {}
    above = lines[found.above] if found.above >= 0 else ""
    for pattern in _ASKED:
        if asked := pattern.search(above):
            about.update(asked.groupdict())
            break
    return Printed(trace=found.trace, **about)


# ---------------------------------------------------------------- tracebacks printed into each other


def _tangles(lines: Sequence[str]) -> list[range]:
    """The places where a traceback begins inside of another one, so that nobody can tell whose a frame is."""
    found: list[range] = []
    at = 0
    while at < len(lines):
        end = _end_of_tangle(lines, at) if lines[at].startswith(_HEADER) else at + 1
        if sum(line.startswith(_HEADER) for line in lines[at:end]) > 1:
            found.append(range(at, end))
        at = end
    return found


def _untangled(lines: Sequence[str], *, app_root: str, hooks: Sequence[str]) -> list[Printed]:
    """The error of tracebacks that were printed into each other, if they are copies: two workers with the same one."""
    found = located(_copy(lines), app_root=app_root)
    return [Printed(trace=each.trace) for each in found if _is_an_error(each.trace, hooks)]


def _end_of_tangle(lines: Sequence[str], begin: int) -> int:
    """The line after as many errors as there are headers."""
    owed, at = 0, begin
    while at < len(lines):
        if lines[at].startswith(_HEADER):
            owed += 1
        elif not lines[at].startswith(" "):
            owed -= 1
        at += 1
        if owed <= 0:
            break
    return at


def _copy(lines: Sequence[str]) -> list[str]:
    """The traceback of which these lines are copies, in any order; empty when they are not."""
    units: list[str] = []
    for line in lines:
        if line.startswith("    ") and units:
            units[-1] += "\n" + line
        else:
            units.append(line)
    counts = Counter(units)
    if len(set(counts.values())) != 1:
        return []
    return "\n".join(dict.fromkeys(units)).split("\n")


def _once(told: Sequence[Printed]) -> list[Printed]:
    """An error is printed by each layer that sees it: one that follows its like is the same one."""
    kept: list[Printed] = []
    for each in told:
        like = next((at for at, other in enumerate(kept) if same(other.trace, each.trace)), None)
        if like is None:
            kept.append(each)
        elif each.path and not kept[like].path:
            kept[like] = each  # it tells more
    return kept


def same(one: Trace, other: Trace) -> bool:
    """Whether two traces are of one error: the last error's type and message, and where the first was raised."""
    return _name(one) == _name(other) and _place(one) == _place(other)


def _name(trace: Trace) -> tuple[str, str]:
    last = trace.errors[-1]
    return last.type.rpartition(".")[2], template(last.message)


def _place(trace: Trace) -> tuple[str, int]:
    own = next((frame for frame in trace.frames if frame.own), None)
    return (own.path, own.line) if own is not None else ("", 0)


# ---------------------------------------------------------------- JSON


def _stack_of(told: dict[str, Any]) -> str | None:
    parts = (_part(told, "err", "error"), told)
    for part in parts:
        for key in ("stack", "exception", "exc_info", "stack_trace", "traceback"):
            if isinstance(value := part.get(key), str) and value:
                return value
    return None


def _part(told: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((part for name in names if isinstance(part := told.get(name), dict)), {})


def _is_error_level(level: object) -> bool:
    if isinstance(level, str):
        return level.lower() in ("error", "err", "fatal", "critical")
    return type(level) is int and level >= _PINO_ERROR


_PINO_ERROR = 50


def _word(value: object) -> str:
    return value[:4096] if isinstance(value, str) else ""
