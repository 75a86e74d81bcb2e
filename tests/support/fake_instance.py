# SPDX-License-Identifier: MIT
# ruff: noqa: D102  (the methods of the protocol are documented in control/interfaces.py)
"""An instance without an application, for tests of the control API and of the command line."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from wolverined.clock import SystemClock
from wolverined.control.changes import Changes
from wolverined.errors import Conflict, NotFound
from wolverined.linux.peer import Peer
from wolverined.model import (
    Backup,
    BackupState,
    Change,
    Check,
    ErrorLink,
    Event,
    Exit,
    Frame,
    Incident,
    IncidentKind,
    IncidentState,
    LogLine,
    Outcome,
    Repair,
    RepairMode,
    RepairState,
    Request,
    Trace,
    Verdict,
)

DIFF = "diff --git a/app.py b/app.py\n--- a/app.py\n+++ b/app.py\n@@ -1 +1 @@\n-print(nmae)\n+print(name)\n"
SHA256 = "ab" * 32


class FakeInstance:
    """Holds what it is told to hold; operations succeed at once unless `gate` is closed."""

    def __init__(self, *, app: str = "shop", keep: int = 1000) -> None:
        self.app = app
        self.state = "ready"
        self.pid: int | None = 4242
        self.lines: deque[LogLine] = deque(maxlen=keep)
        self.event_list: deque[Event] = deque(maxlen=keep)
        self.audits: list[tuple[str, str, dict[str, Any]]] = []
        self.submitted: list[tuple[str, dict[str, Any]]] = []
        self.changes = Changes(clock=SystemClock())
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken: Exception | None = None
        self.heal_result: dict[str, Any] = {
            "conclusion": "healed",
            "said": "r1 applied and verified",
            "hint": "",
            "repair": "r1",
            "verdict": "proven",
        }
        self._grown = asyncio.Event()
        self._lines_made = 0
        self._events_made = 0

    def status(self) -> dict[str, Any]:
        if self.broken is not None:
            raise self.broken
        return {
            "app": self.app,
            "state": self.state,
            "generation": 7,
            "pid": self.pid,
            "uptime_s": 192.4,
            "restarts": 2,
            "memory_bytes": 50_000_000,
            "held_until": time.time() + 600,
            "backoff_until": None,
            "last_exit": "SIGKILL",
            "tree": [4242, 4243],
            "healing": False,
            "incidents_open": 1,
            "policy": "approve",
            "weaknesses": ["no cgroup: a descendant may escape"],
        }

    def config(self) -> dict[str, Any]:
        return {
            "app": {"command": ["node"], "environment": {"TOKEN": "s3cret"}},
            "heal": {"trial": {"environment": {"DB": "s3cret"}}},
        }

    def usage(self) -> dict[str, Any]:
        return {
            "calls": 2,
            "tokens": 12345,
            "cost_usd": 0.0123,
            "by_model": {"m1": {"tokens": 12345, "cost_usd": None}},
        }

    def incidents(self, *, limit: int, open_only: bool) -> list[Incident]:
        found = [INCIDENT, msgspec.structs.replace(INCIDENT, id="i2", state=IncidentState.CLOSED, closed_by="r1")]
        return [one for one in found if not open_only or one.state is IncidentState.OPEN][:limit]

    def incident(self, incident_id: str) -> Incident:
        if incident_id != "i1":
            raise NotFound(f"there is no incident {incident_id}", hint="wolverinectl incidents NAME")
        return INCIDENT

    def repairs(self, *, limit: int) -> list[Repair]:
        return [REPAIR][:limit]

    def repair(self, repair_id: str) -> Repair:
        if repair_id != "r1":
            raise NotFound(f"there is no repair {repair_id}")
        return REPAIR

    def patch(self, repair_id: str) -> str:
        return f"From 0000\nSubject: {self.repair(repair_id).resolution}\n\n{DIFF}"

    def backups(self) -> list[Backup]:
        return [BACKUP]

    def logs_after(self, cursor: int, limit: int) -> Sequence[LogLine]:
        return [line for line in self.lines if line.cursor > cursor][:limit]

    def log_cursor(self) -> int:
        return self._lines_made

    async def log_grown(self, cursor: int) -> None:
        while self._lines_made <= cursor:
            await self._wait_grown()

    def events_after(self, cursor: int, limit: int) -> Sequence[Event]:
        return [event for event in self.event_list if event.cursor > cursor][:limit]

    def event_cursor(self) -> int:
        return self._events_made

    async def events_grown(self, cursor: int) -> None:
        while self._events_made <= cursor:
            await self._wait_grown()

    def submit(self, action: str, args: dict[str, Any], *, peer: Peer, idempotency_key: str) -> Change:
        if args.get("repair", "r1") != "r1" or args.get("backup", "b1") != "b1":
            raise NotFound("there is no such thing")

        async def work(change_id: str) -> dict[str, Any] | None:
            self.submitted.append((action, args))
            if action == "heal":
                self.heal_steps(change_id)
            await self.gate.wait()
            return self._outcome(action, args)

        return self.changes.submit(action, work, uid=peer.uid, args=args, idempotency_key=idempotency_key)

    def change(self, change_id: str) -> Change:
        return self.changes.get(change_id)

    async def wait_change(self, change_id: str, timeout_s: float) -> Change:
        return await self.changes.wait(change_id, timeout_s)

    def audit(self, name: str, message: str, fields: dict[str, Any]) -> None:
        self.audits.append((name, message, fields))
        self.event(name, message, fields=fields)

    def heal_steps(self, change_id: str) -> None:
        """What a heal tells of itself."""
        self.event("heal.step", "proposal by remedy misspelt-name: nmae is a misspelt name")
        self.event("heal.step", "of another heal", fields={"change": "c0"})
        self.event("app.exit", "no step of a heal")
        rung = {"change": change_id, "rung": "R3", "name": "boot", "baseline": "bad", "patched": "ok", "passed": True}
        self.event("heal.step", "R3 boot", fields=rung)

    def line(self, text: str, *, stream: str = "stdout") -> None:
        """The application writes a line."""
        self._lines_made += 1
        self.lines.append(LogLine(cursor=self._lines_made, at=1_700_000_000.0, stream=stream, text=text, generation=7))
        self._grow()

    def event(self, name: str, message: str, *, fields: dict[str, Any] | None = None, severity: str = "info") -> None:
        """Something happens."""
        self._events_made += 1
        event = Event(
            cursor=self._events_made,
            at=1_700_000_000.0,
            name=name,
            message=message,
            severity=severity,
            fields=fields or {},
        )
        self.event_list.append(event)
        self._grow()

    def _outcome(self, action: str, args: dict[str, Any]) -> dict[str, Any] | None:
        if action == "start" and self.state == "failed":
            raise Conflict("the application cannot be started", hint="see its logs")
        if action == "approve" and args["sha256"] not in {"", SHA256}:
            raise Conflict("that is not the diff of r1", hint="read it again")
        if action == "heal":
            return self.heal_result
        if action == "reload":
            return {"changed": [{"key": "probe.interval_s", "old": "3.0", "new": "5.0"}], "warnings": ["a note"]}
        if action == "hold":
            return {"held_until": time.time() + args["for_s"] if args["for_s"] else None}
        self.state = {"start": "ready", "stop": "stopped"}.get(action, self.state)
        return None

    def _grow(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _wait_grown(self) -> None:
        await self._grown.wait()


INCIDENT = Incident(
    id="i1",
    fingerprint="0123456789abcdef",
    kind=IncidentKind.CRASH,
    error="NameError",
    message="name 'nmae' is not defined",
    route="GET /cart",
    count=3,
    opened_at=1_700_000_000.0,
    last_at=1_700_000_100.0,
    generation=7,
    note="waits for approval",
    trace=Trace(
        language="python",
        errors=(ErrorLink("NameError", "name 'nmae' is not defined"),),
        frames=(Frame(path="app.py", line=1, function="main", source="print(nmae)", own=True),),
    ),
    exit=Exit(
        generation=7, code=1, uptime_s=12.0, tail=("hello", "Traceback \x1b]0;owned\x07(most recent call last):")
    ),
    request=Request(method="GET", path="/cart"),
)
REPAIR = Repair(
    id="r1",
    incident="i1",
    mode=RepairMode.REMEDY,
    state=RepairState.APPROVAL,
    error="NameError",
    resolution="nmae is a misspelt name",
    files=("app.py",),
    diff=DIFF,
    sha256=SHA256,
    remedy="misspelt-name",
    verdict=Verdict(
        outcome=Outcome.PROVEN,
        reason="boots, and the request is answered",
        checks=(Check(rung="R3", name="boot", baseline="bad", patched="ok", passed=True),),
        duration_ms=812,
    ),
    created_at=1_700_000_200.0,
    duration_ms=1500,
    tokens=10,
    cost_usd=0.001,
)
BACKUP = Backup(
    id="b1",
    repair="r1",
    state=BackupState.VERIFIED,
    files=("app.py",),
    tree_hash="00",
    created_at=1_700_000_300.0,
    size_bytes=2048,
)
