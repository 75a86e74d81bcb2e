# SPDX-License-Identifier: MIT
"""The Python reporter inside the real frameworks and servers: one report a caught error, none else, no byte changed."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.python_reports import APPS, SERVERS, Served, command, serving
from support.reporting import ask

from wolverined.sense.route_error import read_loop, read_pending, read_requests, read_route_error

FRAMEWORKS = [name for name in SERVERS if name != "http.server"]
SECRETS = "Authorization: Bearer s3cret\nCookie: id=s3cret\nX-Api-Key: s3cret"
_VOLATILE = re.compile(rb"(?im)^(date|server): .*\r\n")


async def get(served: Served, path: str, *, headers: str = "") -> bytes:
    """One GET on a connection of its own; all bytes of the answer but the date."""
    head = f"GET {path} HTTP/1.1\nHost: shop.test\nConnection: close" + (f"\n{headers}" if headers else "")
    return _VOLATILE.sub(b"", await ask(served.port, head))


async def post(served: Served, path: str, body: bytes, *, headers: str = "") -> bytes:
    """One POST, likewise."""
    head = (
        f"POST {path} HTTP/1.1\nHost: shop.test\nConnection: close\nContent-Type: application/json\n"
        f"Content-Length: {len(body)}" + (f"\n{headers}" if headers else "")
    )
    return _VOLATILE.sub(b"", await ask(served.port, head, body))


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])


async def whole(served: Served) -> list[bytes]:
    """Every trouble once; the answers."""
    return [
        await get(served, "/ok/7?q=1"),
        await get(served, "/fail/plain?x=1&y=%20", headers=SECRETS),
        await post(served, "/fail/chain", '{"name": "Zoë ☃"}'.encode()),
        await get(served, "/fail/circle"),
        await get(served, "/fail/noerror"),
        await get(served, "/fail/deep"),
        await get(served, "/known"),
        await get(served, "/worse"),
        await get(served, "/caught"),
        await get(served, "/stream"),
        await get(served, "/abort/403"),
        await get(served, "/abort/404"),
        await get(served, "/nowhere"),
        await get(served, "/deliberate"),
        await post(served, "/json", b'{"half": '),
        await post(served, "/json", b'{"whole": 1}'),
    ]


# What is told of `whole`: path, status, name, the function that the frame named stands in.
EXPECTED = [
    ("/fail/plain", 500, "KeyError"),
    ("/fail/chain", 500, "RuntimeError"),
    ("/fail/circle", 500, "LookupError"),
    ("/fail/noerror", 500, "TypeError"),
    ("/fail/deep", 500, "RecursionError"),
    ("/known", 503, "Known"),
    ("/worse", 500, "OSError"),
    ("/caught", 500, "KeyError"),
    ("/stream", 500, "KeyError"),
]


def line_of(text: str, *, file: str = "trouble.py") -> int:
    """The line of a file of the applications that holds a text."""
    lines = (APPS / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_caught_error_is_told_once_and_no_answer_changes(name: str, tmp_path: Path) -> None:
    """Every trouble on every server: path, status, error, frame and route are right; 4xx and plain 503 tell nothing."""

    async def story() -> None:
        argv, printed = command(name)
        (tmp_path / "alone").mkdir()
        async with (
            serving(tmp_path / "alone", argv, supervised=False, printed=printed) as alone,
            serving(tmp_path, argv, printed=printed) as served,
        ):
            bare, answers = await asyncio.gather(whole(alone), whole(served))
            assert alone.lines == []
            counts = await served.counted(len(answers))
            assert [status(one) for one in answers] == [status(one) for one in bare]
            assert answers == bare
            reports = served.told("route_error")
            assert [(r["path"], r["statusCode"], r["name"].rpartition(".")[2]) for r in reports] == EXPECTED
            by = {report["path"]: report for report in reports}
            check_details(by, name)
            assert counts["dropped"] == 0
            check_counts(served)
            check_understood(served)

    asyncio.run(story())


def check_details(by: dict[str, Any], name: str) -> None:
    """Frames, chain, route and the copy of the request."""
    plain = by["/fail/plain"]
    assert (plain["file"], plain["line"]) == (str(APPS / "trouble.py"), line_of('{}["price"]'))
    assert plain["message"] == "'price'"
    assert plain["route"] == "/fail/:kind"
    assert plain["method"] == "GET"
    assert plain["stack"].startswith("Traceback (most recent call last):\n")
    assert plain["stack"].endswith("KeyError: 'price'\n")
    assert "wolverine_reporter" not in json.dumps(by)
    assert "s3cret" not in json.dumps(by)
    copy = plain["request"]
    assert (copy["method"], copy["path"], copy["query"]) == ("GET", "/fail/plain?x=1&y=%20", "x=1&y=%20")
    assert (copy["body"], copy["truncated"]) == ("", False)
    assert copy["headers"]["host"] == "shop.test"
    chain = by["/fail/chain"]
    assert [cause["name"] for cause in chain["chain"]] == ["ValueError"]
    assert "direct cause" in chain["stack"]
    assert (chain["request"]["body"], chain["request"]["truncated"]) == ('{"name": "Zoë ☃"}', False)
    assert [cause["name"] for cause in by["/fail/circle"]["chain"]] == ["LookupError"]
    assert by["/worse"]["chain"][0]["name"].endswith("Worse")
    assert by["/known"]["file"].endswith("_app.py")
    assert (by["/stream"]["file"], by["/stream"]["line"]) == (plain["file"], plain["line"])
    assert by["/caught"]["line"] == plain["line"]
    assert (plain["worker"] != "") == ("gunicorn" in name)


def check_understood(served: Served) -> None:
    """The supervisor reads every line as it was meant."""
    read = {"route_error": read_route_error, "requests": read_requests, "pending": read_pending, "loop": read_loop}
    for line in served.lines:
        assert read[line["type"]](json.dumps(line).encode()) is not None, line


def check_counts(served: Served) -> None:
    """Successes and failures are counted on their routes."""
    routes: dict[str, dict[str, float]] = {}
    for line in served.told("requests"):
        assert sum(line["histogram"].values()) == line["count"]
        for route, one in line["routes"].items():
            total = routes.setdefault(route, {"count": 0, "errors": 0})
            total["count"] += one["count"]
            total["errors"] += one["errors"]
    assert routes["GET /ok/:number"] == {"count": 1, "errors": 0}
    assert routes["GET /fail/:kind"] == {"count": 4, "errors": 4}
    assert routes["GET /deliberate"] == {"count": 1, "errors": 1}
    sample = [one for line in served.told("requests") for one in line["sample"]]
    assert {"method": "GET", "path": "/ok/7?q=1", "status": 200} in sample
    assert all(one["status"] < 400 for one in sample)
