# SPDX-License-Identifier: MIT
"""What the control API needs of the daemon, and nothing more.

`daemon` implements `Instance`; tests implement a fake. Plain methods answer at once and never block;
what takes time is submitted and becomes a `Change`. A method raises a `WolverineError` when it cannot
do what was asked; `server` turns its kind into a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from wolverined.linux.peer import Peer
from wolverined.model import Backup, Change, Event, Incident, LogLine, Repair


class Instance(Protocol):
    """One supervised application, as the control API sees it.

    Cursors of lines and of events are numbers that grow by one with every record, so a gap between
    two cursors says exactly how many records are gone.
    """

    def status(self) -> dict[str, Any]:
        """The answer of `status` (DESIGN 7.8): `app`, `state`, `generation`, `pid`, ..."""
        ...

    def config(self) -> dict[str, Any]:
        """The configuration in force, as plain JSON; values of environments are hidden by the API."""
        ...

    def usage(self) -> dict[str, Any]:
        """Tokens, calls and money of models."""
        ...

    def incidents(self, *, limit: int, open_only: bool) -> list[Incident]:
        """The newest incidents first."""
        ...

    def incident(self, incident_id: str) -> Incident:
        """One incident, or NotFound."""
        ...

    def repairs(self, *, limit: int) -> list[Repair]:
        """The newest repairs first."""
        ...

    def repair(self, repair_id: str) -> Repair:
        """One repair, or NotFound."""
        ...

    def patch(self, repair_id: str) -> str:
        """The repair as a `git am`-able patch, or NotFound."""
        ...

    def backups(self) -> list[Backup]:
        """Every backup, the newest first."""
        ...

    def logs_after(self, cursor: int, limit: int) -> Sequence[LogLine]:
        """The oldest lines still kept whose cursor is greater than `cursor`."""
        ...

    def log_cursor(self) -> int:
        """The cursor of the newest line; 0 before the first."""
        ...

    async def log_grown(self, cursor: int) -> None:
        """Return when there is a line after `cursor`; at once when there already is one."""
        ...

    def events_after(self, cursor: int, limit: int) -> Sequence[Event]:
        """The oldest events still kept whose cursor is greater than `cursor`."""
        ...

    def event_cursor(self) -> int:
        """The cursor of the newest event; 0 before the first."""
        ...

    async def events_grown(self, cursor: int) -> None:
        """Return when there is an event after `cursor`; at once when there already is one."""
        ...

    def submit(self, action: str, args: dict[str, Any], *, peer: Peer, idempotency_key: str) -> Change:
        """Begin an operation: start stop restart reload reexec heal hold approve reject rollback restore.

        `control.changes.Changes` does the bookkeeping (ids, replay of a key). Raises NotFound or
        Conflict when it can be known at once that nothing would be done.
        """
        ...

    def change(self, change_id: str) -> Change:
        """One operation, or NotFound."""
        ...

    async def wait_change(self, change_id: str, timeout_s: float) -> Change:
        """The operation once it has ended, or as it stands after `timeout_s`."""
        ...

    def audit(self, name: str, message: str, fields: dict[str, Any]) -> None:
        """Record who did, or was refused, what."""
        ...
