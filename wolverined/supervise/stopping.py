# SPDX-License-Identifier: MIT
"""How a generation is ended: ask, wait, kill, and wait until nothing of it lives.

The order is that of `[stop]`: the stop signal to the tree or to the main process, or SIGABRT when it
hung (so that runtimes dump their stacks), then SIGKILL for the whole leaf. Returns only when the leaf is
empty: what sits in the kernel's uninterruptible sleep is named again and again, and is never left alone.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from wolverined.config.schema import StopScope, StopTable
from wolverined.errors import AccessDenied
from wolverined.linux.leaf import Leaf, Stuck
from wolverined.linux.process import Child
from wolverined.supervise.lifecycle import How

KILL_WAIT_S = 3.0
"""How long a killed tree may take before its processes are named as stuck; and between two such looks."""


async def end(
    leaf: Leaf, child: Child, *, how: How, table: StopTable, stuck: Callable[[tuple[Stuck, ...]], None]
) -> None:
    """End everything in the leaf; returns when it is empty and the main process has been reaped.

    Args:
        leaf: Where the generation lives.
        child: Its main process.
        how: How to begin.
        table: `[stop]`.
        stuck: Told what is still there each time that a kill did not help in time.
    """
    if not await _gently(leaf, child, how=how, table=table):
        await kill(leaf, stuck=stuck)
    await child.wait()


async def kill(leaf: Leaf, *, stuck: Callable[[tuple[Stuck, ...]], None]) -> None:
    """SIGKILL everything in the leaf and wait, for as long as it takes, until it is empty."""
    while True:
        with suppress(AccessDenied):  # left by another user's supervisor: it may end by itself, and is named until then
            leaf.kill()
        if await leaf.wait_empty(timeout_s=KILL_WAIT_S):
            return
        stuck(tuple(leaf.stuck()))


async def _gently(leaf: Leaf, child: Child, *, how: How, table: StopTable) -> bool:
    """Signal and wait; True when the leaf is empty."""
    match how:
        case How.SWEEP:
            return not leaf.populated()
        case How.ABORT:
            leaf.signal(signal.SIGABRT)
            wait_s = table.abort_s
        case How.ASK if table.scope is StopScope.MAIN:
            child.signal(signal.Signals[table.signal])
            child.signal(signal.SIGCONT)
            return await _main_ended(child, timeout_s=table.timeout_s) and not leaf.populated()
        case How.ASK:
            leaf.signal(signal.Signals[table.signal])
            wait_s = table.timeout_s
    # A process that was stopped (SIGSTOP, a terminal) takes no other signal before it goes on.
    leaf.signal(signal.SIGCONT)
    return await leaf.wait_empty(timeout_s=wait_s)


async def _main_ended(child: Child, *, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await child.wait()
    except TimeoutError:
        return False
    return True
