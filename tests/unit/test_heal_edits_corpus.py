# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections import Counter

import pytest
from support.slips import CORPORA, Case, cases

from wolverined.errors import EditRejected
from wolverined.heal.edits import apply_edits
from wolverined.model import Edit, Snapshot, SourceFile

pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="no corpora beside the project root (../shared/corpora)")

MEANING_KEPT = {"clean", "one line of context", "trailing blanks", "outdented", "indented", "blank lines added", "crlf"}


def outcome(case: Case) -> str:
    """What became of one spoilt edit; "layout": as meant but for blank lines."""
    snapshot = Snapshot(root="/srv/app", files={case.path: SourceFile(case.before.encode(), 0o644)}, tree_hash="")
    try:
        (change,) = apply_edits([Edit(path=case.path, search=case.search, replace=case.replace)], snapshot)
    except EditRejected:
        return "refused"
    got = (change.after or b"").decode()
    if got == case.meant:
        return "right"
    same = [line for line in got.splitlines() if line.strip()] == [
        line for line in case.meant.splitlines() if line.strip()
    ]
    return "layout" if same else f"wrong: {case.name}: {case.slip}"


@pytest.mark.parametrize("language", ["python", "js"])
def test_no_slip_is_ever_applied_wrongly(language: str) -> None:
    """Over every function of the corpus and every slip: nothing wrong, and most of them right."""
    seen = Counter((case.slip, outcome(case)) for seed in (11, 12) for case in cases(language, seed=seed))
    assert [what for what in seen if what[1].startswith("wrong")] == []
    total = seen.total()
    assert sum(count for (_, what), count in seen.items() if what == "right") > 0.8 * total
    for slip in MEANING_KEPT:
        mine = {what: count for (name, what), count in seen.items() if name == slip}
        assert mine.get("right", 0) > 0.97 * sum(mine.values()), (slip, mine)
