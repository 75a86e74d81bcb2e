# SPDX-License-Identifier: MIT
"""Finds where our leaves can live: below our own cgroup, or, where that cannot be, in a process group.

Our cgroup is the `0::` line of /proc/self/cgroup (hybrid hosts list v1 hierarchies first) below the
cgroup2 mount of /proc/self/mountinfo. Whether children can really join is tried, not read from flags.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from wolverined.errors import Conflict
from wolverined.linux import proc
from wolverined.linux.cgroup import CgroupHierarchy, remove_tree, switch_controllers
from wolverined.linux.handover import HandedCgroups, HandedHierarchy
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.runtime import check_name, lock_state

_RECORD = "cgroup.json"
_CLAIM_TRIES = 10


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One mounted cgroup2 file system: which cgroup it shows (`root`) and where (`point`)."""

    root: str
    point: str
    writable: bool


class Unavailable(Exception):
    """Why there is no cgroup for us; the text is for the operator."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """Where the leaves of this application lie, for a successor that lives in another cgroup."""

    boot_id: str
    path: str


def parse_mounts(mountinfo: str) -> list[Mount]:
    """The cgroup2 mounts in the text of /proc/self/mountinfo (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split()
        if tail.split()[:1] == ["cgroup2"] and len(fields) > 5:  # noqa: PLR2004 - six fields stand before the optional ones
            writable = "rw" in fields[5].split(",")
            found.append(Mount(root=_unescape(fields[3]), point=_unescape(fields[4]), writable=writable))
    return found


def parse_own_cgroup(text: str) -> str | None:
    """Our cgroup in the v2 hierarchy out of the text of /proc/self/cgroup; None without one."""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)


def locate(mounts: list[Mount], cgroup: str) -> tuple[Mount, Path]:
    """The mount that shows `cgroup`, and its directory there.

    Raises:
        Unavailable: No mount shows it.
    """
    if not mounts:
        raise Unavailable("cgroup v2 is not mounted")
    for mount in sorted(mounts, key=lambda each: not each.writable):
        root = mount.root.rstrip("/")
        if f"{cgroup}/".startswith(f"{root}/") and "/.." not in cgroup:
            return mount, Path(mount.point) / cgroup[len(root) :].strip("/")
    raise Unavailable("our cgroup lies outside of what is mounted here")


def open_hierarchy(name: str, *, state_dir: Path) -> Hierarchy:
    """The place for the leaves of one application: cgroups where we may make them, else process groups.

    Args:
        name: The application's name.
        state_dir: Where a note is left for a successor; exists.

    Raises:
        Conflict: Another supervisor of the same application is alive.
        UsageError: The name is not fit for a path.
    """
    check_name(name)
    try:
        return open_cgroup_hierarchy(name, state_dir=state_dir)
    except Unavailable as reason:
        from wolverined.linux.group import GroupHierarchy  # noqa: PLC0415 - psutil comes with it

        return GroupHierarchy(name, state_dir=state_dir, reason=str(reason))


def resume_hierarchy(handed: HandedHierarchy, *, name: str, state_dir: Path) -> Hierarchy:
    """The place for leaves that another program of this very process had; its locks come with it."""
    if isinstance(handed, HandedCgroups):
        return CgroupHierarchy.resume(handed)
    from wolverined.linux.group import GroupHierarchy  # noqa: PLC0415 - psutil comes with it

    return GroupHierarchy(name, state_dir=state_dir, handed=handed)


def open_cgroup_hierarchy(name: str, *, state_dir: Path) -> CgroupHierarchy:
    """The cgroup half of `open_hierarchy`.

    Raises:
        Unavailable: There is no writable cgroup v2 for us here.
        Conflict: Another supervisor of the same application is alive.
    """
    own = parse_own_cgroup(proc.read("/proc/self/cgroup") or "")
    if own is None:
        raise Unavailable("this kernel has no cgroup v2")
    mount, parent = locate(parse_mounts(proc.read("/proc/self/mountinfo") or ""), own)
    if not mount.writable:
        raise Unavailable(f"{mount.point} is mounted read-only")
    locks = [lock_state(state_dir, name)]
    places: list[Path] = []
    try:
        directory, lock = _own_directory(parent, name, state_dir)
        locks.append(lock)
        places.append(directory)
        switch_controllers(directory, on=True)
        try_to_join(directory)
        if elsewhere := _predecessor(state_dir, mount=mount, name=name, directory=directory):
            # A living supervisor of the same name and another state may sit there now: it has ended what it found.
            with suppress(Conflict):
                locks.append(_claim(elsewhere))
                places.append(elsewhere)
        _note(state_dir, directory)
    except BaseException:
        for lock in locks:
            os.close(lock)
        for place in places:
            remove_tree(place)
        raise
    own_directory = f"{own.rstrip('/')}/{directory.name}"
    return CgroupHierarchy(directory, own=own_directory, locks=locks, places=places)


def _own_directory(parent: Path, name: str, state_dir: Path) -> tuple[Path, int]:
    """`wolverine-NAME`, or, while another application of the same name (but other state) has it, one more name."""
    plain = parent / f"wolverine-{name}"
    try:
        return plain, _claim(plain)
    except Conflict:
        another = parent / f"{plain.name}-{sha256(os.fsencode(state_dir.resolve())).hexdigest()[:8]}"
        return another, _claim(another)


def _claim(directory: Path) -> int:
    """Make the directory of this application and lock it: two supervisors would kill each other's children."""
    for _ in range(_CLAIM_TRIES):
        try:
            directory.mkdir(exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot make cgroups in {directory.parent}: {error.strerror}") from error
        lock = _lock(directory)
        if lock is not None:
            return lock
    raise Unavailable(f"{directory} goes as fast as it is made")


def _lock(directory: Path) -> int | None:
    """A lock on the directory; None when another supervisor, which is just ending, removed it meanwhile."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"cannot open {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Conflict(
            f"another supervisor of {directory.name.removeprefix('wolverine-')} is running",
            hint="stop it first, or give this one another name",
        ) from error
    if _is_there(directory, lock):
        return lock
    os.close(lock)
    return None


def _is_there(directory: Path, fd: int) -> bool:
    with suppress(FileNotFoundError):
        return directory.stat().st_ino == os.fstat(fd).st_ino
    return False


def try_to_join(directory: Path) -> None:
    """Let a real child join a real leaf: threaded, foreign or frozen cgroups refuse in ways no flag tells."""
    leaf = directory / "probe"
    try:
        leaf.mkdir(exist_ok=True)
        entrance = os.open(leaf / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            code = subprocess.call(["/bin/sh", "-c", "echo 0 >&0"], stdin=entrance, stderr=subprocess.DEVNULL)
        finally:
            os.close(entrance)
    except OSError as error:
        raise Unavailable(f"cannot use cgroups in {directory.parent}: {error.strerror}") from error
    finally:
        remove_tree(leaf)
    if code != 0:
        raise Unavailable(f"a child may not join a cgroup in {directory.parent}")


def _predecessor(state_dir: Path, *, mount: Mount, name: str, directory: Path) -> Path | None:
    """The directory of a predecessor of this boot that lived in another cgroup (another terminal, say)."""
    try:
        record = msgspec.json.decode((state_dir / _RECORD).read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return None  # none was left, or half of one: our own directory is looked at in any case
    path = Path(record.path)
    ours = re.fullmatch(rf"wolverine-{re.escape(name)}(-[0-9a-f]{{8}})?", path.name)
    trusted = ours and path.is_relative_to(mount.point) and ".." not in path.parts
    if record.boot_id != proc.boot_id() or path == directory or not trusted or not path.is_dir():
        return None
    return path


def _note(state_dir: Path, directory: Path) -> None:
    record = _Record(boot_id=proc.boot_id(), path=str(directory))
    draft = state_dir / f"{_RECORD}.new"
    # What cannot be noted (a full or read-only disk) is missed only by a successor in another cgroup.
    with suppress(OSError):
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(state_dir / _RECORD)


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
