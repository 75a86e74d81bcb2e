# SPDX-License-Identifier: MIT
"""`incidents`: what went wrong, in a list or one in full."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from wolverined.cli.options import Command, Invocation, Parser, add_words, count
from wolverined.cli.terminal import BOLD, DIM, STATE_COLOURS, Cell, Column, Terminal, ago, clean, duration


def run(invocation: Invocation) -> int:
    """`incidents NAME [show ID]`."""
    target, rest = invocation.aim("", "show i#")
    terminal = invocation.terminal
    if rest:
        incident = target.client.get(f"/v1/incidents/{rest[1]}")
        terminal.json(incident) if invocation.args.json else show(terminal, incident)
        return 0
    only = "&open=true" if invocation.args.open else ""
    found = target.client.get(f"/v1/incidents?limit={max(1, invocation.args.lines)}{only}")
    if invocation.args.json:
        terminal.json(found)
    elif not found:
        terminal.say(f"{target.name} has no {'open ' if only else ''}incidents")
    else:
        listing(terminal, found)
    return 0


def listing(terminal: Terminal, incidents: Sequence[Mapping[str, Any]]) -> None:
    """Print incidents, one a line."""
    now = time.time()
    columns = [
        Column("ID"),
        Column("STATE"),
        Column("KIND", rank=2),
        Column("ERROR", flexible=True),
        Column("ROUTE", rank=5),
        Column("COUNT", rank=3, right=True),
        Column("LAST", rank=1),
        Column("CLOSED BY", rank=4),
    ]
    routed = any(incident.get("route") for incident in incidents)
    kept = [index for index, column in enumerate(columns) if routed or column.title != "ROUTE"]
    rows = [_row(incident, now) for incident in incidents]
    terminal.table([columns[index] for index in kept], [[row[index] for index in kept] for row in rows])


def show(terminal: Terminal, incident: Mapping[str, Any]) -> None:
    """Print one incident with its trace and the application's last words."""
    now = time.time()
    state = str(incident.get("state"))
    painted = terminal.paint(state, STATE_COLOURS.get(state, ""))
    terminal.say(f"{terminal.paint(str(incident.get('id')), BOLD)}  {painted}  {_error(incident)}")
    pairs = [
        ("kind", clean(str(incident.get("kind", "")))),
        ("route", clean(str(incident.get("route", "")))),
        (
            "seen",
            f"{incident.get('count', 1)} times, last {ago(incident.get('last_at') or incident.get('opened_at'), now)}",
        ),
        (
            "closed",
            f"{ago(incident.get('closed_at'), now)} by {incident.get('closed_by')}"
            if incident.get("closed_at")
            else "",
        ),
        ("exit", _exit(incident.get("exit"))),
        ("request", _request(incident.get("request"))),
        ("fingerprint", str(incident.get("fingerprint", ""))),
        ("note", clean(str(incident.get("note", "")))),
    ]
    terminal.fields([(name, value) for name, value in pairs if value])
    trace = incident.get("trace")
    if isinstance(trace, dict):
        _section(terminal, "trace", trace_lines(trace))
    ended = incident.get("exit")
    if isinstance(ended, dict) and ended.get("tail"):
        _section(terminal, "last output", [clean(str(line)) for line in ended["tail"]])


def trace_lines(trace: Mapping[str, Any]) -> list[str]:
    """A trace in a few lines: the chain of errors, then its frames, innermost first, own ones marked."""
    lines = [clean(f"{link.get('type')}: {link.get('message')}") for link in trace.get("errors", ())]
    for frame in trace.get("frames", ()):
        mark = ">" if frame.get("own") else " "
        where = f"{frame.get('path')}:{frame.get('line')}"
        lines.append(
            clean(f"{mark} {where}  {frame.get('function', '')}  {str(frame.get('source', '')).strip()}").rstrip()
        )
    return lines


def _row(incident: Mapping[str, Any], now: float) -> list[Cell | str]:
    state = str(incident.get("state"))
    return [
        str(incident.get("id")),
        Cell(state, STATE_COLOURS.get(state, "")),
        str(incident.get("kind")),
        _error(incident),
        clean(str(incident.get("route", ""))),
        str(incident.get("count", 1)),
        ago(incident.get("last_at") or incident.get("opened_at"), now),
        str(incident.get("closed_by", "")),
    ]


def _error(incident: Mapping[str, Any]) -> str:
    return clean(": ".join(str(incident[key]) for key in ("error", "message") if incident.get(key)))


def _exit(ended: Any) -> str:
    if not isinstance(ended, dict):
        return ""
    how = f"code {ended['code']}" if ended.get("code") is not None else f"signal {ended.get('signal')}"
    memory = ", out of memory" if ended.get("oom") else ""
    return f"{how}{memory} after {duration(float(ended.get('uptime_s', 0)))}, generation {ended.get('generation')}"


def _request(request: Any) -> str:
    return clean(f"{request.get('method')} {request.get('path')}") if isinstance(request, dict) else ""


def _section(terminal: Terminal, title: str, lines: Sequence[str]) -> None:
    terminal.say(f"  {terminal.paint(title, DIM)}")
    for line in lines:
        terminal.say(f"    {line}")


def _declare(parser: Parser) -> None:
    add_words(parser)
    parser.add_argument("--open", action="store_true", help="only those that are not closed")
    parser.add_argument("-n", "--lines", type=count, default=50, metavar="COUNT", help="how many (default 50)")


COMMANDS = {
    "incidents": Command("incidents NAME [show ID]", "what went wrong: a list, or one in full", _declare, run),
}
