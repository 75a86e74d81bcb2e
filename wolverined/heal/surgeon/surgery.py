# SPDX-License-Identifier: MIT
"""Changing files: stage, swap, unstage, undo; each by content hash, each safe to repeat.

A target is replaced by exchanging two names, and what comes out is hashed: if it is not what the
repair was made for, it goes back and the surgery aborts, so a deploy in the last microsecond is kept.
The old file stays under the temporary name until the commit. `undo` looks only at contents, so it
needs no memory of how far a killed predecessor came.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence

from wolverined.errors import SurgeryAborted
from wolverined.heal.source import TEMPORARY, sha256_of
from wolverined.heal.surgeon import groups, rename
from wolverined.heal.surgeon.steps import Look, Step
from wolverined.heal.surgeon.tree import Held, Tree, content, read, split, status, unlink

Faults = Callable[[str], None]
"""Called at every named point; tests end the process there. It does nothing otherwise."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_access")


def no_faults(_point: str) -> None:
    """What production passes."""


def look(tree: Tree, path: str) -> Look:
    """A path as it is now.

    Raises:
        SurgeryAborted: It is something that no surgery touches: a link, a device, another's file.
    """
    try:
        with tree.parent(path) as held:
            found = status(held)
            if found is None:
                return Look(path=path)
            _check_ours(held, path, found)
            data, after = read(held)
            return Look(path=path, sha256=sha256_of(data), mode=stat.S_IMODE(after.st_mode))
    except FileNotFoundError:
        return Look(path=path, missing=tree.missing(path))


def hash_of(tree: Tree, path: str) -> str:
    """The sha256 of a file's content; empty when there is none; "strange" when it is no file to read.

    Raises:
        SurgeryAborted: The path is no path.
    """
    split(path)
    try:
        with tree.parent(path) as held:
            return content(held) or ""
    except FileNotFoundError:
        return ""
    except (OSError, SurgeryAborted):
        return "strange"  # unreadable, a link on the way, or being written: in any case not what it was


def stage(
    tree: Tree, steps: Sequence[Step], *, make_dirs: Sequence[str], contents: Mapping[int, bytes], faults: Faults
) -> None:
    """Write every new content beside its target, durable, after a check of every target.

    Raises:
        SurgeryAborted: A target is not what was expected; nothing was replaced (temporary files may exist).
        OSError: The disk refuses.
    """
    for path in make_dirs:
        _make_directory(tree, path)
        faults("stage:directory")
    for number, step in enumerate(steps):
        _check_step(step)
        with tree.parent(step.path) as held:
            target = _expected(held, step)
            if step.new is not None:
                data = contents.get(number)
                if data is None or sha256_of(data) != step.new:
                    raise SurgeryAborted(f"the new content of {step.path} did not arrive whole")
                _write(Held(held.directory, step.temp), data, like=target, mode=step.mode, source=held)
                os.fsync(held.directory)
        faults("stage:file")


def swap(tree: Tree, steps: Sequence[Step], *, faults: Faults) -> None:
    """Put every staged file in its place, in order, after one more check of all.

    Raises:
        SurgeryAborted: Somebody changed a target; theirs is kept. Earlier steps may stand: `undo` them.
        OSError: The disk refuses; same.
    """
    for step in steps:
        _check_step(step)
        with tree.parent(step.path) as held:
            _expected(held, step)
            if content(Held(held.directory, step.temp)) != step.new:
                raise SurgeryAborted(f"what was staged for {step.path} is no longer there")
    faults("swap:checked")
    for step in steps:
        with tree.parent(step.path) as held:
            _replace(held, step, old=step.old, new=step.new, faults=faults)
            os.fsync(held.directory)
        faults("swap:file")


def unstage(tree: Tree, steps: Sequence[Step], *, drop_dirs: Sequence[str], faults: Faults) -> None:
    """Remove what a committed surgery left: old files under temporary names, directories that are now empty.

    Raises:
        OSError: The disk refuses.
    """
    for step in steps:
        _check_step(step)
        with contextlib.suppress(FileNotFoundError), tree.parent(step.path) as held:
            unlink(Held(held.directory, step.temp))
            os.fsync(held.directory)
        faults("unstage:file")
    _drop_directories(tree, drop_dirs)


def undo(
    tree: Tree, steps: Sequence[Step], *, make_dirs: Sequence[str], contents: Mapping[int, bytes], faults: Faults
) -> tuple[str, ...]:
    """Make every file as it was, last step first, wherever it still is as we made it.

    Args:
        tree: The source.
        steps: As they were staged.
        make_dirs: The directories that staging made; removed when empty.
        contents: The old content of each step that had one.
        faults: See `Faults`.

    Returns:
        The paths that somebody else has changed since; they are left alone.

    Raises:
        OSError: The disk refuses; it can be called again.
    """
    conflicts: list[str] = []
    for number, step in reversed(list(enumerate(steps))):
        _check_step(step)
        try:
            with tree.parent(step.path) as held:
                if not _undo_one(held, step, contents.get(number), faults):
                    conflicts.append(step.path)
                unlink(Held(held.directory, step.temp))
                os.fsync(held.directory)
        except FileNotFoundError:
            # Its directory is gone or was never made: as it was, if there was no file before.
            if step.old is not None:
                conflicts.append(step.path)
        except SurgeryAborted:
            conflicts.append(step.path)  # a directory on the way is now a link or a file: not ours
        faults("undo:file")
    _drop_directories(tree, make_dirs)
    return tuple(reversed(conflicts))


def _undo_one(held: Held, step: Step, old_data: bytes | None, faults: Faults) -> bool:
    """Whether the file is as it was, now."""
    now = content(held)
    if now == step.old:
        return True
    if now != step.new:
        return False
    temp = Held(held.directory, step.temp)
    if content(temp) != step.old or step.old is None:
        unlink(temp)
        if step.old is not None:
            if old_data is None or sha256_of(old_data) != step.old:
                raise OSError(errno.EIO, f"the old content of {step.path} is not in the backup")
            _write(temp, old_data, like=status(held), mode=step.old_mode, source=held)
    try:
        _replace(held, step, old=step.new, new=step.old, faults=faults)
    except SurgeryAborted:
        return False
    return True


def _replace(held: Held, step: Step, *, old: str | None, new: str | None, faults: Faults) -> None:
    """Turn the file from `old` into `new`, which waits under the temporary name; `old` ends up there."""
    directory, name, temp = held.directory, held.name, step.temp
    displaced = Held(directory, temp)
    try:
        if old is None:
            rename.move(directory, temp, name)
            return
        if new is None:
            rename.move(directory, name, temp)
            back: Callable[[], None] = lambda: rename.move(directory, temp, name)  # noqa: E731  two ways back, one place
        else:
            rename.exchange(directory, temp, name)
            back = lambda: rename.exchange(directory, temp, name)  # noqa: E731
    except (FileExistsError, FileNotFoundError) as error:
        raise SurgeryAborted(f"{step.path} was changed by somebody else") from error
    faults("replace:renamed")
    # Where the file system has no exchange, the old file is gone already and its check was the one before.
    if content(displaced) not in {old, None}:
        back()
        raise SurgeryAborted(f"{step.path} was changed by somebody else")


def _expected(held: Held, step: Step) -> os.stat_result | None:
    """The target's status, after a check that it is what the step was made for."""
    found = status(held)
    if found is not None:
        _check_ours(held, step.path, found)
    if content(held) != step.old:
        said = "is not what the repair was made for" if step.old is not None else "exists already"
        raise SurgeryAborted(f"{step.path} {said}", hint="somebody changed it; theirs is kept")
    return found


def _check_ours(held: Held, path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SurgeryAborted(f"{path} is no regular file")
    if found.st_nlink != 1:
        raise SurgeryAborted(f"{path} has {found.st_nlink} hard links")
    if stat.S_IMODE(found.st_mode) & ~_PERMISSIONS:
        raise SurgeryAborted(f"{path} has special permission bits")
    if found.st_uid != os.geteuid():
        raise SurgeryAborted(f"{path} belongs to another user", hint="heal.apply_as must be the owner of the source")
    groups.check(held.directory, path, found)


def _check_step(step: Step) -> None:
    split(step.path)
    if not TEMPORARY.fullmatch(step.temp) or step.old == step.new or step.mode & ~_PERMISSIONS:
        raise SurgeryAborted(f"the step for {step.path} makes no sense")


def _write(target: Held, data: bytes, *, like: os.stat_result | None, mode: int, source: Held) -> None:
    """A new durable file with the group, mode and attributes of the one that it will replace."""
    fd = os.open(target.name, _NEW, 0o600, dir_fd=target.directory)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if like is not None:
            groups.give(fd, target.name, like)
            _copy_attributes(source, fd)
        os.fchmod(fd, stat.S_IMODE(like.st_mode) if like is not None else mode)
        os.utime(fd, (time.time(), _distinct_mtime(like)))
        os.fsync(fd)
    finally:
        os.close(fd)


def _distinct_mtime(like: os.stat_result | None) -> float:
    """A modification time in another second than the replaced file's.

    Python takes a cached .pyc for current when the source's size and mtime in whole seconds are the
    same (PEP 552 calls it so); a repaired letter keeps the size, so the second must differ.
    """
    now = time.time()
    if like is not None and int(like.st_mtime) >= int(now):
        return float(int(like.st_mtime) + 1)
    return now


def _copy_attributes(source: Held, fd: int) -> None:
    from_fd = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source.directory)
    try:
        for name in os.listxattr(from_fd):
            if name.startswith(_KEPT_ATTRIBUTES):
                os.setxattr(fd, name, os.getxattr(from_fd, name))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    finally:
        os.close(from_fd)


def _make_directory(tree: Tree, path: str) -> None:
    with tree.parent(path) as held:
        mode = stat.S_IMODE(os.fstat(held.directory).st_mode) & _PERMISSIONS
        with contextlib.suppress(FileExistsError):
            os.mkdir(held.name, 0o700, dir_fd=held.directory)
            fd = os.open(held.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held.directory)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        os.fsync(held.directory)


def _drop_directories(tree: Tree, paths: Sequence[str]) -> None:
    """Remove directories that are empty, innermost first; others stay, for they hold somebody's files."""
    for path in reversed(paths):
        try:
            with tree.parent(path) as held:
                os.rmdir(held.name, dir_fd=held.directory)
                os.fsync(held.directory)
        except (FileNotFoundError, NotADirectoryError, SurgeryAborted):
            continue
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
