# SPDX-License-Identifier: MIT
"""`repairs`, `diff`, `approve`, `reject`, `rollback`: what was proposed, and the operator's word on it.

An approval names the sha256 of the diff that was seen, so that nothing else can be applied by it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from wolverined.cli.operations import REPAIR_TIMEOUT_S, add_waiting, carry_out
from wolverined.cli.options import Command, Invocation, Parser, Target, add_words, count
from wolverined.cli.progress import rung_text
from wolverined.cli.terminal import (
    BOLD,
    CYAN,
    GREEN,
    RED,
    STATE_COLOURS,
    Cell,
    Column,
    Terminal,
    ago,
    clean,
    duration,
    money,
)
from wolverined.errors import Conflict, UsageError


def run(invocation: Invocation) -> int:
    """`repairs NAME [show ID [--patch]]`."""
    target, rest = invocation.aim("", "show r#")
    terminal = invocation.terminal
    if rest:
        return _show(invocation, target, rest[1])
    if invocation.args.patch:
        raise UsageError("--patch is of one repair", hint=f"wolverinectl repairs {target.name} show ID --patch")
    found = target.client.get(f"/v1/repairs?limit={max(1, invocation.args.lines)}")
    if invocation.args.json:
        terminal.json(found)
    elif not found:
        terminal.say(f"{target.name} has no repairs")
    else:
        listing(terminal, found)
    return 0


def diff(invocation: Invocation) -> int:
    """`diff NAME ID`."""
    target, rest = invocation.aim("r#")
    repair = target.client.get(f"/v1/repairs/{rest[0]}")
    if invocation.args.json:
        invocation.terminal.json({key: repair.get(key) for key in ("id", "sha256", "files", "diff")})
    else:
        say_diff(invocation.terminal, str(repair.get("diff", "")))
    return 0


def approve(invocation: Invocation) -> int:
    """`approve NAME ID [--sha256 HEX]`."""
    target, rest = invocation.aim("r#")
    sha256 = invocation.args.sha256.lower() or _seen(invocation, target, rest[0])
    return carry_out(invocation, target, f"/v1/repairs/{rest[0]}/approve", {"sha256": sha256}, live=True)


def decide(invocation: Invocation) -> int:
    """`reject|rollback NAME ID`."""
    target, rest = invocation.aim("r#")
    return carry_out(invocation, target, f"/v1/repairs/{rest[0]}/{invocation.name}", live=True)


def listing(terminal: Terminal, repairs: Sequence[Mapping[str, Any]]) -> None:
    """Print repairs, one a line."""
    now = time.time()
    columns = (
        Column("ID"),
        Column("STATE"),
        Column("VERDICT", rank=3),
        Column("MODE", rank=4),
        Column("INCIDENT", rank=5),
        Column("RESOLUTION", flexible=True),
        Column("FILES", flexible=True, rank=2),
        Column("WHEN", rank=1),
    )
    terminal.table(columns, [_row(repair, now) for repair in repairs])


def say_diff(terminal: Terminal, text: str) -> None:
    """Print a diff: for a person coloured and harmless, into a pipe exactly as `git apply` takes it."""
    if not terminal.colour and terminal.width is None:
        terminal.say(text.removesuffix("\n"))
        return
    for line in text.removesuffix("\n").split("\n"):
        head = line.startswith(("diff ", "index ", "+++ ", "--- "))
        colour = BOLD if head else CYAN if line.startswith("@@") else {"+": GREEN, "-": RED}.get(line[:1], "")
        terminal.say(terminal.paint(line.translate(_CONTROLS), colour))


_CONTROLS = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "?")


def _show(invocation: Invocation, target: Target, repair_id: str) -> int:
    terminal = invocation.terminal
    if invocation.args.patch:
        patch = target.client.get(f"/v1/repairs/{repair_id}/patch")
        terminal.json({"id": repair_id, "patch": patch}) if invocation.args.json else terminal.say(
            patch.removesuffix("\n")
        )
        return 0
    repair = target.client.get(f"/v1/repairs/{repair_id}")
    terminal.json(repair) if invocation.args.json else show(terminal, repair, app=target.name)
    return 0


def show(terminal: Terminal, repair: Mapping[str, Any], *, app: str) -> None:
    """Print one repair with the rungs of its verdict."""
    now = time.time()
    state = _standing(repair)
    verdict = repair.get("verdict")
    terminal.say(
        f"{terminal.paint(str(repair.get('id')), BOLD)}  {terminal.paint(state, STATE_COLOURS.get(state, ''))}  "
        f"{clean(str(repair.get('resolution', '')))}"
    )
    maker = " ".join(str(repair[key]) for key in ("mode", "remedy", "model") if repair.get(key))
    cost = f"{repair['tokens']} tokens, {money(repair.get('cost_usd'))}" if repair.get("tokens") else ""
    pairs = [
        ("incident", str(repair.get("incident", ""))),
        ("error", clean(str(repair.get("error", "")))),
        ("made by", clean(maker)),
        ("files", clean(", ".join(repair.get("files", ())))),
        ("proposed", ago(repair.get("created_at"), now)),
        ("applied", ago(repair["applied_at"], now) if repair.get("applied_at") else ""),
        ("took", duration(repair["duration_ms"] / 1000) if repair.get("duration_ms") else ""),
        ("cost", cost),
        ("lost", f"{ago(repair['lost_at'], now)}; {_way_back(app, repair)}" if repair.get("lost_at") else ""),
        ("upstream", ago(repair["upstream_at"], now) if repair.get("upstream_at") else ""),
        ("backup", str(repair.get("backup", ""))),
        ("sha256", str(repair.get("sha256", ""))),
        ("note", clean(str(repair.get("note", "")))),
    ]
    if isinstance(verdict, dict):
        pairs.append(("verdict", f"{verdict.get('outcome')}: {clean(str(verdict.get('reason', '')))}"))
    terminal.fields([(name, value) for name, value in pairs if value])
    for check in verdict.get("checks", ()) if isinstance(verdict, dict) else ():
        terminal.say(rung_text(terminal, check))


def _row(repair: Mapping[str, Any], now: float) -> list[Cell | str]:
    state = _standing(repair)
    return [
        str(repair.get("id")),
        Cell(state, STATE_COLOURS.get(state, "")),
        _outcome(repair),
        str(repair.get("mode")),
        str(repair.get("incident")),
        str(repair.get("resolution")),
        ", ".join(repair.get("files", ())),
        ago(repair.get("created_at"), now),
    ]


def _standing(repair: Mapping[str, Any]) -> str:
    """Its state, or that it is no longer in the source."""
    return "lost" if repair.get("lost_at") else str(repair.get("state"))


def _way_back(app: str, repair: Mapping[str, Any]) -> str:
    return f"in the source's repository: wolverinectl repairs {app} show {repair.get('id')} --patch | git am"


def _outcome(repair: Mapping[str, Any]) -> Cell:
    verdict = repair.get("verdict")
    word = str(verdict.get("outcome", "")) if isinstance(verdict, dict) else str(verdict or "")
    return Cell(word, STATE_COLOURS.get(word, ""))


def _seen(invocation: Invocation, target: Target, repair_id: str) -> str:
    """The sha256 of the diff as it is now; a person at a terminal reads it first and says yes."""
    repair = target.client.get(f"/v1/repairs/{repair_id}")
    ask = sys.stdin.isatty() and sys.stdout.isatty() and not (invocation.args.yes or invocation.args.json)
    if ask:
        say_diff(invocation.terminal, str(repair.get("diff", "")))
        invocation.terminal.flush()
        try:
            answer = input(f"Apply this to {target.name}? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in {"y", "yes"}:
            raise Conflict("nothing was applied")
    return str(repair.get("sha256", ""))


def _declare_waiting(parser: Parser) -> None:
    add_words(parser)
    add_waiting(parser, default_s=REPAIR_TIMEOUT_S)


def _declare_approve(parser: Parser) -> None:
    _declare_waiting(parser)
    parser.add_argument("--sha256", default="", metavar="HEX", help="of the diff that you read; another one is refused")
    parser.add_argument("-y", "--yes", action="store_true", help="do not show the diff and ask")


def _declare(parser: Parser) -> None:
    add_words(parser)
    parser.add_argument("--patch", action="store_true", help="with show: the repair as a patch for git am")
    parser.add_argument("-n", "--lines", type=count, default=50, metavar="COUNT", help="how many (default 50)")


COMMANDS = {
    "repairs": Command("repairs NAME [show ID [--patch]]", "what was proposed and what came of it", _declare, run),
    "diff": Command("diff NAME ID", "what a repair changes", add_words, diff),
    "approve": Command(
        "approve NAME ID [--sha256 HEX]", "let a repair that waits be applied", _declare_approve, approve
    ),
    "reject": Command("reject NAME ID", "refuse a repair that waits", _declare_waiting, decide),
    "rollback": Command("rollback NAME ID", "take a repair back", _declare_waiting, decide),
}
