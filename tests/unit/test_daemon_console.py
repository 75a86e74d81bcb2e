# SPDX-License-Identifier: MIT
import io
import threading

import pytest

from wolverined.daemon.console import Console, Renderer, has_unicode, wants_colour


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        """It is one."""
        return True


class Stopped(io.StringIO):
    """A terminal that takes nothing until it is let go, as after Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        """Wait until it is let go."""
        self.go.wait(10)
        return super().write(text)


def event(**fields: object) -> dict[str, object]:
    """Give an event as the narrator hands it to the renderer."""
    return {"event": "hello", "name": "app.ready", "at": 0.0, "severity": "info", **fields}


def test_a_line_says_what_happened_and_what_it_is_about() -> None:
    """Name, message, incident and repair all stand in the line."""
    line = Renderer(colour=False, unicode=True)(event(incident="i1", repair="r2"))
    assert "app.ready" in line
    assert "hello" in line
    assert line.endswith("[i1 r2]")


def test_without_colour_there_is_no_escape_sequence() -> None:
    """A log file gets text only."""
    renderer = Renderer(colour=False, unicode=True)
    assert "\033" not in renderer(event(severity="error")) + renderer.app_line(0.0, "stderr", "x")


@pytest.mark.parametrize("hostile", ["\033[2J", "\r", "\x9b31m", "\x07", "\u202e", "\x00"])
def test_hostile_output_of_the_app_cannot_steer_the_terminal(hostile: str) -> None:
    """Control characters and bidirectional overrides are shown, not obeyed."""
    line = Renderer(colour=False, unicode=True).app_line(0.0, "stdout", f"a{hostile}b")
    assert hostile not in line


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """The marks fall back to ASCII with the encoding."""
    renderer = Renderer(colour=False, unicode=False)
    assert (renderer(event()) + renderer.app_line(0.0, "stdout", "x")).isascii()


def test_a_stopped_terminal_does_not_block_the_daemon_and_what_it_missed_is_counted() -> None:
    """Lines beyond the queue are left out, and the terminal is told how many once it goes on."""
    out = Stopped()
    console = Console(out)
    for number in range(5000):
        console.put(f"line {number}")
    out.go.set()
    while "line 0" not in out.getvalue():  # the writer thread works; the test's own timeout ends a hang
        pass
    console.put("after")
    console.close()
    assert "lines left out" in out.getvalue() or "after" in out.getvalue()
    assert out.getvalue().count("\n") < 5000


def test_a_terminal_that_went_away_is_no_error() -> None:
    """A closed stream ends the writing, not the daemon."""
    out = io.StringIO()
    console = Console(out)
    out.close()
    console.put("x")
    console.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({}, False)],
)
def test_colour_follows_the_terminal_and_no_color(environ: dict[str, str], expected: bool) -> None:
    """NO_COLOR and a dumb terminal switch it off."""
    assert wants_colour(Terminal(), environ) is expected
    assert not wants_colour(io.StringIO(), environ)
    assert has_unicode(Terminal())
