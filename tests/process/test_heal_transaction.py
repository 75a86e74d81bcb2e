# SPDX-License-Identifier: MIT
"""Transactions with real surgeons: all or nothing, killed anywhere, and what others wrote is kept."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.surgeons import Nth, forked, no_faults, plant, surgeon, tree_of

from wolverined.clock import SystemClock
from wolverined.errors import Conflict, NotFound, StoreError, StreamError, SurgeryAborted
from wolverined.heal import transaction
from wolverined.heal.source import sha256_of
from wolverined.heal.steps import Plan
from wolverined.heal.surgeon import rename
from wolverined.heal.transaction import Faults, Transaction
from wolverined.model import FileChange, Repair, RepairMode, RepairState
from wolverined.store import Store

BEFORE = {"server.js": b"old server\n", "lib/db.js": b"old db\r\n", "lib/gone.js": b"going\n", "data.txt": b"data\n"}
CHANGES = (
    FileChange(path="server.js", before=b"old server\n", after=b"new server\n"),
    FileChange(path="lib/deep/er/new.js", before=None, after=b"fresh\n"),
    FileChange(path="lib/gone.js", before=b"going\n", after=None),
    FileChange(path="lib/db.js", before=b"old db\r\n", after=b"new db\r\n"),
)


class World:
    """An app's source and an instance's state."""

    def __init__(self, top: Path) -> None:
        self.root = top / "app"
        self.state = top / "state"
        self.root.mkdir()
        self.state.mkdir()
        plant(self.root, BEFORE)
        (self.root / "server.js").chmod(0o750)
        self.store = self.open()
        self.repair = self.store.repairs.add(
            incident="i1", fingerprint="f", mode=RepairMode.REMEDY, error="e", resolution="r", changes=CHANGES
        )
        self.heal_pid = -1
        self.before = tree_of(self.root)
        self.dirs = self.directories()

    def open(self) -> Store:
        """The store, as a fresh process would open it."""
        return Store.open(self.state, clock=SystemClock())

    def directories(self) -> set[str]:
        """Every directory of the source."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_dir()}

    def after(self) -> dict[str, tuple[bytes, int]]:
        """The tree as the repair leaves it."""
        tree = dict(self.before)
        del tree["lib/gone.js"]
        tree["lib/deep/er/new.js"] = (b"fresh\n", 0o644)
        for change in (CHANGES[0], CHANGES[3]):
            assert change.after is not None
            tree[change.path] = (change.after, tree[change.path][1])
        return tree

    def reload(self) -> Repair:
        """The repair as the store has it."""
        return self.store.repairs.get(self.repair.id)

    def kill_heal(self) -> None:
        """In the surgeon: kill the heal process that `in_child` made, and nobody who took its place as our parent."""
        if os.getppid() == self.heal_pid:
            os.kill(self.heal_pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the store."""
        self.store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A source of four files and an empty store with one repair."""
    made = World(tmp_path)
    yield made
    made.close()


async def operate(world: World, store: Store, what: str, *, heal: Faults = no_faults, cut: Faults = no_faults) -> None:
    """One operation with a fresh surgeon."""
    async with surgeon(world.root, cut) as client:
        operation = Transaction(store=store, surgeon=client, state_dir=world.state, clock=SystemClock(), faults=heal)
        if what == "apply":
            await operation.apply(world.repair, CHANGES, tree_hash="t", patch="From x\n")
        elif what == "rollback":
            await operation.rollback(world.repair.id)
        else:
            await operation.recover()


def in_child(world: World, what: str, *, heal: Faults = no_faults, cut: Faults = no_faults) -> int:
    """The same in a process of its own, with a store of its own; its wait status."""

    def main() -> int:
        world.heal_pid = os.getpid()
        store = world.open()
        try:
            asyncio.run(operate(world, store, what, heal=heal, cut=cut))
        except StreamError:
            return 3
        finally:
            store.close()
        return 0

    return os.waitpid(forked(main), 0)[1]


def test_a_repair_is_applied_whole_and_taken_back_whole(world: World) -> None:
    """Replaced, new and removed files; modes kept; directories made and dropped; backup and patch kept."""
    asyncio.run(operate(world, world.store, "apply"))
    assert tree_of(world.root) == world.after()
    repair = world.reload()
    assert (repair.state, repair.backup) == (RepairState.APPLIED, "b1")
    assert (world.state / "patches" / "r1.patch").read_text() == "From x\n"
    assert (world.state / "backups" / "b1" / "0.old").read_bytes() == b"old server\n"
    asyncio.run(operate(world, world.store, "rollback"))
    assert tree_of(world.root) == world.before
    assert world.directories() == world.dirs
    assert world.reload().state is RepairState.ROLLED_BACK


def check_whole(world: World) -> None:
    """The tree is wholly old or wholly new, as the repair says, and nothing lies about."""
    new = world.reload().state is RepairState.APPLIED
    assert tree_of(world.root) == (world.after() if new else world.before)
    assert world.directories() == (world.dirs | {"lib/deep", "lib/deep/er"} if new else world.dirs)
    assert world.store.journal.unfinished() is None
    kept = {backup.id for backup in world.store.backups.list()}
    on_disk = world.state / "backups"
    assert kept == ({path.name for path in on_disk.iterdir()} if on_disk.exists() else set())


def killed_everywhere(top: Path, what: str, who: str) -> list[str]:
    """Kill heal, surgeon or both at every point of an operation; recover each time. How each ended."""
    ends = []
    for number in range(1, 200):
        place = top / f"{what}-{who}-{number}"
        place.mkdir()
        world = World(place)
        try:
            if what == "rollback":
                asyncio.run(operate(world, world.store, "apply"))
            fault = Nth(number)
            if who == "both":
                fault = Nth(number, before=world.kill_heal)
            status = in_child(world, what, heal=fault) if who == "heal" else in_child(world, what, cut=fault)
            if status == 0 and world.store.journal.unfinished() is None:
                assert number > 5
                return ends
            asyncio.run(operate(world, world.store, "recover"))
            check_whole(world)
            ends.append(world.reload().state.value)
        finally:
            world.close()
    raise AssertionError("the operation never came to its end")


@pytest.mark.parametrize("who", ["heal", "surgeon", "both"])
def test_a_kill_at_any_point_of_apply_leaves_the_old_tree_or_the_new_one(tmp_path: Path, who: str) -> None:
    """Old before the commit, new after it."""
    ends = killed_everywhere(tmp_path, "apply", who)
    assert ends == sorted(ends, key=["proposed", "applied"].index)
    assert "proposed" in ends


@pytest.mark.parametrize("who", ["heal", "surgeon", "both"])
def test_a_kill_at_any_point_of_rollback_ends_in_the_old_tree(tmp_path: Path, who: str) -> None:
    """Once it is journalled, a rollback that was cut short is done by the recovery."""
    assert set(killed_everywhere(tmp_path, "rollback", who)) == {"rolled_back"}


@pytest.mark.parametrize("what", ["apply", "rollback"])
@pytest.mark.parametrize("who", ["heal", "surgeon"])
def test_a_kill_at_any_point_of_the_recovery_is_recovered_too(tmp_path: Path, what: str, who: str) -> None:
    """The second crash finds what the first left, and what the recovery had done of it."""
    for number in range(1, 200):
        place = tmp_path / str(number)
        place.mkdir()
        world = World(place)
        try:
            if what == "rollback":
                asyncio.run(operate(world, world.store, "apply"))
            assert in_child(world, what, cut=_at("swap:file", 3)) != 0
            fault = Nth(number)
            status = in_child(world, "recover", heal=fault) if who == "heal" else in_child(world, "recover", cut=fault)
            if status == 0 and world.store.journal.unfinished() is None:
                assert number > 2
                check_whole(world)
                return
            asyncio.run(operate(world, world.store, "recover"))
            check_whole(world)
            assert world.reload().state is (RepairState.PROPOSED if what == "apply" else RepairState.ROLLED_BACK)
        finally:
            world.close()
    raise AssertionError("the recovery never came to its end")


def _at(name: str, times: int) -> Faults:
    """Kill the process when it passes a point of this name so many times."""
    left = [times]

    def fault(point: str) -> None:
        left[0] -= point == name
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


@pytest.mark.parametrize("swapped", range(16))
@pytest.mark.parametrize("temporary", [True, False])
def test_whatever_renames_reached_the_disk_the_old_tree_comes_back(world: World, swapped: int, temporary: bool) -> None:
    """After a power cut any subset of the renames may stand, and the old files may be gone."""
    assert in_child(world, "apply", cut=_at("swap:checked", 1)) != 0
    for number, change in enumerate(CHANGES):
        path = world.root / change.path
        (temp,) = [*path.parent.glob(f".wolverine-*-{number}.tmp"), None][:1]
        if not swapped & 1 << number:
            continue
        old = path.read_bytes() if change.before is not None else None
        if change.after is None:
            temp = path.parent / f".wolverine-{_nonce(world)}-{number}.tmp"
            path.rename(temp)
        else:
            assert temp is not None
            mode = temp.stat().st_mode
            temp.rename(path)
            if old is not None:
                temp.write_bytes(old)
                temp.chmod(mode)
        if not temporary:
            temp.unlink(missing_ok=True)
    asyncio.run(operate(world, world.store, "recover"))
    check_whole(world)
    assert world.reload().state is RepairState.PROPOSED


def _nonce(world: World) -> str:
    entry = world.store.journal.unfinished()
    assert entry is not None
    plan = msgspec.json.decode(entry.plan, type=Plan)
    return plan.steps[0].temp.split("-")[1]


# --- what others wrote is kept -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["server.js", "lib/deep/er/new.js", "lib/gone.js", "lib/db.js"])
def test_a_file_changed_by_others_before_apply_aborts_it(world: World, path: str) -> None:
    """Nothing is written, and the file is named."""
    plant(world.root, {path: b"a deploy\n"})
    before = tree_of(world.root)
    with pytest.raises(SurgeryAborted, match=path):
        asyncio.run(operate(world, world.store, "apply"))
    assert tree_of(world.root) == before
    assert world.store.journal.list() == []


@pytest.mark.parametrize("path", ["server.js", "lib/deep/er/new.js", "lib/gone.js", "lib/db.js"])
@pytest.mark.parametrize("point", ["operate:staged", "operate:swapping"])
def test_a_file_changed_by_others_while_staged_aborts_and_is_kept(world: World, path: str, point: str) -> None:
    """The rest of the tree is as before, and the surgery leaves nothing."""

    def deploy(passed: str) -> None:
        if passed == point:
            plant(world.root, {path: b"a deploy\n"})

    with pytest.raises(SurgeryAborted, match=path):
        asyncio.run(operate(world, world.store, "apply", heal=deploy))
    mode = 0o750 if path == "server.js" else 0o644
    assert tree_of(world.root) == {**world.before, path: (b"a deploy\n", mode)}
    assert world.store.journal.unfinished() is None


@pytest.mark.parametrize("path", ["server.js", "lib/gone.js", "lib/db.js"])
def test_a_file_changed_between_the_last_check_and_the_rename_is_kept(world: World, path: str) -> None:
    """What the exchange brings out is looked at, and goes back when it is not what it should be."""

    def deploy(passed: str) -> None:
        if passed == "swap:checked":
            plant(world.root, {path: b"a deploy\n"})

    with pytest.raises(SurgeryAborted, match=path):
        asyncio.run(operate(world, world.store, "apply", cut=deploy))
    mode = 0o750 if path == "server.js" else 0o644
    assert tree_of(world.root) == {**world.before, path: (b"a deploy\n", mode)}


def test_a_file_system_without_exchange_keeps_what_others_wrote_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a rename destroys what it replaces: all targets are looked at before the first."""
    monkeypatch.setattr(rename, "_libc", object())

    def deploy(passed: str) -> None:
        if passed == "operate:staged":
            plant(world.root, {"lib/db.js": b"a deploy\n"})

    with pytest.raises(SurgeryAborted, match=r"lib/db\.js"):
        asyncio.run(operate(world, world.store, "apply", heal=deploy))
    assert tree_of(world.root) == {**world.before, "lib/db.js": (b"a deploy\n", 0o644)}


def test_a_deploy_after_a_crash_is_kept_and_named(world: World) -> None:
    """Recovery puts back what is ours and leaves what is not."""
    assert in_child(world, "apply", cut=_at("swap:file", 2)) != 0
    plant(world.root, {"server.js": b"a deploy\n"})

    async def recover() -> str:
        async with surgeon(world.root) as client:
            return await transaction.recover(surgeon=client, store=world.store, state_dir=world.state)

    said = asyncio.run(recover())
    assert "server.js" in said
    assert tree_of(world.root) == {**world.before, "server.js": (b"a deploy\n", 0o750)}
    assert [backup.id for backup in world.store.backups.list()] == ["b1"]


def test_a_source_that_is_gone_after_a_crash_does_not_stop_heals_for_ever(world: World) -> None:
    """A deploy tool that removed the release directory took the half-done work with it."""
    assert in_child(world, "apply", cut=_at("swap:file", 2)) != 0
    world.root.rename(world.root.with_name("old"))
    world.root.mkdir()
    world.root.rmdir()
    asyncio.run(operate(world, world.store, "recover"))
    assert world.store.journal.unfinished() is None


@pytest.mark.parametrize("path", ["server.js", "lib/deep/er/new.js", "lib/gone.js", "lib/db.js"])
def test_rollback_is_all_or_nothing_when_a_file_is_no_longer_ours(world: World, path: str) -> None:
    """The conflict is said by name and no other file is touched."""
    asyncio.run(operate(world, world.store, "apply"))
    plant(world.root, {path: b"a deploy\n"})
    before = tree_of(world.root)
    with pytest.raises(SurgeryAborted, match=path):
        asyncio.run(operate(world, world.store, "rollback"))
    assert tree_of(world.root) == before
    assert world.reload().state is RepairState.APPLIED


def test_rollback_leaves_what_the_app_wrote_since(world: World) -> None:
    """Only our own files go back: the seed's rollback restored the whole tree and lost a database."""
    asyncio.run(operate(world, world.store, "apply"))
    plant(world.root, {"data.txt": b"grown\n", "lib/deep/er/app.txt": b"mine\n"})
    asyncio.run(operate(world, world.store, "rollback"))
    tree = tree_of(world.root)
    assert tree["data.txt"][0] == b"grown\n"
    assert tree["lib/deep/er/app.txt"][0] == b"mine\n"
    assert "lib/deep/er/new.js" not in tree


def test_rollback_takes_a_file_that_is_as_before_for_done(world: World) -> None:
    """An operator who put one file back by hand is no conflict."""
    asyncio.run(operate(world, world.store, "apply"))
    (world.root / "server.js").write_bytes(b"old server\n")
    asyncio.run(operate(world, world.store, "rollback"))
    assert tree_of(world.root) == world.before
    asyncio.run(operate(world, world.store, "rollback"))
    assert tree_of(world.root) == world.before


def test_a_repair_can_be_applied_again_after_its_rollback(world: World) -> None:
    """With a backup of its own."""
    for _ in range(2):
        asyncio.run(operate(world, world.store, "apply"))
        assert tree_of(world.root) == world.after()
        asyncio.run(operate(world, world.store, "rollback"))
        assert tree_of(world.root) == world.before
    assert [backup.id for backup in world.store.backups.list()] == ["b2", "b1"]


def test_witnesses_abort_an_apply_after_a_deploy_elsewhere(world: World) -> None:
    """A file that the repair does not touch but was made with has changed."""

    async def run() -> None:
        async with surgeon(world.root) as client:
            await transaction.apply(
                world.repair,
                CHANGES,
                surgeon=client,
                store=world.store,
                state_dir=world.state,
                witnesses={"data.txt": sha256_of(b"data\n"), "server.js": sha256_of(b"old server\n")},
            )

    plant(world.root, {"data.txt": b"a deploy\n"})
    with pytest.raises(SurgeryAborted, match=r"data\.txt"):
        asyncio.run(run())
    plant(world.root, {"data.txt": b"data\n"})
    asyncio.run(run())
    assert world.reload().state is RepairState.APPLIED


def test_restore_puts_a_backup_back_and_refuses_an_older_one(world: World) -> None:
    """Only the last backup of a repair stands for what lies in the tree."""

    async def restore(backup_id: str) -> None:
        async with surgeon(world.root) as client:
            await transaction.restore(backup_id, surgeon=client, store=world.store, state_dir=world.state)

    asyncio.run(operate(world, world.store, "apply"))
    asyncio.run(restore("b1"))
    assert tree_of(world.root) == world.before
    asyncio.run(operate(world, world.store, "apply"))
    with pytest.raises(SurgeryAborted, match="b1"):
        asyncio.run(restore("b1"))
    with pytest.raises(NotFound):
        asyncio.run(restore("b9"))


def test_a_damaged_backup_is_not_written_over_the_source(world: World) -> None:
    """Its hash is checked first; the repair stays as it is."""
    asyncio.run(operate(world, world.store, "apply"))
    (world.state / "backups" / "b1" / "0.old").write_bytes(b"bit rot\n")
    with pytest.raises(SurgeryAborted, match="damaged"):
        asyncio.run(operate(world, world.store, "rollback"))
    assert tree_of(world.root) == world.after()


def test_an_operation_recovers_what_was_left_before_it_begins(world: World) -> None:
    """Nobody has to call `recover` first."""
    assert in_child(world, "apply", cut=_at("swap:file", 2)) != 0
    asyncio.run(operate(world, world.store, "apply"))
    assert tree_of(world.root) == world.after()


def test_a_repair_that_was_never_applied_cannot_be_taken_back(world: World) -> None:
    """It is said so, and nothing happens."""
    with pytest.raises(Conflict, match="never applied"):
        asyncio.run(operate(world, world.store, "rollback"))


def test_a_source_switched_by_a_deploy_is_not_rolled_back(world: World) -> None:
    """The configured root is a link of a deploy tool and points elsewhere now."""
    link = world.root.with_name("current")
    link.symlink_to(world.root)
    real, world.root = world.root, link
    asyncio.run(operate(world, world.store, "apply"))
    assert tree_of(real) == world.after()
    other = real.with_name("next")
    other.mkdir()
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(SurgeryAborted, match="is now"):
        asyncio.run(operate(world, world.store, "rollback"))
    assert tree_of(real) == world.after()


# --- a disk that refuses -------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 3, 7, 10])
@pytest.mark.parametrize("what", ["apply", "rollback"])
def test_a_disk_that_refuses_a_write_of_the_surgeon_leaves_the_tree_as_it_was(
    world: World, what: str, limit: int
) -> None:
    """RLIMIT_FSIZE stands for the full disk: some files fit, the next does not."""
    if what == "rollback":
        asyncio.run(operate(world, world.store, "apply"))
    before = tree_of(world.root)

    def narrow() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    async def run() -> None:
        async with surgeon(world.root, setup=narrow) as client:
            operation = Transaction(store=world.store, surgeon=client, state_dir=world.state, clock=SystemClock())
            if what == "apply":
                await operation.apply(world.repair, CHANGES)
            else:
                await operation.rollback(world.repair.id)

    with pytest.raises(SurgeryAborted, match="cannot be changed"):
        asyncio.run(run())
    assert tree_of(world.root) == before
    assert world.store.journal.unfinished() is None


def test_a_backup_that_cannot_be_written_leaves_the_tree_as_it_was(world: World) -> None:
    """The source is touched only once the old contents are safe."""
    (world.state / "backups").write_text("a file where the directory should be")
    with pytest.raises(StoreError, match="backup"):
        asyncio.run(operate(world, world.store, "apply"))
    (world.state / "backups").unlink()
    check_whole(world)


def test_a_store_that_fails_at_the_commit_leaves_the_tree_as_it_was(world: World) -> None:
    """What cannot be recorded is not done; the next recovery finds it so and says so."""

    def refuse(point: str) -> None:
        if point == "operate:swapped":
            world.store._database._connected().execute("PRAGMA query_only = ON")

    with pytest.raises(StoreError, match="read-only"):
        asyncio.run(operate(world, world.store, "apply", heal=refuse))
    assert tree_of(world.root) == world.before
    world.store._database._connected().execute("PRAGMA query_only = OFF")
    asyncio.run(operate(world, world.store, "recover"))
    check_whole(world)
    assert world.reload().state is RepairState.PROPOSED
