# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import EditRejected
from wolverined.heal.edits import apply_edits
from wolverined.heal.edits.match import distance, place
from wolverined.model import Edit, FileChange, Snapshot, SourceFile

SOURCE = """\
def total(items):
    # sum of all
    result = 0

    for item in items:
        result += item.price
    return result


def count(items):
    result = 0

    for item in items:
        result += 1
    return result
"""


def snapshot(**files: str | bytes) -> Snapshot:
    """A snapshot with these files, named by their stem."""
    found = {
        f"{name}.py": SourceFile(data.encode() if isinstance(data, str) else data, 0o755)
        for name, data in files.items()
    }
    return Snapshot(root="/srv/app", files=found, tree_hash="")


def apply(search: str, replace: str, source: str | bytes = SOURCE) -> bytes:
    """The file after one edit."""
    (change,) = apply_edits([Edit(path="main.py", search=search, replace=replace)], snapshot(main=source))
    assert change.after is not None
    return change.after


def refused(search: str, replace: str, source: str | bytes = SOURCE) -> EditRejected:
    """The refusal of one edit."""
    with pytest.raises(EditRejected) as caught:
        apply(search, replace, source)
    return caught.value


def test_an_exact_quote_is_replaced_and_the_mode_kept() -> None:
    """The plain case: one place, the rest stays, before and after are told."""
    edit = Edit(path="main.py", search="        result += item.price\n", replace="        result += item.cost\n")
    assert apply_edits([edit], snapshot(main=SOURCE)) == (
        FileChange(
            path="main.py",
            before=SOURCE.encode(),
            after=SOURCE.replace("item.price", "item.cost").encode(),
            mode=0o755,
        ),
    )


@pytest.mark.parametrize("path", ["./main.py", "/srv/app/main.py", "././main.py"])
def test_spellings_of_one_path_are_one_file(path: str) -> None:
    """A leading ./ or the app's own root is dropped."""
    (change,) = apply_edits([Edit(path=path, search="x\n", replace="y\n")], snapshot(main="x\n"))
    assert change.path == "main.py"


@pytest.mark.parametrize("search", ["    result = 0\n", "result\n", "return result", "    for item in items:\n"])
def test_two_places_are_refused_with_their_lines(search: str) -> None:
    """Ambiguity is never resolved by order."""
    if search == "result\n":
        assert "not in the file" in refused(search, "x\n").message
    else:
        assert "2 times" in refused(search, "x\n").message


def test_ambiguity_at_a_strict_tier_is_not_lost_in_a_looser_one() -> None:
    """Two exact places reject at once; the looser tiers are not asked."""
    assert "at lines 1, 2" in refused("a\n", "c\n", "a\na\n  a\n").message


@pytest.mark.parametrize(
    ("search", "replace"),
    [
        (
            "    for item in items:  \n        result += item.price\t\n",
            "    for item in items:\n        result += item.cost\n",
        ),
        ("for item in items:\n    result += item.price\n", "for item in items:\n    result += item.cost\n"),
        ("  for item in items:\n      result += item.price\n", "  for item in items:\n      result += item.cost\n"),
        (
            "            for item in items:\n                result += item.price\n",
            "            for item in items:\n                result += item.cost\n",
        ),
        (
            "    result = 0\n    for item in items:\n        result += item.price\n",
            "    result = 0\n    for item in items:\n        result += item.cost\n",
        ),
        (
            "def total(items):\n    result = 0\n    for item in items:\n        result += item.price\n",
            "def total(items):\n    result = 0\n    for item in items:\n        result += item.cost\n",
        ),
        (
            "\n\n    for item in items:\n\n        result += item.price\n\n",
            "\n\n    for item in items:\n\n        result += item.cost\n\n",
        ),
        (
            "    for item in item:\n        result += item.price\n    return result\n",
            "    for item in item:\n        result += item.cost\n    return result\n",
        ),
    ],
    ids=["trailing", "outdented", "partly", "indented", "blank lost", "comment lost", "blanks added", "typo"],
)
def test_slips_in_the_quote_do_not_reach_the_file(search: str, replace: str) -> None:
    """Whatever tier found the place, only the meant line changes."""
    assert apply(search, replace).decode() == SOURCE.replace("item.price", "item.cost")


def test_new_lines_take_the_indentation_of_the_place() -> None:
    """One constant difference moves every new line, deeper ones too."""
    after = apply(
        "return item\n", "if item:\n    return item\nreturn None\n", "class A:\n    def f(item):\n        return item\n"
    )
    assert after.decode().endswith("        if item:\n            return item\n        return None\n")


def test_new_lines_that_cannot_be_outdented_are_refused() -> None:
    """A line that is shallower than what is to be taken away has no right place."""
    assert "indented less" in refused("        x = 1\n        y = 2\n", "    z\n", "x = 1\ny = 2\n").message


@pytest.mark.parametrize(
    ("search", "replace", "source"),
    [
        ("if a:\n        b\n", "if a:\n        c\n", "if a:\n    b\n"),
        ("\tx = 1\n    y = 2\n", "z\n", "    x = 1\n\ty = 2\n"),
    ],
)
def test_uneven_indentation_is_refused(search: str, replace: str, source: str) -> None:
    """More than one difference of indentation is no slip that can be undone."""
    refused(search, replace, source)


def test_a_changed_line_that_was_misquoted_is_refused() -> None:
    """The model has not seen what it would overwrite."""
    source = "alpha(one, two, three)\nbeta(four, five, six)\ngamma(seven, eight)\n"
    error = refused(
        "alpha(one, two, three)\nbeta(four, fine, six)\ngamma(seven, eight)\n",
        "alpha(one, two, three)\nbeta(four, fine, six, 0)\ngamma(seven, eight)\n",
        source,
    )
    assert "was not quoted as it stands" in error.message
    assert "beta(four, five, six)" in error.hint


def test_a_misquoted_line_may_change_when_the_new_line_has_it_right() -> None:
    """The slip was in the quote alone: the replacement carries the file's own text."""
    source = "alpha(one, two, three)\nbeta(four, five, six)\ngamma(seven, eight)\n"
    after = apply(
        "alpha(one, two, three)\nbeta(four, fine, six)\ngamma(seven, eight)\n",
        "alpha(one, two, three)\nbeta(four, five, six, 0)\ngamma(seven, eight)\n",
        source,
    )
    assert after.decode() == source.replace("six)", "six, 0)")


def test_two_places_that_are_nearly_equal_are_refused() -> None:
    """A near match counts only when nothing else comes near it."""
    block = "alpha(one, two, three)\nbeta(four, five, {})\ngamma(seven, eight)\n"
    source = block.format("six") + block.format("sax")
    assert "nearly" in refused(block.format("sox"), block.format("sox") + "more\n", source).message


def test_a_quote_that_mixes_two_places_is_refused() -> None:
    """A line that stands elsewhere as it was quoted is no slip: the other place may have been meant."""
    source = "big.end = function () {\n}\n\n// little endian\n\nlittle.end = function () {\n  return this.done()\n}\n"
    refused("}\n\nlittle.end = function () {\n}\n", "}\n\nlittle.end = function () {\n  log()\n}\n", "}\n\n" + source)
    near = "alpha.end = function () {\n  return 12\n}\nalphb.end = function () {\n}\n"
    refused("alphb.end = function () {\n  return 12\n}\n", "alphb.end = function () {\n  return 13\n}\n", near)


@pytest.mark.parametrize(
    ("search", "replace"),
    [
        ("x = 1\ny = 2\n", "x = 1\nz\ny = 2\n"),
        ("x = 1\ny = 2\n", "z\n"),
    ],
    ids=["insert", "replace"],
)
def test_a_comment_that_the_quote_leaves_out_is_not_touched(search: str, replace: str) -> None:
    """New lines beside it, or a replacement around it, have no certain place."""
    assert "comment" in refused(search, replace, "x = 1\n# why\ny = 2\n").message


def test_a_comment_before_the_changed_line_stays() -> None:
    """Left out of the quote and outside of the change, it is simply kept."""
    assert apply("x = 1\ny = 2\n", "x = 1\ny = 3\n", "x = 1\n# why\ny = 2\n") == b"x = 1\n# why\ny = 3\n"


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_endings_bom_and_final_newline_stay(bom: str, end: str, last: bool) -> None:
    """The bytes around and inside the change keep the file's own form."""
    source = bom + end.join(["a", "b", "c"]) + (end if last else "")
    meant = bom + end.join(["a", "x", "y", "z"]) + (end if last else "")
    assert apply("b\nc\n", "x\ny\nz\n", source.encode()) == meant.encode()
    assert apply("a\nb\nc\n", "a\n", source.encode()) == (bom + "a" + (end if last else "")).encode()


def test_mixed_line_endings_stay_where_they_are() -> None:
    """A file that mixes them keeps each; a new line takes that of the line before it."""
    assert apply("b\n", "b\nx\n", b"a\r\nb\nc\r\n") == b"a\r\nb\nx\nc\r\n"
    assert apply("a\n", "a\nx\n", b"a\r\nb\nc\r\n") == b"a\r\nx\r\nb\nc\r\n"


@pytest.mark.parametrize("text", ["$& $1 $` \\1 \\g<0> %s {0} ${x}", "'\"\\", "\\n", "a\x0cb", "é漢😀"])
def test_replacement_text_is_literal(text: str) -> None:
    """Nothing in it means anything to us."""
    assert apply("x\n", f"{text}\n", "w\nx\ny\n").decode() == f"w\n{text}\ny\n"
    assert apply(f"{text}\n", "x\n", f"w\n{text}\ny\n").decode() == "w\nx\ny\n"


@pytest.mark.parametrize(
    ("search", "replace", "word"),
    [
        ("", "x\n", "empty"),
        ("\n \n", "x\n", "empty"),
        ("    return result\n", "    return result\n", "same"),
        ("def count(items):\n    result = 0  \n", "def count(items):\n    result = 0\n", "nothing"),
        ("def total(items):\n", "def total(items):\n    ...\n", "left out"),
        ("def total(items):\n", "def total(items):\n    # ... existing code ...\n", "left out"),
        ("def total(items):\n", "def total(items):\n    # rest of the function\n", "left out"),
        ("def total(items):\n", "def total(items):\n    # (unchanged)\n", "left out"),
        ("def total(items):\n", "def total(items):\n    // rest of code here...\n", "left out"),
        ("def total(items):\n", "def total(items):\n    /* ... */\n", "left out"),
        ("def total(items):\n...\n    return result\n", "x\n", "left out"),
        ("def total(items):\n", "def total(items):\n" + "    x = 1234567\n" * 1000, "grow"),
        ("x\n" * 2001, "y\n", "lines"),
        ("no such line\n", "y\n", "not in the file"),
    ],
)
def test_forms_that_are_refused(search: str, replace: str, word: str) -> None:
    """No-ops, elisions, floods and inventions never reach a file."""
    assert word in refused(search, replace).message


@pytest.mark.parametrize(
    "line", ["    ...defaults,", "# wait for it...", "    rest = items[1:]", "x = y[..., 0]", "// Loading..."]
)
def test_dots_that_are_code_or_prose_are_no_elision(line: str) -> None:
    """Spread syntax, Ellipsis in an index and an honest comment pass."""
    assert f"{line}\n".encode() in apply("def total(items):\n", f"def total(items):\n{line}\n")


def test_dots_that_the_file_has_may_be_quoted() -> None:
    """A stub's own ellipsis is text like any other."""
    assert apply("def f():\n    ...\n", "def f(x):\n    ...\n", "def f():\n    ...\n") == b"def f(x):\n    ...\n"


def test_replacing_a_long_file_whole_is_refused() -> None:
    """A quote that covers the file is a rewrite, not an edit."""
    source = "".join(f"line {n}\n" for n in range(200))
    assert "whole file" in refused(source, source.replace("line 7\n", "x\n"), source).message


@pytest.mark.parametrize("data", [b"\x00", b"caf\xe9\nx\n", b"x\n\xff\xfe"])
def test_what_is_not_utf8_text_is_refused(data: bytes) -> None:
    """Binary files and other encodings are left alone."""
    refused("x\n", "y\n", data)


def test_all_edits_apply_or_none() -> None:
    """One refused edit of the second file takes the first one with it, and is named."""
    edits = [
        Edit(path="a.py", search="x\n", replace="y\n"),
        Edit(path="b.py", search="x\n", replace="y\n"),
        Edit(path="b.py", search="missing\n", replace="y\n"),
    ]
    with pytest.raises(EditRejected, match=r"^edit 2 of 2 of b\.py"):
        apply_edits(edits, snapshot(a="x\n", b="x\n"))


def test_edits_are_placed_in_the_file_as_it_stands() -> None:
    """Their order does not matter, and none sees what another one wrote."""
    edits = [Edit(path="a.py", search="b\n", replace="a\n"), Edit(path="a.py", search="a\n", replace="b\n")]
    for order in (edits, edits[::-1]):
        assert apply_edits(order, snapshot(a="a\nb\n"))[0].after == b"b\na\n"


def test_overlapping_edits_are_refused_and_repeated_ones_count_once() -> None:
    """Two edits of one line contradict each other unless they are the same."""
    one = Edit(path="a.py", search="a\nb\n", replace="a\nx\n")
    assert apply_edits([one, one], snapshot(a="a\nb\nc\n"))[0].after == b"a\nx\nc\n"
    with pytest.raises(EditRejected, match="overlap"):
        apply_edits([one, Edit(path="a.py", search="b\nc\n", replace="y\n")], snapshot(a="a\nb\nc\n"))


def test_an_empty_search_makes_a_new_file() -> None:
    """It ends with a newline and has the usual mode."""
    (change,) = apply_edits([Edit(path="lib/new.py", search="", replace="x = 1")], snapshot())
    assert change == FileChange(path="lib/new.py", before=None, after=b"x = 1\n", mode=0o644)


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [Edit(path="new.py", search="", replace="")],
        [Edit(path="new.py", search="", replace="# ... rest of the code\n")],
        [Edit(path="new.py", search="", replace="x"), Edit(path="new.py", search="", replace="y")],
        [Edit(path="Here is the file", search="", replace="x")],
        [Edit(path="", search="", replace="x")],
        [Edit(path="main.py", search="", replace="x")],
    ],
    ids=["none", "empty", "elided", "twice", "prose", "nameless", "exists"],
)
def test_new_files_that_are_refused(edits: list[Edit]) -> None:
    """An empty SEARCH is for a whole new file, given once, under a name."""
    with pytest.raises(EditRejected):
        apply_edits(edits, snapshot(main=SOURCE))


def test_a_refusal_says_what_was_meant_perhaps() -> None:
    """Near lines of the file and near names of files stand in the hint."""
    assert "6:         result += item.price" in refused("        result += item.prize * 2\n", "x\n").hint
    assert "2: " in refused("def total(items):\n    # sum of all\n    answer = 42\n", "x\n").hint
    with pytest.raises(EditRejected) as caught:
        apply_edits([Edit(path="mian.py", search="x\n", replace="y\n")], snapshot(main="x\n"))
    assert caught.value.hint == "did you mean: main.py"


lines = st.lists(
    st.sampled_from(["a", "  a", "b", "", "# c", "a  ", "\tb", "long line of words", "x = 1"]), max_size=12
)


@given(lines, lines, lines)
def test_an_edit_changes_nothing_outside_of_its_place(file: list[str], search: list[str], replace: list[str]) -> None:
    """Whatever is asked, the place holds only lines of the file, in their order, and lines of the edit."""
    with contextlib.suppress(EditRejected):
        if any(search):
            placed = place(search=search, replace=replace, lines=file)
            kept = [item for item in placed.lines if isinstance(item, int)]
            assert kept == sorted(set(kept))
            assert all(placed.start <= item < placed.end for item in kept)
            new = [item.strip() for item in placed.lines if isinstance(item, str)]
            assert set(new) <= {line.strip() for line in replace}


@given(st.binary(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_any_edit_of_any_bytes_applies_or_is_refused(data: bytes, search: str, replace: str) -> None:
    """No file and no edit raise anything else, and what is applied is different."""
    with contextlib.suppress(EditRejected):
        assert apply(search, replace, data) != data


@given(st.text("ab", max_size=8), st.text("abc", max_size=8), st.integers(0, 8))
def test_the_bounded_distance_is_the_distance(a: str, b: str, limit: int) -> None:
    """Within the limit it equals the full table of Wagner and Fischer, beyond it it says so."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i, *row[1:]] if not b else _next_row(row, i, x, b)
    assert distance(a, b, limit=limit) == min(row[-1], limit + 1)


def _next_row(row: list[int], i: int, x: str, b: str) -> list[int]:
    out = [i]
    for j, y in enumerate(b, start=1):
        out.append(min(row[j] + 1, out[j - 1] + 1, row[j - 1] + (x != y)))
    return out


@pytest.mark.parametrize(("height", "quoted"), [(20_000, 100), (1900, 100), (20_000, 8)])
def test_a_big_file_with_a_hopeless_quote_is_refused_in_time(height: int, quoted: int) -> None:
    """Similar lines without end and a quote that is nowhere cost seconds, not minutes."""
    source = "".join(f"    value_{n} = compute(value_{n - 1}, {n})\n" for n in range(height))
    search = "".join(f"    valve_{n} = computed(valve_{n}, {n}, {n})\n" for n in range(quoted))
    begun = time.process_time()
    refused(search, "x\n", source)
    assert time.process_time() - begun < 15
