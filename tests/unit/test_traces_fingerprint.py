# SPDX-License-Identifier: MIT
"""The same trouble has the same name; other trouble has another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.model import Exit, IncidentKind
from wolverined.traces import fingerprint, parse, template


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("name 'usrs' is not defined", "name <str> is not defined"),
        ("can't read 17 bytes of 0xdeadbeef", "can't read <n> bytes of <hex>"),
        ("open '/srv/a b.json' failed", "open <str> failed"),
        ("no such file /srv/x/y.json:12", "no such file <path>:<n>"),
        ("user 9f8e7d6c-1234-4abc-8def-001122334455 is gone", "user <id> is gone"),
        ("GET http://10.0.0.1:80/x?y=1 gave 503", "GET <url> gave <n>"),
        ("commit 3f786850e387550f is bad", "commit <hex> is bad"),
        ("password «secret:DB» refused", "password <str> refused"),
        ('key "a\\"b" and `c`', "key <str> and <str>"),
        ("deadbeat cafes", "deadbeat cafes"),
    ],
)
def test_values_become_marks(message: str, expected: str) -> None:
    """What differs from one occurrence to the next is taken out of a message."""
    assert template(message) == expected


@given(st.text(max_size=600))
def test_a_template_is_bounded_and_survives_anything(message: str) -> None:
    """Any text has a template."""
    assert len(template(message)) <= 400 * 6


def node_trace(
    root: str, *, line: int = 12, name: str = "usrs", function: str = "load", kind: str = "TypeError"
) -> str:
    """Return the output of one crash."""
    return (
        f"{kind}: Cannot read properties of undefined (reading '{name}')\n"
        f"    at {function} ({root}/server/db.js:{line}:7)\n    at main ({root}/server/index.js:{line + 1}:1)\n"
    )


def named(text: str, root: str, kind: IncidentKind = IncidentKind.CRASH) -> str:
    """Return the fingerprint of an output."""
    return fingerprint(kind, parse(text, app_root=root)[-1], None)


def test_place_lines_and_values_do_not_matter() -> None:
    """Another directory, another line, another value: the same fingerprint of 16 hexadecimal digits."""
    one = named(node_trace("/srv/app"), "/srv/app")
    two = named(node_trace("/home/x/other", line=99, name="id"), "/home/x/other")
    assert one == two
    assert len(one) == 16
    assert int(one, 16) >= 0


def test_type_function_and_kind_matter() -> None:
    """Another error type, another function or another kind of incident is other trouble."""
    root = "/srv/app"
    names = {
        named(node_trace(root), root),
        named(node_trace(root, kind="RangeError"), root),
        named(node_trace(root, function="save"), root),
        named(node_trace(root), root, IncidentKind.BOOT),
    }
    assert len(names) == 4


def test_without_own_frames_the_dependency_counts_wherever_it_is_installed() -> None:
    """Paths of packages are cut down to what is the same on every machine."""
    text = "Error: x\n    at f ({}/node_modules/dep/index.js:1:1)\n"
    assert named(text.format("/a"), "/a") == named(text.format("/b/c"), "/b/c")
    assert named(text.format("/a"), "/a") != named(text.format("/a").replace("dep", "other"), "/a")


def test_without_a_trace_the_exit_is_the_name() -> None:
    """Code and signal tell exits apart; the generation does not."""

    def of(**fields: int) -> str:
        return fingerprint(IncidentKind.CRASH, None, Exit(generation=fields.pop("generation", 1), **fields))

    assert of(code=3) == of(code=3, generation=9)
    assert len({of(code=3), of(code=4), of(signal=3), of(signal=9), fingerprint("hang", None, None)}) == 5
