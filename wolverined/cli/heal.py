# SPDX-License-Identifier: MIT
"""`heal`: asks for a heal and shows its rungs and its verdict as they come.

Two connections are watched at once, the stream of events and the end of the change, so nothing is
polled; what the stream had not brought when the change ended is read by cursor afterwards.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from wolverined.cli.operations import LONGEST_POLL_S, add_waiting, begin, ended, too_late
from wolverined.cli.options import Command, Invocation, Parser, Target, add_words
from wolverined.cli.terminal import STATE_COLOURS, Terminal, clean
from wolverined.control.client import Pending, Stream
from wolverined.errors import UsageError

TIMEOUT_S = 900.0
REPORT_MAX = 65536
_GOOD_STATES = {"approval", "applied", "probation", "verified", "stable"}


def run(invocation: Invocation) -> int:
    """`heal NAME [ID]`."""
    args = invocation.args
    target, rest = invocation.aim("", "i#")
    body = {"incident": rest[0] if rest else "", "dry_run": args.dry_run, "report": read_report(args.report)}
    if args.no_wait:
        change = begin(target.client, "/v1/heal", body)
        invocation.terminal.json(change) if args.json else invocation.terminal.say(str(change["id"]))
        return 0
    with target.client.stream("/v1/events?follow=true&n=0") as stream:
        change = _watch(invocation, target, stream, begin(target.client, "/v1/heal", body))
    result = ended(change).get("result") or {}
    if args.json:
        invocation.terminal.json(change, line=True)
    else:
        _conclude(invocation.terminal, target, result)
    return 0 if went_well(result) else 1


def read_report(option: str | None) -> str:
    """The operator's own words: the option's text, or standard input for `-`."""
    if option is None:
        return ""
    text = sys.stdin.read(REPORT_MAX + 1) if option == "-" else option
    if len(text) > REPORT_MAX:
        raise UsageError(f"a report may have {REPORT_MAX} characters", hint="say the essential part")
    if not text.strip():
        raise UsageError(
            "the report is empty", hint="write what is wrong, such as: echo 'the cart is empty' | ... --report -"
        )
    return text


def went_well(result: Mapping[str, Any]) -> bool:
    """Whether a heal did what it could: nothing to do, proven, or waiting for a person."""
    if result.get("state"):
        return result["state"] in _GOOD_STATES or (result["state"] == "proposed" and result.get("verdict") == "proven")
    return result.get("verdict", "proven") in {"", None, "proven"}


def _watch(invocation: Invocation, target: Target, stream: Stream, change: dict[str, Any]) -> dict[str, Any]:
    """Show events of the change until it has ended; the change as it ended."""
    shown = _Shown(invocation, str(change["id"]))
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
    """Prints each event of one change once."""

    def __init__(self, invocation: Invocation, change: str) -> None:
        self._terminal = invocation.terminal
        self._json = invocation.args.json
        self._change = change
        self.cursor = 0

    def records(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            cursor = record.get("cursor")
            if isinstance(cursor, int):
                if record.get("type", "event") == "event" and cursor <= self.cursor:
                    continue
                self.cursor = cursor
            fields = record.get("fields")
            if (
                not isinstance(fields, dict)
                or fields.get("change") != self._change
                or record.get("name") == "audit.change"
            ):
                continue
            if self._json:
                self._terminal.json(record, line=True)
            else:
                self._terminal.say(step_text(self._terminal, record, fields))
            self._terminal.flush()


def step_text(terminal: Terminal, record: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    """One step of a heal on one line; a rung with what it saw on the copy without and with the patch."""
    message = clean(str(record.get("message", "")))
    if "rung" not in fields:
        return f"  {terminal.paint(message, STATE_COLOURS.get(str(record.get('severity')), ''))}"
    rung, name = clean(str(fields["rung"])), clean(str(fields.get("name", "")))
    seen = f"{clean(str(fields.get('baseline', '')))} {terminal.arrow} {clean(str(fields.get('patched', '')))}"
    detail = clean(str(fields.get("detail", "")))
    line = f"    {terminal.tick(good=bool(fields.get('passed')))} {rung:<3} {name:<16} {seen:<20} {detail}"
    return line.rstrip()


def _conclude(terminal: Terminal, target: Target, result: Mapping[str, Any]) -> None:
    verdict = str(result.get("verdict") or "")
    facts = [str(result[key]) for key in ("incident", "repair") if result.get(key)]
    head = "  ".join([*facts, *([terminal.paint(verdict, STATE_COLOURS.get(verdict, ""))] if verdict else [])])
    said = clean(str(result.get("said", ""))) or f"{target.name} is well; there was nothing to heal"
    terminal.say(f"{head}  {said}" if head else said)


def _declare(parser: Parser) -> None:
    add_words(parser)
    parser.add_argument("--dry-run", action="store_true", help="find and prove a fix, touch nothing")
    parser.add_argument("--report", metavar="TEXT", help="your own words as evidence; - reads them from standard input")
    add_waiting(parser, default_s=TIMEOUT_S)


COMMANDS = {
    "heal": Command(
        "heal NAME [ID] [--dry-run] [--report TEXT]", "heal the newest open incident, or ID", _declare, run
    ),
}
