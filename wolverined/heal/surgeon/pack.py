# SPDX-License-Identifier: MIT
"""Reading the whole directory for a trial that cannot see it: source, assets and small data, secrets as fakes.

A walk first, by descriptors and without content; then batches, as heal asks for them. What cannot be
read or is too much is named, never silently missing. Which paths travel is `heal.whole`'s to say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase

from wolverined.errors import SurgeryAborted, UsageError
from wolverined.heal import whole
from wolverined.heal.source import TEMPORARY
from wolverined.heal.surgeon.reader import reader_of
from wolverined.heal.surgeon.steps import PackArgs, Packed
from wolverined.heal.surgeon.tree import Tree, is_utf8, read
from wolverined.heal.trial.secrets import PATTERNS, fake_of, faked, home_of_user, places_of_homes
from wolverined.heal.whole import Entry, Kind

MAX_WALKED = 500_000
MAX_DEPTH = 64

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TOO_BIG_HINT = "name big directories that the application only reads in heal.trial.read_only, or keep them elsewhere"


class Pack:
    """One reading of a tree.

    Args:
        tree: The app's directory.
        args: What is left out, and what is faked beside the settings files.

    Raises:
        SurgeryAborted: It is more than a trial can be given.
    """

    def __init__(self, tree: Tree, args: PackArgs) -> None:
        self._tree = tree
        top = f"{tree.root}/"
        ours = (place[len(top) :] for place in places_of_homes(home_of_user()) if place.startswith(top))
        self._without = frozenset((*args.without, *ours))
        self._fakes = set(args.fakes)
        self._reader = reader_of(args.reader)
        self._linked: set[str] = set()
        self._entries: list[Entry] = []
        self._bytes = self._data_bytes = self._walked = 0
        self._absent: dict[str, str] = {}
        for entry in self._walk(os.dup(tree.fd), "", 0):
            self._entries.append(entry)
            if len(self._entries) > whole.MAX_ENTRIES or self._bytes > whole.MAX_TOTAL:
                raise SurgeryAborted(
                    f"{tree.root} without its dependencies is more than {whole.MAX_TOTAL >> 20} MiB or "
                    f"{whole.MAX_ENTRIES} files, too much to be copied for a trial",
                    hint=_TOO_BIG_HINT,
                )

    def batch(self, start: int) -> tuple[Packed, list[bytes]]:
        """Give the entries from number `start` on that fit into one message.

        Raises:
            UsageError: There is no such number.
        """
        if not 0 <= start <= len(self._entries):
            raise UsageError("there is no such entry")
        taken: list[Entry] = []
        blobs: list[bytes] = []
        size, number = 0, start
        while number < len(self._entries) and size < whole.BATCH_BYTES and len(taken) < whole.BATCH_ENTRIES:
            entry = self._entries[number]
            number += 1
            if entry.kind is Kind.FILE:
                data = self._content(entry.path)
                if data is None:
                    continue
                blobs.append(data)
                size += len(data)
            taken.append(entry)
        ended = number == len(self._entries)
        return Packed(entries=tuple(taken), following=-1 if ended else number, absent=self._absent), blobs

    def _walk(self, fd: int, prefix: str, depth: int) -> Iterator[Entry]:
        """Everything below an open directory that travels; owns `fd`."""
        try:
            above = os.fstat(fd)
            if prefix and self._is_closed(prefix.rstrip("/"), above):
                return
            listed = self._listed(fd)
            if prefix and whole.is_dependency(prefix.rstrip("/").rsplit("/", 1)[-1], (name for name, _ in listed)):
                self._lack(prefix.rstrip("/"), "a directory of dependencies that came after wolverine was started")
                return
            if prefix:
                yield Entry(path=prefix.rstrip("/"), kind=Kind.DIRECTORY, mode=stat.S_IMODE(above.st_mode))
            for name, is_directory in listed:
                path = prefix + name
                if path in self._without or not is_utf8(name) or TEMPORARY.fullmatch(name):
                    continue
                if not is_directory:
                    yield from self._leaf(fd, name, path)
                elif depth < MAX_DEPTH and not whole.is_left(name):
                    yield from self._below(fd, name, path, depth)
        finally:
            os.close(fd)

    def _listed(self, fd: int) -> list[tuple[str, bool]]:
        """The names in a directory, and which are directories; counted as they come, since it may have no end."""
        listed = []
        with os.scandir(fd) as found:
            for entry in found:
                self._walked += 1
                if self._walked > MAX_WALKED:
                    raise SurgeryAborted(f"{self._tree.root} has more than {MAX_WALKED} entries", hint=_TOO_BIG_HINT)
                listed.append((entry.name, entry.is_dir(follow_symlinks=False)))
        return sorted(listed)

    def _below(self, fd: int, name: str, path: str, depth: int) -> Iterator[Entry]:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=fd)
        except OSError as error:
            self._lack(path, f"not for the owner of the source to read: {error.strerror}")
            return
        yield from self._walk(below, path + "/", depth + 1)

    def _leaf(self, fd: int, name: str, path: str) -> Iterator[Entry]:
        """A file or a link; what is neither, such as a socket, the app makes itself."""
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                target = os.readlink(name, dir_fd=fd)
                if _is_settings(name):
                    if not self._is_closed(path, os.stat(name, dir_fd=fd)):
                        self._learn_target(path)
                        yield Entry(path=path)
                elif is_utf8(target):
                    yield Entry(path=path, kind=Kind.LINK, target=target)
                return
        except OSError:
            return  # removed since it was listed
        if not stat.S_ISREG(found.st_mode) or whole.is_log(path):
            return
        if self._is_closed(path, found):
            return
        if why := self._too_much(path, found.st_size):
            self._lack(path, why)
            return
        yield Entry(path=path, mode=stat.S_IMODE(found.st_mode))

    def _learn_target(self, path: str) -> None:
        """A link to settings travels as a file with fakes in it; what it leads to must not tell them either."""
        self._linked.add(path)
        real = os.path.realpath(f"{self._tree.root}/{path}")
        if real.startswith(f"{self._tree.root}/"):
            self._fakes.add(real[len(self._tree.root) + 1 :])

    def _is_closed(self, path: str, found: os.stat_result) -> bool:
        """Whether the app's user cannot read it; named, if so."""
        if self._reader is None or not self._reader.lacks(found):
            return False
        self._lack(path, f"not for {self._reader.name} to read, as whom the app runs")
        return True

    def _too_much(self, path: str, size: int) -> str:
        if size > whole.MAX_FILE:
            return f"bigger than {whole.MAX_FILE >> 20} MiB"
        if whole.is_data(path):
            if self._data_bytes + size > whole.MAX_DATA:
                return f"one of more than {whole.MAX_DATA >> 20} MiB of data files"
            self._data_bytes += size
        self._bytes += size
        return ""

    def _content(self, path: str) -> bytes | None:
        try:
            if path in self._linked:
                found = faked(f"{self._tree.root}/{path}")
                return found[0] if found is not None else None
            with self._tree.parent(path) as held:
                data, now = read(held, limit=whole.MAX_FILE)
            if self._is_closed(path, now):
                return None
        except FileNotFoundError:
            return None
        except (OSError, SurgeryAborted) as error:
            words = error.message if isinstance(error, SurgeryAborted) else error.strerror or "unreadable"
            self._lack(path, f"not for the owner of the source to read: {words}")
            return None
        return fake_of(data) if path in self._fakes or _is_settings(path.rsplit("/", 1)[-1]) else data

    def _lack(self, path: str, why: str) -> None:
        if len(self._absent) < whole.MAX_ABSENT and is_utf8(path):
            self._absent[path] = why


def _is_settings(name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in PATTERNS)
