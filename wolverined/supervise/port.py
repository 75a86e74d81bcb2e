# SPDX-License-Identifier: MIT
"""Who sits on the app's port before it starts: our own leftovers are removed, a stranger is only named."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence

from wolverined.errors import WolverineError
from wolverined.linux.leaf import Leaf
from wolverined.linux.ports import Holder
from wolverined.model import Exit

WhoListens = Callable[[int], Awaitable[Holder | None]]

_TAKEN = re.compile(r"EADDRINUSE|address already in use|port is already allocated", re.IGNORECASE)
_ASK_S = 10.0
_EMPTY_S = 5.0


def is_free(port: int) -> bool:
    """Whether a server could bind the port on 127.0.0.1 now; takes microseconds and holds nothing.

    With SO_REUSEADDR a bind fails only for a socket that listens (or is bound without that option), not
    for old connections in TIME_WAIT. A stranger on another address only is not seen: the app may well
    live beside it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def ask(port: int, who_listens: WhoListens) -> Holder | None:
    """Who listens there; None when nobody does or it cannot be found out."""
    try:
        return await asyncio.wait_for(who_listens(port), _ASK_S)
    except (WolverineError, OSError, TimeoutError):
        return None  # an unknown holder is still a holder: `clear` looks at the port again


async def clear(port: int, *, who_listens: WhoListens, leaves: Callable[[], Sequence[Leaf]]) -> Holder | None:
    """Make way for a start: kill an old generation of ours that still listens.

    Args:
        port: The app's port.
        who_listens: Finds the listening socket's owner.
        leaves: The leaves of ours that may hold old generations.

    Returns:
        The stranger that is in the way, or None when the port is free.
    """
    holder = await ask(port, who_listens)
    if holder is not None and (leaf := _leaf_of(holder, leaves())) is not None:
        leaf.kill()
        if await leaf.wait_empty(timeout_s=_EMPTY_S):
            leaf.remove()
    if is_free(port):
        return None
    return holder or Holder(port=port, uid=-1, user="", cgroup="", pid=None, command="", ours=False)


def suspicious(port: int, ended: Exit) -> bool:
    """Whether an app may have died of a stranger on its port that the look before a start does not see."""
    if ended.ready or ended.asked or not is_free(port):
        return False
    return any(_TAKEN.search(line) for line in ended.tail)


def _leaf_of(holder: Holder, leaves: Sequence[Leaf]) -> Leaf | None:
    parts = holder.cgroup.split("/")
    return next((leaf for leaf in leaves if holder.pid in leaf.pids() or (holder.ours and leaf.name in parts)), None)


def named(holder: Holder) -> str:
    """One line about a stranger on the port, for people."""
    who = f"{holder.command or 'another program'}" + (f" (pid {holder.pid})" if holder.pid else "")
    owner = f" of user {holder.user or holder.uid}" if holder.uid >= 0 else ""
    return f"port {holder.port} is taken by {who}{owner}" + (f" in {holder.cgroup}" if holder.cgroup else "")
