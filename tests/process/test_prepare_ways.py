# SPDX-License-Identifier: MIT
"""Who decides what a path leads to, on real directories of several owners."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import IS_ROOT, public_tmp

from wolverined.linux.credentials import Credentials
from wolverined.prepare.eyes import as_user, read_bounded, read_of_root
from wolverined.prepare.ways import way_to

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="needs root, to make directories of several owners")

ALICE, BOB = (pwd.getpwnam(name).pw_uid if IS_ROOT else 0 for name in ("games", "mail"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's that all may enter."""
    with public_tmp() as path:
        yield path


def _directory(path: Path, uid: int, mode: int = 0o755, gid: int = 0) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def _file(path: Path, uid: int, text: str = "x", mode: int = 0o644) -> Path:
    path.write_text(text)
    os.chown(path, uid, 0)
    path.chmod(mode)
    return path


def test_a_way_through_roots_directories_is_roots_alone(place: Path) -> None:
    """Below a sticky /tmp, too: what is root's there only root may rename."""
    way = way_to(_file(place / "a", 0))
    assert way.is_roots
    assert way.only_of(ALICE)
    assert way.target == place / "a"


def test_the_owner_of_what_is_reached_decides_nothing_about_the_way(place: Path) -> None:
    """The last directory is looked up in, not looked into."""
    way = way_to(_directory(place / "app", ALICE))
    assert (way.uid, way.deciders, way.shared) == (ALICE, frozenset(), "")


def test_whoever_owns_a_directory_on_the_way_decides(place: Path) -> None:
    """He may put another file in its place."""
    home = _directory(place / "home", ALICE)
    way = way_to(_file(home / "secret", BOB))
    assert way.deciders == {ALICE}
    assert way.only_of(ALICE)
    assert not way.only_of(BOB)
    assert not way_to(_file(home / "roots", 0)).is_roots


def test_links_lead_through_the_directories_of_both_ends(place: Path) -> None:
    """A link in one's home to another's home makes both decide."""
    alice, bob = _directory(place / "alice", ALICE), _directory(place / "bob", BOB)
    _directory(bob / "src", BOB)
    (alice / "src").symlink_to("../bob/src")
    (place / "current").symlink_to(alice / "src")
    way = way_to(place / "current")
    assert way.target == bob / "src"
    assert way.deciders == {ALICE, BOB}


def test_dots_are_walked_and_never_leave_the_root(place: Path) -> None:
    """`..` goes back by what was walked, and of the root to the root."""
    _directory(place / "a", 0)
    assert way_to(place / "a" / ".." / "." / "a").target == place / "a"
    assert way_to(Path("/../../etc")).target == Path("/etc")


def test_circles_and_long_chains_of_links_end(place: Path) -> None:
    """As in the kernel."""
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    (place / "deep").symlink_to("deep/" * 500)
    for name in ("a", "deep"):
        with pytest.raises(OSError, match="symbolic links"):
            way_to(place / name)


def test_what_is_not_there_is_an_error(place: Path) -> None:
    """Also a file in the middle of a path."""
    _file(place / "file", 0)
    for path in (place / "none", place / "file" / "x"):
        with pytest.raises(OSError, match=r"No such|Not a dir"):
            way_to(path)


def test_a_directory_that_a_group_may_write_is_shared(place: Path) -> None:
    """Unless the group is root's, or the owner's own with nobody else in it."""
    games, users = pwd.getpwnam("games").pw_gid, 100
    for name, uid, gid, mode, shared in (
        ("group", ALICE, users, 0o775, True),
        ("world", 0, 0, 0o777, True),
        ("root", 0, 0, 0o775, False),
        ("own", pwd.getpwnam("games").pw_uid, pwd.getpwnam("man").pw_gid, 0o775, True),
        ("sticky", 0, 0, 0o1777, False),
        ("plain", ALICE, games, 0o755, False),
    ):
        directory = _directory(place / name, uid, mode, gid)
        way = way_to(_file(directory / "x", ALICE))
        assert (way.shared == str(directory)) is shared, name


def test_in_a_sticky_directory_the_owner_of_the_entry_decides(place: Path) -> None:
    """Nobody else but the directory's owner may rename it."""
    shared = _directory(place / "tmp", 0, 0o1777)
    assert way_to(_file(shared / "mine", ALICE)).deciders == {ALICE}
    assert way_to(_file(shared / "roots", 0)).is_roots


def test_a_file_that_others_may_write_is_not_roots(place: Path) -> None:
    """Its way may be root's, its text is not."""
    assert not way_to(_file(place / "a", 0, mode=0o666)).is_roots
    assert not way_to(_file(place / "b", ALICE)).is_roots


def test_nothing_on_the_way_is_opened(place: Path) -> None:
    """A pipe that nobody writes to is looked at without waiting, a device without being started."""
    os.mkfifo(place / "pipe")
    assert way_to(place / "pipe").uid == 0
    assert way_to(Path("/dev/null")).target == Path("/dev/null")


def test_looking_as_another_user_is_judged_by_that_users_rights(place: Path) -> None:
    """Groups and capabilities go, and come back."""
    before = (os.geteuid(), os.getegid(), os.getgroups())
    secret = _file(place / "secret", 0, mode=0o600)
    with as_user(Credentials.of_user("games")):
        assert os.geteuid() == ALICE
        assert os.getresuid()[0] == os.getresuid()[2] == 0  # so nobody of that user may signal us
        with pytest.raises(PermissionError):
            secret.read_text()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    assert secret.read_text() == "x"


def test_a_link_to_a_file_of_roots_is_read_with_the_rights_of_whoever_made_it(place: Path) -> None:
    """Root is not led to what the other could not read."""
    home = _directory(place / "home", ALICE)
    secret = _file(place / "secret", 0, "root's", mode=0o600)
    (home / "env").symlink_to(secret)
    way = way_to(home / "env")
    with pytest.raises(PermissionError):
        read_bounded(way, home / "env", most=100, who=Credentials.of_user("games"))
    with pytest.raises(PermissionError):
        read_of_root(way, most=100)
    assert read_bounded(way_to(secret), secret, most=100, who=Credentials.of_user("games")) == b"root's"


def test_reading_is_bounded_and_never_waits(place: Path) -> None:
    """A pipe is no file, an endless device neither, a large file ends one byte after the bound."""
    os.mkfifo(place / "pipe")
    big = _file(place / "big", 0, "y" * 5000)
    assert len(read_of_root(way_to(big), most=100)) == 101
    for path in (place / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match=r"regular file|others than root"):
            read_of_root(way_to(path), most=100)
