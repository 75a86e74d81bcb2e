# SPDX-License-Identifier: MIT
"""The app's directory on its way into trials that do not see it: read once for a heal, as its owner.

What holds secrets is faked before it leaves the surgeon, or stays behind, as does what the app cannot read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from wolverined.errors import NotFound, SandboxUnavailable, SurgeryAborted
from wolverined.heal.job import Job
from wolverined.heal.surgeon.client import SurgeonClient
from wolverined.heal.trial.client import TrialClient
from wolverined.heal.trial.secrets import places_of_homes
from wolverined.heal.whole import Whole

ReadWhole = Callable[[Sequence[str]], Awaitable[Whole]]
"""Takes the paths of the app's directory that need not travel."""


class Cargo:
    """One directory for every trial of a heal.

    Args:
        read: Reads it; None: no trial here needs it.
    """

    def __init__(self, read: ReadWhole | None) -> None:
        self._read = read
        self._whole: Whole | None = None
        self._turn = asyncio.Lock()

    async def bring(self, trial: TrialClient, directory: str) -> Mapping[str, str] | None:
        """Give the trial what it lacks; tell what it lacks still, None when it sees the directory itself.

        Raises:
            SandboxUnavailable: The directory is too much for it.
        """
        if self._read is None:
            return None
        standing = await trial.stand(directory)
        if not standing.whole:
            return None
        async with self._turn:
            if self._whole is None:
                self._whole = await self._read(standing.bound)
        await trial.load(self._whole)
        return self._whole.absent


class KeptBack(NamedTuple):
    """Paths relative to the app's directory: what does not travel, and which files hold secrets."""

    without: tuple[str, ...]
    fakes: tuple[str, ...]


def kept_back(job: Job, *, root: str) -> KeptBack:
    """What of the directory a candidate must not see (pure).

    Args:
        job: Names what is hidden, and the app's home.
        root: Where the app's directory really lies.
    """
    app = job.config.app
    settings = (str(app.environment_file),) if app.environment_file is not None else ()
    homes = places_of_homes(job.environment.get("HOME", ""))
    tops = (str(app.directory), root)
    return KeptBack(
        without=tuple(inside for path in (*job.hide, *homes) if (inside := _inside(path, tops))),
        fakes=tuple(inside for path in settings if (inside := _inside(path, tops))),
    )


async def read_whole(surgeon: SurgeonClient, job: Job, bound: Sequence[str]) -> Whole:
    """Read the app's directory.

    Raises:
        SandboxUnavailable: It is too much, or cannot be read.
    """
    try:
        root = await surgeon.open(str(job.config.app.directory))
        kept = kept_back(job, root=root)
        return await surgeon.pack(without=(*bound, *kept.without), fakes=kept.fakes, reader=job.config.app.user)
    except (NotFound, SurgeryAborted) as error:
        raise SandboxUnavailable(error.message, hint=error.hint) from error


def _inside(path: str, tops: Sequence[str]) -> str:
    """The part of the path below the first of these directories that it lies in; "" below none."""
    return next((path[len(top) + 1 :] for top in tops if path.startswith(f"{top}/")), "")
