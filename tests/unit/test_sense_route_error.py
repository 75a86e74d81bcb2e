# SPDX-License-Identifier: MIT
"""Reports of a living application: what a right one says, and that a wrong one is none and costs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.model import IncidentKind, Request
from wolverined.redact import Redactor
from wolverined.sense.route_error import (
    MAX_CHAIN,
    MAX_ROUTES,
    MAX_SAMPLES,
    MAX_STACK,
    RouteError,
    fingerprint_of,
    normalised,
    read_loop,
    read_pending,
    read_requests,
    read_route_error,
    redacted,
    trace_of,
)
from wolverined.traces import fingerprint, parse

ROOT = "/srv/app"
STACK = (
    "TypeError: Cannot read properties of undefined (reading 'name')\n"
    "    at show (/srv/app/items.js:7:15)\n"
    "    at Server.<anonymous> (/srv/app/server.js:4:20)\n"
    "    at node:http:1:1"
)
CAUSE = "RangeError: 41 is too many\n    at count (/srv/app/count.js:3:9)\n    at show (/srv/app/items.js:6:5)"
PYTHON = (
    "Traceback (most recent call last):\n"
    '  File "/srv/app/app.py", line 9, in get\n    return show(id)\n'
    '  File "/srv/app/items.py", line 3, in show\n    return goods[id]\n'
    "KeyError: 41\n\n"
    "During handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n"
    '  File "/srv/app/app.py", line 11, in get\n    raise Gone(id)\n'
    "app.Gone: 41\n"
)
SEED = {
    "type": "route_error",
    "path": "/items/41",
    "method": "GET",
    "statusCode": 500,
    "message": "Cannot read properties of undefined (reading 'name')",
    "stack": STACK,
    "file": "/srv/app/items.js",
    "line": 7,
    "timestamp": 1700000000000,
}


def told(**fields: Any) -> RouteError | None:
    """Read the seed's message with other fields; None takes one out."""
    message = {key: value for key, value in (SEED | fields).items() if value is not None}
    return read_route_error(json.dumps(message).encode())


def error(**fields: Any) -> RouteError:
    """The same, when it must be a report."""
    found = told(**fields)
    assert found is not None
    return found


def test_a_message_of_the_seed_is_read() -> None:
    """Real path for the replay, normalised route for the count, the frame that failed."""
    seen = error()
    assert (seen.route, seen.status) == ("GET /items/:id", 500)
    assert seen.request == Request(method="GET", path="/items/41")
    assert not seen.told
    trace = trace_of(seen, app_root=ROOT)
    assert trace is not None
    assert (trace.errors[-1].type, trace.frames[0].path, trace.frames[0].line) == ("TypeError", "items.js", 7)


def test_the_route_of_the_framework_is_taken_as_it_is() -> None:
    """With its method or without."""
    assert error(route="/items/:name").route == "GET /items/:name"
    assert error(route="GET /items/:name").route == "GET /items/:name"
    assert error(path="/items/cup", route="/items/<name>").request.path == "/items/cup"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/items/41?full=1", "/items/:id"),
        ("/items/0af1C2d3e4f5061728394a5b/tags", "/items/:id/tags"),
        ("/u/8f14e45f-ceea-467f-a9b1-0123456789ab", "/u/:id"),
        ("/v2/items", "/v2/items"),
        ("/items/cup#top", "/items/cup"),
        ("//", "//"),
    ],
)
def test_values_in_a_path_become_marks(path: str, route: str) -> None:
    """Numbers, UUIDs and long hexadecimals; words stay."""
    assert normalised(path) == route


def test_the_request_is_given_as_it_came() -> None:
    """Query as a text or in parts, header lists, a body of JSON, and that it was cut."""
    request = {
        "method": "post",
        "path": "/items/41",
        "query": {"full": ["1", "2"], "q": "a b"},
        "headers": {"content-type": "application/json", "x-many": ["a", "b"], "x-odd": 3},
        "body": {"left": 1},
        "truncated": True,
    }
    seen = error(request=request, method="POST")
    assert seen.told
    assert seen.request == Request(
        method="POST",
        path="/items/41?full=1&full=2&q=a+b",
        headers={"content-type": "application/json", "x-many": "a, b"},
        body='{"left":1}',
        truncated=True,
    )
    assert error(request={"path": "/a", "query": "?b=1"}).request.path == "/a?b=1"
    assert error(request={"path": "/a?b=1", "query": "b=1"}).request.path == "/a?b=1"


def test_causes_are_read_root_first() -> None:
    """A chain may begin with the error itself or with its first cause: it is the same trace."""
    cause = {"name": "RangeError", "message": "41 is too many", "stack": CAUSE}
    itself = {"name": "TypeError", "message": SEED["message"], "stack": STACK}
    traces = [trace_of(error(name="TypeError", chain=chain), app_root=ROOT) for chain in ([cause], [itself, cause])]
    for trace in traces:
        assert trace is not None
        assert [link.type for link in trace.errors] == ["RangeError", "TypeError"]
        assert trace.frames[0].path == "count.js"
    assert traces[0] == traces[1]


def test_a_traceback_of_python_brings_its_own_causes() -> None:
    """The chain says nothing that the traceback does not."""
    chain = [{"name": "Gone", "message": "41"}, {"name": "KeyError", "message": "41", "stack": PYTHON}]
    trace = trace_of(error(stack=PYTHON, message="41", name="Gone", chain=chain, file=None), app_root=ROOT)
    assert trace is not None
    assert [link.type for link in trace.errors] == ["KeyError", "app.Gone"]


def test_what_the_output_shows_of_an_error_has_the_fingerprint_of_its_report() -> None:
    """A trial knows the trouble again by what the application prints."""
    (printed,) = parse(STACK.split("\n"), app_root=ROOT)
    seen = error()
    assert fingerprint_of(seen, trace_of(seen, app_root=ROOT)) == fingerprint(IncidentKind.HTTP5XX, printed, None)


def test_one_fault_on_two_routes_is_one_and_other_values_too() -> None:
    """An error is named by its code; line numbers, ids and values do not count."""
    first, second = error(), error(path="/other/7", stack=STACK.replace(":7:15", ":8:15"))
    names = {fingerprint_of(seen, trace_of(seen, app_root=ROOT)) for seen in (first, second)}
    assert len(names) == 1


@pytest.mark.parametrize("fields", [{"stack": None, "file": None}, {"stack": "no stack", "file": None, "message": ""}])
def test_without_a_place_an_error_is_named_by_its_route(fields: dict[str, Any]) -> None:
    """Nothing says that two such errors of two routes are one fault."""
    names = {
        fingerprint_of(seen, trace_of(seen, app_root=ROOT))
        for seen in (error(path="/a", **fields), error(path="/b", **fields))
    }
    assert len(names) == 2


def test_a_file_that_is_named_stands_for_a_stack() -> None:
    """A sender in another language may know no more."""
    trace = trace_of(error(stack=None, name="panic"), app_root=ROOT)
    assert trace is not None
    assert (trace.errors[-1].type, trace.frames[0].path, trace.frames[0].own) == ("panic", "items.js", True)


def test_nothing_told_is_no_trace() -> None:
    """A bare 500 is an error all the same."""
    assert trace_of(error(stack=None, file=None, message=None), app_root=ROOT) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"path": None},
        {"path": 7},
        {"path": "items"},
        {"path": ""},
        {"statusCode": "500"},
        {"statusCode": True},
        {"statusCode": 500.5},
        {"statusCode": 99},
        {"statusCode": 600},
        {"statusCode": 10**30},
        {"method": "GET /"},
        {"method": ""},
        {"method": ["GET"]},
        {"message": {"toString": 1}},
        {"stack": [STACK]},
        {"line": "7"},
        {"chain": "all"},
        {"chain": [1]},
        {"chain": [{"name": 1}]},
        {"request": []},
        {"request": {"headers": []}},
        {"request": {"path": 1}},
        {"timestamp": "now"},
    ],
)
def test_a_report_with_a_wrong_field_is_none(fields: dict[str, Any]) -> None:
    """Nothing is guessed; `method` may be left out, not be wrong."""
    assert told(**fields) is None or fields == {"method": ""}


def test_a_path_and_a_message_are_enough() -> None:
    """Whoever tells an error means a GET that was answered with 500."""
    seen = read_route_error(b'{"type": "route_error", "path": "/nightly", "message": "the import failed"}')
    assert seen is not None
    assert (seen.route, seen.status, seen.chain[0].message) == ("GET /nightly", 500, "the import failed")


def test_everything_is_bounded_and_without_controls() -> None:
    """A message of megabytes, a chain without end, escapes for the operator's terminal."""
    cause = {"name": "E\nE" * 1000, "message": "m" * 10**4, "stack": "s" * 10**4}
    seen = error(
        message="\x1b[31mred\u202e" + "m" * 10**5,
        stack="x" * 10**5,
        route="/r\n\x1b[2J" + "r" * 10**5,
        path="/" + "p" * 10**5,
        worker="w" * 10**5,
        chain=[{"name": "Other"}, *[cause] * 20],
        request={"headers": {f"h{n}": "v" for n in range(1000)}},
    )
    assert len(seen.chain) <= MAX_CHAIN
    assert max(len(one.stack or "") for one in seen.chain) <= MAX_STACK
    assert "\x1b" not in str(seen)
    assert "\u202e" not in str(seen)
    assert "\n" not in seen.route
    assert seen.request.truncated
    assert len(seen.request.headers) == 100
    assert len(msg := str(seen)) < 100_000, len(msg)


def test_secrets_are_taken_out_of_everything_that_is_kept() -> None:
    """Message, stack, causes, headers, query and body."""
    secret = "hunter2-Zq81xkW03b"
    request = {"path": f"/a?k={secret}", "headers": {"x-api-key": secret, "x-plain": secret}, "body": secret}
    seen = error(
        message=f"no {secret}", stack=STACK + secret, request=request, chain=[{"name": secret}], route=f"/{secret}"
    )
    redactor = Redactor({"TOKEN": secret})
    assert secret not in str(redacted(seen, redact=redactor.request, redact_text=redactor.text))


REQUESTS = {
    "type": "requests",
    "count": 10,
    "errors": 1,
    "histogram": {"5": 7, "10": 3},
    "routes": {"GET /items/:id": {"count": 10, "errors": 1, "ms": 31.5}},
    "sample": [{"method": "GET", "path": "/items/1", "status": 200}],
    "dropped": 0,
    "pid": 7,
    "worker": 1,
    "timestamp": 1,
}


def test_requests_are_read() -> None:
    """Counts, routes, the good sample."""
    seen = read_requests(json.dumps(REQUESTS).encode())
    assert seen is not None
    assert (seen.count, seen.errors, seen.routes["GET /items/:id"].ms) == (10, 1, 31.5)
    assert [one.path for one in seen.sample] == ["/items/1"]


@pytest.mark.parametrize(
    "fields",
    [
        {"count": -1},
        {"count": "10"},
        {"count": 1.5},
        {"errors": 11},
        {"routes": []},
        {"routes": {"GET /": 3}},
        {"routes": {"GET /": {"count": -3}}},
        {"sample": {}},
        {"sample": [{"method": "GET"}]},
        {"histogram": {"5": -1}},
        {"dropped": -1},
        {"count": 2**60},
    ],
)
def test_requests_with_a_wrong_field_are_none(fields: dict[str, Any]) -> None:
    """Nothing is guessed."""
    assert read_requests(json.dumps(REQUESTS | fields).encode()) is None


def test_requests_are_bounded_and_a_sample_is_of_good_ones_only() -> None:
    """Whoever says that a 500 is good is not believed."""
    routes = {f"GET /{n}": {"count": 1, "errors": 0, "ms": 1} for n in range(5000)}
    sample = [{"method": "GET", "path": "/x", "status": 500}, *[{"method": "GET", "path": "/", "status": 200}] * 500]
    seen = read_requests(json.dumps(REQUESTS | {"routes": routes, "sample": sample}).encode())
    assert seen is not None
    assert len(seen.routes) == MAX_ROUTES
    assert len(seen.sample) < MAX_SAMPLES
    assert {one.status for one in seen.sample} == {200}


def test_pending_and_loop_are_read() -> None:
    """What a hang detector needs."""
    pending = read_pending(b'{"type":"pending","method":"GET","path":"/slow","age_ms":5000.5,"count":3,"pid":7}')
    assert pending is not None
    assert (pending.path, pending.age_ms, pending.count) == ("/slow", 5000.5, 3)
    loop = read_loop(b'{"type":"loop","lag_ms":12,"pid":7,"timestamp":1}')
    assert loop is not None
    assert loop.lag_ms == 12
    assert read_pending(b'{"type":"pending","age_ms":-1}') is None
    assert read_loop(b'{"type":"loop","lag_ms":"1"}') is None
    assert read_loop(b'{"type":"loop"}') is None


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*SEED, "route", "chain", "request", "pid", "worker", "name", *REQUESTS, "age_ms", "lag_ms"])


@given(st.dictionaries(FIELDS, ANY))
def test_no_report_of_whatever_types_harms_a_reader(fields: dict[str, Any]) -> None:
    """It is a report or none; a report can be traced, named and redacted."""
    for base in (SEED, REQUESTS):
        line = json.dumps(base | fields).encode()
        seen = read_route_error(line)
        if seen is not None:
            assert len(fingerprint_of(seen, trace_of(seen, app_root=ROOT))) == 16
            redacted(seen, redact=Redactor().request, redact_text=Redactor().text)
        read_requests(line)
        read_pending(line)
        read_loop(line)


@given(st.binary(max_size=200))
def test_no_bytes_harm_a_reader(line: bytes) -> None:
    """Half lines, other encodings, nothing at all."""
    for read in (read_route_error, read_requests, read_pending, read_loop):
        assert read(line) is None
    assert read_route_error(b"[" * 60_000) is None
