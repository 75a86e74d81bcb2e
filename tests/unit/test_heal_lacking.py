# SPDX-License-Identifier: MIT
"""A verdict that says which file a trial lacked can be acted upon."""

from __future__ import annotations

import pytest

from wolverined.heal.lacking import lacking

ABSENT = {"data/big.db": "bigger than 32 MiB", "models": "not for the owner of the source to read"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Error: ENOENT: no such file or directory, open '/srv/app/data/big.db'", "data/big.db (bigger than 32 MiB)"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'models/x.bin'", "models (not for"),
        ("Error: Cannot find module 'express'", "the source and its dependencies alone"),
        ("sqlite3.OperationalError: unable to open database file", "the source and its dependencies alone"),
        ("TypeError: x is not a function", ""),
        ("ENOENT: /srv/app/other-models/x, /srv/app/data/big.db2", "the source and its dependencies alone"),
    ],
)
def test_what_is_wanting_is_named(line: str, words: str) -> None:
    """The very file when it is known, else where to look; nothing when nothing speaks for it."""
    said = lacking(["up", line], ABSENT)
    assert words in said if words else said == ""
    assert ("heal.trial" in said) is bool(words)


def test_a_trial_that_sees_the_directory_lacks_nothing() -> None:
    """In a terminal a missing file is missing in service, too."""
    assert lacking(["ENOENT: no such file"], None) == ""


def test_a_long_output_costs_little() -> None:
    """Only its end is looked at."""
    assert lacking(["ENOENT"] + ["x"] * 200, {}) == ""
