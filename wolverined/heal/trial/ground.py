# SPDX-License-Identifier: MIT
"""Where a candidate stands: at the app's own path, either way.

In a terminal the runner makes namespaces and lays the changes over the host's tree. In a unit PID 1 has
made the walls: no network, no home, an empty tree at the app's path with the dependencies bound into it,
read-only. There the source is written first, and only users and processes are parted once more, since a
candidate of the runner's uid must neither see nor signal it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from wolverined.errors import SandboxUnavailable
from wolverined.heal.trial import interpreters
from wolverined.heal.trial.bed import Bed
from wolverined.heal.trial.bound import VARIABLE, decode, strange
from wolverined.heal.trial.plan import Plan, Standing
from wolverined.heal.trial.secrets import keep_from
from wolverined.linux import sandbox
from wolverined.linux.mountinfo import Mount, mounts
from wolverined.linux.sandboxtree import Change

BINDS_WEAKNESS = "no overlay here: only directories that hold a changed file are writable for the candidate"
NOTIFY_WEAKNESS = (
    "the candidate may send datagrams to Unix sockets that its user can reach, since it reports readiness so"
)
RELOAD = "systemctl reload wolverine@NAME prepares the trial's unit anew"


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands. `own_proc`: the candidate gets a /proc of its PID namespace, for which mounts must be allowed."""

    sandbox: str
    weaknesses: tuple[str, ...] = ()
    own_proc: bool = True


Lay = Callable[[Plan, Sequence[Change], Callable[[], bool]], Ground]
"""Makes the ground for a plan and its changes; the last argument says whether the parent still lives.

Raises:
    SandboxUnavailable: A wall cannot be built.
    EditRejected: A change cannot be put into this tree.
"""


def overlay(plan: Plan, changes: Sequence[Change], alive: Callable[[], bool]) -> Ground:
    """The changes over the host's read-only tree, in namespaces of our own."""
    homes = interpreters.homes(command=plan.command, environment=plan.environment, directory=plan.directory)
    kept = keep_from(
        directory=plan.directory,
        hide=plan.hide,
        environment=plan.environment,
        changed={path for path, _, _ in changes},
    )
    sandbox.enter()
    # Set after the namespaces: the kernel forgets it when credentials change.
    sandbox.die_with_parent(alive=alive)
    sandbox.raise_loopback()
    changes = (*changes, *kept.fakes)
    kind = sandbox.build_tree(directory=plan.directory, changes=changes, hide=kept.hide, keep=homes)
    weak = ((BINDS_WEAKNESS, kind == "binds"), (NOTIFY_WEAKNESS, plan.probe.notify))
    return Ground(sandbox=kind, weaknesses=(*(line for line, true in weak if true), *kept.weaknesses))


def unit(plan: Plan, changes: Sequence[Change], alive: Callable[[], bool]) -> Ground:
    """The changes in the tree that was loaded, behind the walls of PID 1."""
    standing(plan.directory)
    for path in plan.hide:
        inside = os.path.realpath(path).startswith(os.path.realpath(plan.directory) + "/")
        if not inside and os.access(path, os.R_OK) and (Path(path).is_file() or any(Path(path).iterdir())):
            raise SandboxUnavailable(f"{path} can be read in the trial's unit", hint=RELOAD)
    if plan.probe.notify and not _has_unix_sockets():
        raise SandboxUnavailable("the trial's unit knows no notify sockets", hint=RELOAD)
    with Bed(plan.directory) as bed:
        bed.change(changes)
    sandbox.enter(sandbox.UNIT_NAMESPACES)
    sandbox.die_with_parent(alive=alive)
    return Ground(sandbox="unit", own_proc=False)


def standing(directory: str) -> Standing:
    """What PID 1 made at the app's path.

    Raises:
        SandboxUnavailable: Nothing, or what cannot be right: the unit knows nothing of this app.
    """
    top = os.path.realpath(directory)
    known = mounts()
    if not any(mount.point == top and mount.kind == "tmpfs" and mount.root == "/" for mount in known):
        raise SandboxUnavailable(f"the trial's unit does not know {directory}", hint=RELOAD)
    _refuse_strange(known, top)
    bound = {mount.point[len(top) + 1 :] for mount in known if mount.readonly and mount.point.startswith(f"{top}/")}
    return Standing(whole=True, bound=tuple(sorted(bound)))


def _refuse_strange(known: Sequence[Mount], top: str) -> None:
    """What was replaced by a link since the unit was prepared was looked up with root's rights."""
    try:
        prepared = decode(os.environ.get(VARIABLE, ""))
        bounds = [msgspec.structs.replace(bound, point=_without_links(bound.point)) for bound in prepared]
    except ValueError as error:
        raise SandboxUnavailable("the trial's unit does not say what was prepared", hint=RELOAD) from error
    except OSError as error:
        words = f"{error.filename} cannot be looked at in the trial's unit: {error.strerror}"
        raise SandboxUnavailable(words, hint=RELOAD) from error
    for point in strange(bounds, known, top=top):
        raise SandboxUnavailable(f"{point} is not what it was when the trial was prepared", hint=RELOAD)


def _without_links(point: str) -> str:
    """The place itself; one that is not there is nowhere mounted, and no secret.

    Raises:
        OSError: It cannot be told where it is.
    """
    try:
        return os.path.realpath(point, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return point


def _has_unix_sockets() -> bool:
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True
