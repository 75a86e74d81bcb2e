# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import EditRejected
from wolverined.heal.edits import parse_reply
from wolverined.heal.edits.parse import MAX_EDITS, MAX_REPLY
from wolverined.model import Edit

BLOCK = """\
<<<<<<< SEARCH
old
=======
new
>>>>>>> REPLACE
"""
EDIT = Edit(path="server.js", search="old\n", replace="new\n")


def test_the_plain_form_is_read() -> None:
    """Cause, blocks and confidence come out as they were written."""
    reply = parse_reply(f"ROOT: a typing error\n\nserver.js\n{BLOCK}\nCONFIDENCE: 0.9\n")
    assert reply.root == "a typing error"
    assert reply.edits == (EDIT,)
    assert reply.confidence == 0.9
    assert reply.needs_human == ""


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! Here is the fix.\n\nserver.js\n{BLOCK}",
        f"server.js\n```js\n{BLOCK}```\n",
        f"```\nserver.js\n{BLOCK}```\n",
        f"`server.js`\n\n~~~\n{BLOCK}~~~",
        f"**server.js**\n{BLOCK}",
        f"### server.js\n{BLOCK}",
        f"server.js:\n{BLOCK}",
        f"server.js\n{BLOCK}".replace("\n", "\r\n"),
        f"server.js\n{BLOCK}".replace("SEARCH\n", "SEARCH  \n"),
        f"```\nROOT: x\nserver.js\n{BLOCK}CONFIDENCE: 1\n```\nI hope that this helps!",
    ],
)
def test_prose_fences_and_decoration_are_ignored(text: str) -> None:
    """What models like to wrap around a block does not change it."""
    assert parse_reply(text).edits == (EDIT,)


def test_text_between_the_markers_is_literal() -> None:
    """Fences, marks, blanks and replacement patterns inside a block are source like any other."""
    inside = "```\nROOT: not a mark\n  $& \\1 ${x}\t\n\n"
    reply = parse_reply(f"a.md\n<<<<<<< SEARCH\n{inside}=======\n{inside}more\n>>>>>>> REPLACE\n")
    assert reply.edits == (Edit(path="a.md", search=inside, replace=f"{inside}more\n"),)
    assert reply.root == ""


def test_form_feeds_and_unicode_line_ends_do_not_cut_lines() -> None:
    """Only a newline ends a line; splitlines would break source that holds others."""
    text = "x\x0cy\u2028z\x85\n"
    reply = parse_reply(f"a.py\n<<<<<<< SEARCH\n{text}=======\n>>>>>>> REPLACE\n")
    assert reply.edits[0].search == text


def test_empty_sides_are_empty() -> None:
    """An empty SEARCH makes a file, an empty replacement deletes lines."""
    reply = parse_reply(
        "new.py\n<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE\nold.py\n<<<<<<< SEARCH\ny\n=======\n>>>>>>> REPLACE\n"
    )
    assert [(edit.search, edit.replace) for edit in reply.edits] == [("", "x\n"), ("y\n", "")]


def test_a_block_right_after_another_may_leave_out_the_path() -> None:
    """Blank lines and fences may stand between, prose may not: then the path must be said again."""
    assert parse_reply(f"server.js\n{BLOCK}```\n\n```js\n{BLOCK}").edits == (EDIT, EDIT)
    reply = parse_reply(f"server.js\n{BLOCK}and then\n{BLOCK}")
    assert reply.edits[1].path == "and then"


@pytest.mark.parametrize(
    "text", ["NEEDS_HUMAN: disk full", "ROOT: r\nNEEDS_HUMAN: disk full\n", "**NEEDS_HUMAN:** disk full"]
)
def test_a_model_may_say_that_a_human_is_needed(text: str) -> None:
    """Then there is a reason and no edit."""
    reply = parse_reply(text)
    assert (reply.needs_human, reply.edits) == ("disk full", ())


def test_needs_human_wins_over_blocks() -> None:
    """A model that doubts its own patch is taken at its word."""
    reply = parse_reply(f"server.js\n{BLOCK}\nNEEDS_HUMAN: not sure\n")
    assert (reply.needs_human, reply.edits) == ("not sure", ())


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("0.75", 0.75),
        ("1", 1.0),
        ("0.9 (high)", 0.9),
        ("2", 0.0),
        ("-1", 0.0),
        ("high", 0.0),
        ("9" * 400, 0.0),
        ("", 0.0),
    ],
)
def test_confidence_is_a_number_from_0_to_1_or_0(said: str, value: float) -> None:
    """Nonsense is no confidence."""
    assert parse_reply(f"server.js\n{BLOCK}CONFIDENCE: {said}\n").confidence == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        "ROOT: x\nCONFIDENCE: 0.5",
        BLOCK,
        f"```\n{BLOCK}```",
        f"ROOT: x\n{BLOCK}",
        f"server.js\n{BLOCK}"[:-20],
        "server.js\n<<<<<<< SEARCH\nold\n>>>>>>> REPLACE\n",
        "server.js\n<<<<<<< SEARCH\na\n=======\nb\n=======\nc\n>>>>>>> REPLACE\n",
        f"server.js\n<<<<<<< SEARCH\nold\n=======\n{BLOCK}",
        "server.js\n>>>>>>> REPLACE\n",
        "server.js\n  <<<<<<< SEARCH\nold\n  =======\nnew\n  >>>>>>> REPLACE\n",
        f"a\0b.js\n{BLOCK}",
        f"a\tb.js\n{BLOCK}",
        f"{'x' * 2000}\n{BLOCK}",
        f"server.js\n{BLOCK * (MAX_EDITS + 1)}",
        f"server.js\n{BLOCK}" + "x" * MAX_REPLY,
    ],
    ids=range(17),
)
def test_what_is_cut_or_ambiguous_is_refused(text: str) -> None:
    """No path, no end, two dividers, nested or indented markers, NUL, too many, too long: nothing is guessed."""
    with pytest.raises(EditRejected):
        parse_reply(text)


PIECES = ["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "ROOT: x", "CONFIDENCE: 1", "NEEDS_HUMAN:", "```", "a.js", ""]


@given(st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=8)).map("\n".join))
def test_any_text_is_a_reply_or_is_refused(text: str) -> None:
    """No answer, however broken, raises anything else; a reply has edits or a reason for a human."""
    with contextlib.suppress(EditRejected):
        reply = parse_reply(text)
        assert bool(reply.edits) != bool(reply.needs_human)
