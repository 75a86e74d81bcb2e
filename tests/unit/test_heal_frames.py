# SPDX-License-Identifier: MIT
from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import AdviserFailed, AdviserRefused, ConfigError, EditRejected, StreamError, WolverineError
from wolverined.heal import frames
from wolverined.heal.frames import Decoder, Message, encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
messages = st.builds(
    Message, st.dictionaries(st.text(), values, max_size=4), st.lists(st.binary(max_size=64), max_size=4).map(tuple)
)


def frame(kind: int, payload: bytes) -> bytes:
    """One frame of that kind."""
    return struct.pack(">IB", len(payload), kind) + payload


def drain(pieces: list[bytes]) -> list[Message]:
    """Feed the pieces and end the stream; what the decoder gave."""
    decoder, out = Decoder(), []
    for piece in pieces:
        out += decoder.feed(piece)
    decoder.finish()
    return out


@given(st.lists(messages, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_messages_survive_any_cutting_of_the_stream(sent: list[Message], sizes: list[int]) -> None:
    """Whatever the sizes of the reads, the same messages with the same blobs come out in order."""
    wire, pieces, at, turn = b"".join(map(encode, sent)), [], 0, 0
    while at < len(wire):
        size = sizes[turn % len(sizes)]
        pieces.append(wire[at : at + size])
        at, turn = at + size, turn + 1
    assert drain(pieces) == sent


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_any_bytes_end_in_messages_or_a_stream_error(pieces: list[bytes]) -> None:
    """Noise never raises anything but StreamError, and a broken decoder stays broken."""
    decoder = Decoder()
    broken = False
    for piece in pieces:
        try:
            decoder.feed(piece)
            assert not broken
        except StreamError:
            broken = True


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=80) | values.map(msgspec.json.encode)), max_size=8))
def test_any_frames_end_in_messages_or_a_stream_error(parts: list[tuple[int, bytes]]) -> None:
    """Well-cut frames of any content give objects or StreamError, never another exception."""
    try:
        for message in Decoder().feed(b"".join(frame(kind, payload) for kind, payload in parts)):
            assert isinstance(message.body, dict)
            frames.read(message)
    except StreamError:
        pass


@given(values)
def test_any_object_is_a_hello_a_message_or_a_stream_error(value: object) -> None:
    """The shapes of hello and call are checked for every JSON object there is."""
    for body in ({"v": 1, "hello": value}, {"id": value, "call": "x"}, {"id": 1, "error": value}, {"call": value}):
        for check in (frames.read_hello, frames.read):
            try:
                check(Message(body))
            except StreamError:
                continue


@pytest.mark.parametrize(
    "wire",
    [
        struct.pack(">IB", frames.MAX_JSON + 1, 0),
        struct.pack(">IB", frames.MAX_FRAME + 1, 1),
        struct.pack(">IB", 0, 2),
        frame(1, b"x") + struct.pack(">IB", frames.MAX_FRAME, 1),
        frame(1, b"") * (frames.MAX_BLOBS + 1),
        frame(0, b"[]"),
        frame(0, b"null"),
        frame(0, b"{"),
        frame(0, b'{"a": "\xff"}'),
        frame(0, b'{"a":' + b"[" * 65 + b"]" * 65 + b"}"),
        frame(0, b'{"a":' + b"[" * 200_000),
        frame(0, b'{"a":' * 200_000),
    ],
    ids=["json", "blob", "kind", "pending", "pieces", "list", "null", "cut", "utf8", "deep", "deeper", "deepest"],
)
def test_a_breach_is_seen_at_once(wire: bytes) -> None:
    """Limits are judged by the header, before the bytes that it promises are gathered."""
    decoder = Decoder()
    with pytest.raises(StreamError):
        decoder.feed(wire)
    with pytest.raises(StreamError):
        decoder.feed(encode(Message({})))
    with pytest.raises(StreamError):
        decoder.finish()


def test_the_deepest_allowed_nesting_passes() -> None:
    """64 containers within each other are still a message, however many brackets there are."""
    body = b'{"a":' + b"[" * 63 + b"]" * 63 + b',"b":[' + b",".join([b"{}"] * 500) + b"]}"
    assert Decoder().feed(frame(0, body))


@pytest.mark.parametrize("wire", [b"\0", frame(1, b"x"), frame(0, b"{}")[:-1]])
def test_a_stream_that_ends_inside_a_message_is_a_breach(wire: bytes) -> None:
    """Half a header, a blob without its JSON, half a frame: none passes as a good end."""
    with pytest.raises(StreamError):
        drain([wire])


@pytest.mark.parametrize(
    "message",
    [
        Message({"a": object()}),
        Message({"a": "x" * (frames.MAX_JSON + 1)}),
        Message({}, (b"x" * frames.MAX_FRAME, b"y")),
        Message({}, (b"",) * (frames.MAX_BLOBS + 1)),
        Message({"a": "\ud800"}),
    ],
    ids=["type", "json", "blobs", "pieces", "surrogate"],
)
def test_what_the_other_side_would_refuse_is_not_sent(message: Message) -> None:
    """The sender learns of a limit before a byte is on the wire."""
    with pytest.raises(StreamError):
        encode(message)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"v": 2, "hello": {"role": "x", "deadline_s": 1.0}},
        {"v": 1, "hello": {"role": "x", "deadline_s": 0}},
        {"v": 1, "hello": {"role": "x", "deadline_s": -1}},
        {"v": 1, "hello": {"role": "y", "deadline_s": 1}},
        {"v": 1, "hello": {"role": "x"}},
        {"v": True, "hello": {"role": "x", "deadline_s": 1}},
    ],
)
def test_a_bad_hello_is_refused(body: dict[str, object]) -> None:
    """Version, role and deadline are all checked."""
    with pytest.raises(StreamError):
        frames.read_hello(Message(body), expected_role="x")


@pytest.mark.parametrize(
    "error",
    [
        EditRejected("no match", hint="look"),
        ConfigError("bad"),
        AdviserFailed("limited", hint="wait", retryable=True),
        AdviserRefused("no quota"),
        WolverineError("plain"),
    ],
)
def test_an_error_arrives_as_the_same_error(error: WolverineError) -> None:
    """Kind, message, hint and whether a retry may help survive the wire."""
    wire = frames.read(Decoder().feed(encode(frames.failure(3, error)))[0])
    assert wire.error is not None
    again = frames.rebuild(wire.error)
    assert type(again) is type(error)
    assert (str(again), getattr(again, "retryable", None)) == (str(error), getattr(error, "retryable", None))


def test_an_error_of_unknown_kind_is_still_an_error() -> None:
    """A newer or a hostile peer cannot make an error vanish, nor flood us with its words."""
    again = frames.rebuild(frames.WireError(kind="brand-new", message="x" * 100_000))
    assert type(again) is WolverineError
    assert len(again.message) == frames.MAX_WORDS
