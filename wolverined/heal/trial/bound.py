# SPDX-License-Identifier: MIT
"""What PID 1 was to bind into a trial, and whether it is what came (pure).

PID 1 follows links with root's rights when a trial starts, long after `prepare` looked with the rights of the
app's user. Whoever replaced a directory by a link in between would be shown what only root can reach. So
`prepare` says in the drop-in where each thing lay, and the trial compares that with its mounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from wolverined.linux.mountinfo import Mount

VARIABLE = "WOLVERINE_TRIAL_BOUND"
"""Carries them from the drop-in to the trial; PID 1 sets it, never heal."""
MAX_BYTES = 100_000
"""The kernel takes 128 KiB as one string of an environment: execve(2)."""


class Bound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is bound into a trial.

    Attributes:
        point: Where it is seen, as configured; it may have links on its way.
        device: The file system that it lay in.
        root: Its path there.
        releases: A directory there in which each release of the app has one of its own, one of them on the way to
            `root`; whichever of them the link of a deploy tool leads to is right. "" when there is none.
    """

    point: str
    device: str
    root: str
    releases: str = ""

    def is_seen_as(self, mount: Mount) -> bool:
        """Whether a mount shows this very thing."""
        if mount.device != self.device:
            return False
        return mount.root == self.root or (self.releases != "" and self._is_in_a_release(mount.root))

    def _is_in_a_release(self, root: str) -> bool:
        top = self.releases.rstrip("/") + "/"
        own, other = (path[len(top) :].partition("/") for path in (self.root, root))
        return root.startswith(top) and other[0] != "" and own[1:] == other[1:]


def strange(bounds: Sequence[Bound], known: Sequence[Mount], *, top: str) -> Iterator[str]:
    """The places at which something else is seen than was prepared.

    Args:
        bounds: What was prepared, each point without links.
        known: The mounts of the trial.
        top: The app's directory, without links; nothing read-only is mounted below it but what was prepared.
    """
    expected = {bound.point: bound for bound in bounds}
    for mount in known:
        bound = expected.get(mount.point)
        if bound is not None:
            if not bound.is_seen_as(mount):
                yield mount.point
        elif mount.readonly and mount.point.startswith(f"{top}/") and not _lies_in(mount.point, expected):
            yield mount.point


def _lies_in(point: str, expected: dict[str, Bound]) -> bool:
    """Whether a place is below one that was prepared: what root has mounted there comes with it."""
    parts = point.split("/")
    return any("/".join(parts[:depth]) in expected for depth in range(2, len(parts)))


def encode(bounds: Sequence[Bound]) -> str:
    """As text for the drop-in."""
    return msgspec.json.encode(bounds).decode()


def decode(text: str) -> tuple[Bound, ...]:
    """Read it back.

    Raises:
        ValueError: It is not what `encode` gives.
    """
    try:
        return msgspec.json.decode(text, type=tuple[Bound, ...])
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
