# SPDX-License-Identifier: MIT
"""The state between two programs of one process: whole or refused, whatever is done to its bytes."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.handovers import HANDOVERS

from wolverined.daemon.handover import FORM, Handover, Unusable, decode, descriptors, encode
from wolverined.linux.handover import HandedGroups
from wolverined.sense.reports import Counts

HEAD = struct.Struct(">8sIQI")
SLOW = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=60
)


def example() -> Handover:
    """One state, the same each time."""
    data = {
        "version": "0.1.0",
        "began": 1.5,
        "config": {"app": {"user": "myapp"}},
        "begun": True,
        "ready": True,
        "heals": 2,
        "hierarchy": {
            "type": "cgroups",
            "directory": b"/c",
            "own": "/c",
            "places": [b"/c"],
            "spared": [],
            "locks": [5, 6],
        },
        "place": {"lock": 7, "inode": [1, 2]},
        "supervisor": {
            "life": {"phase": "up", "generation": 3, "alive": True, "wanted": True},
            "generation": {
                "number": 3,
                "leaf": "app-3",
                "child": {"pid": 10, "start_ticks": 11, "name": "node"},
                "pipes": [{"stream": "stdout", "fd": 8, "rest": b"half a \xff line"}, {"stream": "stderr", "fd": 9}],
                "started": 1.0,
                "oom_before": 0,
                "first_line": 0,
                "port": 3000,
                "notify": True,
                "probe": {"http": "/health"},
                "environment": [[b"PATH", b"/bin"], [b"ODD", b"\xff"]],
                "probing": {"born": 1.0, "ready": True, "notices": 14},
            },
            "lines": [{"cursor": 1, "at": 1.0, "stream": "stdout", "text": "hello", "generation": 3}],
            "cursor": 1,
            "spawns": 3,
            "cannot_start": None,
            "last_exit": "exit 3",
            "ready_at": 1.0,
            "says": "",
        },
        "listener": {"state": "ready", "generation": 3, "started_at": 1.0, "exit": "exit 3", "reports": {}},
        "desk": {
            "waits": {"due": {"i1": 5.0}, "not_before": {}},
            "tails": {},
            "started": True,
            "unlooked": False,
            "hold": 0.0,
        },
        "changes": {"count": 0, "kept": []},
        "narrator": {"console": {"lines": [], "left_out": 0}, "outbox": None},
        "server": {"listener": 12, "inode": [1, 2, 3], "connections": [15, 16]},
        "reports": {"listener": 13, "inode": None, "senders": [{"fd": 17, "pending": b"{"}], "counts": {}},
    }
    return msgspec.convert(data, Handover)


def packed(body: Any, *, form: int = FORM) -> bytes:
    """A body with the head that belongs to it."""
    raw = msgspec.msgpack.encode(body)
    return HEAD.pack(b"WLVHAND\n", form, len(raw), zlib.crc32(raw)) + raw


def plain() -> dict[str, Any]:
    """The example as data that a test may change."""
    data: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(example()))
    return data


@SLOW
@given(HANDOVERS)
def test_every_state_comes_back_as_it_was(state: Handover) -> None:
    """Whatever the types allow, also by the strict look."""
    assert decode(encode(state), strict=True) == state


@given(st.data())
def test_what_is_cut_off_is_refused(data: st.DataObject) -> None:
    """At every length but the whole one."""
    whole = encode(example())
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Unusable):
        decode(whole[:length], strict=False)


@given(st.data())
def test_a_byte_that_was_changed_is_noticed(data: st.DataObject) -> None:
    """Wherever it is: in the head or in the body."""
    whole = bytearray(encode(example()))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Unusable):
        decode(bytes(whole), strict=False)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_in_words(noise: bytes) -> None:
    """Also with a head that fits them: no exception but the one that is expected."""
    raw = HEAD.pack(b"WLVHAND\n", FORM, len(noise), zlib.crc32(noise)) + noise
    for data in (noise, raw):
        with pytest.raises(Unusable, match="cannot be used"):
            decode(data, strict=True)


@pytest.mark.parametrize("form", [0, FORM + 1, 1 << 31])
def test_another_form_is_refused_and_named(form: int) -> None:
    """Of an older or a newer version: nothing is guessed at."""
    with pytest.raises(Unusable, match=f"of form {form}, and this version knows form {FORM}"):
        decode(packed(plain(), form=form), strict=False)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("supervisor",),
        ("supervisor", "life"),
        ("supervisor", "generation"),
        ("supervisor", "generation", "probing"),
        ("hierarchy",),
        ("reports", "counts"),
    ],
)
def test_a_field_that_is_not_known_is_refused_by_whoever_is_asked(path: tuple[str, ...]) -> None:
    """It would mean something that this version cannot do; the path to it is named."""
    data = plain()
    inner = data
    for name in path:
        inner = inner[name]
    inner["colour"] = "red"
    with pytest.raises(Unusable, match=".".join((*path, "colour"))):
        decode(packed(data), strict=True)
    assert decode(packed(data), strict=False) == example(), "who takes over was asked before, and goes on"


def test_a_field_that_is_not_known_is_found_in_a_list_too() -> None:
    """In the second pipe of the app, say."""
    data = plain()
    data["supervisor"]["generation"]["pipes"][1]["colour"] = 1
    with pytest.raises(Unusable, match=r"supervisor\.generation\.pipes\.colour"):
        decode(packed(data), strict=True)


def test_a_state_of_an_older_version_may_lack_what_has_a_default() -> None:
    """Such a field was added without a new form, because its absence means what it meant before."""
    data = plain()
    del data["supervisor"]["generation"]["pipes"][0]["capacity"]
    assert decode(packed(data), strict=True) == example()


@pytest.mark.parametrize(("path", "value"), [("supervisor", None), ("server", {}), ("heals", "two"), ("config", [])])
def test_a_field_of_another_type_or_none_is_refused(path: str, value: object) -> None:
    """Whether or not it is strict."""
    data = {**plain(), path: value}
    for strict in (True, False):
        with pytest.raises(Unusable):
            decode(packed(data), strict=strict)
    del data[path]
    with pytest.raises(Unusable, match=path):
        decode(packed(data), strict=False)


def test_data_without_end_is_refused() -> None:
    """Ten thousand lists in each other are no state, and no crash."""
    with pytest.raises(Unusable):
        decode(packed({**plain(), "config": {"a": 1}})[:-1] + b"\x91" * 10_000, strict=True)
    raw = b"\x91" * 100_000
    head = HEAD.pack(b"WLVHAND\n", FORM, len(raw), zlib.crc32(raw))
    with pytest.raises(Unusable):
        decode(head + raw, strict=True)


def test_what_has_no_form_as_bytes_is_said_before_anything_is_given_up() -> None:
    """Half a character, as a path of a file system may hold one."""
    state = msgspec.structs.replace(example(), version="\udcff")
    with pytest.raises(Unusable, match="cannot be handed over"):
        encode(state)


def test_every_descriptor_is_named() -> None:
    """What is forgotten here would be closed by the exec: a pipe of the app, or a lock."""
    assert sorted(descriptors(example())) == list(range(5, 10)) + list(range(12, 18))
    groups = HandedGroups(weaknesses=(), leaves=(), children=(), lock=4)
    small = msgspec.structs.replace(
        example(),
        hierarchy=groups,
        reports=None,
        supervisor=msgspec.structs.replace(example().supervisor, generation=None),
    )
    assert sorted(descriptors(small)) == [4, 7, 12, 15, 16]


@SLOW
@given(HANDOVERS)
def test_no_number_that_looks_like_a_descriptor_is_forgotten(state: Handover) -> None:
    """By name: every field called fd, lock, locks, listener, connections or notices, wherever it stands."""
    found: list[int] = []

    def look(value: Any, name: str = "") -> None:
        if isinstance(value, msgspec.Struct):
            for field in msgspec.structs.fields(value):
                if not isinstance(value, Counts):  # which count connections
                    look(getattr(value, field.name), field.name)
        elif isinstance(value, tuple):
            for one in value:
                look(one, name)
        elif isinstance(value, int) and name in {"fd", "lock", "locks", "listener", "connections", "notices"}:
            found.append(value)

    look(state)
    assert sorted(one for one in found if one >= 0) == sorted(one for one in descriptors(state) if one >= 0)
