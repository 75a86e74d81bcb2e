# SPDX-License-Identifier: MIT
"""Begins an operation and waits for its end: what `start` to `restore` share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from wolverined.cli.options import Invocation, Parser, Target, seconds
from wolverined.cli.terminal import DIM, STATE_COLOURS, Column, Terminal, clean, until
from wolverined.control.client import Client, error_of
from wolverined.errors import TimedOut

TIMEOUT_S = 120.0
REPAIR_TIMEOUT_S = 900.0  # a repair is applied, started and watched before it is done
FIRST_POLL_S = 2.0  # then it is told what an operation waits for
LONGEST_POLL_S = 50.0  # below what the API waits at most, so that every answer is its answer


def add_waiting(parser: Parser, *, default_s: float = TIMEOUT_S) -> None:
    """The options of a command that waits."""
    parser.add_argument("--no-wait", action="store_true", help="begin it, print the change's id, do not wait")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=default_s,
        metavar="TIME",
        help=f"how long to wait at most (default {default_s:.0f}s)",
    )


def begin(client: Client, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Submit an operation under a key of its own."""
    return client.post(path, body, idempotency_key=os.urandom(12).hex())


def wait(
    client: Client, change: Mapping[str, Any], timeout_s: float, *, told: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The change once it has ended well; `told` hears what it says of itself meanwhile.

    Raises:
        TimedOut: It still runs.
        WolverineError: It ended with an error, as that error.
    """
    deadline, poll_s = time.monotonic() + timeout_s, FIRST_POLL_S
    while True:
        left = max(0.0, min(poll_s, deadline - time.monotonic()))
        poll_s = LONGEST_POLL_S
        now = client.get(f"/v1/changes/{change['id']}/wait?timeout={left:.3f}", extra_s=left)
        assert isinstance(now, dict)
        if now.get("state") != "doing":
            return ended(now)
        if time.monotonic() >= deadline:
            raise too_late(now)
        if told is not None and (result := now.get("result")):
            told(str(result.get("said", "")))


def ended(change: dict[str, Any]) -> dict[str, Any]:
    """`change` when it went well; its error otherwise."""
    if change.get("state") == "failed":
        raise error_of(str(change.get("kind") or "failed"), str(change.get("error")), str(change.get("hint", "")))
    return change


def too_late(change: Mapping[str, Any]) -> TimedOut:
    """What to say of a change that still runs."""
    return TimedOut(
        f"{change['action']} is still under way as {change['id']}", hint="it goes on; wait longer with --timeout"
    )


def carry_out(
    invocation: Invocation, target: Target, path: str, body: Mapping[str, Any] | None = None, *, live: bool = False
) -> int:
    """Begin, wait unless told not to, and print what came of it; `live` shows the steps in between."""
    terminal, args = invocation.terminal, invocation.args
    if args.no_wait:
        change = begin(target.client, path, body)
        terminal.json(change) if args.json else terminal.say(str(change["id"]))
        return 0
    if live:
        from wolverined.cli.progress import watched

        change = watched(invocation, target, path, body)
    else:
        told = None if args.json else _Waiting(terminal).told
        change = wait(target.client, begin(target.client, path, body), args.timeout, told=told)
    if args.json:
        terminal.json(change, line=live)
    else:
        say_result(terminal, target, change.get("result") or {})
    return 0


class _Waiting:
    """Says what an operation waits for, each reason once."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._said = ""

    def told(self, words: str) -> None:
        if words != self._said:
            self._said = words
            self._terminal.say(self._terminal.paint(clean(words), DIM))
            self._terminal.flush()


def say_result(terminal: Terminal, target: Target, result: Mapping[str, Any]) -> None:
    """The result in words: what was said or changed, else how the application is now."""
    for warning in result.get("warnings") or ():
        terminal.say(f"{terminal.paint('warning:', STATE_COLOURS['warn'])} {clean(str(warning))}")
    if "changed" in result:
        _say_changed(terminal, result["changed"])
        if result.get("restart_needed"):
            terminal.say(terminal.paint("the application gets it at its next start: wolverinectl restart", DIM))
    elif result.get("said"):
        terminal.say(clean(str(result["said"])))
        if result.get("hint"):
            terminal.say(terminal.paint(clean(str(result["hint"])), DIM))
    elif "held_until" in result:
        held = result["held_until"]
        terminal.say(f"no heal begins for {until(held, time.time())}" if held else "the hold is lifted")
    else:
        state = str(result.get("state") or target.client.get("/v1/status").get("state", "?"))
        terminal.say(f"{target.name}  {terminal.state(state)}")


def _say_changed(terminal: Terminal, changed: Any) -> None:
    if not changed:
        terminal.say("nothing has changed")
        return
    rows = [[str(one.get("key")), str(one.get("old")), terminal.arrow, str(one.get("new"))] for one in changed]
    columns = [Column("KEY"), Column("WAS", flexible=True), Column(""), Column("IS", flexible=True)]
    terminal.table(columns, rows)
