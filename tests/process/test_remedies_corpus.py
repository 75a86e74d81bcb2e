# SPDX-License-Identifier: MIT
"""Remedies over the functions of the corpus: silent for bugs of logic, right for slips that are put in."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.places import node_path
from support.remedied import evidence_of, snapshot_of
from support.slips import CORPORA

from wolverined import traces
from wolverined.heal.remedies import propose
from wolverined.heal.remedies.tree import Source, shape

pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="no corpora beside the project root (../shared/corpora)")

LANGUAGES = {"python": ("main.py", "python"), "js": ("main.js", "javascript")}


def items(language: str) -> list[dict[str, str]]:
    """The functions of the corpus in one language."""
    text = (CORPORA / f"humanevalpack-{language}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def mended(name: str, data: bytes, directory: Path) -> tuple[bool, bytes | None]:
    """Whether the program fails, and what the first proposal makes of it; one that never ends does not fail."""
    node = node_path()
    if name.endswith(".js") and node is None:
        pytest.skip("no Node interpreter")
    (directory / name).write_bytes(data)
    argv = [str(node) if name.endswith(".js") else sys.executable, str(directory / name)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=directory, timeout=2, check=False)
    except subprocess.TimeoutExpired:
        return False, None
    if done.returncode == 0:
        return False, None
    found = traces.parse(done.stderr, app_root=str(directory))
    proposals = propose(evidence_of(*found), snapshot_of({name: data}, root=str(directory)))
    return True, proposals[0].changes[0].after if proposals else None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_bug_of_logic_gets_no_remedy(language: str, tmp_path: Path) -> None:
    """Of all the corpus's own bugs none is a slip that a remedy may mend."""
    name, _ = LANGUAGES[language]
    for item in items(language):
        program = item["declaration"] + item["buggy_solution"] + "\n" + item["test"] + "\n"
        assert mended(name, program.encode(), tmp_path)[1] is None, item["task_id"]


def slipped(word: str, chance: random.Random) -> str:
    """The word as a hasty hand types it: two letters swapped, one lost, or one more."""
    at = chance.randrange(len(word) - 1)
    return chance.choice(
        [
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + chance.choice(string.ascii_lowercase) + word[at:],
        ]
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_slip_in_a_name_is_mended_or_left(language: str, tmp_path: Path) -> None:
    """One misspelt use of a local name in each program: the original comes back, or nothing is proposed."""
    name, grammar = LANGUAGES[language]
    chance = random.Random(5)
    seen: Counter[str] = Counter()
    for item in items(language):
        right = (item["declaration"] + item["canonical_solution"] + "\n" + item["test"] + "\n").encode()
        source = Source(path=name, data=right, language=grammar)
        last = len((item["declaration"] + item["canonical_solution"]).encode())
        uses = [leaf for leaf in source.leaves() if leaf.kind.endswith("identifier") and leaf.end < last]
        words = [leaf for leaf in uses if leaf.end - leaf.start > 3]
        if not words:
            continue
        token = chance.choice(words)
        wrong = slipped(source.text(token), chance).encode()
        fails, after = mended(name, right[: token.start] + wrong + right[token.end :], tmp_path)
        if fails and after is None:
            seen["left"] += 1
        elif fails:
            # Renaming every use to what the slip declared is as good: the program must run.
            seen["right" if after == right or not mended(name, after or b"", tmp_path)[0] else "wrong"] += 1
    assert seen["wrong"] == 0, seen
    assert seen["right"] > 2 * seen["left"], seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_bracket_too_many_or_too_few_is_mended_or_left(language: str, tmp_path: Path) -> None:
    """One closing bracket more or less in every second program: the original comes back, or nothing is proposed."""
    name, grammar = LANGUAGES[language]
    chance = random.Random(3)
    seen: Counter[str] = Counter()
    for item in items(language)[::2]:
        right = (item["declaration"] + item["canonical_solution"] + "\n").encode()
        source = Source(path=name, data=right, language=grammar)
        token = chance.choice([leaf for leaf in source.leaves() if leaf.kind in (")", "]", "}")])
        more = chance.random() < 0.5
        bad = right[: token.start] + (right[token.start : token.end] * 2 if more else b"") + right[token.end :]
        fails, after = mended(name, bad, tmp_path)
        if fails:
            same = after is not None and shape(after, grammar) == shape(right, grammar)
            seen["left" if after is None else "right" if same else "wrong"] += 1
    assert seen["wrong"] * 20 <= seen["right"], seen
    assert seen["right"] > seen["left"], seen
