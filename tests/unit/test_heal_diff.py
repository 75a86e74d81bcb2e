# SPDX-License-Identifier: MIT
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wolverined.errors import EditRejected
from wolverined.heal.diff import counts, mail_patch, sha256_of, unified_diff
from wolverined.model import FileChange, Outcome, Repair, RepairMode, RepairState, Verdict

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(directory: Path, *args: str, text: str = "") -> str:
    """Run git in a directory without anybody's configuration."""
    environment = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "HOME": str(directory),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x@localhost",
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x@localhost",
    }
    done = subprocess.run(
        ["git", *args], cwd=directory, input=text.encode(), capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def lay(directory: Path, changes: list[FileChange]) -> None:
    """Write the files as they stood before."""
    for change in changes:
        if change.before is not None:
            path = directory / change.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(change.before)


def stands(directory: Path, changes: list[FileChange]) -> None:
    """Check that the files are as they should be afterwards."""
    for change in changes:
        path = directory / change.path
        if change.after is None:
            assert not path.exists()
        else:
            assert path.read_bytes() == change.after


CASES = {
    "change": [FileChange(path="a.js", before=b"1\n2\n3\n", after=b"1\nx\n3\n")],
    "two hunks": [
        FileChange(
            path="a.js",
            before="".join(f"{n}\n" for n in range(40)).encode(),
            after="".join(f"{n * 100 if n in (3, 30) else n}\n" for n in range(40)).encode(),
        )
    ],
    "insert first": [FileChange(path="a.js", before=b"1\n", after=b"0\n1\n")],
    "append": [FileChange(path="a.js", before=b"1\n2\n3\n4\n5\n", after=b"1\n2\n3\n4\n5\n6\n")],
    "new": [FileChange(path="lib/new.js", before=None, after=b"x\n", mode=0o644)],
    "new executable": [FileChange(path="bin/new", before=None, after=b"#!/bin/sh\n", mode=0o755)],
    "new empty": [FileChange(path="lib/__init__.py", before=None, after=b"")],
    "removed": [FileChange(path="a.js", before=b"1\n2\n", after=None)],
    "emptied": [FileChange(path="a.js", before=b"1\n2\n", after=b"")],
    "filled": [FileChange(path="a.js", before=b"", after=b"1\n2\n")],
    "newline lost": [FileChange(path="a.js", before=b"1\n2\n", after=b"1\n2")],
    "newline won": [FileChange(path="a.js", before=b"1\n2", after=b"1\n2\n")],
    "never a newline": [FileChange(path="a.js", before=b"1\n2", after=b"1\n3")],
    "crlf": [FileChange(path="a.js", before=b"1\r\n2\r\n3\r\n", after=b"1\r\nx\r\n3\r\n")],
    "crlf to lf": [FileChange(path="a.js", before=b"1\r\n2\r\n", after=b"1\n2\n")],
    "bom": [FileChange(path="a.js", before=b"\xef\xbb\xbf1\n2\n", after=b"\xef\xbb\xbf1\n3\n")],
    "odd line ends": [
        FileChange(path="a.js", before="a\x0cb\u2028c\x85\n".encode(), after="a\x0cb\u2028d\x85\n".encode())
    ],
    "looks like a diff": [FileChange(path="a.js", before=b"-- x\n++ y\n", after=b"-- z\n@@ -1 +1 @@\n")],
    "blank in name": [FileChange(path="my lib/a b.js", before=b"1\n", after=b"2\n")],
    "unicode name": [FileChange(path="löwe/漢.js", before=b"1\n", after=b"2\n")],
    "odd name": [FileChange(path='a"b\\c\td.js', before=b"1\n", after=b"2\n")],
    "several": [
        FileChange(path="b.js", before=b"1\n", after=b"2\n"),
        FileChange(path="a.js", before=None, after=b"2\n"),
        FileChange(path="c.js", before=b"1\n", after=None),
    ],
}


@needs_git
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_git_applies_the_diff_to_the_byte(changes: list[FileChange], tmp_path: Path) -> None:
    """`git apply` turns the old tree into the new one, and `-R` turns it back."""
    git(tmp_path, "init", "-q")
    lay(tmp_path, changes)
    diff = unified_diff(changes)
    git(tmp_path, "apply", "--whitespace=nowarn", "-", text=diff)
    stands(tmp_path, changes)
    git(tmp_path, "apply", "-R", "--whitespace=nowarn", "-", text=diff)
    for change in changes:
        assert (tmp_path / change.path).exists() == (change.before is not None)


@needs_git
def test_the_diff_is_what_git_itself_would_write(tmp_path: Path) -> None:
    """Headers, modes and ranges are git's, so that every tool for its diffs reads ours."""
    for name, changes in CASES.items():
        directory = tmp_path / name.replace(" ", "-")
        directory.mkdir()
        git(directory, "init", "-q")
        lay(directory, changes)
        git(directory, "add", "-A")
        git(directory, "commit", "-q", "--allow-empty", "-m", "x")
        for change in changes:
            path = directory / change.path
            path.unlink(missing_ok=True)
            if change.after is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(change.after)
                path.chmod(change.mode)
        git(directory, "add", "-A")
        theirs = git(directory, "-c", "core.quotePath=false", "diff", "--cached", "--no-color", "--no-renames")
        ours = unified_diff(changes)
        kept = [line for line in theirs.splitlines() if not line.startswith("index ")]
        # git adds the enclosing function behind @@; the rest is the same to the letter.
        assert [line.split(" @@")[0] for line in ours.splitlines()] == [line.split(" @@")[0] for line in kept], name


texts = st.lists(st.sampled_from(["a", "b", "c", "", "é", "\r", "- x", "+ y"]), max_size=14).map("\n".join)


@needs_git
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts, texts)
def test_any_change_of_text_survives_git(tmp_path: Path, before: str, after: str) -> None:
    """The round trip through git is the change itself, whatever the lines are."""
    change = FileChange(path="f", before=before.encode(), after=after.encode())
    diff = unified_diff([change])
    assert bool(diff) == (before != after)
    if diff:
        (tmp_path / "f").write_bytes(change.before or b"")
        git(tmp_path, "apply", "--whitespace=nowarn", "-", text=diff)
        assert (tmp_path / "f").read_bytes() == change.after


def test_order_does_not_change_the_hash() -> None:
    """The same changes are the same patch, by whichever order they came."""
    changes = CASES["several"]
    assert sha256_of(unified_diff(changes)) == sha256_of(unified_diff(changes[::-1]))
    assert sha256_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_lines_are_counted() -> None:
    """Added and removed lines, over all files."""
    assert counts(CASES["several"]) == (2, 2)
    assert counts(CASES["newline lost"]) == (1, 1)


@pytest.mark.parametrize("data", [b"\0", b"\xff"])
def test_binary_has_no_diff(data: bytes) -> None:
    """What cannot be shown cannot be approved."""
    with pytest.raises(EditRejected):
        unified_diff([FileChange(path="a", before=b"", after=data)])


def repair(**fields: object) -> Repair:
    """A repair with these fields."""
    plain = {"id": "r1", "incident": "i1", "mode": RepairMode.FAST, "state": RepairState.VERIFIED, "error": "TypeError"}
    return Repair(**{**plain, "resolution": "guard against none", **fields})  # type: ignore[arg-type]


@needs_git
@pytest.mark.parametrize("changes", [CASES["change"], CASES["several"], CASES["crlf"], CASES["never a newline"]])
def test_git_am_takes_the_mail(changes: list[FileChange], tmp_path: Path) -> None:
    """A developer takes a repair upstream with one command."""
    git(tmp_path, "init", "-q")
    lay(tmp_path, changes)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x", "--allow-empty")
    verdict = Verdict(outcome=Outcome.PROVEN, reason="boots, answers")
    made = repair(model="m", created_at=1_700_000_000.0, verdict=verdict)
    git(tmp_path, "am", "-q", "--keep-cr", "--whitespace=nowarn", text=mail_patch(made, unified_diff(changes)))
    stands(tmp_path, changes)
    said = git(tmp_path, "log", "-1", "--format=%an %s%n%b")
    assert "Wolverine guard against none" in said
    assert "Made-by: fast (m)" in said
    assert "Verdict: proven (boots, answers)" in said


@needs_git
def test_hostile_words_stay_words(tmp_path: Path) -> None:
    """A model's text in the mail adds no header, no second patch and no control character."""
    changes = CASES["change"]
    git(tmp_path, "init", "-q")
    lay(tmp_path, changes)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    hostile = (
        "x\nFrom: root <root@localhost>\n\ndiff --git a/e b/e\n--- /dev/null\n+++ b/e\n@@ -0,0 +1 @@\n+evil\n\x1b[31m"
    )
    made = repair(resolution=hostile, error=hostile, model=hostile, remedy="")
    git(tmp_path, "am", "-q", text=mail_patch(made, unified_diff(changes)))
    assert not (tmp_path / "e").exists()
    assert git(tmp_path, "log", "-1", "--format=%an").strip() == "Wolverine"
    assert "\x1b" not in git(tmp_path, "log", "-1", "--format=%B")
