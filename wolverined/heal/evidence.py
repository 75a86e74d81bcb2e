# SPDX-License-Identifier: MIT
"""Gathers the evidence for one incident: bounded, redacted, with the traces and the request that it holds.

Nothing reaches a remedy or a model that did not pass here. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from wolverined.model import ErrorLink, Evidence, Incident, Request, Trace
from wolverined.redact import Redactor, clean
from wolverined.traces import parse

MAX_LINES = 200
MAX_CHARS = 64 << 10
MAX_REPORT = 16 << 10
_MAX_TRACES = 8

_METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS"
_ACCESS = re.compile(
    rf"(?:^|[\s\"'(>\[])(?P<method>{_METHODS})\s{{1,4}}(?:https?://[^\s/\"'<>]{{1,255}})?(?P<path>/[^\s\"'<>]{{0,2048}})"
    r"(?:\s{1,4}HTTP/\d(?:\.\d)?)?[\"']?(?:\s{1,4}(?P<status>[1-5]\d\d)(?![\w.]))?"
)
_PROBES = frozenset(
    {"/health", "/healthz", "/livez", "/live", "/ready", "/readyz", "/ping", "/status", "/metrics", "/favicon.ico"}
)
_LOWEST_FAILURE = 500


def gather(incident: Incident, tail: Sequence[str], *, redactor: Redactor, app_root: str, report: str = "") -> Evidence:
    """Make the bundle for one incident.

    Args:
        incident: The incident; its own texts are redacted once more.
        tail: The application's newest output, oldest line first.
        redactor: Takes secrets out.
        app_root: The application's directory.
        report: The operator's words.

    Returns:
        At most 200 lines and 64 KiB of output, the newest eight traces, the request that was told by a
        hook or, failing that, the last one that the output names.
    """
    lines = redactor.lines(_newest(tail))
    traces = parse(lines, app_root=app_root)
    request = incident.request or last_request(lines)
    return Evidence(
        incident=_redacted(incident, redactor),
        tail=tuple(lines),
        traces=tuple(traces[-_MAX_TRACES:]),
        request=redactor.request(request) if request else None,
        report=redactor.text(report[:MAX_REPORT]),
    )


def _newest(tail: Sequence[str]) -> list[str]:
    """Keep the newest lines that fit."""
    kept: list[str] = []
    room = MAX_CHARS
    for line in reversed(tail[-MAX_LINES:]):
        room -= len(line) + 1
        if room < 0:
            if not kept:
                kept.append(line[:MAX_CHARS])
            break
        kept.append(line)
    kept.reverse()
    return kept


def _redacted(incident: Incident, redactor: Redactor) -> Incident:
    return msgspec.structs.replace(
        incident,
        message=redactor.text(incident.message),
        note=redactor.text(incident.note),
        trace=_redacted_trace(incident.trace, redactor) if incident.trace else None,
        exit=msgspec.structs.replace(incident.exit, tail=()) if incident.exit else None,
        request=redactor.request(incident.request) if incident.request else None,
    )


def _redacted_trace(trace: Trace, redactor: Redactor) -> Trace:
    errors = tuple(
        msgspec.structs.replace(
            error, message=redactor.text(error.message), notes=tuple(map(redactor.text, error.notes))
        )
        for error in trace.errors
    )
    frames = tuple(msgspec.structs.replace(frame, source=redactor.text(frame.source)) for frame in trace.frames)
    return msgspec.structs.replace(
        trace, errors=errors or (ErrorLink("", ""),), frames=frames, text=redactor.text(trace.text)
    )


# ---------------------------------------------------------------- the last request


def last_request(lines: Sequence[str]) -> Request | None:
    """Find the request that output names last.

    Knows access logs (`"GET /x HTTP/1.1" 500`), short forms (`GET /x`), and JSON with a method and a URL.
    One that has no answer yet or failed comes before one that was answered well: an access log is written
    when the answer has gone out, so the request that ended the process is usually not in it. Probes of
    health are left out.
    """
    answered: Request | None = None
    for line in reversed(lines[-MAX_LINES:]):
        for request, status in _requests_of(clean(line)[:MAX_CHARS]):
            if request.path.partition("?")[0] in _PROBES:
                continue
            if status is None or status >= _LOWEST_FAILURE:
                return request
            answered = answered or request
    return answered


def _requests_of(line: str) -> Iterator[tuple[Request, int | None]]:
    start = line.find("{")
    if start >= 0 and '"method"' in line and (found := _from_json(line[start:])):
        yield found
        return
    text = line.strip()
    if text.startswith("at "):
        return
    for match in reversed(list(_ACCESS.finditer(text))):
        status = match["status"]
        yield Request(method=match["method"], path=match["path"]), int(status) if status else None


def _from_json(text: str) -> tuple[Request, int | None] | None:
    """Read a line of a JSON logger: the request stands at the top, or below `req` or `request`."""
    try:
        entry = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None  # not JSON after all: output of an application may begin with a brace
    if not isinstance(entry, dict):
        return None
    for place in (entry.get("req"), entry.get("request"), entry):
        if isinstance(place, dict) and (request := _request_of(place)):
            return request, _status_of(entry)
    return None


def _request_of(place: dict[str, Any]) -> Request | None:
    method = place.get("method")
    url = next((place[key] for key in ("originalUrl", "url", "path") if isinstance(place.get(key), str)), None)
    if not isinstance(method, str) or url is None or not re.fullmatch(_METHODS, method.upper()):
        return None
    path = re.sub(r"^https?://[^/]{1,255}", "", url)
    if not path.startswith("/"):
        return None
    headers = place.get("headers")
    named = headers.items() if isinstance(headers, dict) else ()
    body = place.get("body")
    if isinstance(body, (dict, list)):
        body = msgspec.json.encode(body).decode()
    return Request(
        method=method.upper(),
        path=path,
        headers={str(name): value for name, value in named if isinstance(value, str)},
        body=body if isinstance(body, str) else "",
    )


def _status_of(entry: dict[str, Any]) -> int | None:
    places = (entry, entry.get("res"), entry.get("response"))
    found = (place.get(key) for place in places if isinstance(place, dict) for key in ("statusCode", "status"))
    return next((status for status in found if isinstance(status, int)), None)
