# SPDX-License-Identifier: MIT
"""Recognises a caught error without reading its stack each time, and the one that was told twice.

Finding the frames in a stack costs a millisecond or two; an application that fails does so mostly in one way, many
times a second. What is left of an error without its lines and values is remembered with the name that it got.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import msgspec

from wolverined.sense.route_error import RouteError, fingerprint_of, trace_of

READS = (40, 20.0)
"""How many errors that look new are read at once, and a second after that."""

KEPT = 256
TWIN_S = 1.0
"""An application that tells its errors itself and the reporter in it do so within one pass of its loop."""

_LINE = re.compile(r":\d{1,9}|line \d{1,9}")
_WITHOUT_NUMBERS = {ord(digit): None for digit in "0123456789"}


class Recognised(msgspec.Struct, frozen=True):
    """What an error is called, and whether it came through the application's own code."""

    fingerprint: str
    own: bool


class Recogniser:
    """Remembers the newest errors.

    Args:
        app_root: Gives where the application's own files lie.
    """

    def __init__(self, *, app_root: Callable[[], str]) -> None:
        self._app_root = app_root
        self._known: dict[bytes, Recognised] = {}
        self._newest: dict[tuple[str, str], Recognised] = {}  # route and type -> the newest that was read
        self._left = float(READS[0])
        self._at = 0.0

    def look(self, error: RouteError, *, now: float) -> Recognised | None:
        """Give an error its name; None when there are too many at once of a kind that is not known.

        When there are, one is taken for the newest of its route and type.
        """
        key, alike = _key(error), (error.route, error.chain[0].name or "")
        found = self._known.pop(key, None)
        if found is None:
            if not self._may_read(now):
                return self._newest.get(alike)
            trace = trace_of(error, app_root=self._app_root())
            own = trace is not None and any(frame.own for frame in trace.frames)
            found = Recognised(fingerprint_of(error, trace), own)
            self._newest.pop(alike, None)
            self._newest[alike] = found
        self._known[key] = found
        for kept in (self._known, self._newest):
            if len(kept) > KEPT:
                del kept[next(iter(kept))]  # type: ignore[arg-type]
        return found

    def _may_read(self, now: float) -> bool:
        self._left = min(float(READS[0]), self._left + (now - self._at) * READS[1])
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Twins:
    """Knows an error that was told in two ways: by the application itself, and by the reporter in it.

    The application gives what the seed's protocol has; the reporter gives the request as well. Two reports
    of one way are two errors.
    """

    def __init__(self) -> None:
        self._alone: dict[tuple[str, ...], list[tuple[float, bool]]] = {}

    def has(self, error: RouteError, *, now: float) -> bool:
        """Whether the other report of this error has come; else it is waited for."""
        path = error.request.path.partition("?")[0]
        first = (error.chain[0].message or "").partition("\n")[0]
        key = (error.request.method, path, first)
        alone = [one for one in self._alone.pop(key, []) if now - one[0] < TWIN_S]
        twin = next((one for one in alone if one[1] is not error.told), None)
        if twin is not None:
            alone.remove(twin)
        else:
            alone = [*alone, (now, error.told)][-KEPT:]
        if alone:
            self._alone[key] = alone
        if len(self._alone) > KEPT:
            del self._alone[next(iter(self._alone))]
        return twin is not None


def _key(error: RouteError) -> bytes:
    """An error without the numbers that tell no fault from another: lines, columns, and what its messages hold."""
    parts = [error.route, error.file]
    for cause in error.chain:
        message, stack = cause.message or "", cause.stack or ""
        # The stack of most runtimes has the message in it.
        frames = _LINE.sub("", stack.replace(message, "", 1) if message else stack)
        parts += [cause.name or "", message.translate(_WITHOUT_NUMBERS), frames]
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=16).digest()
