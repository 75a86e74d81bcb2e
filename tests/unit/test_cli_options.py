# SPDX-License-Identifier: MIT
from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.cli import instances
from wolverined.cli.commands import split
from wolverined.cli.instances import everywhere, locate
from wolverined.cli.options import count, seconds, split_name
from wolverined.errors import NoSuchInstance, Unreachable, UsageError

LIST, ONE, EITHER = ("",), ("r#",), ("", "show i#")


@pytest.mark.parametrize(
    ("words", "shapes", "named", "name", "rest"),
    [
        (["shop"], LIST, False, "shop", []),
        (["shop", "r1"], ONE, False, "shop", ["r1"]),
        (["shop", "show", "i2"], EITHER, False, "shop", ["show", "i2"]),
        (["show", "show", "i2"], EITHER, False, "show", ["show", "i2"]),
        ([], LIST, True, "", []),
        (["shop"], LIST, True, "shop", []),
        (["r1"], ONE, True, "", ["r1"]),
        (["r1", "r2"], ONE, True, "r1", ["r2"]),
        (["show", "i2"], EITHER, True, "", ["show", "i2"]),
    ],
)
def test_name_and_rest(words: list[str], shapes: tuple[str, ...], *, named: bool, name: str, rest: list[str]) -> None:
    """NAME comes first; where the directory names the instance it may be missing."""
    assert split_name(words, shapes, named=named, usage="x") == (name, rest)


@pytest.mark.parametrize(
    ("words", "shapes", "named", "says"),
    [
        ([], LIST, False, "which application"),
        ([], ONE, True, "which application"),
        (["shop"], ONE, False, "something is missing"),
        (["shop", "3"], ONE, False, "'3' is no id of a repair"),
        (["shop", "i3"], ONE, False, "'i3' is no id of a repair"),
        (["shop", "show", "r3"], EITHER, False, "'r3' is no id of a incident"),
        (["shop", "shwo", "i3"], EITHER, False, "cannot make sense of 'shwo i3'"),
        (["shop", "x"], LIST, False, "cannot make sense of 'x'"),
        (["shop", "r1", "r2"], ONE, True, "cannot make sense"),
    ],
)
def test_wrong_words(words: list[str], shapes: tuple[str, ...], *, named: bool, says: str) -> None:
    """What does not fit is named, with a hint."""
    with pytest.raises(UsageError) as error:
        split_name(words, shapes, named=named, usage="x NAME")
    assert says in error.value.message
    assert error.value.hint


@given(words=st.lists(st.text(max_size=8), max_size=5), named=st.booleans())
def test_any_words_are_an_answer_or_a_usage_error(words: list[str], *, named: bool) -> None:
    """No words make the reading of the command line fail in another way."""
    for shapes in (LIST, ONE, EITHER):
        with contextlib.suppress(UsageError):
            split_name(words, shapes, named=named, usage="x")


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("30s", 30), ("10m", 600), ("1.5h", 5400), ("1d", 86400), ("0", 0)]
)
def test_durations(text: str, value: float) -> None:
    """Durations carry their unit."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "-1", "10x", "1e3", "10 m", "٣", "inf"])
def test_no_durations(text: str) -> None:
    """Everything else is refused with a word on how to write it."""
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


@pytest.mark.parametrize("text", ["", "-1", "1001", "99999", "x", "1.0"])
def test_no_counts(text: str) -> None:
    """A number of lines is one that the API gives."""
    with pytest.raises(argparse.ArgumentTypeError):
        count(text)


def test_options_before_the_command() -> None:
    """Options of every command may stand before it, with their values."""
    assert split(["--runtime-dir", "/x", "--json", "status", "a", "-n"]) == (
        ["--runtime-dir", "/x", "--json"],
        "status",
        ["a", "-n"],
    )
    assert split(["--color=never", "list"]) == (["--color=never"], "list", [])
    assert split(["--help"]) == (["--help"], "", [])
    assert split(["--runtime-dir"]) == (["--runtime-dir"], "", [])
    with pytest.raises(UsageError):
        split(["-f", "logs"])


def test_instances_are_found_by_their_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own instances come before the system's of the same name; files are none."""
    own, system = tmp_path / "own", tmp_path / "system"
    for path in (own / "wolverine" / "shop", own / "wolverine" / "blog", system / "shop", system / "mail"):
        path.mkdir(parents=True)
    (system / "file").touch()
    monkeypatch.setattr(instances, "SYSTEM", str(system))
    environment = {"XDG_RUNTIME_DIR": str(own)}
    assert [found.name for found in everywhere(environment)] == ["blog", "mail", "shop"]
    assert locate("shop", environment).directory == f"{own}/wolverine/shop"
    assert locate("mail", environment).directory == f"{system}/mail"
    assert [found.name for found in everywhere({})] == ["mail", "shop"]
    assert everywhere({"XDG_RUNTIME_DIR": "relative"}) == everywhere({})


def test_unknown_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is told the nearest one, a configured one is unreachable, a path is no name."""
    monkeypatch.setattr(instances, "SYSTEM", str(tmp_path / "run"))
    monkeypatch.setattr(instances, "CONFIGURATIONS", str(tmp_path / "etc"))
    (tmp_path / "run" / "shop").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "blog.toml").touch()
    with pytest.raises(NoSuchInstance, match="did you mean shop"):
        locate("shpo", {})
    with pytest.raises(NoSuchInstance, match="there are: blog, shop"):
        locate("qqq", {})
    with pytest.raises(Unreachable, match="systemctl start wolverine@blog"):
        locate("blog", {})
    for name in ("", ".", "..", "../run/shop", "-x", "a/b"):
        with pytest.raises(UsageError):
            locate(name, {})
