# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.cli.heal import went_well
from wolverined.cli.terminal import (
    Cell,
    Column,
    Terminal,
    ago,
    clean,
    columns_of,
    duration,
    money,
    size,
    speaks_unicode,
    until,
    wants_colour,
)


def terminal(*, colour: bool = False, unicode: bool = True, width: int | None = None) -> Terminal:
    """A terminal that writes into memory."""
    return Terminal(io.StringIO(), colour=colour, unicode=unicode, width=width)


COLUMNS = (Column("ID"), Column("ERROR", flexible=True), Column("COUNT", right=True, rank=2), Column("WHEN", rank=1))
ROWS = [["i1", Cell("TypeError: x is not a function", "31"), "3", "3 min ago"], ["i20", "exit 3", "12", "2 d ago"]]


def test_table_is_aligned() -> None:
    """Columns stand below their titles, numbers to the right, nothing trails."""
    assert terminal().table_lines(COLUMNS, ROWS) == [
        "ID   ERROR                           COUNT  WHEN",
        "i1   TypeError: x is not a function      3  3 min ago",
        "i20  exit 3                             12  2 d ago",
    ]


def test_colours_take_no_room() -> None:
    """A coloured table has the same columns as a plain one."""
    import re

    coloured = terminal(colour=True).table_lines(COLUMNS, ROWS)
    assert "\033[31mTypeError" in coloured[1]
    assert [re.sub(r"\033\[[0-9;]*m", "", line) for line in coloured] == terminal().table_lines(COLUMNS, ROWS)


def test_narrow_terminals() -> None:
    """Texts are cut first, then the columns of the highest rank are left out, the first ones stay."""
    assert terminal(width=40).table_lines(COLUMNS, ROWS)[1] == "i1   TypeError: x is …      3  3 min ago"
    assert terminal(width=30).table_lines(COLUMNS, ROWS)[0].split() == ["ID", "ERROR", "WHEN"]
    assert terminal(width=20).table_lines(COLUMNS, ROWS)[0].split() == ["ID", "ERROR"]
    assert terminal(width=20, unicode=False).table_lines(COLUMNS, ROWS)[1] == "i1   TypeError: x..."


@given(
    rows=st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), max_size=5),
    width=st.integers(10, 100),
    unicode=st.booleans(),
)
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int, *, unicode: bool) -> None:
    """Whatever the texts, every line of a table fits."""
    columns = (Column("A"), Column("LONGER TITLE", flexible=True), Column("C", rank=1, right=True))
    for line in terminal(width=width, unicode=unicode).table_lines(columns, rows):
        assert columns_of(line) <= width


@given(st.text(st.characters(), max_size=60))
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    """Text of others is printed on one line without control characters."""
    assert all(char.isprintable() for char in clean(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\033[31mred\033[0m", "red"),
        ("\033]0;new title\007text", "text"),
        ("\033]8;;http://x\033\\link", "link"),
        ("a\tb\nc\rd", "a b cd"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\x9b2Jx", "x"),
        ("grüße 漢字", "grüße 漢字"),
        ("\033", ""),
    ],
)
def test_escape_sequences_leave_nothing_behind(text: str, shown: str) -> None:
    """Whole sequences go, not only their first byte; letters of every language stay."""
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.25, "250 ms"),
        (59.9, "59 s"),
        (60, "1 min"),
        (192.4, "3 min 12 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 4 + 3600 * 3, "4 d 3 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    """A span is told in its two largest units."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("at", "words"),
    [(None, "never"), (0, "never"), (1000.0, "just now"), (1060.0, "just now"), (990, "10 s ago"), (820, "3 min ago")],
)
def test_ages(at: float | None, words: str) -> None:
    """A time is told as how long ago it is; the future is now."""
    assert ago(at, 1000.0) == words


def test_other_figures() -> None:
    """Sizes, money and what is to come are told in units."""
    assert (size(0), size(2048), size(50_000_000), size(3 * 2**30)) == ("0 B", "2.0 KiB", "48 MiB", "3.0 GiB")
    assert (money(None), money(0), money(0.0012), money(1.5)) == ("?", "$0.00", "$0.0012", "$1.50")
    assert (until(1600.4, 1000.0), until(900.0, 1000.0)) == ("10 min", "0 s")


def test_when_colours_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal has colours unless NO_COLOR or a dumb terminal says no; the option decides before all."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour("auto", tty=True)
    assert not wants_colour("auto", tty=False)
    assert wants_colour("always", tty=False)
    assert not wants_colour("never", tty=True)
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour("auto", tty=True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour("auto", tty=True)
    assert wants_colour("always", tty=True)


@pytest.mark.parametrize(
    ("environment", "unicode"),
    [
        ({}, False),
        ({"LC_ALL": "", "LANG": "C.UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, False),
        ({"LC_CTYPE": "C.utf8"}, True),
    ],
)
def test_symbols_by_locale(environment: dict[str, str], *, unicode: bool) -> None:
    """Symbols beyond ASCII need a UTF-8 locale."""
    assert speaks_unicode(environment) is unicode


def test_ascii_fallback() -> None:
    """Every mark has an ASCII form."""
    plain = terminal(unicode=False)
    marks = [plain.state(word) for word in ("ready", "failed")] + [
        plain.tick(good=True),
        plain.tick(good=False),
        plain.arrow,
    ]
    assert all(mark.isascii() for mark in marks)


def test_json_for_eyes_and_for_programs() -> None:
    """JSON is indented on a terminal, one line elsewhere and in streams; ASCII where the locale is."""
    for width, line, count in ((80, False, 4), (80, True, 1), (None, False, 1)):
        out = io.StringIO()
        Terminal(out, colour=False, unicode=False, width=width).json({"a": [1], "b": "ü"}, line=line)
        assert json.loads(out.getvalue()) == {"a": [1], "b": "ü"}
        assert out.getvalue().count("\n") >= count
        assert out.getvalue().isascii()
        assert (out.getvalue().count("\n") == 1) is (count == 1)


@pytest.mark.parametrize(
    ("result", "good"),
    [
        ({}, True),
        ({"conclusion": "well"}, True),
        ({"conclusion": "healed", "verdict": "proven"}, True),
        ({"conclusion": "approval", "verdict": "unprovable"}, True),
        ({"conclusion": "observed"}, True),
        ({"conclusion": "nothing"}, False),
        ({"conclusion": "rolled_back", "verdict": "proven"}, False),
        ({"verdict": "proven"}, True),
        ({"verdict": "refuted"}, False),
        ({"verdict": "unprovable"}, False),
    ],
)
def test_when_a_heal_went_well(result: dict[str, str], *, good: bool) -> None:
    """A heal has done what it could when nothing was left to do, or a person has the word."""
    assert went_well(result) is good
