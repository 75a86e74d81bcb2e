# SPDX-License-Identifier: MIT
"""States as one wolverined leaves them to the next: any that its types allow, for properties."""

from __future__ import annotations

import types
import typing
from enum import Enum
from typing import Any

import msgspec
from hypothesis import strategies as st

from wolverined.daemon.handover import Handover

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    bytes: st.binary(max_size=30),
    int: st.integers(-(1 << 62), 1 << 62),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    Any: _JSON,
}


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type out of which structs are made."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([of(one) for one in inner])
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(st.deferred(lambda: of(inner[0])), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(of(one) for one in inner))
    if origin is dict:
        return st.dictionaries(of(inner[0]), of(inner[1]), max_size=3)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: of(hints[field.name]) for field in msgspec.structs.fields(kind)})


HANDOVERS = of(Handover)
