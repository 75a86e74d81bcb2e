# SPDX-License-Identifier: MIT
"""Tells once what the kernel refused the app (EROFS, EACCES), with what a person can do about it.

Once per path and generation, at most a few, and looking for them ends after many lines that only resemble
one: an app that prints the words all day costs nothing. Whose a file is is looked up beside the loop, for a
path may lie on a network that does not answer.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from wolverined.daemon.narrator import Narrator
from wolverined.errors import SpawnError
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials
from wolverined.linux.hierarchy import parse_own_cgroup
from wolverined.sense.refusals import Part, Refusal, Whom, absolute, hint, refusal

TOLD = 8
"""How many are told of one generation."""

LOOKED_AT = 400
"""How many lines of one generation are looked at that hold the words."""

_UNIT = re.compile(r"/(wolverine@[^/]+\.service)(?:/|$)")


class Hints:
    """Hears the app's lines.

    Args:
        name: The instance.
        narrator: Tells what was found.
        app: Gives the app's user and its directory, as configured now.
    """

    def __init__(self, *, name: str, narrator: Narrator, app: Callable[[], tuple[str, str]]) -> None:
        self._name = name
        self._narrator = narrator
        self._app = app
        self._unit = unit_of(proc.read("/proc/self/cgroup") or "")
        self._generation = 0
        self._told: set[str] = set()
        self._left = LOOKED_AT
        self._looking: threading.Thread | None = None

    def heard(self, line: str, generation: int) -> None:
        """Look at one line of the app."""
        if generation != self._generation:
            self._generation, self._left = generation, LOOKED_AT
            self._told.clear()
        if self._left <= 0:
            return
        found = refusal(line)
        if found is None:
            # Only a line that holds the words costs more than a glance.
            self._left -= "denied" in line or "ead-only" in line
            return
        self._left -= 1
        about = found.path or str(found.port)
        if about in self._told or len(self._told) >= TOLD:
            return
        self._told.add(about)
        self._explain(found, generation)

    def _explain(self, found: Refusal, generation: int) -> None:
        user, directory = self._app()
        try:
            who = Credentials.of_user(user)
            gids = who.groups()
        except (SpawnError, OSError):
            return  # the app could not run as nobody we know: nothing that we said would be right
        whom = Whom(name=self._name, user=user, uid=who.uid, gids=gids, directory=directory, unit=self._unit)
        if found.read_only or found.port or (self._looking is not None and self._looking.is_alive()):
            self._tell(found, whom, generation, [], to_the_end=False)
            return
        loop = asyncio.get_running_loop()

        def look() -> None:
            parts, to_the_end = way(absolute(found.path, directory))
            with suppress(RuntimeError):  # the daemon has ended meanwhile
                loop.call_soon_threadsafe(lambda: self._tell(found, whom, generation, parts, to_the_end=to_the_end))

        self._looking = threading.Thread(target=look, name="hints", daemon=True)
        self._looking.start()

    def _tell(self, found: Refusal, whom: Whom, generation: int, parts: list[Part], *, to_the_end: bool) -> None:
        said = hint(found, whom, parts, to_the_end=to_the_end)
        self._narrator.tell(
            "app.hint",
            str(said),
            severity="warn",
            generation=generation,
            fields={
                "error": "EROFS" if found.read_only else "EACCES",
                "path": found.path,
                "port": found.port,
                "mend": said.mend,
            },
        )


def unit_of(cgroup: str) -> str:
    """The unit of ours that a process with this /proc/PID/cgroup runs in; empty in a terminal."""
    found = _UNIT.search(parse_own_cgroup(cgroup) or "")
    return found[1] if found else ""


def way(path: str) -> tuple[list[Part], bool]:
    """Each part of an absolute path from `/` on, as far as it is there; False when the rest is not for us to see."""
    parts: list[Part] = []
    for place in (*reversed(Path(path).parents), Path(path)):
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            return parts, True
        except OSError:
            return parts, False
        parts.append(
            Part(
                path=os.fspath(place),
                uid=found.st_uid,
                gid=found.st_gid,
                mode=found.st_mode,
                owner=_name_of(found.st_uid),
            )
        )
    return parts, True


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
