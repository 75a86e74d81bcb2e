# SPDX-License-Identifier: MIT
"""Reads what a living application tells of itself: errors it answered with a 5xx, its requests, its loop.

Every line is hostile: wrong types make it no report at all, sizes are cut, controls are taken out. Secrets
are taken out by whoever keeps any of it. Crash reports are read by `crash`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from wolverined.model import ErrorLink, IncidentKind, Request, Trace
from wolverined.redact import clean
from wolverined.traces import fingerprint, parse
from wolverined.traces.owner import Owner

SERVER_ERROR = 500
MAX_STACK = 8 << 10
MAX_CHAIN = 4
MAX_ROUTES = 200
MAX_SAMPLES = 20
_MAX_MESSAGE = 4 << 10
_MAX_PATH = 4 << 10
_MAX_NAME = 200
_MAX_HEADERS = 100

_METHOD = re.compile(r"[A-Z]{1,20}")
_STATUSES = range(100, 600)
_NUMBER = re.compile(r"\d+")
_ID = re.compile(r"[0-9a-fA-F]{24}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32,64}")

Told = TypeVar("Told")
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Ms = Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class Cause(msgspec.Struct, frozen=True):
    """One error of a chain."""

    name: str | None = None
    message: str | None = None
    stack: str | None = None


class _Asked(msgspec.Struct, frozen=True):
    """A request as it stands in a report."""

    method: str | None = None
    path: str | None = None
    query: str | dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    body: Any = None
    truncated: bool | None = None


class _RouteError(msgspec.Struct, frozen=True):
    path: str
    statusCode: int = SERVER_ERROR  # noqa: N815  the protocol's word
    method: str | None = None
    message: str | None = None
    name: str | None = None
    stack: str | None = None
    file: str | None = None
    line: int | None = None
    timestamp: float | None = None
    route: str | None = None
    chain: list[Cause] | None = None
    request: _Asked | None = None
    pid: int | None = None
    worker: int | str | None = None


class RouteError(msgspec.Struct, frozen=True, kw_only=True):
    """One error that the application caught; bounded, not redacted.

    Attributes:
        route: Method and pattern: "GET /items/:id".
        status: What it answered.
        request: As it came, for a replay.
        chain: The error and what caused it, as far as it was told; never empty.
        file: Where the sender says that it happened; empty when it does not.
        line: The line of it, 0 when not told.
        told: Whether the sender gave the request, and not its method and path only.
        pid: The sender's own word.
        worker: Which of its workers it was.
    """

    route: str
    status: int
    request: Request
    chain: tuple[Cause, ...]
    file: str = ""
    line: int = 0
    told: bool = False
    pid: int = 0
    worker: str = ""


class RouteCount(msgspec.Struct, frozen=True):
    """One route in one second; `ms` is the time of all its requests together."""

    count: Whole = 0
    errors: Whole = 0
    ms: Ms = 0.0


class Sample(msgspec.Struct, frozen=True):
    """One request that was answered."""

    method: str
    path: str
    status: int


class Requests(msgspec.Struct, frozen=True):
    """The requests of about a second.

    Attributes:
        count: How many were answered.
        errors: How many of them with a 5xx.
        histogram: Upper bound in ms -> how many took at most that long, and longer than the bound before.
        routes: "GET /items/:id" -> its part.
        sample: Requests that were answered well.
        dropped: Reports that the sender could not send.
    """

    count: Whole
    errors: Whole = 0
    histogram: dict[str, Whole] = {}
    routes: dict[str, RouteCount] = {}
    sample: list[Sample] = []
    dropped: Whole = 0
    pid: int | None = None
    worker: int | str | None = None


class Pending(msgspec.Struct, frozen=True):
    """The oldest request in flight, and how many there are."""

    age_ms: Ms
    method: str = ""
    path: str = ""
    count: Whole = 1
    pid: int | None = None


class Loop(msgspec.Struct, frozen=True):
    """A heartbeat of the event loop: how late it came."""

    lag_ms: Ms
    pid: int | None = None


def read_route_error(line: bytes) -> RouteError | None:
    """Read one `route_error`; None when it is none. One below 500 is one, too: whoever counts looks at `status`."""
    told = _decode(line, _RouteError)
    if told is None or not told.path.startswith("/") or told.statusCode not in _STATUSES:
        return None
    method = (told.method or "GET").upper()
    if not _METHOD.fullmatch(method):
        return None
    request = _request(told.request, method=method, path=told.path)
    return RouteError(
        route=_route(told.route, request),
        status=told.statusCode,
        request=request,
        chain=_chain(told),
        file=clean(told.file or "")[:_MAX_PATH],
        line=told.line if told.line is not None and 0 < told.line < 2**31 else 0,
        told=told.request is not None,
        pid=_pid(told.pid),
        worker=_short(told.worker),
    )


def read_requests(line: bytes) -> Requests | None:
    """Read one `requests`; None when it is none."""
    told = _decode(line, Requests)
    if told is None or told.errors > told.count:
        return None
    routes = {clean(route)[:_MAX_NAME]: part for route, part in list(told.routes.items())[:MAX_ROUTES]}
    sample = [one for one in told.sample[:MAX_SAMPLES] if _good(one)]
    histogram = dict(list(told.histogram.items())[:MAX_ROUTES])
    return msgspec.structs.replace(told, routes=routes, sample=sample, histogram=histogram)


def read_pending(line: bytes) -> Pending | None:
    """Read one `pending`; None when it is none."""
    told = _decode(line, Pending)
    if told is None:
        return None
    return msgspec.structs.replace(told, method=clean(told.method)[:20], path=clean(told.path)[:_MAX_PATH])


def read_loop(line: bytes) -> Loop | None:
    """Read one `loop`; None when it is none."""
    return _decode(line, Loop)


def normalised(path: str) -> str:
    """The path of a request as a route: without its query, and ":id" for numbers, UUIDs and long hexadecimals."""
    segments = path.partition("?")[0].partition("#")[0].split("/")
    return "/".join(":id" if _NUMBER.fullmatch(part) or _ID.fullmatch(part) else part for part in segments)


def trace_of(error: RouteError, *, app_root: str) -> Trace | None:
    """The stack of a caught error and of its causes as one trace, the root cause first; None: nothing was told."""
    told = [trace for cause in error.chain if (trace := _parsed(cause, app_root)) is not None]
    if not told:
        return _without_stack(error, app_root)
    top = told[0]
    if len(top.errors) > 1:  # a runtime that prints the causes itself, such as Python's
        return top
    deepest_first = told[::-1]
    return msgspec.structs.replace(
        top,
        errors=tuple(link for trace in deepest_first for link in trace.errors),
        frames=tuple(frame for trace in deepest_first for frame in trace.frames),
        partial=any(trace.partial for trace in told),
    )


def fingerprint_of(error: RouteError, trace: Trace | None) -> str:
    """Name the trouble: by its code, so that one fault is one incident on however many routes; else by its route."""
    if trace is not None and any(frame.own for frame in trace.frames):
        return fingerprint(IncidentKind.HTTP5XX, trace, None)
    return fingerprint(f"{IncidentKind.HTTP5XX} {error.route}", trace, None)


def redacted(
    error: RouteError, *, redact: Callable[[Request], Request], redact_text: Callable[[str], str]
) -> RouteError:
    """The same without secrets, to be kept.

    Args:
        error: As it was told.
        redact: Takes secrets out of a request.
        redact_text: Takes secrets out of a message or a stack.
    """
    chain = (
        Cause(redact_text(one.name or ""), redact_text(one.message or ""), redact_text(one.stack or ""))
        for one in error.chain
    )
    return msgspec.structs.replace(
        error, route=redact_text(error.route), request=redact(error.request), chain=tuple(chain)
    )


def _decode(line: bytes, kind: type[Told]) -> Told | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None  # the application may write what it likes


def _route(told: str | None, request: Request) -> str:
    """Method and pattern; a sender may give the pattern with its method or without."""
    pattern = clean(told or "").replace("\n", " ").strip()[:_MAX_NAME]
    if pattern.startswith(f"{request.method} "):
        return pattern
    return f"{request.method} {pattern or clean(normalised(request.path))[:_MAX_NAME]}"


def _request(told: _Asked | None, *, method: str, path: str) -> Request:
    """The request to replay: with its real path, whatever the route is called."""
    if told is None:
        return Request(method=method, path=path[:_MAX_PATH], truncated=len(path) > _MAX_PATH)
    asked = (told.method or method).upper()
    real = told.path if told.path is not None and told.path.startswith("/") else path
    real = _with_query(real, told.query)
    headers = {
        name[:_MAX_NAME]: value
        for name, each in list((told.headers or {}).items())[:_MAX_HEADERS]
        if (value := _header(each)) is not None
    }
    return Request(
        method=asked if _METHOD.fullmatch(asked) else method,
        path=real[:_MAX_PATH],
        headers=headers,
        body=_body(told.body),
        truncated=told.truncated is True or len(real) > _MAX_PATH,
    )


def _with_query(path: str, query: str | dict[str, Any] | None) -> str:
    if not query or "?" in path:
        return path
    if isinstance(query, str):
        return f"{path}?{query.removeprefix('?')}"
    from urllib.parse import urlencode  # noqa: PLC0415 - few senders give a query in parts

    plain = {name: value for name, value in query.items() if isinstance(value, str | int | float | list)}
    return f"{path}?{urlencode(plain, doseq=True)}" if plain else path


def _header(value: Any) -> str | None:
    if isinstance(value, list):
        return ", ".join(one for one in value if isinstance(one, str))
    return value if isinstance(value, str) else None


def _body(body: Any) -> str:
    if body is None or isinstance(body, str):
        return body or ""
    return msgspec.json.encode(body).decode()


def _chain(told: _RouteError) -> tuple[Cause, ...]:
    """The error first, then its causes; a sender may count the error itself among these or not."""
    top = Cause(told.name, told.message, told.stack)
    chain = [*(told.chain or [])[:MAX_CHAIN]]
    if chain and chain[0].message in (top.message, None) and (top.name is None or chain[0].name in (top.name, None)):
        first = chain.pop(0)
        top = Cause(top.name or first.name, top.message or first.message, top.stack or first.stack)
    return tuple(_bounded(one) for one in (top, *chain[: MAX_CHAIN - 1]))


def _bounded(cause: Cause) -> Cause:
    return Cause(
        clean(cause.name or "").replace("\n", " ")[:_MAX_NAME],
        clean(cause.message or "")[:_MAX_MESSAGE],
        clean(cause.stack or "")[:MAX_STACK],
    )


def _parsed(cause: Cause, app_root: str) -> Trace | None:
    found = parse(cause.stack or "", app_root=app_root) if cause.stack else []
    return found[-1] if found and found[-1].language != "generic" else None


def _without_stack(error: RouteError, app_root: str) -> Trace | None:
    """What can be said when no stack was told that we know well: type, message, and the places that it names."""
    top = error.chain[0]
    links = tuple(ErrorLink(one.name or "Error", (one.message or "").partition("\n")[0]) for one in error.chain)
    found = parse(top.stack, app_root=app_root) if top.stack else []
    frames = found[-1].frames if found else ()
    if error.file and not any(frame.own for frame in frames):
        frames = (Owner(app_root).frame(error.file, error.line), *frames)
    if not (top.message or top.name or frames):
        return None
    return Trace(language="generic", errors=links[::-1], frames=frames, partial=True, text=top.stack or "")


def _good(sample: Sample) -> bool:
    fits = sample.path.startswith("/") and len(sample.path) <= _MAX_PATH
    return fits and _METHOD.fullmatch(sample.method) is not None and sample.status in range(100, SERVER_ERROR)


def _pid(told: int | None) -> int:
    return told if told is not None and 0 < told < 2**31 else 0


def _short(told: int | str | None) -> str:
    return "" if told is None else clean(str(told))[:_MAX_NAME]
