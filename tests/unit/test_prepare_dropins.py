# SPDX-License-Identifier: MIT
"""Drop-ins: hostile values stay one value, files change only when they must, PID 1 reads them once."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import WolverineError
from wolverined.prepare.dropins import (
    FILE,
    Dropin,
    lay,
    place,
    reload_units,
    tmpfs,
    units_of,
    user_for,
    value,
)

ADVISER = "wolverine-adviser@shop.service"


def _read_as_systemd_does(word: str) -> str:
    """As systemd's extract_first_word with EXTRACT_UNQUOTE, then unit_full_printf of `%%`."""
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', word)
    plain = re.sub(r"\\(.)", r"\1", word[1:-1])
    assert not re.search(r"(?<!%)(?:%%)*%(?!%)", plain), "a specifier is left"
    return plain.replace("%%", "%")


@given(st.text(min_size=1, max_size=60))
def test_any_text_is_one_value_or_refused(text: str) -> None:
    """What systemd reads is the text, and no second directive can be begun in it."""
    try:
        word = value(text)
    except WolverineError:
        assert any(not char.isprintable() for char in text)
        return
    assert word.isprintable()
    assert _read_as_systemd_does(word) == text


@pytest.mark.parametrize("text", ["", "a\nUser=root", "a\rb", "a\0b", "a\u2028b", "\x1b[0m", "a\tb"])
def test_what_could_begin_a_line_is_refused(text: str) -> None:
    """No line break of any kind, nothing that a terminal would obey."""
    with pytest.raises(WolverineError):
        value(text)


def test_a_path_must_be_absolute() -> None:
    """A relative one, or an option such as `-` or `+`, is none."""
    assert place(Path('/srv/a "b" %n\\x:y')) == '"/srv/a \\"b\\" %%n\\\\x:y"'
    for path in ("srv", "-/srv", "+/srv"):
        with pytest.raises(WolverineError):
            place(path)


def test_a_tmpfs_is_taken_apart_twice() -> None:
    """A colon and a backslash of the path survive the second time, too."""
    assert _read_as_systemd_does(tmpfs("/a:b\\c", "size=1G")) == "/a\\:b\\\\c:size=1G"


def test_each_instance_has_a_user_that_is_a_valid_name() -> None:
    """Whatever the instance is called, and no two alike."""
    names = [user_for("wvt", instance) for instance in ("a:baseline", "a:candidate", "b" * 64, "a.b-c_d")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", name) for name in names)


def test_files_are_written_once_and_only_when_they_differ(tmp_path: Path) -> None:
    """The second time nothing is written; a file that is no longer wanted goes, with its directory."""
    dropin = Dropin(unit=ADVISER, text="[Service]\nUser=x\n")
    file = tmp_path / f"{ADVISER}.d" / FILE
    assert lay("shop", [dropin], units=tmp_path) == 1
    assert file.read_text().endswith(dropin.text)
    assert file.stat().st_mode & 0o777 == 0o644
    assert lay("shop", [dropin], units=tmp_path) == 0
    assert lay("shop", [Dropin(unit=ADVISER, text="[Service]\nUser=y\n")], units=tmp_path) == 1
    assert lay("shop", [], units=tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert lay("shop", [], units=tmp_path) == 0


def test_the_operators_drop_ins_and_other_apps_stay(tmp_path: Path) -> None:
    """Only the files of ours, of this application, are removed."""
    for unit in (ADVISER, "wolverine-adviser@shop2.service"):
        lay(unit.partition("@")[2].partition(".")[0], [Dropin(unit=unit, text="[Service]\n")], units=tmp_path)
    (tmp_path / f"{ADVISER}.d" / "proxy.conf").write_text("[Service]\n")
    assert lay("shop", [], units=tmp_path) == 1
    assert (tmp_path / f"{ADVISER}.d" / "proxy.conf").exists()
    assert (tmp_path / "wolverine-adviser@shop2.service.d" / FILE).exists()


def test_the_units_of_an_application_are_known() -> None:
    """One adviser, two sides of a trial."""
    assert units_of("a") == (
        "wolverine-adviser@a.service",
        "wolverine-trial@a:baseline.service",
        "wolverine-trial@a:candidate.service",
    )


def test_a_failed_reload_is_tried_again(tmp_path: Path) -> None:
    """Only a reload that succeeded counts for others."""
    asked: list[int] = []

    def fails() -> None:
        asked.append(1)
        raise WolverineError("no")

    since = time.monotonic_ns()
    for _ in range(2):
        with pytest.raises(WolverineError):
            reload_units(since=since, prepared=tmp_path, reload=fails)
    assert len(asked) == 2


def test_instances_that_start_together_share_a_reload(tmp_path: Path) -> None:
    """Whoever waited for a reload that began after its own files were written needs none of its own."""
    begun, go_on = threading.Event(), threading.Event()
    asked: list[str] = []

    def reload(who: str, *, slow: bool = False) -> None:
        asked.append(who)
        if slow:
            begun.set()
            assert go_on.wait(10)

    def first() -> None:
        reload_units(since=time.monotonic_ns(), prepared=tmp_path, reload=lambda: reload("first", slow=True))

    def other(who: str, since: int) -> None:
        reload_units(since=since, prepared=tmp_path, reload=lambda: reload(who))

    one = threading.Thread(target=first)
    one.start()
    assert begun.wait(10)
    since = time.monotonic_ns()  # these three wrote while the first reload was under way: they cannot rely on it
    others = [threading.Thread(target=other, args=(f"other {number}", since)) for number in range(3)]
    for thread in others:
        thread.start()
    go_on.set()
    for thread in (one, *others):
        thread.join(10)
    assert len(asked) == 2


@pytest.mark.parametrize("text", ["", "x", "9" * 30])
def test_a_damaged_note_of_the_last_reload_is_no_harm(tmp_path: Path, text: str) -> None:
    """It means one reload more."""
    (tmp_path / ".reloaded").write_text(text)
    asked: list[int] = []
    reload_units(since=time.monotonic_ns(), prepared=tmp_path, reload=lambda: asked.append(1))
    assert asked
