# SPDX-License-Identifier: MIT
"""Whatever the traces and the files hold: an answer in bounded time, and nothing changed that is not meant."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.remedied import evidence_of, snapshot_of, trace_of

from wolverined.heal.remedies import clue, propose
from wolverined.heal.remedies.clue import Splice, splice
from wolverined.heal.syntax import check_syntax
from wolverined.model import ErrorLink, Evidence, Frame, Incident, IncidentKind, Proposal, Snapshot, Trace

ERRORS = (
    "AttributeError: 'A' object has no attribute 'userz'",
    "AttributeError: 'NoneType' object has no attribute 'get'",
    "AttributeError: module 'lib' has no attribute 'userz'",
    "AttributeError: type object 'A' has no attribute 'userz'",
    "Error: Cannot find module './liv'",
    "Error: Cannot find module 'expres'",
    "Error: Cannot find module '/srv/app/liv.js' imported from /srv/app/a.js",
    "ImportError: cannot import name 'userz' from 'lib' (/srv/app/lib.py)",
    "KeyError: 'userz'",
    "ModuleNotFoundError: No module named 'liv'",
    "NameError: name 'userz' is not defined",
    "ReferenceError: userz is not defined",
    "SyntaxError: '(' was never closed",
    "SyntaxError: The requested module './lib.js' does not provide an export named 'userz'",
    "SyntaxError: Unexpected token ')'",
    "TypeError: Cannot destructure property 'userz' of 'lib.users' as it is undefined.",
    "TypeError: Cannot read properties of undefined (reading 'userz')",
    "TypeError: lib.userz is not a function",
    "TypeError: userz is not a constructor",
    "UnboundLocalError: cannot access local variable 'userz' where it is not associated with a value",
)
PIECES = (
    "users", "userz", "lib", "A", "x", ".", "(", ")", "[", "]", "{", "}", "=", ",", ":", ";", "\n", "\n    ", " ", "'",
    '"', "`", "${", "def f", "class A", "function f", "const ", "import ", "from ", "require('./lib')", "export ",
    "return ", "'users'", "self.", "this.", "=>", "*", "#", "//", "/*", "\r\n", "\ufeff", "é", "\0", "lambda ", "for ",
    " in ", "with ", " as ", "module.exports", "exports.", "JSON.parse", "json.load(open('c.json'))", ".get('userz')",
)  # fmt: skip
SOURCES = st.lists(st.sampled_from(PIECES), max_size=40).map("".join).map(str.encode) | st.binary(max_size=60)
PATHS = st.sampled_from(["a.py", "a.js", "lib.py", "lib.js", "c.json", "package.json", "x/lib.mjs", "pkg/__init__.py"])
FRAMES = st.builds(
    Frame,
    path=PATHS | st.text(max_size=12),
    line=st.integers(min_value=-1, max_value=9),
    column=st.none() | st.integers(min_value=-1, max_value=99),
    own=st.booleans(),
)
LINKS = st.sampled_from(ERRORS).map(lambda error: ErrorLink(*error.split(": ", 1)))
TRACES = st.builds(
    Trace,
    language=st.sampled_from(["python", "node", "generic"]),
    errors=st.lists(LINKS | st.builds(ErrorLink, st.text(max_size=20), st.text(max_size=80)), max_size=3).map(tuple),
    frames=st.lists(FRAMES, max_size=3).map(tuple),
    hint=st.sampled_from(["", "Did you mean: 'users'?", "users", "'"]) | st.text(max_size=20),
    text=st.text(max_size=80) | st.just("/srv/app/a.js:1\n  x\n"),
)
SNAPSHOTS = st.dictionaries(PATHS, SOURCES, max_size=5).map(snapshot_of)


def evidence_with(traces: list[Trace]) -> Evidence:
    """Evidence with several traces, the first of them the incident's own."""
    incident = Incident(id="i", fingerprint="f", kind=IncidentKind.CRASH, error="", trace=traces[0] if traces else None)
    return Evidence(incident=incident, traces=tuple(traces))


def assert_minimal(proposal: Proposal, snapshot: Snapshot) -> None:
    """A change is one of a file of the snapshot, is a change, is well-formed, and touches little."""
    assert proposal.changes
    for change in proposal.changes:
        file = snapshot.files[change.path]
        assert change.before == file.data
        assert change.mode == file.mode
        assert change.after is not None
        assert change.after != file.data
        assert check_syntax(change.path, change.after) is None or check_syntax(change.path, file.data) is not None
        words = sum(file.data.count(word) for word in (b"user", b"lib", b"liv", b"expres", b"get", b"A")) + 2
        assert abs(len(change.after) - len(file.data)) <= 24 * words


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.lists(TRACES, max_size=3), SNAPSHOTS)
def test_random_evidence_never_raises(traces: list[Trace], snapshot: Snapshot) -> None:
    """Traces and files at random: a list of proposals, the same each time, each of them minimal."""
    evidence = evidence_with(traces)
    found = propose(evidence, snapshot)
    assert found == propose(evidence, snapshot)
    for proposal in found:
        assert_minimal(proposal, snapshot)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.sampled_from(ERRORS), SOURCES, SOURCES, st.sampled_from(["py", "js"]), st.integers(min_value=1, max_value=4))
def test_random_files_never_raise(error: str, one: bytes, two: bytes, suffix: str, line: int) -> None:
    """Every kind of error over every kind of file, with a place that exists."""
    files = {f"a.{suffix}": one, f"lib.{suffix}": two, "c.json": b'{"users": {"a": 1}}'}
    snapshot = snapshot_of(files)
    for proposal in propose(evidence_of(trace_of(error, f"a.{suffix}", line)), snapshot):
        assert_minimal(proposal, snapshot)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("suffix", ["py", "js"])
def test_deep_huge_and_binary_files_get_an_answer(error: str, suffix: str) -> None:
    """Files that nest without end, that are nothing but one line, or no text at all, take bounded time."""
    started = time.monotonic()
    for data in (
        b"(" * 8_000,
        b"[a," * 5_000,
        b"userz." * 4_000 + b"users",
        b"`${" * 3_000,
        b"\xff\xfe\x00" * 3_000,
        b"users = 1\n" * 100 + b"userz\n" * 1_500,
        b"x" * 600_000,
    ):
        files = {f"a.{suffix}": data, f"lib.{suffix}": data, "c.json": b'{"a":' * 9_000}
        propose(evidence_of(trace_of(error, f"a.{suffix}", 1)), snapshot_of(files))
    assert time.monotonic() - started < 30


def test_a_tree_of_many_files_is_read_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is parsed for one proposal is bounded, however many files hold the name."""
    monkeypatch.setattr(clue, "MAX_PARSED_BYTES", 50_000)
    files = {f"f{number}.js": "x.userz();\n" * 1_000 for number in range(200)}
    workspace = clue.Workspace(snapshot_of(files))
    assert len(list(workspace.sources("javascript", holding="userz"))) == 50_000 // len(files["f0.js"])


def test_a_remedy_that_fails_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One remedy that trips over the input has no opinion; the next one is asked."""

    def trips(_clue: clue.Clue) -> None:
        raise RecursionError

    from wolverined.heal import remedies

    monkeypatch.setattr(remedies, "_REMEDIES", (trips, *remedies._REMEDIES))
    snapshot = snapshot_of({"a.py": "users = 1\nuserz\n"})
    assert len(propose(evidence_of(trace_of(ERRORS[10], "a.py", 2)), snapshot)) == 1


def test_splices_neither_overlap_nor_leave_the_file() -> None:
    """Byte ranges are replaced in any order; ranges that overlap are refused."""
    assert splice(b"abcdef", (Splice(4, 5, b"X"), Splice(0, 1, b""))) == b"bcdXf"
    for cuts in ((Splice(0, 3, b""), Splice(2, 4, b"")), (Splice(5, 9, b""),), (Splice(3, 2, b""),)):
        with pytest.raises(ValueError, match="cannot replace"):
            splice(b"abcdef", cuts)
