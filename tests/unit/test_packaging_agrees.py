# SPDX-License-Identifier: MIT
"""What is written down in several places of the source says the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import wolverined

TOP = Path(__file__).resolve().parents[2]


def locked() -> dict[str, str]:
    """Name and version of everything that the package brings along."""
    text = (TOP / "packaging/locks/runtime.lock").read_text()
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", text))


def stanzas() -> list[str]:
    """The paragraphs of debian/copyright."""
    return (TOP / "debian/copyright").read_text().split("\n\n")


def test_one_version_everywhere() -> None:
    """pyproject.toml, the program, the changelog of the package and the man pages name the same version."""
    version = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
    assert wolverined.__version__ == version
    assert (TOP / "debian/changelog").read_text().startswith(f"wolverined ({version}) bookworm;")
    for page in (TOP / "packaging/man").iterdir():
        assert f'"wolverined {version}"' in page.read_text().splitlines()[1], page.name


@pytest.mark.parametrize("name", locked())
def test_the_licence_of_each_library_is_told(name: str) -> None:
    """debian/copyright has the files of every locked library, with a holder and a licence."""
    module = name.replace("-", "_")
    mine = [text for text in stanzas() if re.search(rf"vendor/{module}-\*\.dist-info/\*", text)]
    assert len(mine) == 1
    assert re.search(rf"vendor/{module}(/\*|\.py)$", mine[0], re.MULTILINE)
    assert re.search(r"(?m)^Copyright: \S", mine[0])
    assert re.search(r"(?m)^License: \S", mine[0])


def test_no_library_is_told_that_is_not_brought() -> None:
    """What left the lock left debian/copyright too."""
    told = set(re.findall(r"vendor/(\w+)-\*\.dist-info", (TOP / "debian/copyright").read_text()))
    assert told == {name.replace("-", "_") for name in locked()}


def test_each_licence_that_is_named_is_there() -> None:
    """Every licence that a paragraph names has a paragraph with its text, or with the place where Debian has it."""
    named = {
        licence
        for text in stanzas()
        if text.startswith("Files:")
        for licence in re.search(r"(?m)^License: (.*)$", text)[1].split(" or ")  # type: ignore[index]
    }
    there = {match[1] for text in stanzas() if (match := re.match(r"License: (\S+)\n \S", text))}
    assert named == there


def test_the_lock_names_no_place() -> None:
    """A lock says what and with which hash, never from where."""
    for path in (TOP / "packaging/locks").iterdir():
        assert "://" not in path.read_text(), path.name
        assert "--index" not in path.read_text(), path.name
