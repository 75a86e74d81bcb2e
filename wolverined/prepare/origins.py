# SPDX-License-Identifier: MIT
"""Where what is bound into a trial lies, found with the rights of the app's user, for the trial to compare.

To be called with that user's eyes (`eyes.as_user`): a place that he cannot reach by himself is none that PID 1
may show to a trial of his, whatever link leads there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from wolverined.heal.trial.bound import Bound
from wolverined.linux.mountinfo import Mount, located, mounts
from wolverined.prepare.ways import way_to

LIVE = ("/dev", "/proc", "/run", "/sys")
"""No program lies there behind a link from elsewhere; sockets and devices do."""


class Origins:
    """The places of one application.

    Args:
        directory: Its own, as configured.

    Raises:
        OSError: It is not there, or not for us.
    """

    def __init__(self, directory: str) -> None:
        self._top = directory
        self._real_top = os.path.realpath(directory, strict=True)
        self._releases = _releases(directory, self._real_top)
        self._real: dict[str, str] = {}

    def plain(self, path: str) -> None:
        """Note a place below the app's directory to which no link leads."""
        self._real[path] = self._real_top + path[len(self._top) :]

    def reached(self, path: str) -> bool:
        """Note where a program leads; false when it is nowhere that our user can reach, or among live things."""
        try:
            real = os.path.realpath(path, strict=True)
        except OSError:
            return False
        if any(real.startswith(f"{one}/") and not path.startswith(f"{one}/") for one in LIVE):
            return False
        return self._note(path, real)

    def written(self, path: str) -> bool:
        """Note a place that the operator named, also one that is still to come; false when our user cannot reach it."""
        try:
            return self._note(path, os.path.realpath(path, strict=True))
        except FileNotFoundError:
            return self._note(path, path)
        except OSError:
            return False

    def _note(self, path: str, real: str) -> bool:
        if not real.isprintable():
            return False  # no unit file can say it
        self._real.setdefault(path, real)  # what no link leads to stays that
        return True

    def bounds(self, paths: Sequence[str]) -> tuple[Bound, ...]:
        """What to compare, of paths that were noted."""
        return tuple(self._bound(path, self._real[path]) for path in paths)

    @cached_property
    def _mounts(self) -> list[Mount]:
        return mounts()  # after the paths were looked at, which may have mounted something

    def _bound(self, path: str, real: str) -> Bound:
        device, root = located(real, self._mounts)
        if not self._releases or not real.startswith(f"{self._real_top}/"):
            return Bound(point=path, device=device, root=root)
        above, releases = located(self._releases, self._mounts)
        inside = above == device and root.startswith(releases.rstrip("/") + "/")
        return Bound(point=path, device=device, root=root, releases=releases if inside else "")


def _releases(directory: str, real: str) -> str:
    """Where the releases of a deploy tool stand, when `directory` is its link to one of them; else "".

    Whoever sets such a link must not thereby show what is another's: what stands beside the release is then his,
    or nobody but root sets it.
    """
    if os.path.normpath(directory) == real:
        return ""
    above, top = Path(real).parent.stat(), Path(real).stat()
    if above.st_uid == top.st_uid != 0 or way_to(Path(directory)).is_roots:
        return str(Path(real).parent)
    return ""
