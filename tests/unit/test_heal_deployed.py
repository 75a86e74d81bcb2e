# SPDX-License-Identifier: MIT
"""What became of applied repairs: kept, lost to a deploy, or brought back by one; each told once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.clock import SystemClock
from wolverined.errors import SurgeryAborted
from wolverined.heal.deployed import Fate, Now, Standing, fate, judge, look
from wolverined.heal.source import sha256_of
from wolverined.model import FileChange, Repair, RepairMode, RepairState
from wolverined.store import Store

OLD = b"const a = 1;\nfunction price(item) {\n  return item.cost;\n}\nmodule.exports = { price };\n"
NEW = OLD.replace(b"item.cost", b"item?.cost ?? 0")
CHANGE = FileChange(path="price.js", before=OLD, after=NEW)
NEWER = NEW.replace(b"const a = 1;", b"const a = 2;")
WALL = 10_000.0
APPLIED = 5_000.0


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (NEW, Fate.KEPT),
        (OLD, Fate.BEFORE),
        (None, Fate.GONE),
        (NEWER, Fate.CARRIED),
        (b"// head\n" + NEW + b"// tail\n", Fate.CARRIED),
        (NEW.replace(b"\n", b"\r\n"), Fate.CARRIED),
        (OLD.replace(b"const a = 1;", b"const a = 2;"), Fate.OTHER),
        (NEW + OLD, Fate.OTHER),
        (b"", Fate.OTHER),
        (b"\0\xff", Fate.OTHER),
        (NEW.replace(b"item?.cost ?? 0", b"item.cost || 0"), Fate.OTHER),
    ],
)
def test_a_file_is_told_by_its_content(now: bytes | None, found: Fate) -> None:
    """As repaired, as before, gone, or written anew with or without the repair in it."""
    assert fate(CHANGE, Now(data=now)) is found


def test_a_file_that_cannot_be_read_is_not_ours() -> None:
    """A link, a directory, a file that is being written."""
    assert fate(CHANGE, Now(strange=True)) is Fate.OTHER


def test_new_and_removed_files_are_told_too() -> None:
    """A repair may make a file or take one away; their absence means the opposite."""
    made, gone = FileChange(path="x", before=None, after=NEW), FileChange(path="x", before=OLD, after=None)
    assert [fate(made, Now(data=data)) for data in (NEW, None, OLD)] == [Fate.KEPT, Fate.BEFORE, Fate.OTHER]
    assert [fate(gone, Now(data=data)) for data in (None, OLD, NEW)] == [Fate.KEPT, Fate.BEFORE, Fate.OTHER]


def test_what_a_later_repair_made_of_it_is_kept() -> None:
    """As long as it was made upon this one: behind a deploy it says nothing of this one."""
    upon = FileChange(path="price.js", before=NEW, after=NEWER)
    other = FileChange(path="price.js", before=b"deployed", after=NEWER + b"//\n")
    assert fate(CHANGE, Now(data=NEWER), later=[upon]) is Fate.KEPT
    assert fate(CHANGE, Now(data=b"x"), later=[FileChange(path="price.js", before=NEWER, after=b"x")]) is Fate.OTHER
    assert fate(CHANGE, Now(data=b"x"), later=[upon, FileChange(path="p", before=NEWER, after=b"x")]) is Fate.KEPT
    assert fate(CHANGE, Now(data=NEWER + b"//\n"), later=[other]) is Fate.CARRIED


@given(
    st.binary(max_size=60), st.one_of(st.none(), st.binary(max_size=60)), st.one_of(st.none(), st.binary(max_size=60))
)
def test_any_content_has_a_fate(before: bytes, after: bytes | None, now: bytes | None) -> None:
    """No text is too strange; what is equal is kept."""
    found = fate(FileChange(path="x", before=before, after=after), Now(data=now))
    assert (found is Fate.KEPT) is (now == after)


def repair(**fields: Any) -> Repair:
    """A verified repair of one file."""
    known = {
        "id": "r1", "incident": "i1", "mode": RepairMode.REMEDY, "state": RepairState.VERIFIED, "error": "TypeError",
        "resolution": "ask first", "files": ("price.js",), "applied_at": APPLIED, "backup": "b1",
    }  # fmt: skip
    return Repair(**{**known, **fields})


@pytest.mark.parametrize(
    ("fields", "fates", "rewritten", "standing"),
    [
        ({}, (Fate.KEPT,), False, Standing.STANDS),
        ({}, (Fate.KEPT, Fate.BEFORE), False, Standing.LOST),
        ({}, (Fate.OTHER,), False, Standing.LOST),
        ({}, (Fate.GONE,), False, Standing.LOST),
        ({"lost_at": 1.0}, (Fate.BEFORE,), False, Standing.STANDS),
        ({"lost_at": 1.0}, (Fate.KEPT,), False, Standing.UPSTREAM),
        ({"lost_at": 1.0}, (Fate.KEPT, Fate.OTHER), False, Standing.STANDS),
        ({}, (Fate.KEPT,), True, Standing.UPSTREAM),
        ({}, (Fate.KEPT, Fate.CARRIED), False, Standing.UPSTREAM),
        ({"upstream_at": 1.0}, (Fate.KEPT,), True, Standing.STANDS),
        ({"upstream_at": 1.0}, (Fate.OTHER,), False, Standing.STANDS),
        ({"upstream_at": 1.0}, (Fate.GONE,), False, Standing.STANDS),
        ({"upstream_at": 1.0}, (Fate.BEFORE,), False, Standing.LOST),
    ],
)
def test_news_is_told_once(
    fields: dict[str, Any], fates: tuple[Fate, ...], *, rewritten: bool, standing: Standing
) -> None:
    """A loss, a return; what came with the source may be developed further, and is lost only by the very old text."""
    named = {str(number): one for number, one in enumerate(fates)}
    assert judge(repair(**fields), named, rewritten=rewritten) is standing


class Surgeon:
    """Reads files that a test has written: path -> content and time."""

    def __init__(self, files: Mapping[str, tuple[bytes, float]]) -> None:
        self.files = dict(files)
        self.asked: list[tuple[str, ...]] = []

    async def open(self) -> str:
        """There it is."""
        return "/srv/app"

    async def hash(self, paths: list[str]) -> dict[str, str]:
        """The hashes, and a word where there is nothing to hash."""
        self.asked.append(tuple(paths))
        return {path: sha256_of(self.files[path][0]) if path in self.files else "" for path in paths}

    async def read_dated(self, path: str) -> tuple[bytes, float]:
        """Content and time."""
        return self.files[path]


class Source:
    """A store, a source, and what was told."""

    def __init__(self) -> None:
        self.store = Store.volatile(clock=SystemClock(), why="a test")
        self.surgeon = Surgeon({})
        self.told: list[tuple[str, str, dict[str, Any]]] = []

    def applied(self, *changes: FileChange, at: float = APPLIED, **fields: Any) -> str:
        """A repair in place, and its files as it wrote them."""
        known = {"state": RepairState.VERIFIED, "applied_at": at, "backup": "b1", **fields}
        made = self.store.repairs.add(
            incident="i1", fingerprint="f", mode=RepairMode.REMEDY, error="E", resolution="r", changes=changes, **known
        )
        for change in changes:
            self.deploy(change.path, change.after, at=at)
        return made.id

    def deploy(self, path: str, data: bytes | None, *, at: float) -> None:
        """Somebody writes a file, or removes it."""
        self.surgeon.files.pop(path, None)
        if data is not None:
            self.surgeon.files[path] = (data, at)

    def look(self, *, wall: float = WALL, settle_s: float = 30.0) -> list[str]:
        """Look once; the names of what was told."""

        async def say(name: str, message: str, fields: dict[str, Any]) -> None:
            self.told.append((name, message, fields))

        async def once() -> float:
            return await look(
                surgeon=self.surgeon,  # type: ignore[arg-type]
                store=self.store,
                say=say,
                app="shop",
                wall=wall,
                settle_s=settle_s,
            )

        before = len(self.told)
        self.waits_s = asyncio.run(once())
        return [name for name, _, _ in self.told[before:]]


@pytest.fixture
def source() -> Iterator[Source]:
    """An empty one."""
    made = Source()
    yield made
    made.store.close()


def test_a_repair_that_stands_is_no_news_and_costs_one_call(source: Source) -> None:
    """Without repairs there is not even that."""
    assert source.look() == []
    assert source.surgeon.asked == []
    source.applied(CHANGE)
    assert source.look() == []
    assert source.surgeon.asked == [("price.js",)]


def test_a_deploy_of_the_old_text_loses_a_repair_and_it_is_told_once_with_the_way_back(source: Source) -> None:
    """In the store and as an event; the state, by which it is recalled, stays."""
    name = source.applied(CHANGE)
    source.deploy("price.js", OLD, at=6_000.0)
    assert source.look() == ["repair.lost"]
    assert source.look(wall=WALL + 60) == []
    _, message, fields = source.told[0]
    assert message == (
        f"{name} is no longer in the source: price.js is as it was before the repair; "
        f"get it back: wolverinectl repairs shop show {name} --patch | git am"
    )
    assert fields == {"incident": "i1", "repair": name, "files": {"price.js": "before"}, "severity": "warn"}
    kept = source.store.repairs.get(name)
    assert (kept.state, kept.lost_at, kept.note) == (RepairState.VERIFIED, WALL, message.partition("; get it")[0])


def test_a_deploy_that_brings_the_repair_is_told_as_such(source: Source) -> None:
    """Equal files, written by somebody else: no alarm; and told once."""
    name = source.applied(CHANGE)
    source.deploy("price.js", NEW, at=6_000.0)
    assert source.look() == ["repair.upstream"]
    assert source.told[0][2]["severity"] == "info"
    assert source.look() == []
    assert source.store.repairs.get(name).upstream_at == WALL


def test_a_lost_repair_that_comes_back_is_told_and_may_be_lost_again(source: Source) -> None:
    """`git am` and a deploy, and then a deploy of an old branch."""
    name = source.applied(CHANGE)
    for data, told, lost in ((OLD, "repair.lost", True), (NEWER, "repair.upstream", False), (OLD, "repair.lost", True)):
        source.deploy("price.js", data, at=6_000.0)
        assert source.look() == [told]
        assert (source.store.repairs.get(name).lost_at is not None) is lost


def test_half_a_deploy_says_nothing_yet(source: Source) -> None:
    """What was written a moment ago may still be written; a clock that went back must not put it off for ever."""
    source.applied(CHANGE)
    source.deploy("price.js", OLD, at=WALL - 10)
    assert source.look() == []
    assert source.waits_s == pytest.approx(20.0)
    assert source.look(wall=WALL + 30) == ["repair.lost"]
    source.deploy("price.js", NEW, at=WALL + 5_000)
    assert source.look(wall=WALL + 60) == ["repair.upstream"]


def test_what_was_healed_again_is_not_called_a_return(source: Source) -> None:
    """The second repair stands there now, of the same text; the first stays lost."""
    first = source.applied(CHANGE)
    source.deploy("price.js", OLD, at=6_000.0)
    assert source.look() == ["repair.lost"]
    second = source.applied(CHANGE, at=7_000.0)
    assert source.look() == []
    assert source.store.repairs.get(first).lost_at is not None
    assert source.store.repairs.get(second).lost_at is None
    source.deploy("price.js", OLD, at=8_000.0)
    assert source.look() == ["repair.lost"]
    assert source.told[-1][2]["repair"] == second


def test_a_repair_upon_a_repair_loses_neither(source: Source) -> None:
    """And when the deploy takes back only the second, only that is lost."""
    source.applied(CHANGE)
    second = source.applied(FileChange(path="price.js", before=NEW, after=NEWER), at=6_000.0)
    assert source.look() == []
    source.deploy("price.js", NEW, at=6_000.0)
    assert source.look() == ["repair.lost"]
    assert source.told[-1][2]["repair"] == second


@pytest.mark.parametrize("state", [one for one in RepairState if one.value not in "applied probation verified stable"])
def test_what_was_never_in_place_cannot_be_lost(source: Source, state: RepairState) -> None:
    """Proposals, refusals, what was rolled back."""
    source.applied(CHANGE, state=state)
    source.deploy("price.js", OLD, at=6_000.0)
    assert source.look() == []


def test_several_losses_are_told_in_the_order_of_the_repairs(source: Source) -> None:
    """The oldest first, each with its own files."""
    other = msgspec.structs.replace(CHANGE, path="b.js")
    names = [source.applied(CHANGE), source.applied(other, at=5_500.0)]
    source.deploy("price.js", None, at=0.0)
    source.deploy("b.js", b"x", at=6_000.0)
    source.look()
    assert [fields["repair"] for _, _, fields in source.told] == names
    assert [fields["files"] for _, _, fields in source.told] == [{"price.js": "gone"}, {"b.js": "other"}]


def test_a_source_that_cannot_be_read_says_so_and_concludes_nothing(source: Source) -> None:
    """No loss is told of what was only not readable."""
    name = source.applied(CHANGE)

    async def refuse() -> str:
        raise SurgeryAborted("no such directory")

    source.surgeon.open = refuse  # type: ignore[method-assign]
    with pytest.raises(SurgeryAborted):
        source.look()
    assert source.store.repairs.get(name).lost_at is None
