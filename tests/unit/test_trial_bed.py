# SPDX-License-Identifier: MIT
"""The tree of a trial's unit is filled by descriptors, whatever heal sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from wolverined.errors import EditRejected, SandboxUnavailable, UsageError
from wolverined.heal.trial.bed import Bed
from wolverined.heal.whole import Entry, Kind


def test_files_directories_and_links_stand_as_they_were(tmp_path: Path) -> None:
    """Content, permission bits, targets; parents are made when they did not come first."""
    entries = (
        Entry(path="src", kind=Kind.DIRECTORY, mode=0o500),
        Entry(path="src/a.sh", mode=0o755),
        Entry(path="deep/er/b", mode=0o4600),
        Entry(path="link", kind=Kind.LINK, target="../outside"),
    )
    with Bed(str(tmp_path)) as bed:
        bed.load(entries, (b"A", b"B"))
    assert (tmp_path / "src" / "a.sh").read_bytes() == b"A"
    assert (tmp_path / "src" / "a.sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "deep" / "er" / "b").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "src").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "link").readlink() == Path("../outside")


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../x", "a//b", "", ".", "a/./b", "a\0b", "/".join("a" * 200)])
def test_no_path_leads_out_of_the_tree(tmp_path: Path, path: str) -> None:
    """Heal is not believed either."""
    with Bed(str(tmp_path)) as bed:
        with pytest.raises(UsageError):
            bed.load((Entry(path=path),), (b"",))
        with pytest.raises(UsageError):
            bed.change(((path, b"", 0o644),))
    assert list(tmp_path.iterdir()) == []


def test_no_link_of_the_tree_is_followed(tmp_path: Path) -> None:
    """Neither by a file that is sent after it nor by a patch."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("kept")
    (tmp_path / "tree").mkdir()
    with Bed(str(tmp_path / "tree")) as bed:
        bed.load((Entry(path="link", kind=Kind.LINK, target=str(outside)),), ())
        with pytest.raises(SandboxUnavailable):
            bed.load((Entry(path="link/x"),), (b"new",))
        for data in (b"new", None):
            with pytest.raises(EditRejected):
                bed.change((("link/x", data, 0o644),))
    assert (outside / "x").read_text() == "kept"


def test_a_patch_replaces_removes_and_makes_files(tmp_path: Path) -> None:
    """One that is gone already is no trouble; one in the place of a directory is."""
    with Bed(str(tmp_path)) as bed:
        bed.load((Entry(path="a"), Entry(path="b"), Entry(path="d", kind=Kind.DIRECTORY)), (b"A", b"B"))
        bed.change((("a", b"new", 0o755), ("b", None, 0), ("c/c", b"C", 0o600), ("x", None, 0), ("y/y", None, 0)))
        with pytest.raises(EditRejected):
            bed.change((("d", b"", 0o644),))
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "c" / "c").read_bytes() == b"C"
    assert not (tmp_path / "y").exists()


def test_blobs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Too few, too many."""
    with Bed(str(tmp_path)) as bed:
        for blobs in ((), (b"", b"")):
            with pytest.raises(UsageError):
                bed.load((Entry(path="a"),), blobs)
