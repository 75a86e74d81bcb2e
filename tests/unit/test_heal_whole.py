# SPDX-License-Identifier: MIT
"""What travels to a trial that does not see the app's directory, and how it is cut into messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal import whole
from wolverined.heal.whole import Entry, Kind, Whole, batches, is_data, is_dependency, is_left, is_log


@pytest.mark.parametrize(
    ("name", "inside", "others"),
    [
        ("node_modules", [], True),
        (".venv", [], True),
        ("env", ["pyvenv.cfg", "bin"], True),
        ("vendor", ["autoload.php"], True),
        ("vendor", ["ours.js"], False),
        ("target", ["CACHEDIR.TAG"], True),
        ("target", ["goal.js"], False),
        ("src", ["autoload.php"], False),
    ],
)
def test_others_code_is_known_by_name_or_mark(name: str, inside: list[str], others: bool) -> None:
    """It is bound into a trial and neither sent nor patched."""
    assert is_dependency(name, inside) is others


def test_nothing_that_is_bound_is_left_out_and_caches_are() -> None:
    """A directory is bound, sent, or useless; the two names of a virtual environment are not useless."""
    assert not any(is_left(name) for name in whole.DEPENDENCIES)
    assert is_left(".git")
    assert is_left(".cache")
    assert is_left("__pycache__")
    assert not is_left("public")


def test_logs_stay_and_data_travels() -> None:
    """A database may be what the app cannot start without; its old output never is."""
    assert is_log("logs/app.log")
    assert is_log("app.log.1")
    assert not is_log("data/app.db")
    assert is_data("data/app.db")
    assert is_data("uploads/a.png")
    assert not is_data("public/a.png")


@given(st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=40))
def test_batches_lose_nothing_and_stay_small(sizes: list[int | None]) -> None:
    """Every entry once, in order, with the contents of the files among them; bounded by entries and by bytes."""
    entries = tuple(
        Entry(path=f"p{number}", kind=Kind.DIRECTORY if size is None else Kind.FILE)
        for number, size in enumerate(sizes)
    )
    contents = tuple(bytes(size) for size in sizes if size is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "BATCH_BYTES", 100)
        patch.setattr(whole, "BATCH_ENTRIES", 7)
        found = list(batches(Whole(entries=entries, contents=contents)))
    assert tuple(entry for part, _ in found for entry in part) == entries
    assert tuple(blob for _, blobs in found for blob in blobs) == contents
    for part, blobs in found:
        assert 0 < len(part) <= 7
        assert sum(entry.kind is Kind.FILE for entry in part) == len(blobs)
        assert sum(map(len, blobs[:-1])) < 100
