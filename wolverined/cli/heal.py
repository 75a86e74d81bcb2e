# SPDX-License-Identifier: MIT
"""`heal`: asks for a heal and shows its rungs and its verdict as they come."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from wolverined.cli.operations import REPAIR_TIMEOUT_S, add_waiting, carry_out
from wolverined.cli.options import Command, Invocation, Parser, Target, add_words
from wolverined.cli.progress import watched
from wolverined.cli.terminal import DIM, STATE_COLOURS, Terminal, clean
from wolverined.errors import UsageError

REPORT_MAX = 65536
_GOOD = {"well", "healed", "approval", "observed", "done"}


def run(invocation: Invocation) -> int:
    """`heal NAME [ID]`."""
    args, terminal = invocation.args, invocation.terminal
    target, rest = invocation.aim("", "i#")
    body = {"incident": rest[0] if rest else "", "dry_run": args.dry_run, "report": read_report(args.report)}
    if args.no_wait:
        return carry_out(invocation, target, "/v1/heal", body)
    change = watched(invocation, target, "/v1/heal", body, incident=body["incident"])
    result = change.get("result") or {}
    if args.json:
        terminal.json(change, line=True)
    else:
        _conclude(terminal, target, result)
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
    if result.get("conclusion"):
        return result["conclusion"] in _GOOD
    return result.get("verdict", "proven") in {"", None, "proven"}


def _conclude(terminal: Terminal, target: Target, result: Mapping[str, Any]) -> None:
    verdict = str(result.get("verdict") or "")
    facts = [str(result[key]) for key in ("incident", "repair") if result.get(key)]
    head = "  ".join([*facts, *([terminal.paint(verdict, STATE_COLOURS.get(verdict, ""))] if verdict else [])])
    said = clean(str(result.get("said", ""))) or f"{target.name} is well; there was nothing to heal"
    terminal.say(f"{head}  {said}" if head else said)
    if result.get("hint"):
        terminal.say(terminal.paint(clean(str(result["hint"])), DIM))


def _declare(parser: Parser) -> None:
    add_words(parser)
    parser.add_argument("--dry-run", action="store_true", help="find and prove a fix, touch nothing")
    parser.add_argument("--report", metavar="TEXT", help="your own words as evidence; - reads them from standard input")
    add_waiting(parser, default_s=REPAIR_TIMEOUT_S)


COMMANDS = {
    "heal": Command(
        "heal NAME [ID] [--dry-run] [--report TEXT]", "heal the newest open incident, or ID", _declare, run
    ),
}
