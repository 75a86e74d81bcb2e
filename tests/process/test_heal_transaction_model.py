# SPDX-License-Identifier: MIT
"""Random lives of a source tree against a simple model: apply, roll back, foreign edits, kill -9 and recovery."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.surgeons import Nth, forked, no_faults, surgeon

from wolverined.clock import SystemClock
from wolverined.errors import StreamError, SurgeryAborted
from wolverined.heal.transaction import Faults, Transaction
from wolverined.model import FileChange, Repair, RepairMode, RepairState
from wolverined.store import Store

PATHS = ("a.js", "lib/b.js", "lib/deep/c.js", "d/e.js")
Tree = dict[str, bytes]


class Move(NamedTuple):
    """One step of a life: what is done, to which files, who is killed where, what is edited after that."""

    what: str  # "apply", "rollback", "edit"
    paths: tuple[str, ...]
    removes: bool
    which: int
    victim: str  # "", "heal", "surgeon"
    point: int
    edited: str


MOVES = st.builds(
    Move,
    what=st.sampled_from(["apply", "apply", "rollback", "rollback", "edit"]),
    paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=3, unique=True).map(tuple),
    removes=st.booleans(),
    which=st.integers(0, 3),
    victim=st.sampled_from(["", "heal", "surgeon"]),
    point=st.integers(1, 25),
    edited=st.sampled_from(["", "", *PATHS]),
)


class Life:
    """A tree on disk, the model of it, and the repairs that were made."""

    def __init__(self, top: Path) -> None:
        self.root = top / "app"
        self.state = top / "state"
        self.root.mkdir()
        self.state.mkdir()
        self.tree: Tree = {}
        self.store = Store.open(self.state, clock=SystemClock())
        self.repairs: list[tuple[Repair, tuple[FileChange, ...]]] = []
        self._fresh = 0
        for path in PATHS[:3]:
            self.edit(path)

    def text(self) -> bytes:
        """Content that was never there before."""
        self._fresh += 1
        return b"content %d\n" % self._fresh

    def edit(self, path: str) -> None:
        """Somebody else writes a file."""
        data = self.text()
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        self.tree[path] = data

    def on_disk(self) -> Tree:
        """Every file below the root, temporary ones too."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def run(self, operate: Callable[[Transaction], object], move: Move) -> bool:
        """One operation; in a child that is killed, or whose surgeon is, when the move says so. Whether it was cut."""
        if not move.victim:
            self._operate(self.store, operate, no_faults, no_faults)
            return False
        fault = Nth(move.point)
        heal, cut = (fault, no_faults) if move.victim == "heal" else (no_faults, fault)

        def main() -> int:
            store = Store.open(self.state, clock=SystemClock())
            try:
                self._operate(store, operate, heal, cut)
            except SurgeryAborted:
                return 5
            except StreamError:
                return 3
            finally:
                store.close()
            return 0

        code = os.waitstatus_to_exitcode(os.waitpid(forked(main), 0)[1])
        assert code in {0, 3, 5, -signal.SIGKILL}
        if code == 5:
            raise SurgeryAborted("in the child")
        return code != 0

    def _operate(self, store: Store, operate: Callable[[Transaction], object], heal: Faults, cut: Faults) -> None:
        async def run() -> None:
            async with surgeon(self.root, cut) as client:
                clock = SystemClock()
                await operate(Transaction(store=store, surgeon=client, state_dir=self.state, clock=clock, faults=heal))  # type: ignore[misc]

        asyncio.run(run())

    def recover(self) -> None:
        """What the next start does."""
        self._operate(self.store, lambda transaction: transaction.recover(), no_faults, no_faults)
        assert self.store.journal.unfinished() is None


def apply(life: Life, move: Move) -> None:
    """Apply a new repair to the tree as it is."""
    made = []
    for path in move.paths:
        before = life.tree.get(path)
        after = None if move.removes and before is not None else life.text()
        made.append(FileChange(path=path, before=before, after=after))
    changes = tuple(made)
    repair = life.store.repairs.add(
        incident="i1", fingerprint="f", mode=RepairMode.REMEDY, error="e", resolution="r", changes=changes
    )
    life.repairs.append((repair, changes))
    cut = life.run(lambda transaction: transaction.apply(repair, changes), move)
    edited = move.edited if cut else ""
    if edited:
        life.edit(edited)
    life.recover()
    if life.store.repairs.get(repair.id).state is RepairState.APPLIED:
        put(life, {change.path: change.after for change in changes if change.path != edited})
    else:
        assert cut


def roll_back(life: Life, move: Move) -> None:
    """Take one of the applied repairs back."""
    applied = [one for one in life.repairs if life.store.repairs.get(one[0].id).state is RepairState.APPLIED]
    if not applied:
        return
    repair, changes = applied[move.which % len(applied)]
    foreign = [one for one in changes if life.tree.get(one.path) not in {one.before, one.after}]
    try:
        cut = life.run(lambda transaction: transaction.rollback(repair.id), move)
    except SurgeryAborted:
        assert foreign
        assert life.store.repairs.get(repair.id).state is RepairState.APPLIED
        return
    assert not foreign or cut
    edited = move.edited if cut else ""
    if edited:
        life.edit(edited)
    life.recover()
    if life.store.repairs.get(repair.id).state is RepairState.ROLLED_BACK:
        put(life, {change.path: change.before for change in changes if change.path != edited})
    else:
        assert cut


def put(life: Life, files: dict[str, bytes | None]) -> None:
    """Change the model as a repair does."""
    for path, data in files.items():
        if data is None:
            life.tree.pop(path, None)
        else:
            life.tree[path] = data


@settings(
    max_examples=int(os.environ.get("WOLVERINE_LIVES", "25")),
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(MOVES, min_size=1, max_size=8))
@pytest.mark.timeout(300)
def test_whatever_happens_the_tree_is_what_the_records_say(moves: list[Move]) -> None:
    """After every step no byte is lost, mixed or left over."""
    with tempfile.TemporaryDirectory() as top:
        life = Life(Path(top))
        try:
            for move in moves:
                if move.what == "edit":
                    life.edit(move.paths[0])
                elif move.what == "apply":
                    apply(life, move)
                else:
                    roll_back(life, move)
                assert life.on_disk() == life.tree
        finally:
            life.store.close()
