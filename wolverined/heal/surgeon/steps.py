# SPDX-License-Identifier: MIT
"""The words between heal and surgeon: steps of a surgery, and what a look at files tells.

Both ends decode the other's JSON with these structs, so a wrong shape ends there.
"""

from __future__ import annotations

import msgspec

from wolverined.heal.whole import Entry


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a surgery, by content.

    `old` and `new` are sha256 of the content before and after; None means: no such file. `temp` is a
    name in the file's directory. `mode` is what a new file gets; one that exists keeps its own.
    `old_mode` is what the old content gets when it must be written again.
    """

    path: str
    temp: str
    old: str | None
    new: str | None
    mode: int = 0o644
    old_mode: int = 0o644


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One path as it is now. `sha256` None: no such file; then `missing` are the directories it lacks."""

    path: str
    sha256: str | None = None
    mode: int = 0
    missing: tuple[str, ...] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a snapshot; its content is the blob of the same number."""

    path: str
    mode: int


class SnapshotArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Which files to read, and how many bytes at most."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    max_file: int
    max_total: int


class SnapshotResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. `skipped` counts files that are no source (too big, binary, linked, unreadable)."""

    files: tuple[Found, ...]
    newest_mtime: float
    skipped: int
    examples: tuple[str, ...]


class PackArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Which batch of the whole directory is wanted: the one that begins with entry `start`; 0 reads it anew.

    `without` are paths that do not travel, `fakes` files that hold secrets beside those called like settings. What
    the user `reader` cannot read stays, too; "" is whoever reads.
    """

    start: int = 0
    without: tuple[str, ...] = ()
    fakes: tuple[str, ...] = ()
    reader: str = ""


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """One batch; a blob for each file in it. `following` begins the next one, -1: this was the last.

    `absent` names what is not sent though it is there, with the reason; the last batch's is whole.
    """

    entries: tuple[Entry, ...]
    following: int = -1
    absent: dict[str, str] = {}


class PathsArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Paths to look at."""

    paths: tuple[str, ...]


class LookResult(msgspec.Struct, frozen=True, kw_only=True):
    """One look for each path asked for."""

    looks: tuple[Look, ...]


class OpenArgs(msgspec.Struct, frozen=True, kw_only=True):
    """The source root, absolute."""

    root: str


class OpenResult(msgspec.Struct, frozen=True, kw_only=True):
    """Where the root really lies, with symbolic links resolved, and who the surgeon is."""

    root: str
    uid: int


class SurgeryArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in their order. `make_dirs` outermost first; `blobs` numbers the step of each blob that follows."""

    steps: tuple[Step, ...]
    make_dirs: tuple[str, ...] = ()
    drop_dirs: tuple[str, ...] = ()
    blobs: tuple[int, ...] = ()


class UndoResult(msgspec.Struct, frozen=True, kw_only=True):
    """The files that are neither as they were nor as we made them: somebody else's now, and left alone."""

    conflicts: tuple[str, ...]
