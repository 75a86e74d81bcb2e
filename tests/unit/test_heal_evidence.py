# SPDX-License-Identifier: MIT
"""Evidence is bounded and redacted; the last request is found in the logs that servers write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.evidence import gather, last_request
from wolverined.model import Exit, Incident, IncidentKind, Request
from wolverined.redact import Redactor
from wolverined.traces import parse

SECRET = "tok-12345678-abcdef"
REDACTOR = Redactor({"API": SECRET})


def incident(**fields: object) -> Incident:
    """Make an incident."""
    return Incident(
        **({"id": "i1", "fingerprint": "f" * 16, "kind": IncidentKind.CRASH, "error": "TypeError"} | fields)
    )  # type: ignore[arg-type]


def test_nothing_of_the_evidence_holds_a_secret() -> None:
    """Tail, traces, request, the incident's own texts and the operator's words."""
    output = [
        f"TypeError: bad {SECRET}",
        "    at f (/srv/app/a.js:1:2)",
        f"GET /x?key={SECRET}",
        SECRET[:9],
        SECRET[9:],
    ]
    dirty = incident(
        message=SECRET,
        note=SECRET,
        trace=parse(output, app_root="/srv/app")[0],
        exit=Exit(generation=1, tail=(SECRET,)),
        request=Request(method="POST", path="/" + SECRET, headers={"x": SECRET, "Cookie": "a"}, body=SECRET),
    )
    evidence = gather(dirty, output, redactor=REDACTOR, app_root="/srv/app", report=f"it says {SECRET}")
    everything = repr(evidence)
    assert SECRET not in everything
    assert SECRET[9:] not in evidence.tail
    assert evidence.traces[0].errors[0].message == "bad «secret:API»"
    assert evidence.report == "it says «secret:API»"
    assert evidence.request is not None
    assert evidence.request.path == "/«secret:API»"


def test_the_tail_is_bounded_and_the_newest_lines_stay() -> None:
    """200 lines, 64 KiB; one line alone that is too long is cut."""
    many = gather(incident(), [f"line {n}" for n in range(1000)], redactor=REDACTOR, app_root="/srv/app")
    assert (len(many.tail), many.tail[0], many.tail[-1]) == (200, "line 800", "line 999")
    wide = gather(incident(), ["x" * 10_000] * 100, redactor=REDACTOR, app_root="/srv/app")
    assert sum(map(len, wide.tail)) <= 64 << 10
    huge = gather(incident(), ["old", "x" * (1 << 20)], redactor=REDACTOR, app_root="/srv/app", report="r" * (1 << 20))
    assert len(huge.tail) == 1
    assert len(huge.tail[0]) < 17_000
    assert len(huge.report) <= 17_000
    assert gather(incident(), [], redactor=REDACTOR, app_root="/srv/app").tail == ()


def test_a_directory_that_is_a_link_has_two_names(tmp_path: Path) -> None:
    """Node prints where a link leads, the configuration names the link: both are the application."""
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    lines = ["TypeError: x", f"    at f ({tmp_path}/release/a.js:1:2)", f"    at g ({tmp_path}/current/b.js:1:2)"]
    evidence = gather(incident(), lines, redactor=REDACTOR, app_root=str(tmp_path / "current"))
    assert [(frame.path, frame.own) for frame in evidence.traces[0].frames] == [("a.js", True), ("b.js", True)]


def test_the_request_of_the_incident_comes_before_that_of_the_log() -> None:
    """What a hook told is exact; a log only hints."""
    told = Request(method="PUT", path="/told")
    lines = ["GET /logged"]
    assert gather(incident(request=told), lines, redactor=REDACTOR, app_root="/").request == told
    logged = gather(incident(), lines, redactor=REDACTOR, app_root="/").request
    assert logged == Request(method="GET", path="/logged")


@pytest.mark.parametrize(
    ("text", "method", "path"),
    [
        ('127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "POST /a/b?c=1 HTTP/1.1" 500 12 "-" "curl"', "POST", "/a/b?c=1"),
        ('INFO:     127.0.0.1:5 - "DELETE /x HTTP/1.1" 500 Internal Server Error', "DELETE", "/x"),
        ("GET /x/1 500 3.2 ms - 12", "GET", "/x/1"),
        ("2026-01-01T00:00:00Z [web] --> PATCH /y", "PATCH", "/y"),
        ("\x1b[0mGET /colour \x1b[31m500\x1b[0m 1.5 ms", "GET", "/colour"),
        ("GET http://localhost:3000/abs", "GET", "/abs"),
        ('{"level":30,"req":{"method":"GET","url":"/pino?x=1","headers":{"host":"a"}},"msg":"in"}', "GET", "/pino?x=1"),
        ('{"method":"post","url":"/flat","status":500}', "POST", "/flat"),
        ('2026 INFO {"request":{"method":"GET","path":"/nested"},"response":{"statusCode":500}}', "GET", "/nested"),
    ],
)
def test_the_last_request_is_found_in_common_logs(text: str, method: str, path: str) -> None:
    """Combined and short access logs, with and without colours, and JSON lines."""
    found = last_request(["starting", text, "some more words", ""])
    assert found is not None
    assert (found.method, found.path) == (method, path)


def test_json_brings_headers_and_body() -> None:
    """A logger that tells more is worth more."""
    found = last_request(
        [json.dumps({"req": {"method": "POST", "url": "/j", "headers": {"a": "b", "n": 1}, "body": {"x": 1}}})]
    )
    assert found == Request(method="POST", path="/j", headers={"a": "b"}, body='{"x":1}')


def test_an_open_or_failed_request_comes_before_an_answered_one() -> None:
    """An access log has the answered ones; probes of health count for nothing."""
    assert last_request(["--> GET /open", "GET /fine 200 1 ms", "GET /health"]) == Request(method="GET", path="/open")
    assert last_request(["GET /bad 503", "GET /fine 304"]) == Request(method="GET", path="/bad")
    assert last_request(["GET /one 200", "GET /two 404", "GET /health 200"]) == Request(method="GET", path="/two")


@pytest.mark.parametrize(
    "text",
    [
        *("", "TARGET /x", "get /x", "    at GET /x (/a.js:1:2)", "app.get('/x')", "GET x", "I GET it / or not"),
        *('{"method":"GET"}', '{"method":1,"url":"/x"}', "{" * 5000 + '"method"'),
    ],
)
def test_ordinary_lines_name_no_request(text: str) -> None:
    """Words that look a little like a request are none."""
    assert last_request([text]) is None


@given(st.lists(st.text(max_size=200), max_size=10))
def test_any_lines_are_survived(lines: list[str]) -> None:
    """Whatever the output: an answer, bounded, never an exception."""
    evidence = gather(incident(), lines, redactor=REDACTOR, app_root="/srv/app")
    assert len(evidence.tail) == len(lines)
