# SPDX-License-Identifier: MIT
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.trial.observe import MAX_LINE, MAX_LINES, MAX_TAIL_BYTES, Tail, body_shape


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50), max_size=40))
def test_a_tail_does_not_depend_on_how_the_output_was_cut(data: bytes, cuts: list[int]) -> None:
    """Pieces of any size give the lines of the whole."""
    whole, pieces = Tail(), Tail()
    whole.feed(data)
    at = 0
    for cut in cuts:
        pieces.feed(data[at : at + cut])
        at += cut
    pieces.feed(data[at:])
    assert whole.since() == pieces.since()


def test_a_mark_gives_what_came_after_it() -> None:
    """Lines before the mark are left out, an unfinished one is in."""
    tail = Tail()
    tail.feed(b"one\ntwo\n")
    mark = tail.mark()
    assert tail.since(mark) == ()
    tail.feed(b"three\r\nfour")
    assert tail.since(mark) == ("three", "four")
    assert tail.since() == ("one", "two", "three", "four")


def test_a_tail_is_bounded_however_much_comes() -> None:
    """Neither endless lines nor a line without end make it grow."""
    tail = Tail()
    for number in range(5000):
        tail.feed(b"x" * 1000 + str(number).encode() + b"\n")
    assert len(tail.since()) <= MAX_LINES
    assert sum(map(len, tail.since())) <= MAX_TAIL_BYTES
    assert tail.since()[-1].endswith("4999")
    for _ in range(100):
        tail.feed(b"y" * 100_000)
    assert len(tail.since()[-1]) == MAX_LINE


def test_bytes_that_are_no_text_are_replaced() -> None:
    """Output is hostile; it never raises."""
    tail = Tail()
    tail.feed(b"\xff\xfe\x00caf\xe9\n")
    assert "\ufffd" in tail.since()[0]


def test_shapes_name_types_not_values() -> None:
    """Two answers with other values have one shape; a missing field, another type, another list do not."""
    kind = "application/json; charset=utf-8"
    shape = body_shape(b'{"b":[{"id":1},{"id":2}],"a":"x","c":null,"d":true}', kind)
    assert shape == body_shape(b'{"a":"yy","d":false,"c":null,"b":[{"id":3.5}]}', kind)
    assert shape != body_shape(b'{"a":"yy","d":false,"c":null,"b":[{"id":"3"}]}', kind)
    assert shape != body_shape(b'{"a":"yy","d":false,"c":null}', kind)
    assert body_shape(b"[]", kind) == "[]"


def test_what_is_no_json_has_no_shape() -> None:
    """HTML is not compared; JSON that is broken is."""
    assert body_shape(b"<html>", "text/html") == ""
    assert body_shape(b"{", "application/json") == "broken"
    assert body_shape(b"[" * 100_000, "application/json") == "broken"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=30,
    )
)
def test_a_shape_is_stable(value: object) -> None:
    """The same body always has the same shape."""
    import msgspec

    body = msgspec.json.encode(value)
    assert body_shape(body, "application/json") == body_shape(body, "application/json") != ""
