# SPDX-License-Identifier: MIT
"""Shows an operation while it runs: the steps of a heal, an approval, a rollback.

Two connections are watched at once, the stream of events and the end of the change, so nothing is
polled; what the stream had not brought when the change ended is read by cursor afterwards.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Iterable, Mapping
from typing import Any

from wolverined.cli.operations import LONGEST_POLL_S, begin, ended, too_late
from wolverined.cli.options import Invocation, Target
from wolverined.cli.terminal import STATE_COLOURS, Terminal, clean
from wolverined.control.client import Pending, Stream

_STEPS = ("heal.", "repair.", "backup.")
_RUNG = re.compile(r"R[0-9] ")


def watched(
    invocation: Invocation, target: Target, path: str, body: Mapping[str, Any] | None, *, incident: str = ""
) -> dict[str, Any]:
    """Begin an operation, show its steps until it has ended, and return it; its error is raised."""
    with target.client.stream("/v1/events?follow=true&n=0") as stream:
        # The first record is where the stream begins: it stands before the operation does, no step is missed.
        first = stream.ready()
        change = begin(target.client, path, body)
        shown = _Shown(invocation, str(change["id"]), incident)
        shown.records(first)
        return ended(_watch(invocation, target, stream, change, shown))


def _watch(
    invocation: Invocation, target: Target, stream: Stream, change: dict[str, Any], shown: _Shown
) -> dict[str, Any]:
    deadline = time.monotonic() + invocation.args.timeout
    while change.get("state") == "doing":
        left = min(LONGEST_POLL_S, deadline - time.monotonic())
        if left <= 0:
            raise too_late(change)
        path = f"/v1/changes/{change['id']}/wait?timeout={left:.3f}"
        with target.client.pending(path, extra_s=left) as waiting:
            _show_until(waiting, stream, shown)
            change = waiting.result()
    shown.records(target.client.get(f"/v1/events?after={shown.cursor}&n=1000"))
    return change


def _show_until(waiting: Pending, stream: Stream, shown: _Shown) -> None:
    poller = select.poll()
    poller.register(waiting, select.POLLIN)
    poller.register(stream, select.POLLIN)
    while ready := {fd for fd, _ in poller.poll()}:
        if stream.fileno() in ready:
            try:
                shown.records(stream.ready())
            except EOFError:
                return
        if waiting.fileno() in ready:
            return


class _Shown:
    """Prints each step once.

    There is one heal at a time, so while ours is under way every event of a heal is a step of it,
    unless it names another change or another incident.
    """

    def __init__(self, invocation: Invocation, change: str, incident: str) -> None:
        self._terminal = invocation.terminal
        self._json = invocation.args.json
        self._change = change
        self._incident = incident
        self.cursor = 0

    def records(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            cursor = record.get("cursor")
            if isinstance(cursor, int):
                if record.get("type", "event") == "event" and cursor <= self.cursor:
                    continue
                self.cursor = cursor
            if not self._ours(record):
                continue
            if self._json:
                self._terminal.json(record, line=True)
            else:
                self._terminal.say(step_text(self._terminal, record))
            self._terminal.flush()

    def _ours(self, record: Mapping[str, Any]) -> bool:
        if not str(record.get("name", "")).startswith(_STEPS):
            return False
        fields = record.get("fields")
        named = fields.get("change", self._change) if isinstance(fields, dict) else self._change
        return named == self._change and (not self._incident or record.get("incident") in {"", None, self._incident})


def step_text(terminal: Terminal, record: Mapping[str, Any]) -> str:
    """One step on one line: a rung with its outcome, else what was said, in the colour of how grave it is."""
    fields = record.get("fields")
    if isinstance(fields, dict) and "rung" in fields:
        return rung_text(terminal, fields)
    message = clean(str(record.get("message", "")))
    if record.get("name") == "heal.step" and _RUNG.match(message):
        return f"    {message}"
    return f"  {terminal.paint(message, STATE_COLOURS.get(str(record.get('severity')), ''))}"


def rung_text(terminal: Terminal, fields: Mapping[str, Any]) -> str:
    """One rung of a verdict, with what it saw on the copy without and with the patch."""
    rung, name = clean(str(fields["rung"])), clean(str(fields.get("name", "")))
    seen = (
        f"{clean(str(fields.get('baseline') or 'not asked'))} {terminal.arrow} {clean(str(fields.get('patched', '')))}"
    )
    detail = clean(str(fields.get("detail", "")))
    line = f"    {terminal.tick(good=bool(fields.get('passed')))} {rung:<3} {name:<28} {seen:<18} {detail}"
    return line.rstrip()
