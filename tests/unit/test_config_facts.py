# SPDX-License-Identifier: MIT
"""The facts that root leaves for the supervisor: written whole, read strictly."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wolverined.config import facts
from wolverined.config.facts import Facts
from wolverined.errors import ConfigError


def _place(tmp_path: Path, name: str = "myapp") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every field arrives as it was left."""
    prepared = _place(tmp_path)
    told = Facts(user="web", apply_as="deploy", directory_owner="deploy", ai=True, ai_base_url="https://a/v1")
    facts.write("myapp", told, prepared=prepared)
    assert facts.read("myapp", prepared=prepared) == told


def test_facts_are_for_one_group(tmp_path: Path) -> None:
    """The file is readable for owner and group, and nobody else."""
    prepared = _place(tmp_path)
    facts.write("myapp", Facts(), prepared=prepared, group=os.getegid())
    found = (prepared / "myapp" / "facts.json").stat()
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_gid == os.getegid()


def test_writing_replaces_and_leaves_no_draft(tmp_path: Path) -> None:
    """A second writing replaces the first, also over the draft of a writer that was killed."""
    prepared = _place(tmp_path)
    (prepared / "myapp" / f".facts.json.{os.getpid()}.new").write_text("half")
    facts.write("myapp", Facts(user="one"), prepared=prepared)
    facts.write("myapp", Facts(user="two"), prepared=prepared)
    assert [file.name for file in (prepared / "myapp").iterdir()] == ["facts.json"]
    assert facts.read("myapp", prepared=prepared).user == "two"


def test_a_link_where_the_file_should_be_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """What somebody linked to is untouched."""
    prepared = _place(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (prepared / "myapp" / "facts.json").symlink_to(victim)
    facts.write("myapp", Facts(), prepared=prepared)
    assert victim.read_text() == "mine"
    assert not (prepared / "myapp" / "facts.json").is_symlink()


def test_a_failed_writing_leaves_the_old_facts(tmp_path: Path) -> None:
    """When the place of the file cannot be replaced, no draft stays behind."""
    prepared = _place(tmp_path)
    (prepared / "myapp" / "facts.json" / "in-the-way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        facts.write("myapp", Facts(), prepared=prepared)
    assert [file.name for file in (prepared / "myapp").iterdir()] == ["facts.json"]


def test_without_facts_the_hint_says_how_to_get_them(tmp_path: Path) -> None:
    """A missing file is a configuration error whose hint names the unit."""
    with pytest.raises(ConfigError) as caught:
        facts.read("myapp", prepared=tmp_path)
    assert "wolverine@myapp" in caught.value.hint
    assert caught.value.exit_code != 78  # which nobody would try again; root looks anew before the next start


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"v": "1"}', b'{"v": 2}', b'{"user": 3}', b"\xff\xfe", b"[" * 100_000, b'{"ai": 1}'],
)
def test_facts_that_make_no_sense_are_refused(tmp_path: Path, data: bytes) -> None:
    """Half a file, another version and wrong types end in an error that says so."""
    prepared = _place(tmp_path)
    (prepared / "myapp" / "facts.json").write_bytes(data)
    with pytest.raises(ConfigError):
        facts.read("myapp", prepared=prepared)


def test_unknown_fields_of_a_newer_prepare_are_passed_over(tmp_path: Path) -> None:
    """An upgrade may write more than a supervisor of before knows."""
    prepared = _place(tmp_path)
    (prepared / "myapp" / "facts.json").write_bytes(b'{"v": 1, "user": "web", "later": [1]}')
    assert facts.read("myapp", prepared=prepared).user == "web"
