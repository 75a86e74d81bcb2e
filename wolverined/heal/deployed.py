# SPDX-License-Identifier: MIT
"""Whether applied repairs are still in the source: a deploy may have put the old text back, or text of its own.

`fate`, `judge` are pure; `look` reads through a surgeon, writes down what it found, and says it once. A loss
only loses the repair here: the store has it, and heals the same trouble with it again for no tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

import msgspec

from wolverined.heal.surgeon.client import SurgeonClient
from wolverined.model import FileChange, Repair, RepairState
from wolverined.store import Store

IN_PLACE = (RepairState.APPLIED, RepairState.PROBATION, RepairState.VERIFIED, RepairState.STABLE)
"""States of a repair that stands in the source, as far as we know."""

SURGERY_S = 3.0
"""So far apart may be the time of a file that we wrote and the time at which the store calls it applied."""

_SLOW_SURGERY_S = 120.0
LOOKED_AT = 200
STRANGE = "strange"

Say = Callable[[str, str, dict[str, Any]], Awaitable[None]]


class Fate(StrEnum):
    """What became of one file of a repair."""

    KEPT = "kept"  # as the repair wrote it, or a later one of ours upon it
    CARRIED = "carried"  # written anew by others, with what the repair changed in it
    BEFORE = "before"  # as it was before the repair
    GONE = "gone"
    OTHER = "other"  # written anew by others, without it


class Standing(StrEnum):
    """What became of a repair, when that is news."""

    STANDS = "stands"
    LOST = "lost"
    UPSTREAM = "upstream"


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it is: no `data` where there is none; `strange` where it cannot be read. `mtime` is wall time."""

    data: bytes | None = None
    strange: bool = False
    mtime: float = 0.0


class _News(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be told of a repair."""

    repair: Repair
    fates: dict[str, Fate]
    standing: Standing


def fate(change: FileChange, now: Now, *, later: Collection[FileChange] = ()) -> Fate:
    """What became of a file.

    Args:
        change: What the repair did to it.
        now: As it is.
        later: What repairs of ours did to it afterwards, oldest first.
    """
    ours = [change.after]
    for one in later:
        if one.before in ours:
            ours.append(one.after)
    if now.strange:
        return Fate.OTHER
    if now.data in ours:
        return Fate.KEPT
    if now.data == change.before:
        return Fate.BEFORE
    if now.data is None:
        return Fate.GONE
    return Fate.CARRIED if _carries(change, now.data) else Fate.OTHER


def judge(repair: Repair, fates: Mapping[str, Fate], *, rewritten: bool) -> Standing:
    """What is new of a repair.

    Args:
        repair: As the store has it.
        fates: Of each of its files.
        rewritten: Somebody else has written one of the files that are as we left them.
    """
    bad = {one for one in fates.values() if one in {Fate.BEFORE, Fate.GONE, Fate.OTHER}}
    if repair.upstream_at is not None:
        # Once it came with the source it is for others to develop further; only the very old text is a loss.
        bad &= {Fate.BEFORE}
    if bad:
        return Standing.STANDS if repair.lost_at is not None else Standing.LOST
    brought = rewritten or Fate.CARRIED in fates.values()
    if repair.lost_at is not None or (brought and repair.upstream_at is None):
        return Standing.UPSTREAM
    return Standing.STANDS


def words(repair: Repair, fates: Mapping[str, Fate], standing: Standing) -> str:
    """What was found, for a person."""
    files = "; ".join(f"{path} {_SAID[found]}" for path, found in fates.items())
    if standing is Standing.LOST:
        return f"{repair.id} is no longer in the source: {files}"
    return f"{repair.id} is part of the source now: {files}"


async def look(*, surgeon: SurgeonClient, store: Store, say: Say, app: str, wall: float, settle_s: float) -> float:
    """Look for applied repairs that were lost, or that came back with the source; tell each once.

    Args:
        surgeon: Reads, as the owner of the source.
        store: Is told what was found.
        say: Tells the operator.
        app: The instance, for the way back.
        wall: Now.
        settle_s: Files written less than this ago may be half of a deploy: nothing is concluded from them.

    Returns:
        How long to wait until it can be said; 0: it has been.

    Raises:
        WolverineError: The source or the store cannot be read.
    """
    known = store.repairs.list(limit=LOOKED_AT)
    repairs = [one for one in known if one.state in IN_PLACE]
    if not repairs:
        return 0.0
    files = await _read(surgeon, sorted({path for one in repairs for path in one.files}))
    ours = [at for one in known for at in (one.applied_at, one.ended_at) if at]
    news = _news(repairs, files, changes_of=lambda repair_id: store.repairs.stored(repair_id).changes, ours=ours)
    newest = max((files[path].mtime for one in news for path in one.fates), default=0.0)
    if (wait_s := newest + settle_s - wall) > 0 and newest <= wall:
        return wait_s
    for one in news:
        await _tell(one, store=store, say=say, app=app, wall=wall)
    return 0.0


def _news(
    repairs: Sequence[Repair],
    files: Mapping[str, Now],
    *,
    changes_of: Callable[[str], Sequence[FileChange]],
    ours: Sequence[float],
) -> list[_News]:
    """What is new of repairs (given newest first), the oldest first; `ours` are the times of our own writes."""
    news: list[_News] = []
    after: dict[str, list[FileChange]] = {}  # what later repairs did to each file, oldest first
    for repair in repairs:
        own = changes_of(repair.id)
        again = repair.lost_at is not None and any(change.path in after for change in own)
        fates = {change.path: fate(change, files[change.path], later=after.get(change.path, ())) for change in own}
        kept = [files[path] for path, found in fates.items() if found is Fate.KEPT]
        rewritten = any(file.data is not None and not _near(file.mtime, ours) for file in kept)
        standing = judge(repair, fates, rewritten=rewritten)
        if standing is not Standing.STANDS and not again:  # else: what stands there now is a later repair's
            news.insert(0, _News(repair=repair, fates=fates, standing=standing))
        for change in own:
            after.setdefault(change.path, []).insert(0, change)
    return news


async def _read(surgeon: SurgeonClient, paths: Sequence[str]) -> dict[str, Now]:
    await surgeon.open()
    hashes = await surgeon.hash(paths)
    found: dict[str, Now] = {}
    for path in paths:
        if hashes[path] in {"", STRANGE}:
            found[path] = Now(strange=hashes[path] == STRANGE)
        else:
            data, mtime = await surgeon.read_dated(path)
            found[path] = Now(data=data, mtime=mtime)
    return found


async def _tell(news: _News, *, store: Store, say: Say, app: str, wall: float) -> None:
    """Tell first: what is told twice after a crash is better than a loss that nobody hears of."""
    repair, said = news.repair, words(news.repair, news.fates, news.standing)
    fields: dict[str, Any] = {"incident": repair.incident, "repair": repair.id, "files": dict(news.fates)}
    if news.standing is Standing.LOST:
        hint = f"get it back: wolverinectl repairs {app} show {repair.id} --patch | git am"
        await say("repair.lost", f"{said}; {hint}", {**fields, "severity": "warn"})
        store.repairs.update(repair.id, lost_at=wall, upstream_at=None, note=said)
    else:
        await say("repair.upstream", said, {**fields, "severity": "info"})
        store.repairs.update(repair.id, lost_at=None, upstream_at=wall, note=said)


def _near(mtime: float, times: Sequence[float]) -> bool:
    """Whether we wrote it: files are staged before the store is told, on a slow disk long before."""
    return any(-_SLOW_SURGERY_S < mtime - at < SURGERY_S for at in times)


def _carries(change: FileChange, now: bytes) -> bool:
    """Whether every passage that the repair made stands in another text, and none that it removed."""
    if change.before is None or change.after is None:
        return False
    old, new, lines = change.before.splitlines(), change.after.splitlines(), now.splitlines()
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        # One line around each: a line moved elsewhere, or a lone bracket, is not the repair.
        made, gone = new[max(0, j1 - 1) : j2 + 1], old[max(0, i1 - 1) : i2 + 1]
        if not _stands_in(made, lines) or _stands_in(gone, lines):
            return False
    return True


def _stands_in(passage: Sequence[bytes], lines: Sequence[bytes]) -> bool:
    count = len(passage)
    return any(list(lines[start : start + count]) == list(passage) for start in range(len(lines) - count + 1))


_SAID = {
    Fate.KEPT: "is as it was repaired",
    Fate.CARRIED: "was written anew, with the repair in it",
    Fate.BEFORE: "is as it was before the repair",
    Fate.GONE: "is gone",
    Fate.OTHER: "was written anew, without it",
}
