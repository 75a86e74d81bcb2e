# SPDX-License-Identifier: MIT
"""What the tree is: globs, the selection, and the hash over it; and which backups are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import DENY
from wolverined.heal.backup import to_prune
from wolverined.heal.source import Globs, Selection, tree_hash
from wolverined.model import Backup, BackupState, SourceFile

ALL = Selection(allow=("**",), deny=DENY)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "a/b/c.js", True),
        ("*.js", "a.js", True),
        ("*.js", "b/a.js", False),
        ("**/*.js", "a.js", True),
        ("**/*.js", "b/c/a.js", True),
        ("src/**", "src/a/b.js", True),
        ("src/**", "src", False),
        ("src/**/x.js", "src/x.js", True),
        ("src/**/x.js", "src/a/b/x.js", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        (".env*", ".env.local", True),
        ("a.c", "abc", False),
        ("a[1].js", "a[1].js", True),
        ("**/uploads/**", "public/uploads/x.js", True),
        ("*.js", "a.js\n", False),
    ],
)
def test_globs(pattern: str, path: str, matches: bool) -> None:
    """`*` stays in a name, `**` spans directories, everything else is itself."""
    assert (Globs([pattern]).match(path) is not None) is matches


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "config/.env.production",
        ".git/config",
        "node_modules/x/index.js",
        "a/node_modules/x.js",
        "venv/lib/x.py",
        "a/__pycache__/x.pyc",
        "key.pem",
        "package-lock.json",
        "server.log",
        "logs/server.log.1",
        "app.db",
        "data/app.sqlite3-wal",
        "public/uploads/evil.js",
        "tmp/x.js",
        ".wolverine-0123456789abcdef-0.tmp",
    ],
)
def test_what_is_no_source(path: str) -> None:
    """Secrets, dependencies, data and our own temporary files are never editable; the reason is said."""
    assert not ALL.takes(path)
    assert path in ALL.refusal(path)


@pytest.mark.parametrize("path", ["server.js", "models/user.db.js", "lib/tmpfile.py", "routes/logs.js", "env.js"])
def test_what_is_source(path: str) -> None:
    """A name that only resembles data is code."""
    assert ALL.takes(path)


def test_allow_narrows_and_nothing_brings_dependencies_back() -> None:
    """`allow` cannot reach into node_modules."""
    assert not Selection(allow=("src/**",), deny=()).takes("lib/a.js")
    assert not Selection(allow=("node_modules/**",), deny=()).takes("node_modules/a.js")


def test_directories_that_cannot_hold_source_are_not_entered() -> None:
    """A pattern that takes everything below, and no other."""
    selection = Selection(allow=("**",), deny=("build/**", "docs/*", "**/*.md"))
    assert not selection.enters("build")
    assert not selection.enters("a/node_modules")
    assert not selection.enters("public/uploads")
    assert selection.enters("docs")
    assert selection.enters("src")


FILES = st.dictionaries(
    st.text(min_size=1, max_size=5), st.builds(SourceFile, st.binary(max_size=5), st.sampled_from([0o644, 0o755]))
)


@given(FILES, FILES)
def test_the_hash_is_the_same_for_the_same_tree_only(one: dict[str, SourceFile], other: dict[str, SourceFile]) -> None:
    """Whatever order it was read in."""
    assert tree_hash(one) == tree_hash(dict(reversed(one.items())))
    assert (tree_hash(one) == tree_hash(other)) is (one == other)


@given(st.lists(st.sampled_from(["a", "*", "**", "/", "?", ".", "["]), max_size=12), st.text("a/.[", max_size=30))
def test_any_pattern_can_be_asked_anything(parts: list[str], path: str) -> None:
    """No pattern raises or hangs."""
    globs = Globs(["".join(parts)])
    globs.match(path)
    globs.covers(path)


NOW = 1_000_000_000.0
DAY = 86400.0


def backup(number: int, age_days: float, state: BackupState) -> Backup:
    """A backup of this age."""
    created = NOW - age_days * DAY
    return Backup(id=f"b{number}", repair="r1", state=state, files=(), tree_hash="", created_at=created)


def test_backups_are_kept_a_week_and_one_stable_of_each_day_longer() -> None:
    """The newest of the day; unstable and verified ones go."""
    backups = [
        backup(1, 6.9, BackupState.UNSTABLE),
        backup(2, 7.1, BackupState.UNSTABLE),
        backup(3, 7.1, BackupState.VERIFIED),
        backup(4, 10.01, BackupState.STABLE),
        backup(5, 10.0, BackupState.STABLE),
        backup(6, 11.0, BackupState.STABLE),
        backup(7, -3.0, BackupState.UNSTABLE),
    ]
    assert to_prune(backups, now=NOW, days=7, stable_per_day=1) == ("b3", "b2", "b4")
    assert to_prune(backups, now=NOW, days=7, stable_per_day=1, in_use={"b2"}) == ("b3", "b4")
    assert set(to_prune(backups, now=NOW, days=0, stable_per_day=0)) == {"b1", "b2", "b3", "b4", "b5", "b6"}


@given(st.lists(st.tuples(st.floats(-10, 100), st.sampled_from(BackupState)), max_size=40), st.integers(0, 3))
def test_retention_never_takes_young_ones_and_keeps_its_share(
    made: list[tuple[float, BackupState]], stable_per_day: int
) -> None:
    """At most so many stable ones of a day outlive the week, and none is pruned while one might stay."""
    backups = [backup(number, *one) for number, one in enumerate(made)]
    gone = set(to_prune(backups, now=NOW, days=7, stable_per_day=stable_per_day))
    old = [one for one in backups if one.created_at <= NOW - 7 * DAY]
    assert gone <= {one.id for one in old}
    days: dict[int, list[Backup]] = {}
    for one in old:
        if one.state is BackupState.STABLE:
            days.setdefault(int(one.created_at // DAY), []).append(one)
    for ones in days.values():
        assert len([one for one in ones if one.id not in gone]) == min(stable_per_day, len(ones))
