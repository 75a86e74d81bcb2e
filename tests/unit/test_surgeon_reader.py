# SPDX-License-Identifier: MIT
"""Who may read what, by owner, group and mode."""

from __future__ import annotations

import os
import stat

import pytest

from wolverined.errors import SurgeryAborted
from wolverined.heal.surgeon.reader import Reader, reader_of

APP = Reader(name="shop", uid=1000, groups=frozenset({1000, 33}))


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    """What the kernel says of a file."""
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "lacks"),
    [
        (0o400, 1000, 0, False),
        (0o044, 1000, 0, True),  # the owner's bits alone count for the owner
        (0o440, 0, 33, False),
        (0o404, 0, 33, True),  # so for the group
        (0o440, 0, 34, True),
        (0o404, 0, 34, False),
        (0o000, 0, 0, True),
        (0o111, 0, 0, True),
    ],
)
def test_the_first_class_that_fits_decides(mode: int, uid: int, gid: int, lacks: bool) -> None:
    """As in path_resolution(7); of a directory the right to enter counts in place of that to read."""
    assert APP.lacks(status(stat.S_IFREG | mode, uid, gid)) is lacks
    enter = (mode & 0o444) >> 2 | (mode & 0o111) << 2
    assert APP.lacks(status(stat.S_IFDIR | enter, uid, gid)) is lacks


def test_root_reads_everything() -> None:
    """Its files and others'."""
    assert not Reader(name="root", uid=0, groups=frozenset({0})).lacks(status(stat.S_IFREG, 1000, 1000))


def test_a_surgeon_who_is_the_app_asks_the_kernel() -> None:
    """Nothing is decided by modes then; nor without a name. A name that nobody has is told."""
    assert reader_of("") is None
    assert reader_of(str(os.geteuid())) is None
    assert reader_of(str(os.geteuid() + 1)) is not None
    with pytest.raises(SurgeryAborted, match="nobody-of-that-name"):
        reader_of("nobody-of-that-name")
