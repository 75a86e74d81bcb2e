# SPDX-License-Identifier: MIT
"""The other end of a re-exec: says whether what is handed over could be used, and puts it together again.

Whatever cannot be taken over is told and ended, and the app is started anew: an app that nobody supervises
is worse than one that was restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec

from wolverined import __version__
from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.daemon.handover import Handover, Unusable
from wolverined.daemon.inforce import differences
from wolverined.daemon.inheritance import Inherited
from wolverined.daemon.rooms import Rooms
from wolverined.daemon.setting import Setting
from wolverined.errors import ConfigError, SpawnError
from wolverined.linux.handover import HandedChild
from wolverined.linux.process import Child
from wolverined.model import Change, ChangeState
from wolverined.store import Store


def check(inherited: Inherited, config: Config, setting: Setting) -> None:
    """Refuse what could not be taken over; nothing is touched.

    Raises:
        Unusable: The state is damaged, or of another form.
        ConfigError: The configuration on disk needs a start.
        StoreError: The store is of a newer version.
    """
    handed = inherited.handover
    if handed is None:
        raise Unusable(inherited.why)
    _refuse_another_user(handed, config)
    Store.check(setting.state_dir)


def take_over(inherited: Inherited, rooms: Rooms, *, clock: Clock, stack: AsyncExitStack) -> None:
    """Go on where the predecessor stood; its sockets and places are taken already."""
    handed = inherited.handover
    if handed is None:
        words = f"what wolverined was before left nothing that can be used ({inherited.why}); the app is started anew"
        rooms.narrator.tell("reexec.lost", words, severity="critical")
        _reap(inherited.orphans, stack)
        return
    rooms.narrator.adopt(handed.narrator)
    rooms.listener.adopt(handed.listener)
    rooms.dispatcher.number = handed.heals
    changed = differences(handed.config, rooms.force.config)
    lost = rooms.supervisor.adopt(handed.supervisor)
    rooms.service.took_over(ready=handed.ready)
    _tell(handed, rooms, lost=lost, changed=changed, took_s=clock.monotonic() - handed.began)
    rooms.main_line.begun = handed.begun and not lost and not rooms.supervisor.held
    rooms.desk.adopt(handed.desk)
    if changed:
        rooms.supervisor.reconfigure(rooms.force.config)
    said = f"wolverined {__version__} runs in the place of {handed.version}"
    if changed:  # who asked for a new program has not asked for this
        said += f"; the configuration file was changed since it was read last, and is in force now: {_words(changed)}"
    rooms.changes.adopt(handed.changes, conclude=lambda change: _concluded(change, said=said, lost=lost))
    generation = handed.supervisor.generation
    taken = {generation.child.pid} if generation is not None and not lost else set()
    _reap((child for child in inherited.orphans if child.pid not in taken), stack)


def _refuse_another_user(handed: Handover, config: Config) -> None:
    app = handed.config.get("app")
    before = app.get("user") if isinstance(app, dict) else None
    if before != config.app.user:
        raise ConfigError(
            f"app.user is now {config.app.user!r}, and {before!r} is in force",
            hint="the user of the app does not change while it runs",
        )


def _tell(handed: Handover, rooms: Rooms, *, lost: str, changed: list[dict[str, str]], took_s: float) -> None:
    narrator, generation = rooms.narrator, handed.supervisor.generation
    goes_on = f"; generation {generation.number} goes on" if generation is not None and not lost else ""
    words = f"wolverined {__version__} took over from {handed.version} within {took_s * 1000:.0f} ms{goes_on}"
    fields = {"from": handed.version, "to": __version__, "took_s": round(took_s, 3)}
    narrator.tell("reexec.done", words, fields=fields)
    if lost:
        words = f"the app could not be taken over ({lost}); what lives of it is ended, and it is started anew"
        narrator.tell("reexec.lost", words, severity="critical")
    if changed:
        words = f"{_words(changed)}; the app gets what it is started with at its next start"
        narrator.tell("config.reloaded", words)


def _words(changed: list[dict[str, str]]) -> str:
    return ", ".join(f"{one['key']} {one['old']} -> {one['new']}" for one in changed)


def _concluded(change: Change, *, said: str, lost: str) -> Change:
    """The end of an operation that was under way: it is this very re-exec."""
    ended: dict[str, Any]
    if change.action != "reexec":
        ended = {"state": ChangeState.FAILED, "error": "wolverined was replaced before it was done", "kind": "stopped"}
    elif lost:
        ended = {"state": ChangeState.FAILED, "error": f"{said}, but the app was lost and started anew: {lost}"}
    else:
        ended = {"state": ChangeState.DONE, "result": {"said": said}}
    return msgspec.structs.replace(change, **ended)


def _reap(orphans: Iterable[HandedChild], stack: AsyncExitStack) -> None:
    """Wait for children that nobody took over: what is ended of a lost app would stay as zombies."""
    tasks = set()
    for orphan in orphans:
        with suppress(SpawnError, OSError):  # gone already
            tasks.add(asyncio.ensure_future(_wait(Child.adopt(orphan))))

    async def close() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(close)


async def _wait(child: Child) -> None:
    with child:
        await child.wait()
