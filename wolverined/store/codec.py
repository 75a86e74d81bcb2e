# SPDX-License-Identifier: MIT
"""Structs to the JSON that stands in a column, and back.

What comes from an application may hold anything that Python lets into a string (lone surrogates) or
an integer (beyond 64 bits). A store that refuses such a value would lose the incident that tells of it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_MAX_INT = 2**63 - 1


def pack(value: object) -> bytes:
    """The JSON of a struct or of plain data; what JSON cannot hold is replaced, never refused."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return msgspec.json.encode(_printable(value))


def unpack(data: bytes, kind: type[T]) -> T:
    """The struct that `pack` wrote.

    Raises:
        msgspec.ValidationError: The JSON is not of this kind.
    """
    return msgspec.json.decode(data, type=kind)


def _printable(value: object) -> Any:
    """The same data with every string encodable, every integer in range, every stranger as its text."""
    if isinstance(value, msgspec.Struct):
        return {name: _printable(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {_printable(str(key)): _printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_printable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_INT else str(value)
    return _printable(str(value))
