# SPDX-License-Identifier: MIT
"""The daemon as the control API sees it: answers from the store and the rooms, and submits changes."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from wolverined.clock import Clock
from wolverined.config.schema import Config
from wolverined.control.changes import Changes
from wolverined.daemon.desk import Desk
from wolverined.daemon.hold import LONGEST_S
from wolverined.daemon.narrator import Narrator
from wolverined.errors import NotFound, StoreError, UsageError, WolverineError
from wolverined.heal.job import Conclusion, Result, Task
from wolverined.linux.peer import Peer
from wolverined.model import Backup, Change, Event, Incident, LogLine, Repair
from wolverined.store import Store
from wolverined.supervise.supervisor import Supervisor

_GOOD_ENDS = (Conclusion.HEALED, Conclusion.APPROVAL, Conclusion.OBSERVED, Conclusion.DONE)

Reload = Callable[[], Awaitable[dict[str, Any]]]
"""Reads the configuration file again; gives what changed."""

Reexec = Callable[[str], Awaitable[dict[str, Any]]]
"""Replaces the running program for the change of that id."""


class Daemon:
    """Implements `control.interfaces.Instance`.

    Args:
        name: The instance.
        version: Of wolverined.
        config: Gives the configuration in force.
        state_dir: Where patches lie.
        supervisor: Runs the app.
        desk: Sees to incidents.
        store: What is remembered.
        narrator: Events and lines.
        clock: Labels changes.
        reload: Reads the configuration again.
        reexec: Replaces the running program.
        reports: Gives what the living app told of itself.
        weaknesses: Gives what is weaker than it could be.

    Attributes:
        changes: The operations.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        config: Callable[[], Config],
        state_dir: Path,
        supervisor: Supervisor,
        desk: Desk,
        store: Store,
        narrator: Narrator,
        clock: Clock,
        reload: Reload,
        reexec: Reexec,
        reports: Callable[[], dict[str, Any]],
        weaknesses: Callable[[], tuple[str, ...]],
    ) -> None:
        self._name = name
        self._version = version
        self._config = config
        self._state_dir = state_dir
        self._supervisor = supervisor
        self._desk = desk
        self._store = store
        self._narrator = narrator
        self._clock = clock
        self._reload = reload
        self._reexec = reexec
        self._reports = reports
        self._weaknesses = weaknesses
        self.changes = Changes(clock=clock)

    def status(self) -> dict[str, Any]:
        """The answer of `status` (DESIGN 7.8)."""
        heal = self._config().heal
        holding = self._desk.held_until
        return {
            "app": self._name,
            "version": self._version,
            **self._supervisor.status(),
            "command": shlex.join(self._config().app.command),
            "port": self._config().app.port,
            "healing": self._desk.current,
            "incidents_open": self._open_incidents(),
            "routes_failing": self._failing_routes(),
            "reports": self._reports(),
            "policy": heal.policy.value,
            "auto_risk": heal.auto_risk,
            "held_until": holding if holding > self._clock.wall() else None,
            "weaknesses": list(self._weaknesses()),
            "store_lost": self._store.lost,
        }

    def _open_incidents(self) -> int | None:
        try:
            return self._store.incidents.count_open()
        except StoreError:
            return None  # how the app is can be told without a disk

    def _failing_routes(self) -> list[dict[str, Any]]:
        """The routes of open incidents, and how often each failed."""
        try:
            found = self._store.incidents.list(open_only=True)
        except StoreError:
            return []
        return [{"route": one.route, "count": one.count, "incident": one.id} for one in found if one.route]

    def config(self) -> dict[str, Any]:
        """The configuration in force, as plain JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self._config(), enc_hook=str)
        return plain

    def usage(self) -> dict[str, Any]:
        """Tokens, calls and money of models."""
        plain: dict[str, Any] = msgspec.to_builtins(self._store.usage.totals())
        return plain

    def incidents(self, *, limit: int, open_only: bool) -> list[Incident]:
        """The newest incidents first."""
        return self._store.incidents.list(limit=limit, open_only=open_only)

    def incident(self, incident_id: str) -> Incident:
        """One incident, or NotFound."""
        return self._store.incidents.get(incident_id)

    def repairs(self, *, limit: int) -> list[Repair]:
        """The newest repairs first."""
        return self._store.repairs.list(limit=limit)

    def repair(self, repair_id: str) -> Repair:
        """One repair, or NotFound."""
        return self._store.repairs.get(repair_id)

    def patch(self, repair_id: str) -> str:
        """The repair as a `git am`-able patch; its bare diff while it has never been applied."""
        repair = self._store.repairs.get(repair_id)
        try:
            return (self._state_dir / "patches" / f"{repair.id}.patch").read_text("utf-8", "surrogateescape")
        except OSError:
            if repair.diff:
                return repair.diff
            raise NotFound(f"{repair_id} has no patch", hint="it was refused before one was made") from None

    def backups(self) -> list[Backup]:
        """Every backup, the newest first."""
        return self._store.backups.list()

    def logs_after(self, cursor: int, limit: int) -> list[LogLine]:
        """The oldest lines still kept after `cursor`."""
        return self._supervisor.ring.after(cursor, limit)

    def log_cursor(self) -> int:
        """The cursor of the newest line."""
        return self._supervisor.ring.newest

    async def log_grown(self, cursor: int) -> None:
        """Return when there is a line after `cursor`."""
        await self._supervisor.ring.grown(cursor)

    def events_after(self, cursor: int, limit: int) -> list[Event]:
        """The oldest events still kept after `cursor`."""
        return self._store.events.after(cursor, limit)

    def event_cursor(self) -> int:
        """The cursor of the newest event."""
        return self._store.events.newest

    async def events_grown(self, cursor: int) -> None:
        """Return when there is an event after `cursor`."""
        await self._narrator.events_grown(cursor)

    def submit(self, action: str, args: dict[str, Any], *, peer: Peer, idempotency_key: str) -> Change:
        """Begin an operation; see `control.interfaces`."""
        works: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "reload": self._reloaded,
            "heal": self._heal,
            "hold": self._hold,
            "approve": self._approve,
            "reject": self._reject,
            "rollback": self._rollback,
            "restore": self._restore,
        }
        if action not in {*works, "reexec"}:
            raise UsageError(f"there is no action {action!r}")

        async def work(change: str) -> dict[str, Any]:
            return await (self._reexec(change) if action == "reexec" else works[action](args))

        return self.changes.submit(action, work, uid=peer.uid, args=args, idempotency_key=idempotency_key)

    def change(self, change_id: str) -> Change:
        """One operation, or NotFound."""
        return self.changes.get(change_id)

    async def wait_change(self, change_id: str, timeout_s: float) -> Change:
        """The operation once it has ended, or as it stands after `timeout_s`."""
        return await self.changes.wait(change_id, timeout_s)

    def audit(self, name: str, message: str, fields: dict[str, Any]) -> None:
        """Record who did, or was refused, what."""
        severity = "warn" if name.endswith("denied") else "info"
        self._narrator.tell(name, message, severity=severity, fields=fields)

    async def close(self) -> None:
        """End what is under way."""
        await self.changes.close()

    async def _start(self, _args: dict[str, Any]) -> dict[str, Any]:
        await self._supervisor.start()
        return self._supervisor.status()

    async def _stop(self, _args: dict[str, Any]) -> dict[str, Any]:
        await self._supervisor.stop()
        return self._supervisor.status()

    async def _restart(self, _args: dict[str, Any]) -> dict[str, Any]:
        await self._supervisor.restart()
        return self._supervisor.status()

    async def _reloaded(self, _args: dict[str, Any]) -> dict[str, Any]:
        return await self._reload()

    async def _heal(self, args: dict[str, Any]) -> dict[str, Any]:
        result = await self._desk.heal_asked(args)
        if result is None:
            return await self._well()
        return _told(result)

    async def _well(self) -> dict[str, Any]:
        """Nothing is open: say how the app is."""
        status = self._supervisor.status()
        if status["state"] in ("ready", "degraded"):
            return {"said": f"no open incident; the app is {status['state']}", "conclusion": "well"}
        raise WolverineError(f"no open incident, but the app is {status['state']}", hint="see: wolverinectl events")

    async def _hold(self, args: dict[str, Any]) -> dict[str, Any]:
        seconds = args.get("for_s")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_S:
            raise UsageError(f"hold needs for_s between 0 and {LONGEST_S:.0f}", hint="e.g. --for 10m")
        until = self._desk.hold(float(seconds))
        self._narrator.tell("heal.hold", f"heals are on hold for {seconds:g} s" if seconds else "the hold is lifted")
        return {"held_until": until if seconds else None}

    async def _approve(self, args: dict[str, Any]) -> dict[str, Any]:
        return _told(
            await self._desk.repair_asked(Task.APPLY, _id(args, "repair"), sha256=str(args.get("sha256") or ""))
        )

    async def _reject(self, args: dict[str, Any]) -> dict[str, Any]:
        return _told(await self._desk.reject_asked(_id(args, "repair")))

    async def _rollback(self, args: dict[str, Any]) -> dict[str, Any]:
        result = await self._desk.repair_asked(Task.ROLLBACK, _id(args, "repair"))
        return _told(result, good=(*_GOOD_ENDS, Conclusion.ROLLED_BACK))

    async def _restore(self, args: dict[str, Any]) -> dict[str, Any]:
        return _told(await self._desk.restore_asked(_id(args, "backup")))


def _id(args: dict[str, Any], what: str) -> str:
    value = args.get(what)
    if not isinstance(value, str) or not value:
        raise UsageError(f"the {what}'s id is missing")
    return value


def _told(result: Result, *, good: tuple[Conclusion, ...] = _GOOD_ENDS) -> dict[str, Any]:
    """A job's result as a change's result, or as the error that it is."""
    if result.conclusion not in good:
        raise WolverineError(result.said, hint=result.hint)
    return {
        "conclusion": result.conclusion.value,
        "said": result.said,
        "hint": result.hint,
        "repair": result.repair,
        "verdict": result.verdict,
    }
