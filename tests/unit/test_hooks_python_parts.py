# SPDX-License-Identifier: MIT
"""The parts of the Python reporter that decide: a route's name, whose frame it is, what goes into a line."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wolverined

HOOKS = Path(wolverined.__file__).parent / "hooks" / "python"


@pytest.fixture(scope="module", autouse=True)
def _found() -> Iterator[None]:
    """The reporter's package can be imported; nothing is installed."""
    sys.path.insert(0, str(HOOKS))
    yield
    sys.path.remove(str(HOOKS))


def part(name: str) -> ModuleType:
    """One module of the reporter."""
    return importlib.import_module(f"wolverine_reporter.{name}")


@pytest.mark.parametrize(
    ("rule", "path", "name"),
    [
        ("/items/<int:id>", "/items/7", "/items/:id"),
        ("/items/{id:int}/{part}", "/items/7/x", "/items/:id/:part"),
        ("items/<slug>/", "/items/x/", "/items/:slug/"),
        (None, "/items/7/x", "/items/:id/x"),
        (None, "/u/123e4567-e89b-12d3-a456-426614174000", "/u/:id"),
        ({"id": 7, "kind": "x"}, "/items/7/x", "/items/:id/:kind"),
        ({"path": "a/b"}, "/files/a/b", "/files/:path"),
        ({"id": ""}, "/items/7", "/items/:id"),
        (None, "", ""),
    ],
)
def test_a_route_has_the_name_of_its_pattern_or_of_its_path_without_values(rule: Any, path: str, name: str) -> None:
    """Flask's, Starlette's and Django's patterns come out alike."""
    assert part("routes").route_of(rule, path) == name


@given(st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.text())), st.text())
def test_any_route_has_a_name(rule: Any, path: str) -> None:
    """Whatever the framework and the client say."""
    assert isinstance(part("routes").route_of(rule, path), str)


@given(st.text(), st.lists(st.tuples(st.text(), st.text())), st.text())
def test_a_copy_of_a_request_never_holds_the_four_secrets(
    target: str, headers: list[tuple[str, str]], body: str
) -> None:
    """Their names stay, their values do not leave the process; all of it is JSON that others can read."""
    secret = [
        ("Authorization", "s3cret-1"),
        ("COOKIE", "s3cret-2"),
        ("X-Api-Key", "s3cret-3"),
        ("Set-Cookie", "s3cret-4"),
    ]
    copy = part("crash").request_copy("GET", target, [*secret, *headers], (body, False))
    assert "s3cret" not in json.dumps(copy).replace("s3cret" * (body.count("s3cret") > 0), "")
    assert copy["headers"]["authorization"] == ""
    json.dumps(copy, ensure_ascii=False).encode("utf-8")


def test_causes_end_where_they_go_round() -> None:
    """A circle of causes is told once, a long chain in part."""
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    told = part("told")
    assert told.causes(first) == [second]
    assert told.stack_of(first, None).count("ValueError") == 2
    long: Exception = ValueError("0")
    for number in range(100):
        cause, long = long, ValueError(str(number))
        long.__cause__ = cause
    assert len(told.causes(long)) == 8


def test_a_buffer_is_bounded_and_counts_what_it_dropped(tmp_path: Path) -> None:
    """Without a listener the newest lines are kept; with one they arrive whole and in order."""
    sender = part("sender").Sender(str(tmp_path / "report.sock"))
    for number in range(1000):
        sender.put(b"%d\n" % number)
    assert sender.dropped == 1000 - part("sender").LINES_MAX
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "report.sock"))
        listener.listen()
        sender._not_before = 0.0
        sender.flush()
        assert not sender.waiting()
        connection, _ = listener.accept()
        with connection:
            got = connection.recv(1 << 20).split()
        assert got == [b"%d" % number for number in range(744, 1000)]
    sender.leave()


def test_a_line_that_was_under_way_is_told_anew(tmp_path: Path) -> None:
    """A supervisor that read half a line and died costs none."""
    sender = part("sender").Sender(str(tmp_path / "report.sock"))
    line = b"x" * 900_000 + b"\n"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "report.sock"))
        listener.listen()
        sender.put(line)
        assert sender.waiting()  # the socket took a part of it
        first, _ = listener.accept()
        first.close()
        sender.flush()
        second, _ = listener.accept()
        second.setblocking(False)
        got = bytearray()
        with second:
            while len(got) < len(line):
                got += second.recv(1 << 20)
                sender.flush()
        assert bytes(got) == line
    sender.leave()


def test_a_descriptor_that_is_no_longer_ours_is_not_written_to(tmp_path: Path) -> None:
    """Closed and taken by a file meanwhile: the file stays empty, and stays open."""
    sender = part("sender").Sender(str(tmp_path / "report.sock"))
    with socket.socket(socket.AF_UNIX) as listener, (tmp_path / "file").open("wb") as file:
        listener.bind(str(tmp_path / "report.sock"))
        listener.listen()
        sender.put(b"1\n")
        fd = sender._socket.fileno()
        os.dup2(file.fileno(), fd)
        sender.put(b"2\n")
        assert (tmp_path / "file").read_bytes() == b""
        os.close(fd)
        listener.accept()[0].close()
        second, _ = listener.accept()
        with second:
            assert second.recv(10) == b"2\n"
    sender.leave()


def test_an_event_loop_that_has_ended_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pulse is told while it runs; after its end there is none, and none is missed."""

    class Loop:
        running = True

        def is_running(self) -> bool:
            return self.running

        def call_later(self, _after_s: float, _call: Any) -> None:
            pass

    tally, lines = part("tally"), []
    monkeypatch.setattr(tally.sender, "put", lambda line: lines.append(json.loads(line)))
    loop = Loop()
    tally.beat(loop)
    tally.tally.tick()
    loop.running = False
    tally.tally.tick()
    assert [line["type"] for line in lines] == ["loop"]
    assert not tally.tally.beat_at
