# SPDX-License-Identifier: MIT
"""Requests to try: mutations of the one that failed, and guesses when none was recorded (pure).

A guess is a path that stands as a string in the source. It is only ever sent inside a sandbox, and
counts only if the app then fails there with the very error that is sought.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl, urlencode

import msgspec

from wolverined.model import Request, Snapshot, Trace

MAX_SIBLINGS = 3
MAX_GUESSES = 40
_OTHER_ID = "999983"
_ID = re.compile(r"\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{16,}")
_LITERAL = re.compile(r"""(?P<quote>["'`])(?P<path>/[A-Za-z0-9_\-./:{}<>*$]{0,120})(?P=quote)""")
_PARAMETER = re.compile(r":[A-Za-z_]\w*|\{[^}/]*\}|<[^>/]*>|\$\{[^}/]*\}|\*+")
_METHOD = re.compile(r"\b(POST|PUT|PATCH|DELETE|post|put|patch|delete)\b")
_NO_ROUTE = re.compile(
    r"\.(?:js|mjs|cjs|ts|py|json|html|css|png|svg|ico|txt|sock|pem|db|log)$|^/(?:usr|etc|var|tmp|proc|dev)\b"
)
_METHOD_REACH = 60
"""Characters before and after a path in which a method's name counts as belonging to it."""


def siblings(request: Request) -> tuple[Request, ...]:
    """Up to three requests a little different from this one: other id, empty query or body, a missing field."""
    found: list[Request] = []
    for other in _mutations(request):
        if other != request and other not in found:
            found.append(other)
    return tuple(found[:MAX_SIBLINGS])


def _mutations(request: Request) -> Iterator[Request]:
    path, mark, query = request.path.partition("?")
    if request.body:
        yield msgspec.structs.replace(request, body=_emptied(request.body))
        if (shorter := _without_first_field(request.body)) is not None:
            yield msgspec.structs.replace(request, body=shorter)
    if query:
        yield msgspec.structs.replace(request, path=path)
        pairs = parse_qsl(query, keep_blank_values=True)
        if len(pairs) > 1:
            yield msgspec.structs.replace(request, path=f"{path}?{urlencode(pairs[1:])}")
    segments = path.split("/")
    for number in range(len(segments) - 1, -1, -1):
        if _ID.fullmatch(segments[number]):
            for other in _other_ids(segments[number]):
                changed = [*segments[:number], other, *segments[number + 1 :]]
                yield msgspec.structs.replace(request, path="/".join(changed) + mark + query)
            break
    # A path without anything to change: a field that nobody reads finds a comparison with the whole URL.
    yield msgspec.structs.replace(request, path=f"{request.path}{'&' if query else '?'}other={_OTHER_ID}")


def _other_ids(known: str) -> tuple[str, ...]:
    """One that most likely exists as well, so that it fails of the same fault, and one that does not."""
    return (str(int(known) + 1), _OTHER_ID) if known.isdecimal() and len(known) < len(_OTHER_ID) else (_OTHER_ID,)


def _emptied(body: str) -> str:
    return "{}" if body.lstrip().startswith("{") else "[]" if body.lstrip().startswith("[") else ""


def _without_first_field(body: str) -> str | None:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(value, dict) or not value:
        return None
    return msgspec.json.encode(dict(list(value.items())[1:])).decode()


def guesses(trace: Trace | None, snapshot: Snapshot, *, first: Sequence[str] = ()) -> tuple[Request, ...]:
    """Requests that may reach the code that failed, most likely first: files of the trace, then all others.

    Args:
        trace: Where it failed.
        snapshot: The source to look for paths in.
        first: Paths that are known to be routes.
    """
    own = [frame.path for frame in trace.frames if frame.own] if trace is not None else []
    files = sorted(snapshot.files, key=lambda path: (own.index(path) if path in own else len(own), path))
    found: dict[tuple[str, str], Request] = {}
    for path in first:
        found.setdefault(("GET", path), Request(method="GET", path=path))
    for name in files:
        if not name.endswith((".js", ".mjs", ".cjs", ".ts", ".py")):
            continue
        for request in _literals(snapshot.files[name].data.decode("utf-8", "replace")):
            found.setdefault((request.method, request.path), request)
        if len(found) >= MAX_GUESSES:
            break
    return tuple(found.values())[:MAX_GUESSES]


def _literals(text: str) -> Iterator[Request]:
    for match in _LITERAL.finditer(text):
        if _NO_ROUTE.search(match["path"]):
            continue
        path = _PARAMETER.sub("1", match["path"])
        if path.endswith("/") and len(path) > 1:
            path += "1"  # startsWith("/items/"): what follows is an id
        around = text[max(0, match.start() - _METHOD_REACH) : match.end() + _METHOD_REACH]
        yield Request(method="GET", path=path)
        if (method := _METHOD.search(around)) is not None:
            body = "" if method[0].upper() == "DELETE" else "{}"
            headers = {"content-type": "application/json"} if body else {}
            yield Request(method=method[0].upper(), path=path, headers=headers, body=body)
