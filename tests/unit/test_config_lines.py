# SPDX-License-Identifier: MIT
from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.lines import key_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# [app]\n[app] # the app\nport = 1\n", {"app": 2, "app.port": 3}),
        ("[app]\r\nport = 1\r\n", {"app": 1, "app.port": 2}),
        ("[heal.trial]\nsetup = []\n", {"heal.trial": 1, "heal.trial.setup": 2}),
        ("[ heal . 'trial' ]\n a . \"b\" = 1\n", {"heal.trial": 1, "heal.trial.a.b": 2}),
        ("[[app]]\nx = 1\n[[app]]\nx = 2\n", {"app": 1, "app.x": 2}),
        ('["a]b"]\nx = 1\n', {"a]b": 1, "a]b.x": 2}),
        ('[app]\nx = """\n[stop]\ny = 1\n"""\nz = 1\n', {"app": 1, "app.x": 2, "app.z": 6}),
        ("[app]\nx = '''\n[stop]\n'''\nz = 1\n", {"app": 1, "app.x": 2, "app.z": 5}),
        ('[app]\nx = """ \\""" [\n[stop]\n"""\nz = 1\n', {"app": 1, "app.x": 2, "app.z": 5}),
        ('[app]\nx = """a""""\nz = 1\n', {"app": 1, "app.x": 2, "app.z": 3}),
        (
            '[heal.trial]\nsetup = [\n["npm", "ci"]\n]\nz = 1\n',
            {"heal.trial": 1, "heal.trial.setup": 2, "heal.trial.z": 5},
        ),
        ('[a]\nx = [ # ]\n"y = 1",\n"]", \']\'\n]\nz = 1\n', {"a": 1, "a.x": 2, "a.z": 6}),
        ('[a]\nx = {y = [\n{z = 1}\n]}\nw = "\u2028"\nv = 1\n', {"a": 1, "a.x": 2, "a.w": 5, "a.v": 6}),
        ('[a]\nx = "#" # ["\ny = 1\n', {"a": 1, "a.x": 2, "a.y": 3}),
        ("[a]\n'x' = 1\n", {"a": 1, "a.x": 2}),
    ],
)
def test_every_key_has_its_line(text: str, expected: dict[str, int]) -> None:
    """Headers and keys are found; what strings, comments and arrays hold is not taken for one."""
    tomllib.loads(text)
    assert key_lines(text) == expected


scalars = st.one_of(
    st.integers(-9, 9).map(str),
    st.sampled_from(
        ["true", '"[x]"', "'y = 1'", '"""\n[stop]\nk = 1\n"""', "'''\n]\n'''", '"a\\"b#"', "[\n1,\n2\n]", "{}"]
    ),
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b-c", '"d e"', "f.g"]), scalars, st.sampled_from(["", " # [z]"]))))
def test_every_key_that_toml_sees_is_found(entries: list[tuple[str, str, str]]) -> None:
    """In whatever order keys and values come, each key's line is where it stands."""
    lines, expected = ["[t]"], {"t": 1}
    for index, (key, value, comment) in enumerate(entries):
        name = f"{key}{index}" if not key.endswith('"') else f'"d e{index}"'
        expected[f"t.{name.strip(chr(34))}"] = len(lines) + 1
        lines += f"{name} = {value}{comment}".split("\n")
    text = "\n".join(lines)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # two keys of one dotted table in a row may clash
    assert key_lines(text) == expected


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    """Whatever is read, the answer is a map of lines that exist."""
    count = text.count("\n") + 1
    found: dict[str, Any] = dict(key_lines(text))
    assert all(1 <= line <= count for line in found.values())


def test_a_large_file_is_read_in_one_go() -> None:
    """The work grows with the text, not with its square."""
    text = (
        '[a]\nx = "'
        + '\\"' * 100_000
        + '"\n'
        + 'y = """'
        + "'" * 100_000
        + '"""\n'
        + "z = ["
        + "'[', " * 50_000
        + "]\n"
    )
    text += "".join(f"k{number} = {{a = []}}\n" for number in range(10_000))
    tomllib.loads(text)
    assert key_lines(text)["a.k9999"] == 10_004
