# SPDX-License-Identifier: MIT
"""The state that one wolverined leaves to the next in the same process, as bytes (pure).

Each room gives its own part; here they become one value, with a number for its form and a checksum. A
form or a field that is not known is refused and not guessed at: the predecessor is still there then.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec

from wolverined.control.changes import HandedChanges
from wolverined.control.server import HandedServer
from wolverined.daemon.listener import HandedListener
from wolverined.daemon.narrator import HandedNarrator
from wolverined.daemon.places import HandedPlace
from wolverined.daemon.waits import HandedDesk
from wolverined.errors import WolverineError
from wolverined.linux.handover import HandedCgroups, HandedHierarchy
from wolverined.sense.reports import HandedReports
from wolverined.supervise.handover import HandedSupervisor

FORM = 1
"""Grows with every change that makes a state mean something else; a field that has a default needs no new form."""

_MAGIC = b"WLVHAND\n"
_HEAD = struct.Struct(">8sIQI")  # magic, form, bytes that follow, their CRC-32
_BROKEN = "the state that was handed over cannot be used"


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """A whole daemon, taken apart.

    Attributes:
        version: Of the wolverined that wrote it.
        began: When it began to leave its clients waiting (monotonic).
        config: The configuration in force, as plain data.
        begun: It has got as far as starting the app.
        ready: It has told its service manager that it is ready.
        heals: How many heal processes it has started.
        hierarchy: The places for leaves.
        place: The runtime directory.
        supervisor: The app.
        listener: What is known of it beside that.
        desk: The incidents.
        changes: The operations.
        narrator: What could not be told yet.
        server: The control socket.
        reports: The report socket; None: it could not be had.
    """

    version: str
    began: float
    config: dict[str, Any]
    begun: bool
    ready: bool
    heals: int
    hierarchy: HandedHierarchy
    place: HandedPlace
    supervisor: HandedSupervisor
    listener: HandedListener
    desk: HandedDesk
    changes: HandedChanges
    narrator: HandedNarrator
    server: HandedServer
    reports: HandedReports | None


class Unusable(WolverineError):
    """What was handed over is damaged, or of a form or with a field that this version does not know."""

    kind = "handover"


def encode(handover: Handover) -> bytes:
    """The value as bytes.

    Raises:
        Unusable: There is something in it that has no form as bytes, such as half a character.
    """
    try:
        body = msgspec.msgpack.encode(handover)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unusable(f"the state cannot be handed over: {error}") from error
    return _HEAD.pack(_MAGIC, FORM, len(body), zlib.crc32(body)) + body


def decode(data: bytes, *, strict: bool) -> Handover:
    """The value again.

    Args:
        data: What `encode` gave.
        strict: Refuse a field that is not known, too. Whoever takes over does without it: it was looked at before.

    Raises:
        Unusable: It cannot be.
    """
    if len(data) < _HEAD.size:
        raise Unusable(f"{_BROKEN}: it is cut off")
    magic, form, size, checksum = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    if magic != _MAGIC:
        raise Unusable(f"{_BROKEN}: it is none")
    if form != FORM:
        raise Unusable(f"{_BROKEN}: it is of form {form}, and this version knows form {FORM}")
    if len(body) != size or zlib.crc32(body) != checksum:
        raise Unusable(f"{_BROKEN}: it is cut off or damaged")
    try:
        handover = msgspec.msgpack.decode(body, type=Handover)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unusable(f"{_BROKEN}: {error}") from error
    if strict and (path := _unknown(msgspec.msgpack.decode(body), _plain(handover))):
        raise Unusable(f"{_BROKEN}: this version knows no {path}")
    return handover


def descriptors(handover: Handover) -> tuple[int, ...]:
    """Every file descriptor in it."""
    hierarchy, server, reports = handover.hierarchy, handover.server, handover.reports
    generation = handover.supervisor.generation
    return (
        *(hierarchy.locks if isinstance(hierarchy, HandedCgroups) else (hierarchy.lock,)),
        handover.place.lock,
        *(generation.descriptors if generation is not None else ()),
        server.listener,
        *server.connections,
        *((reports.listener, *(sender.fd for sender in reports.senders)) if reports is not None else ()),
    )


def _plain(handover: Handover) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(handover))


def _unknown(told: Any, known: Any, path: str = "") -> str:
    """The first field that was told and is not known; empty when there is none."""
    if isinstance(told, dict) and isinstance(known, dict):
        for key, value in told.items():
            if key not in known:
                return f"{path}.{key}".lstrip(".")
            if found := _unknown(value, known[key], f"{path}.{key}"):
                return found
    elif isinstance(told, list) and isinstance(known, list):
        pairs = zip(told, known, strict=True)
        return next((found for one, other in pairs if (found := _unknown(one, other, path))), "")
    return ""
