# SPDX-License-Identifier: MIT
"""What is found of others' code in a tree that an enemy may have written, and who may read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wolverined.prepare import dependencies
from wolverined.prepare.dependencies import find, readers


def make(root: Path, *files: str) -> Path:
    """A tree of empty files; a name that ends in a slash is a directory."""
    for name in files:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def test_others_code_is_found_at_any_depth_and_not_entered(tmp_path: Path) -> None:
    """node_modules, virtual environments of any name, composer's vendor; not what only looks like them."""
    top = make(
        tmp_path,
        "node_modules/a/node_modules/",
        "packages/web/node_modules/",
        "py/env/pyvenv.cfg",
        "php/vendor/autoload.php",
        "go/vendor/mine.go",
        "target/mine",
        "src/server.js",
        ".git/node_modules/",
    )
    assert find(top).paths == ("node_modules", "php/vendor", "py/env", "packages/web/node_modules")


def test_a_link_is_no_directory_of_dependencies(tmp_path: Path) -> None:
    """It may lead to anything, and PID 1 would follow it."""
    make(tmp_path, "elsewhere/node_modules/", "app/")
    (tmp_path / "app" / "node_modules").symlink_to(tmp_path / "elsewhere" / "node_modules")
    (tmp_path / "app" / "lib").symlink_to(tmp_path / "elsewhere")
    assert find(tmp_path / "app").paths == ()


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    """Deploy tools call the newest release by one."""
    make(tmp_path, "releases/7/node_modules/")
    (tmp_path / "current").symlink_to("releases/7")
    assert find(tmp_path / "current").paths == ("node_modules",)


def test_an_endless_tree_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By entries, by directories, by depth, by what is found: each bound says that something may be missing."""
    make(tmp_path, *(f"d{number}/x" for number in range(30)))
    monkeypatch.setattr(dependencies, "MAX_DIRECTORIES", 10)
    assert find(tmp_path).cut
    monkeypatch.setattr(dependencies, "MAX_DIRECTORIES", 1000)
    monkeypatch.setattr(dependencies, "MAX_ENTRIES", 10)
    assert find(tmp_path).cut
    monkeypatch.setattr(dependencies, "MAX_ENTRIES", 1000)
    monkeypatch.setattr(dependencies, "MAX_FOUND", 3)
    make(tmp_path, *(f"d{number}/node_modules/" for number in range(30)))
    found = find(tmp_path)
    assert found.cut
    assert len(found.paths) == 3


def test_a_search_of_nothing_finds_nothing(tmp_path: Path) -> None:
    """No such directory, or one that may not be read."""
    assert find(tmp_path / "none").paths == ()


def test_who_may_read_is_told_by_the_modes(tmp_path: Path) -> None:
    """Everybody, a group, or the owner alone; a pipe is looked at and never opened for what is in it."""
    make(tmp_path, "open/a", "group/a", "mixed/a", "shut/")
    (tmp_path / "group").chmod(0o750)
    (tmp_path / "mixed" / "a").chmod(0o600)
    os.mkfifo(tmp_path / "mixed" / "pipe", 0o600)
    (tmp_path / "shut").chmod(0o700)
    gid = (tmp_path / "group").stat().st_gid
    assert readers(tmp_path / "open").groups == frozenset()
    assert not readers(tmp_path / "open").closed
    assert readers(tmp_path / "group").groups == {gid}
    assert readers(tmp_path / "mixed").closed
    assert readers(tmp_path / "shut").closed
    assert readers(tmp_path / "none").closed
    assert readers(tmp_path / "open" / "a").groups == frozenset()


def test_below_an_enemys_top_no_link_is_followed(tmp_path: Path) -> None:
    """A directory that became a link since it was found says nothing of where it leads."""
    make(tmp_path, "secret/", "app/")
    (tmp_path / "app" / "node_modules").symlink_to(tmp_path / "secret")
    assert readers(Path("node_modules"), top=tmp_path / "app").closed
