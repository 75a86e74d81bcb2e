# SPDX-License-Identifier: MIT
"""Applying a repair and taking it back: all or nothing, journalled before each side effect (DESIGN 6).

`apply`, `rollback` and `restore` are one engine: a plan of steps by content hash. The commit is one
transaction of the store; before it a crash is undone, after it only rests are cleared away. Whatever
failed: as long as `store.journal.unfinished()` gives something, the tree may be mixed, and `recover`
with a fresh surgeon puts it right. What somebody else changed is never overwritten.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wolverined.clock import Clock, SystemClock
from wolverined.config.schema import RetentionTable
from wolverined.errors import Conflict, NotFound, StoreError, StreamError, SurgeryAborted, WolverineError
from wolverined.heal.backup import Archive, Manifest, sync_directory, to_prune, write_durable
from wolverined.heal.diff import mail_patch
from wolverined.heal.steps import Plan, backward, foreign_error, forward, hash_or_none, kept_of, pairs
from wolverined.heal.surgeon.client import SurgeonClient
from wolverined.heal.surgeon.steps import Look
from wolverined.heal.terms import stands
from wolverined.model import Backup, BackupState, FileChange, Repair, RepairState
from wolverined.store import JournalEntry, JournalState, Store

Faults = Callable[[str], None]
"""Called at every named point; tests end the process there."""

_IN_EFFECT = (RepairState.APPLIED, RepairState.PROBATION)


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What `recover` found and did.

    `outcome` is "undone" (the tree is as before), "cleared" (it had been committed), "redone" (a
    rollback was cut short, undone, and then done), or "gone" (so is the directory). `conflicts` names
    files that somebody else changed in the meantime and that were left alone.
    """

    kind: str
    repair: str
    backup: str
    outcome: str
    conflicts: tuple[str, ...] = ()


class Transaction:
    """Surgeries on one app's source, one at a time.

    Args:
        store: The instance's store; this process is the one that writes repairs, backups and journal.
        surgeon: For the configured root.
        state_dir: Where backups and patches are kept.
        clock: For labels.
        faults: See `Faults`.
    """

    def __init__(
        self,
        *,
        store: Store,
        surgeon: SurgeonClient,
        state_dir: Path,
        clock: Clock,
        faults: Faults = lambda _point: None,
    ) -> None:
        self._store = store
        self._surgeon = surgeon
        self._state_dir = state_dir
        self._archive = Archive(state_dir)
        self._clock = clock
        self._faults = faults

    async def apply(
        self,
        repair: Repair,
        changes: Sequence[FileChange],
        *,
        tree_hash: str = "",
        patch: str = "",
        witnesses: Mapping[str, str] | None = None,
    ) -> Backup:
        """Put a repair's changes in place of what they were made for; the repair is then `applied`.

        Args:
            repair: As the store has it.
            changes: Whole files, before and after.
            tree_hash: Of the snapshot, kept with the backup.
            patch: A mail for `git am`, kept as `patches/<repair>.patch`.
            witnesses: Further files by sha256 that must be as they were: a deploy would change them.

        Raises:
            SurgeryAborted: The files are not what the repair was made for; the tree is as it was.
            StoreError: The store or the backup cannot be written; the tree is as it was.
            StreamError: The surgeon is gone; `recover` with a new one before anything else.
        """
        await self.recover()
        looks = await self._look_for(changes)
        await self._check_witnesses(witnesses or {})
        made = tuple(dict.fromkeys(path for look in looks for path in look.missing))
        nonce = secrets.token_hex(8)
        steps = tuple(
            forward(number, change, look, nonce) for number, (change, look) in enumerate(pairs(changes, looks))
        )
        plan = Plan(root=self._surgeon.root, steps=steps, make_dirs=made)
        size = sum(len(change.before or b"") for change in changes)
        files = tuple(change.path for change in changes)
        with self._store.atomic():
            backup = self._store.backups.add(repair=repair.id, files=files, tree_hash=tree_hash, size_bytes=size)
            entry = self._store.journal.begin(kind="apply", repair=repair.id, backup=backup.id, plan=plan)
        self._faults("apply:intent")
        manifest = Manifest(
            backup=backup.id,
            repair=repair.id,
            root=plan.root,
            tree_hash=tree_hash,
            made_dirs=made,
            files=tuple(kept_of(step) for step in steps),
        )
        old, new = [change.before for change in changes], [change.after for change in changes]
        async with self._undone_on_failure(entry, plan):
            self._archive.write(manifest, old=old, new=new)
            self._keep_patch(repair.id, patch)
            self._faults("apply:backup")
            entry = await self._operate(entry, plan, new)
            self._commit(entry, repair.id, state=RepairState.APPLIED, applied_at=self._clock.wall(), backup=backup.id)
        await self._clear(entry, plan)
        return backup

    async def rollback(self, repair_id: str, *, kind: str = "rollback", note: str = "") -> tuple[str, ...]:
        """Take a repair back, all of it; it is then `rolled_back`. Returns the files that were put back.

        Files that are as before already are left as they are.

        Raises:
            SurgeryAborted: A file is neither as the repair left it nor as it was before; all are left alone.
            Conflict: The repair was never applied.
            StreamError: The surgeon is gone; `recover` with a new one before anything else.
        """
        await self.recover()
        repair = self._store.repairs.get(repair_id)
        if not repair.backup:
            raise Conflict(f"{repair_id} was never applied")
        manifest = self._archive.manifest(repair.backup)
        if await self._surgeon.open() != manifest.root:
            hint = "a deploy switched it; the repair is in the old directory alone"
            raise SurgeryAborted(f"the source was {manifest.root} and is now {self._surgeon.root}", hint=hint)
        numbers = await self._still_ours(manifest)
        said: dict[str, Any] = {"state": RepairState.ROLLED_BACK, "success": False, "ended_at": self._clock.wall()}
        if note:
            said["note"] = note
        if not numbers:
            self._store.repairs.update(repair_id, **said)
            return ()
        old, nonce = self._archive.contents(manifest, "old"), secrets.token_hex(8)
        steps = tuple(backward(manifest.files[number], index, nonce) for index, number in enumerate(numbers))
        looks = await self._surgeon.look([step.path for step in steps])
        made = tuple(dict.fromkeys(path for look in looks for path in look.missing))
        plan = Plan(root=self._surgeon.root, steps=steps, make_dirs=made, drop_dirs=manifest.made_dirs)
        entry = self._store.journal.begin(kind=kind, repair=repair_id, backup=repair.backup, plan=plan)
        self._faults("rollback:intent")
        async with self._undone_on_failure(entry, plan):
            entry = await self._operate(entry, plan, [old[number] for number in numbers])
            self._commit(entry, repair_id, **said)
        await self._clear(entry, plan)
        return tuple(step.path for step in steps)

    async def restore(self, backup_id: str) -> tuple[str, ...]:
        """Put the files of a backup back as they stood before its repair, if they still are as it left them.

        Raises:
            SurgeryAborted: As `rollback`; also when a later repair has replaced this one's backup.
        """
        backup = self._store.backups.get(backup_id)
        if self._store.repairs.get(backup.repair).backup != backup_id:
            raise SurgeryAborted(f"{backup_id} is not the last backup of {backup.repair}")
        return await self.rollback(backup.repair, kind="restore")

    async def recover(self) -> Recovered | None:
        """Finish or undo what a killed predecessor left; None when there was nothing.

        Raises:
            SurgeryAborted: The disk refuses; the journal still says what is to be done.
            StreamError: The surgeon is gone.
        """
        entry = self._store.journal.unfinished()
        if entry is None:
            return None
        plan = msgspec.json.decode(entry.plan, type=Plan)
        done = Recovered(kind=entry.kind, repair=entry.repair, backup=entry.backup, outcome="cleared")
        try:
            await self._surgeon.open(plan.root)
        except NotFound:
            return self._give_up(entry, done)
        if entry.state is JournalState.COMMITTED:
            await self._surgeon.unstage(plan.steps, drop_dirs=plan.drop_dirs)
            self._store.journal.advance(entry, JournalState.DONE)
            return done
        conflicts = await self._undo(entry, plan)
        if entry.kind == "apply" or conflicts:
            return msgspec.structs.replace(done, outcome="undone", conflicts=conflicts)
        try:
            await self.rollback(entry.repair, kind=entry.kind)
        except SurgeryAborted:
            return msgspec.structs.replace(done, outcome="undone")  # a deploy came between: the repair stays as it is
        return msgspec.structs.replace(done, outcome="redone")

    def _give_up(self, entry: JournalEntry, done: Recovered) -> Recovered:
        """The directory that was operated on is gone, and with it all that there was to put right."""
        self._store.journal.advance(entry, JournalState.UNDONE, note="the source directory is gone")
        return msgspec.structs.replace(done, outcome="gone")

    async def _look_for(self, changes: Sequence[FileChange]) -> tuple[Look, ...]:
        """Every target, after a check that it is what the change was made for."""
        await self._surgeon.open()
        looks = await self._surgeon.look([change.path for change in changes])
        if not changes or len({change.path for change in changes}) != len(changes):
            raise SurgeryAborted("the repair changes no file, or one file twice")
        foreign = [change.path for change, look in pairs(changes, looks) if hash_or_none(change.before) != look.sha256]
        if foreign:
            raise foreign_error(foreign)
        return looks

    async def _check_witnesses(self, witnesses: Mapping[str, str]) -> None:
        if not witnesses:
            return
        hashes = await self._surgeon.hash(tuple(witnesses))
        foreign = [path for path, wanted in witnesses.items() if hashes[path] != wanted]
        if foreign:
            raise foreign_error(foreign)

    async def _still_ours(self, manifest: Manifest) -> list[int]:
        """The numbers of the files that are to be put back."""
        hashes = await self._surgeon.hash([kept.path for kept in manifest.files])
        foreign, ours = [], []
        for number, kept in enumerate(manifest.files):
            now = hashes[kept.path]
            if now == (kept.new or ""):
                ours.append(number)
            elif now != (kept.old or ""):
                foreign.append(kept.path)
        if foreign:
            raise foreign_error(foreign)
        return ours

    async def _operate(self, entry: JournalEntry, plan: Plan, contents: Sequence[bytes | None]) -> JournalEntry:
        """Stage and swap. The journal says so before."""
        blobs = {number: data for number, data in enumerate(contents) if data is not None}
        await self._surgeon.stage(plan.steps, make_dirs=plan.make_dirs, contents=blobs)
        self._faults("operate:staged")
        entry = self._store.journal.advance(entry, JournalState.SWAPPING)
        self._faults("operate:swapping")
        await self._surgeon.swap(plan.steps)
        self._faults("operate:swapped")
        return entry

    def _commit(self, entry: JournalEntry, repair_id: str, **fields: Any) -> None:
        """The one moment at which the new tree becomes the right one."""
        with self._store.atomic():
            self._store.journal.advance(entry, JournalState.COMMITTED)
            self._store.repairs.update(repair_id, **fields)
        self._faults("commit:done")

    async def _clear(self, entry: JournalEntry, plan: Plan) -> None:
        """Remove what is left of a committed surgery."""
        try:
            await self._surgeon.unstage(plan.steps, drop_dirs=plan.drop_dirs)
            self._faults("clear:unstaged")
            self._store.journal.advance(entry, JournalState.DONE)
            self._faults("clear:done")
        except (StoreError, StreamError, SurgeryAborted):
            # The repair stands; the journal says "committed", and the next recover clears the rests.
            return

    async def _undo(self, entry: JournalEntry, plan: Plan) -> tuple[str, ...]:
        """Make the tree as it was before an entry that was not committed."""
        entry = self._store.journal.advance(entry, JournalState.UNDOING)
        self._faults("undo:begun")
        blobs = self._before(entry, plan)
        conflicts = await self._surgeon.undo(plan.steps, make_dirs=plan.make_dirs, contents=blobs)
        self._faults("undo:done")
        note = f"changed by others: {', '.join(conflicts)}" if conflicts else ""
        drop = entry.kind == "apply" and not conflicts
        if drop:
            # The tree is right again, which is what counts; a directory that stays is swept with the next prune.
            with contextlib.suppress(StoreError):
                self._archive.remove(entry.backup)
        with self._store.atomic():
            self._store.journal.advance(entry, JournalState.UNDONE, note=note)
            if drop:
                self._store.backups.remove(entry.backup)
        return conflicts

    @contextlib.asynccontextmanager
    async def _undone_on_failure(self, entry: JournalEntry, plan: Plan) -> AsyncIterator[None]:
        """Undo the surgery when the block fails. When the surgeon itself is gone only `recover` can."""
        try:
            yield
        except StreamError:
            raise
        except WolverineError as error:
            try:
                await self._undo(entry, plan)
            except StoreError as second:
                # Nothing can be journalled. The tree is put right all the same; recover will find it so.
                await self._surgeon.undo(plan.steps, make_dirs=plan.make_dirs, contents=self._before(entry, plan))
                raise error from second
            raise

    def _before(self, entry: JournalEntry, plan: Plan) -> dict[int, bytes]:
        """What each step replaced, out of the backup; nothing where the backup was not finished.

        That is enough then: staging begins after the backup, so no target has been touched.
        """
        try:
            manifest = self._archive.manifest(entry.backup)
        except SurgeryAborted:
            return {}
        kept = self._archive.contents(manifest, "old" if entry.kind == "apply" else "new")
        by_path = {file.path: data for file, data in zip(manifest.files, kept, strict=True)}
        found = {number: by_path.get(step.path) for number, step in enumerate(plan.steps)}
        return {number: data for number, data in found.items() if data is not None}

    def _keep_patch(self, repair_id: str, patch: str) -> None:
        if not patch:
            return
        directory = self._state_dir / "patches"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Beside and renamed: a patch of an earlier apply of the same repair is never half overwritten.
            temporary = directory / f".{repair_id}.tmp"
            write_durable(temporary, patch.encode("utf-8", "surrogateescape"))
            temporary.replace(directory / f"{repair_id}.patch")
            sync_directory(directory)
        except OSError as error:
            raise StoreError(f"the patch of {repair_id} cannot be kept: {error}", hint="free some space") from error


async def apply(
    repair: Repair,
    changes: Sequence[FileChange],
    *,
    surgeon: SurgeonClient,
    store: Store,
    state_dir: Path,
    tree_hash: str = "",
    witnesses: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Backup:
    """`Transaction.apply`, with the patch made of the repair's diff."""
    operation = Transaction(store=store, surgeon=surgeon, state_dir=state_dir, clock=clock or SystemClock())
    patch = mail_patch(repair, repair.diff) if repair.diff else ""
    return await operation.apply(repair, changes, tree_hash=tree_hash, patch=patch, witnesses=witnesses)


async def rollback(
    repair: Repair, *, surgeon: SurgeonClient, store: Store, state_dir: Path, note: str = "", clock: Clock | None = None
) -> tuple[str, ...]:
    """`Transaction.rollback`."""
    operation = Transaction(store=store, surgeon=surgeon, state_dir=state_dir, clock=clock or SystemClock())
    return await operation.rollback(repair.id, note=note)


async def restore(
    backup_id: str, *, surgeon: SurgeonClient, store: Store, state_dir: Path, clock: Clock | None = None
) -> tuple[str, ...]:
    """`Transaction.restore`."""
    operation = Transaction(store=store, surgeon=surgeon, state_dir=state_dir, clock=clock or SystemClock())
    return await operation.restore(backup_id)


async def recover(*, surgeon: SurgeonClient, store: Store, state_dir: Path, clock: Clock | None = None) -> str:
    """`Transaction.recover`, said in one line for the operator."""
    operation = Transaction(store=store, surgeon=surgeon, state_dir=state_dir, clock=clock or SystemClock())
    found = await operation.recover()
    if found is None:
        return "nothing of a surgery was left over"
    words = {
        "undone": "was cut off before its commit and is undone",
        "cleared": "was committed; its rests are cleared away",
        "redone": "was cut off, and is now done",
        "gone": "was cut off, and its directory is gone",
    }
    left = f"; changed by others and left alone: {', '.join(found.conflicts)}" if found.conflicts else ""
    return f"the {found.kind} of {found.repair} {words[found.outcome]}{left}"


async def promote(*, store: Store, state_dir: Path, retention: RetentionTable, now: float) -> int:
    """Call what stood long enough stable, and give up the backups that retention no longer keeps.

    Returns:
        How many repairs became stable.
    """
    promoted = 0
    for repair in store.repairs.list(limit=1000):
        if not stands(repair, now=now):
            continue
        with store.atomic():
            store.repairs.update(repair.id, state=RepairState.STABLE)
            if repair.backup:
                with contextlib.suppress(NotFound):  # retention gave it up before
                    store.backups.update(repair.backup, state=BackupState.STABLE)
        promoted += 1
    prune(store, state_dir, retention=retention, now=now)
    return promoted


def prune(store: Store, state_dir: Path, *, retention: RetentionTable, now: float) -> tuple[str, ...]:
    """Give up the backups that retention no longer keeps; returns their ids.

    Raises:
        StoreError: The disk refuses.
    """
    archive = Archive(state_dir)
    in_use = {repair.backup for repair in store.repairs.list(limit=1000) if repair.state in _IN_EFFECT}
    unfinished = store.journal.unfinished()
    if unfinished is not None:
        in_use.add(unfinished.backup)
    days, stable_per_day = retention.backups_days, retention.stable_per_day
    backups = store.backups.list(limit=100_000)
    for stray in archive.strays({backup.id for backup in backups}):
        archive.remove(stray)
    gone = to_prune(backups, now=now, days=days, stable_per_day=stable_per_day, in_use=in_use)
    for backup_id in gone:
        # The contents first: a row without them is pruned again, contents without a row would stay for ever.
        archive.remove(backup_id)
        store.backups.remove(backup_id)
    return gone
