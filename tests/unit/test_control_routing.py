# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined import errors
from wolverined.control.client import error_of
from wolverined.control.envelope import Refusal, encode, failure, status_of
from wolverined.control.routes import ROUTES
from wolverined.control.routes.status import hide_environments
from wolverined.control.routing import MOST_LISTED, find
from wolverined.model import LogLine


@pytest.mark.parametrize(
    ("path", "pattern", "ident"),
    [
        ("/v1/status", "/v1/status", ""),
        ("/v1/incidents/i12", "/v1/incidents/ID", "i12"),
        ("/v1/repairs/r1/patch", "/v1/repairs/ID/patch", "r1"),
        ("/v1/changes/c999999999999999999/wait", "/v1/changes/ID/wait", "c999999999999999999"),
    ],
)
def test_paths_find_their_route(path: str, pattern: str, ident: str) -> None:
    """A path with an id finds the endpoint and the id."""
    route, found = find(ROUTES, "GET", path)
    assert (route.pattern, found) == (pattern, ident)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "/v1/",
        "/v1/status/",
        "/v2/status",
        "/v1/statuses",
        "/v1/incidents/",
        "/v1/incidents/ID",
        "/v1/changes/ID/wait",
        "/v1/incidents/../status",
        "/v1/incidents/i",
        "/v1/incidents/i1x",
        "/v1/incidents/i٣",
        "/v1/incidents/i1/show",
        "/v1/incidents/i9999999999999999999",
        "//v1/status",
    ],
)
def test_everything_else_is_not_found(path: str) -> None:
    """Default deny: a path that is in no row of the table is 404, whoever asks."""
    with pytest.raises(Refusal) as refusal:
        find(ROUTES, "GET", path)
    assert refusal.value.status == 404


@given(st.text(max_size=40), st.text(max_size=10))
def test_no_path_breaks_the_table(path: str, method: str) -> None:
    """Any text is either a route or a refusal."""
    with suppress(Refusal):
        assert find(ROUTES, method, path)[0] in ROUTES


def test_wrong_method() -> None:
    """A known path with another method is 405 and names the right one."""
    with pytest.raises(Refusal) as refusal:
        find(ROUTES, "DELETE", "/v1/incidents/i1")
    assert refusal.value.status == 405
    assert "GET" in refusal.value.message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UsageError("x"), 400),
        (errors.AccessDenied("x"), 403),
        (errors.NotFound("x"), 404),
        (errors.Conflict("x"), 409),
        (errors.ConfigError("x"), 422),
        (errors.TimedOut("x"), 504),
        (errors.SpawnError("x"), 500),
        (errors.WolverineError("x"), 500),
        (Refusal(431, "too-large", "x"), 431),
    ],
)
def test_status_of_each_kind(error: errors.WolverineError, status: int) -> None:
    """The kinds of the error tree have stable HTTP statuses."""
    assert status_of(error) == status


def test_errors_survive_the_way_to_the_client() -> None:
    """Every class of the error tree is rebuilt from its kind, with its exit code; an unknown kind stays a word."""
    for known in errors.WolverineError.__subclasses__():
        if known.__module__ != "wolverined.errors":
            continue
        told = msgspec.json.decode(failure(known("what", hint="how")))["result"]
        back = error_of(told["kind"], told["message"], told["hint"])
        assert (type(back).kind, back.exit_code, back.message, back.hint) == (
            known.kind,
            known.exit_code,
            "what",
            "how",
        )
    odd = error_of("brand-new", "what", "")
    assert (odd.kind, odd.exit_code) == ("brand-new", 1)


@given(st.text(st.characters(), max_size=50))
def test_any_text_can_be_encoded(text: str) -> None:
    """Names and lines with lone surrogates still make valid JSON."""
    line = LogLine(cursor=1, at=0.0, stream="stdout", text=text + "\udcff", generation=1)
    assert msgspec.json.decode(encode([line, {text: text}]))[0]["cursor"] == 1


def test_environments_are_hidden() -> None:
    """Values of environments are secrets, at any depth; everything else is shown."""
    config = {"app": {"port": 1, "environment": {"A": "s"}}, "heal": {"trial": {"environment": {"B": "s"}}}, "x": []}
    assert hide_environments(config) == {
        "app": {"port": 1, "environment": {"A": "(hidden)"}},
        "heal": {"trial": {"environment": {"B": "(hidden)"}}},
        "x": [],
    }


@pytest.mark.parametrize("path", ["/v1/incidents", "/v1/repairs"])
def test_a_list_is_never_longer_than_the_loop_can_bear(path: str) -> None:
    """Whatever limit is asked for, so many at most are taken out of the store."""
    asked: list[int] = []

    class Instance:
        """Remembers how many it was asked for."""

        def incidents(self, *, limit: int, open_only: bool) -> list[object]:  # noqa: ARG002 - as the protocol names it
            asked.append(limit)
            return []

        def repairs(self, *, limit: int) -> list[object]:
            asked.append(limit)
            return []

    class Incoming:
        """A request with a great limit."""

        query: ClassVar[dict[str, str]] = {"limit": "100000"}

    class Call:
        """The little of a call that a list looks at."""

        instance = Instance()
        incoming = Incoming()

    route, _ = find(ROUTES, "GET", path)
    asyncio.run(route.handler(Call()))  # type: ignore[arg-type]
    assert asked == [MOST_LISTED]
