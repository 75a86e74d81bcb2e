# SPDX-License-Identifier: MIT
"""A reload: the file is read again, by request or by SIGHUP; a bad one changes nothing, and says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from wolverined.daemon.inforce import InForce
from wolverined.daemon.knowledge import Secrets
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.service import Service
from wolverined.errors import ConfigError
from wolverined.supervise.supervisor import Supervisor

_AT_START = ("app.", "cluster.", "probe.notify", "resources.memory_max_mb")  # what an app that runs does not hear of


class Reloading:
    """Puts a new configuration in force.

    Args:
        force: The configuration in force.
        supervisor: Is given the new one.
        secrets: May be others then.
        service: Brackets it for the service manager.
        narrator: Tells what changed.
        after_signal: Done after a reload that a signal asked for.
    """

    def __init__(
        self,
        *,
        force: InForce,
        supervisor: Supervisor,
        secrets: Secrets,
        service: Service,
        narrator: Narrator,
        after_signal: Callable[[], Awaitable[None]],
    ) -> None:
        self._force = force
        self._supervisor = supervisor
        self._secrets = secrets
        self._service = service
        self._narrator = narrator
        self._after_signal = after_signal
        self._under_way: set[asyncio.Task[None]] = set()

    def hang_up(self) -> None:
        """SIGHUP means reload, as everywhere."""
        task = asyncio.get_running_loop().create_task(self._reload_and_tell())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _reload_and_tell(self) -> None:
        with contextlib.suppress(ConfigError):  # told as an event already
            await self.reload()
        await self._after_signal()

    async def reload(self) -> dict[str, Any]:
        """Read the file again; gives what changed, and whether the app must be restarted for it.

        Raises:
            ConfigError: It cannot be used.
        """
        with self._service.reloading():
            return self._reloaded()

    def _reloaded(self) -> dict[str, Any]:
        try:
            changed = self._force.renew()
        except ConfigError as error:
            self._narrator.tell("config.rejected", f"the old configuration stays: {error}", severity="error")
            raise
        self._secrets.learn()
        runs = self._supervisor.status()["pid"] is not None
        self._supervisor.reconfigure(self._force.config)
        words = ", ".join(f"{one['key']} {one['old']} -> {one['new']}" for one in changed)
        later = runs and any(one["key"].startswith(_AT_START) for one in changed)
        told = f"{words}; the app gets it at its next start" if later else words or "nothing has changed"
        self._narrator.tell("config.reloaded", told)
        return {"changed": changed, "warnings": list(self._force.notes), "restart_needed": later}
