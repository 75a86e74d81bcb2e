# SPDX-License-Identifier: MIT
"""Our runtime directory: claimed, laid out, and noticed when somebody removes it under us.

`control.sock` and the app's corner lie in it. In the corner the app finds its sockets and copies of the
reporters: a reporter that Node cannot read ends the app at its start, and the package may lie below a
home that other users cannot enter. Without reporters an app runs all the same, so they never stop us.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from wolverined.errors import WolverineError
from wolverined.linux.runtime import lock_state, make_private_dir

_HOOK_FILES = (".cjs", ".mjs", ".py")


class HandedPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime directory for a successor in this process: the lock's file descriptor, and which directory it is."""

    lock: int
    inode: tuple[int, int]


class RuntimePlace:
    """The runtime directory of one daemon.

    Args:
        path: Where it is.
        name: The instance.
        hooks_source: Where the package keeps the reporters.

    Attributes:
        path: Where it is.
        app: The app's corner.
        hooks: Where the app finds the reporters.
        without_hooks: Why there are no reporters; empty when there are.
    """

    def __init__(self, path: Path, *, name: str, hooks_source: Path) -> None:
        self.app = path / "app"
        self.hooks = self.app / "hooks"
        self.without_hooks = ""
        self.path = path
        self._name = name
        self._source = hooks_source
        self._lock: int | None = None
        self._inode = (0, 0)

    def make(self) -> None:
        """Make it, claim it and lay it out; also anew, after it was removed.

        Raises:
            Conflict: Another daemon lives in it.
            AccessDenied: It cannot be made, or is not ours.
        """
        make_private_dir(self.path, 0o711)
        found = self.path.stat()
        if self._lock is None or self._inode != (found.st_dev, found.st_ino):
            lock = lock_state(self.path, self._name)
            self.close()
            self._lock, self._inode = lock, (found.st_dev, found.st_ino)
        make_private_dir(self.app, 0o711)
        self._install_hooks()

    def hand_over(self) -> HandedPlace:
        """What a successor needs; the lock stays ours as long as there is none."""
        assert self._lock is not None
        return HandedPlace(lock=self._lock, inode=self._inode)

    def adopt(self, handed: HandedPlace) -> None:
        """Hold what a predecessor held; `make` then lays out what this version needs."""
        self._lock, self._inode = handed.lock, handed.inode

    def there(self) -> bool:
        """Whether it is still the directory that we made, with the app's corner in it."""
        with suppress(OSError):
            found = self.path.stat()
            return (found.st_dev, found.st_ino) == self._inode and self.app.is_dir()
        return False

    def close(self) -> None:
        """Let another daemon have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _install_hooks(self) -> None:
        self.without_hooks = ""
        try:
            for file in sorted(self._source.rglob("*")):
                if file.suffix in _HOOK_FILES:
                    self._install(file, self.hooks / file.relative_to(self._source))
        except (OSError, WolverineError) as error:
            self.without_hooks = str(error)
            self._remove_hooks()

    def _remove_hooks(self) -> None:
        """Half a reporter is worse than none."""
        for directory, _, names in os.walk(self.hooks, topdown=False):
            with suppress(OSError):
                for name in names:
                    Path(directory, name).unlink(missing_ok=True)
                Path(directory).rmdir()

    def _install(self, file: Path, target: Path) -> None:
        for directory in (self.hooks, target.parent):
            make_private_dir(directory, 0o755)
        draft = target.with_name(f".{target.name}.new")
        draft.unlink(missing_ok=True)
        draft.write_bytes(file.read_bytes())
        draft.chmod(0o644)
        draft.replace(target)  # a predecessor's app may be reading the old one
