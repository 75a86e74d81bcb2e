# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import HealTable
from wolverined.heal import policy
from wolverined.heal.policy import PolicyResult, check
from wolverined.model import FileChange, Proposal, RepairMode, Snapshot, SourceFile

SNAPSHOT = Snapshot(
    root="/srv/app",
    files={
        "server.js": SourceFile(b"a\n", 0o644),
        "bin/run.sh": SourceFile(b"a\n", 0o755),
        "lib/a.js": SourceFile(b"a\n", 0o644),
        "big.js": SourceFile(b"x\n" * 500, 0o644),
        "image.png": SourceFile(b"\x89PNG\0", 0o644),
    },
    tree_hash="",
)


def judge(*changes: FileChange, mode: RepairMode = RepairMode.REMEDY, heal: HealTable | None = None) -> PolicyResult:
    """The policy's word on these changes."""
    proposal = Proposal(mode=mode, reason="x", changes=changes)
    return check(proposal, SNAPSHOT, heal or HealTable(), None)


def change(path: str, after: bytes | None = b"b\n", *, mode: int | None = None) -> FileChange:
    """A change of a file of the snapshot, or a new file."""
    file = SNAPSHOT.files.get(path)
    before = file.data if file else None
    return FileChange(path=path, before=before, after=after, mode=mode or (file.mode if file else 0o644))


def test_a_plain_change_of_a_remedy_is_allowed_and_low_risk() -> None:
    """Remedies and recall pass path policy and caps only."""
    for mode in (RepairMode.REMEDY, RepairMode.RECALL):
        assert judge(change("server.js"), mode=mode) == PolicyResult(allowed=True, low_risk=True)
    assert judge(change("lib/new.js")).low_risk
    assert judge(change("bin/run.sh")).low_risk


@pytest.mark.parametrize("mode", [RepairMode.FAST, RepairMode.AGENT, RepairMode.SUB_AGENTS])
def test_a_model_without_a_trace_is_never_low_risk(mode: RepairMode) -> None:
    """Allowed to be tried, but a human looks."""
    result = judge(change("server.js"), mode=mode)
    assert (result.allowed, result.low_risk, len(result.reasons)) == (True, False, 1)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x.js",
        "lib/../../x.js",
        "lib/../server.js",
        "./server.js",
        "lib//a.js",
        "lib/",
        ".",
        "..",
        "a\0.js",
        "a\n.js",
        "a\tb.js",
        "a\u202e.js",
        "a\u200b.js",
        "lib\\a.js",
        "C:\\x",
        "cafe\u0301.js",
        " server.js",
        "server.js ",
        "server.js.",
        "lib /a.js",
        "x/" * 300,
        "server.js/x.js",
        "SERVER.JS",
        "Lib/A.js",
        ".env",
        ".ENV",
        ".env.production",
        "config/.Env",
        ".git/config",
        ".GIT/hooks/pre-commit",
        "sub/.git/config",
        "node_modules/x/index.js",
        "Node_Modules/x/index.js",
        "sub/node_modules/x.js",
        ".venv/x.py",
        "key.pem",
        "certs/server.KEY",
        "package-lock.json",
        "Package-Lock.json",
        "tests/test_x.py",
        "lib/a.test.js",
        ".github/workflows/x.yml",
        "data.sqlite",
        "app.log",
        "tmp/x.js",
        "__pycache__/x.py",
        "\ud800.js",
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    """Outside of the source, denied, oddly written, or the same file by another name."""
    result = judge(FileChange(path=path, before=None, after=b"x\n"))
    assert not result.allowed
    assert result.reasons


def test_what_allow_leaves_out_is_refused() -> None:
    """The operator's globs hold for new files too."""
    heal = HealTable(allow=("lib/**",))
    assert judge(change("lib/a.js"), heal=heal).allowed
    assert not judge(change("server.js"), heal=heal).allowed
    assert not judge(change("other/new.js"), heal=heal).allowed


def test_a_change_for_another_source_is_refused() -> None:
    """What the proposal saw must be what stands there."""
    assert not judge(FileChange(path="server.js", before=b"other\n", after=b"b\n")).allowed
    assert not judge(FileChange(path="server.js", before=None, after=b"b\n")).allowed
    assert not judge(FileChange(path="gone.js", before=b"a\n", after=b"b\n")).allowed


@pytest.mark.parametrize(
    "changed",
    [
        change("server.js", mode=0o755),
        change("server.js", mode=0o4644),
        change("bin/run.sh", mode=0o777),
        change("new.sh", mode=0o755),
        change("server.js", b"a\n"),
        change("server.js", b"\0"),
        change("server.js", b"\xff"),
        change("image.png", b"b\n"),
        change("server.js", "x\u202e\n".encode()),
        change("server.js", "x\u200b\n".encode()),
    ],
    ids=["x", "setuid", "wider", "new x", "no-op", "nul", "latin", "png", "bidi", "zero width"],
)
def test_contents_that_are_refused(changed: FileChange) -> None:
    """Modes stay, binaries stay, and no character hides what the code does."""
    assert not judge(changed).allowed


def test_caps_hold() -> None:
    """Files and lines, counted over all of the proposal."""
    five = [change(f"new{n}.js") for n in range(5)]
    assert judge(*five).allowed
    assert "heal.max_files" in judge(*five, change("new5.js")).reasons[0]
    assert judge(change("big.js", b"y\n" * 100 + b"x\n" * 400)).allowed
    assert "heal.max_lines" in judge(change("big.js", b"y\n" * 101 + b"x\n" * 399)).reasons[0]
    assert not judge().allowed
    assert not judge(change("server.js"), change("server.js", b"c\n")).allowed


@given(st.text(max_size=40), st.binary(max_size=40), st.integers(0, 0o7777))
def test_any_new_file_is_judged_and_a_denied_one_never_allowed(path: str, data: bytes, mode: int) -> None:
    """No path and no content raise, and what is allowed is inside of the source under its plain name."""
    with contextlib.suppress(UnicodeEncodeError):
        result = judge(FileChange(path=path, before=None, after=data, mode=mode))
        if result.allowed:
            assert not path.startswith(("/", ".env"))
            assert ".." not in path.split("/")
            assert path.isprintable()
            assert mode == 0o644
    assert policy.MAX_PATH == 512
