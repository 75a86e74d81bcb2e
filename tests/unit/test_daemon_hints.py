# SPDX-License-Identifier: MIT
"""What the kernel refused the app is told once, in the words that mend it, at a price that is bounded."""

from __future__ import annotations

import asyncio
import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.places import eventually_async

from wolverined.daemon import hints
from wolverined.daemon.hints import LOOKED_AT, TOLD, Hints, unit_of, way
from wolverined.daemon.listener import Listener
from wolverined.model import LogLine
from wolverined.redact import Redactor

ME = pwd.getpwuid(os.geteuid()).pw_name


class Narrator:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[LogLine] = []

    def tell(self, name: str, message: str, **about: Any) -> None:
        """Keep one event."""
        assert name == "app.hint"
        self.told.append((message, about))

    def line(self, line: LogLine) -> None:
        """Keep one line."""
        self.lines.append(line)


def told(act: Callable[[Hints], object], *, user: str = ME, unit: str = "") -> list[tuple[str, dict[str, Any]]]:
    """What is told while `act` speaks for the app, and until every look has ended."""
    narrator = Narrator()

    async def scenario() -> None:
        found = Hints(name="shop", narrator=narrator, app=lambda: (user, "/srv/shop"))  # type: ignore[arg-type]
        found._unit = unit
        act(found)
        await eventually_async(lambda: not any(thread.name == "hints" for thread in threading.enumerate()))
        await asyncio.sleep(0)

    asyncio.run(scenario())
    return narrator.told


def test_a_read_only_path_is_told_with_the_line_to_add() -> None:
    """The event names the unit, the drop-in's line and, for programs, path and error."""
    line = "Error: EROFS: read-only file system, open '/usr/share/shop/x'"
    ((message, about),) = told(lambda hints: hints.heard(line, 3), unit="wolverine@shop.service")
    assert "systemctl edit wolverine@shop.service" in message
    assert "ReadWritePaths=/usr/share/shop" in message
    assert (about["severity"], about["generation"]) == ("warn", 3)
    assert (about["fields"]["error"], about["fields"]["path"]) == ("EROFS", "/usr/share/shop/x")


def test_each_path_is_told_once_a_generation() -> None:
    """The same line again says nothing new; after a restart it is told again."""

    def act(found: Hints) -> None:
        for generation in (1, 1, 2):
            for path in ("/usr/a", "/usr/b", "/usr/a"):
                found.heard(f"open {path}: read-only file system", generation)

    assert [about["fields"]["path"] for _, about in told(act)] == ["/usr/a", "/usr/b", "/usr/a", "/usr/b"]


def test_few_are_told() -> None:
    """An app that goes through a thousand files is told of the first ones."""

    def act(found: Hints) -> None:
        for number in range(1000):
            found.heard(f"open /usr/{number}: read-only file system", 1)

    assert len(told(act)) == TOLD


def test_lines_that_only_resemble_one_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that prints the words for each request costs nothing after a while; plain lines never count."""
    looked: list[str] = []
    real = hints.refusal
    monkeypatch.setattr(hints, "refusal", lambda line: looked.append(line) or real(line))

    def act(found: Hints) -> None:
        for _ in range(3 * LOOKED_AT):
            found.heard("GET / 200", 1)
        for _ in range(3 * LOOKED_AT):
            found.heard("user bob: permission denied", 1)
        found.heard("open /usr/x: read-only file system", 1)
        found.heard("open /usr/x: read-only file system", 2)

    assert len(told(act)) == 1
    assert len(looked) == 4 * LOOKED_AT + 1


def test_whose_a_file_is(tmp_path: Path) -> None:
    """Looked up beside the loop: the part of the way that keeps the app's user out, with owner and mode."""
    place = tmp_path / "private"
    place.mkdir(0o700)
    line = f"PermissionError: [Errno 13] Permission denied: '{place}/x'"
    ((message, _),) = told(lambda hints: hints.heard(line, 1), user="nobody" if os.geteuid() == 0 else ME)
    if os.geteuid() == 0:
        assert "belongs to root (mode 0700)" in message
    else:
        assert "namei -l" in message


def test_an_unknown_user_is_passed_over() -> None:
    """Nothing that could be said of a user whom nobody knows would be right."""
    assert told(lambda hints: hints.heard("open /usr/x: read-only file system", 1), user="no-such-user") == []


def test_the_way_to_a_path(tmp_path: Path) -> None:
    """From the root to what is there; what is missing ends it, and is no secret."""
    parts, to_the_end = way(f"{tmp_path}/missing/x")
    assert to_the_end
    assert [part.path for part in parts] == [*(str(place) for place in reversed(tmp_path.parents)), str(tmp_path)]
    (tmp_path / "file").write_text("")
    assert way(f"{tmp_path}/file/x")[0][-1].path == f"{tmp_path}/file"


def test_the_unit_is_read_from_the_cgroup() -> None:
    """Only a unit of ours is named: no drop-in would help another one."""
    prefix = "12:pids:/x\n0::/system.slice/system-wolverine.slice"
    assert unit_of(f"{prefix}/wolverine@shop.service/supervisor\n") == "wolverine@shop.service"
    assert unit_of(f"{prefix}/wolverine@shop.service\n") == "wolverine@shop.service"
    assert unit_of("0::/user.slice/session-1.scope\n") == ""
    assert unit_of("") == ""


def test_the_listener_lets_it_hear() -> None:
    """Each line of the app is told first, then looked at."""
    narrator, heard = Narrator(), []

    class Ears:
        def heard(self, line: str, generation: int) -> None:
            heard.append((line, generation, len(narrator.lines)))

    listener = Listener(app_root=lambda: "/", narrator=narrator, redactor=lambda: Redactor({}))  # type: ignore[arg-type]
    line = LogLine(cursor=1, at=0.0, stream="stdout", text="x", generation=4)
    listener.line(line)
    listener.hints = Ears()  # type: ignore[assignment]
    listener.line(line)
    assert heard == [("x", 4, 2)]
