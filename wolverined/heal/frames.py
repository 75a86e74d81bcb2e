# SPDX-License-Identifier: MIT
"""Frames of the streams between the roles (DESIGN 7.9): pure bytes <-> messages, no I/O.

A frame is a big-endian u32 length, a u8 kind (0 JSON, 1 blob) and that many bytes. Blobs precede the
JSON frame they belong to; a JSON frame takes all pending blobs. Both ends treat the other as hostile:
whatever breaks a limit or a form raises `StreamError`, and a decoder that raised stays broken.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from wolverined.errors import AdviserFailed, StreamError, WolverineError

VERSION = 1
MAX_FRAME = 64 * 1024 * 1024
"""Bytes of one frame, and of all blobs of one message together."""
MAX_JSON = 16 * 1024 * 1024
"""Bytes of one JSON frame: decoded containers take up to 20 times their text, so the cap is lower."""
MAX_BLOBS = 65_536
MAX_DEPTH = 64
MAX_ID = 2**53 - 1
MAX_WORDS = 4096
"""Characters of an error's message or hint that are taken over from the other side."""

_HEADER = struct.Struct(">IB")
_JSON = 0
_BLOB = 1


class Message(msgspec.Struct, frozen=True):
    """One JSON object with the blobs that belong to it."""

    body: dict[str, Any]
    blobs: tuple[bytes, ...] = ()


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What each side says first: who it is and after how many seconds the whole job is over."""

    role: str
    deadline_s: float


class WireError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it travels; `retryable` is that of `AdviserFailed`."""

    kind: str
    message: str
    hint: str = ""
    retryable: bool = False


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every message after the hello: a call (`call`, with `id` unless no answer is wanted) or an answer."""

    id: int | None = None
    call: str | None = None
    args: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: WireError | None = None


class _Greeting(msgspec.Struct, frozen=True):
    v: int
    hello: Hello


def encode(message: Message) -> bytes:
    """Bytes of one message, its blobs first.

    Raises:
        StreamError: When it is bigger than the other side accepts, or is no JSON.
    """
    try:
        body = msgspec.json.encode(message.body)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise StreamError(f"a message cannot be written as JSON: {error}") from None
    if len(body) > MAX_JSON:
        raise StreamError(f"a JSON frame of {len(body)} bytes is above the limit of {MAX_JSON}")
    if len(message.blobs) > MAX_BLOBS or sum(map(len, message.blobs)) > MAX_FRAME:
        raise StreamError(f"the blobs of one message are above the limit of {MAX_FRAME} bytes or {MAX_BLOBS} pieces")
    parts: list[bytes] = []
    for blob in message.blobs:
        parts += (_HEADER.pack(len(blob), _BLOB), blob)
    parts += (_HEADER.pack(len(body), _JSON), body)
    return b"".join(parts)


class Decoder:
    """Bytes in any pieces -> whole messages, within limits."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._blobs: list[bytes] = []
        self._blob_bytes = 0
        self._broken: StreamError | None = None

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; return the messages that they complete.

        Raises:
            StreamError: When the bytes break the contract; every later call raises it again.
        """
        if self._broken is not None:
            raise self._broken
        self._buffer += data
        try:
            return list(self._messages())
        except StreamError as error:
            self._broken = error
            self._buffer.clear()
            self._blobs.clear()
            raise

    def finish(self) -> None:
        """Say that no byte follows.

        Raises:
            StreamError: When that cuts a message in two.
        """
        if self._broken is not None:
            raise self._broken
        if self._buffer or self._blobs:
            raise StreamError("the stream ended in the middle of a message")

    def _messages(self) -> Iterable[Message]:
        buffer = self._buffer
        while len(buffer) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(buffer)
            # The header alone decides: a lying length must not make us gather 4 GiB first.
            self._admit(kind, length)
            end = _HEADER.size + length
            if len(buffer) < end:
                return
            payload = bytes(memoryview(buffer)[_HEADER.size : end])
            del buffer[:end]
            if kind == _BLOB:
                self._blobs.append(payload)
                self._blob_bytes += length
                continue
            message = Message(_decode_object(payload), tuple(self._blobs))
            self._blobs.clear()
            self._blob_bytes = 0
            yield message

    def _admit(self, kind: int, length: int) -> None:
        if kind == _JSON:
            if length > MAX_JSON:
                raise StreamError(f"a JSON frame of {length} bytes is above the limit of {MAX_JSON}")
        elif kind == _BLOB:
            if self._blob_bytes + length > MAX_FRAME or len(self._blobs) >= MAX_BLOBS:
                raise StreamError(f"pending blobs are above the limit of {MAX_FRAME} bytes or {MAX_BLOBS} pieces")
        else:
            raise StreamError(f"a frame of unknown kind {kind}")


def _decode_object(payload: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise StreamError(f"a frame holds no JSON: {error}") from None
    if not isinstance(body, dict):
        raise StreamError("a JSON frame holds no object")
    # Counting brackets is far cheaper than walking, and most messages have few.
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and _deeper_than(body, MAX_DEPTH):
        raise StreamError(f"JSON is nested deeper than {MAX_DEPTH}")
    return body


def _deeper_than(value: object, limit: int) -> bool:
    """Whether containers are nested deeper than `limit`; by levels, so that depth costs no stack."""
    level: list[object] = [value]
    for _ in range(limit):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += (inner for inner in item.values() if isinstance(inner, dict | list))
            elif isinstance(item, list):
                below += (inner for inner in item if isinstance(inner, dict | list))
        if not below:
            return False
        level = below
    return True


def hello(*, role: str, deadline_s: float) -> Message:
    """The first message of a side."""
    return Message({"v": VERSION, "hello": {"role": role, "deadline_s": deadline_s}})


def read_hello(message: Message, *, expected_role: str = "") -> Hello:
    """Check the other side's first message.

    Raises:
        StreamError: Another version, another role than expected, blobs, or no sane deadline.
    """
    try:
        greeting = msgspec.convert(message.body, _Greeting)
    except msgspec.ValidationError as error:
        raise StreamError(f"the first frame is no hello: {error}") from None
    said = greeting.hello
    if greeting.v != VERSION:
        raise StreamError(
            f"the other side speaks version {greeting.v}, this one {VERSION}",
            hint="restart the daemon so that all roles run the same release",
        )
    if message.blobs or not math.isfinite(said.deadline_s) or said.deadline_s <= 0:
        raise StreamError("the hello carries blobs or no sane deadline")
    if expected_role and said.role != expected_role:
        raise StreamError(f"the other side is {said.role[:40]!r}, not {expected_role!r}")
    return said


def call(*, name: str, args: Mapping[str, Any] | None, blobs: Sequence[bytes], number: int | None) -> Message:
    """A call; without a number it wants no answer."""
    body: dict[str, Any] = {"call": name, "args": dict(args or {})}
    if number is not None:
        body["id"] = number
    return Message(body, tuple(blobs))


def result(number: int, value: Mapping[str, Any], blobs: Sequence[bytes]) -> Message:
    """The good answer to call `number`."""
    return Message({"id": number, "result": dict(value)}, tuple(blobs))


def failure(number: int, error: WolverineError) -> Message:
    """The answer to call `number` that raised."""
    said = WireError(
        kind=error.kind,
        message=error.message[:MAX_WORDS],
        hint=error.hint[:MAX_WORDS],
        retryable=bool(getattr(error, "retryable", False)),
    )
    return Message({"id": number, "error": msgspec.to_builtins(said)})


def read(message: Message) -> Wire:
    """Check a message after the hello: exactly one of call, result, error, with a sane id.

    Raises:
        StreamError: When it is none of these.
    """
    try:
        wire = msgspec.convert(message.body, Wire)
    except msgspec.ValidationError as error:
        raise StreamError(f"a message is neither call nor answer: {error}") from None
    given = sum(part is not None for part in (wire.call, wire.result, wire.error))
    if given != 1 or (wire.call is None and wire.id is None):
        raise StreamError("a message is neither one call nor one answer")
    if wire.id is not None and not 0 < wire.id <= MAX_ID:
        raise StreamError("a message has no sane id")
    return wire


def rebuild(error: WireError) -> WolverineError:
    """The exception that the other side's error stands for; an unknown kind is a plain one."""
    message, hint = error.message[:MAX_WORDS], error.hint[:MAX_WORDS]
    known = next((known for known in _tree(WolverineError) if known.kind == error.kind), WolverineError)
    rebuilt = known(message, hint=hint)
    if isinstance(rebuilt, AdviserFailed):
        rebuilt.retryable = error.retryable
    return rebuilt


def _tree(root: type[WolverineError]) -> Iterator[type[WolverineError]]:
    for known in root.__subclasses__():
        if known.__module__ == WolverineError.__module__:  # a room's own subclass may be made in another way
            yield known
        yield from _tree(known)
