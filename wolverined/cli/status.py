# SPDX-License-Identifier: MIT
"""`status`, `list`, `is-active`, `is-healthy`: how applications are."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from wolverined.cli import instances
from wolverined.cli.instances import Found
from wolverined.cli.options import Command, Invocation, Parser, add_words, runtime_dir, split_name
from wolverined.cli.terminal import STATE_COLOURS, Cell, Column, Terminal, clean, duration, size, until
from wolverined.errors import Unreachable, WolverineError

EXIT_NOT = 3
_LEFT_OUT = {
    "app",
    "state",
    "generation",
    "pid",
    "uptime_s",
    "tree",
    "processes",
    "ready_since",
    "version",
    "store_lost",
    "dropped_bytes",
    "memory_bytes",
    "memory_max_bytes",
    "memory_peak_bytes",
    "failures",
}
"""Keys that are told with another one, or that only programs want."""


def status(invocation: Invocation) -> int:
    """`status [NAME]`."""
    terminal = invocation.terminal
    if not invocation.args.words and not runtime_dir(invocation.args):
        return _status_of_all(terminal, as_json=invocation.args.json)
    try:
        answer = read_one(invocation)
    except Unreachable as error:
        return _status_of_unit(invocation, error)
    if invocation.args.json:
        terminal.json(answer)
    else:
        show(terminal, answer)
    return 0


def _status_of_unit(invocation: Invocation, error: Unreachable) -> int:
    """Nobody answers: tell what systemd knows, and end as ever.

    Raises:
        Unreachable: The error, unless JSON says it.
    """
    from wolverined.cli import absent, units

    name = absent.named(invocation)
    unit = units.ask([name]).get(name) if name else None
    if unit is None or not unit.down:
        raise error
    if invocation.args.json:
        told = absent.explained(error, name, command="status")
        invocation.terminal.json(absent.plain(name, unit, told))
        return told.exit_code
    absent.show(invocation.terminal, unit)
    raise error


def listing(invocation: Invocation) -> int:
    """`list`."""
    terminal = invocation.terminal
    rows = _rows(_all(invocation), alone=bool(runtime_dir(invocation.args)))
    if invocation.args.json:
        terminal.json(rows)
        return 0
    columns = [Column("APP"), Column("STATE"), Column("UNIT", rank=1), Column("DIRECTORY", flexible=True)]
    cells = [
        [row["app"], _state_cell(terminal, row["state"]), _unit_words(row), row["directory"] or row["configuration"]]
        for row in rows
    ]
    kept = [index for index, column in enumerate(columns) if column.title != "UNIT" or any(row[2] for row in cells)]
    terminal.table([columns[index] for index in kept], [[row[index] for index in kept] for row in cells])
    return 0


def _unit_words(row: Mapping[str, Any]) -> str:
    unit = row.get("unit")
    if not unit:
        return ""
    stopped = unit["active"] in {"failed", "inactive"}
    result = f" ({unit['result']})" if unit["active"] == "failed" and unit["result"] else ""
    return f"{unit['active'] if stopped else 'active'}{result}, {unit['enabled'] or 'unknown'}"


def is_active(invocation: Invocation) -> int:
    """`is-active NAME`: the application runs and has been ready."""
    answer = read_one(invocation)
    state = answer.get("state")
    # A heal may hold the application down or let it serve: then its process decides.
    active = state in {"ready", "degraded"} or (state == "healing" and answer.get("pid") is not None)
    return _predicate(invocation, answer, holds=active, word="active")


def is_healthy(invocation: Invocation) -> int:
    """`is-healthy NAME`: it is ready and nothing is wrong."""
    answer = read_one(invocation)
    return _predicate(invocation, answer, holds=answer.get("state") == "ready", word="healthy")


def read_one(invocation: Invocation) -> dict[str, Any]:
    """The status of the instance that the command line means."""
    directory = runtime_dir(invocation.args)
    name, _ = split_name(invocation.args.words, ("",), named=bool(directory), usage=invocation.usage)
    if directory:
        return instances.verified(Found(name, directory), name)
    answer = instances.locate(name, os.environ).client().get("/v1/status")
    assert isinstance(answer, dict)
    return answer


def show(terminal: Terminal, answer: Mapping[str, Any]) -> None:
    """Print one status for a person."""
    state = str(answer.get("state", "?"))
    terminal.say(f"{terminal.paint(clean(str(answer.get('app', '?'))), '1')}  {terminal.state(state)}")
    pairs = [("running", _running(answer))]
    for name, value in answer.items():
        told = value in (state, answer.get("last_exit")) and name == "why"  # "ready" explains no "ready"
        if name == "memory_bytes" and value:
            pairs.append(("memory", _memory(answer)))
        elif name not in _LEFT_OUT and not told:
            pairs += _pairs_of(name, value)
    if answer.get("store_lost"):
        pairs.append(("store", f"{answer['store_lost']} records could not be written"))
    terminal.fields([(name, value) for name, value in pairs if value])


def _pairs_of(name: str, value: Any) -> list[tuple[str, str]]:
    """What a person reads of one key; nothing where there is nothing to tell."""
    if value in (None, "", False, 0, [], {}):
        return []
    match name:
        case "incidents_open":
            return [("incidents", f"{value} open")]
        case "healing":
            return [("healing", "under way" if value is True else _flat(value))]
        case "held_until":
            return [("on hold", f"no heal begins for {until(value, time.time())}")]
        case "backoff_until":
            return [("next start", f"in {until(value, time.time())}")]
        case "auto_risk":
            return [("auto risk", "any: a model's repair is applied whatever it does")] if value == "any" else []
        case "routes_failing":
            return [("failing", clean(f"{one['route']}, {_times(one['count'])} ({one['incident']})")) for one in value]
        case "reports":
            return [("reports", told)] if (told := _counts(value)) else []
        case "weaknesses" | "warnings":
            title = "weaker" if name == "weaknesses" else "warning"
            return [(title, clean(str(one))) for one in value]
        case "stuck":
            return [
                ("stuck", ", ".join(f"{one.get('name')} ({one.get('pid')}) in {one.get('wchan')}" for one in value))
            ]
    return [(name.replace("_", " "), _flat(value))]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _counts(reports: Mapping[str, int]) -> str:
    """What the application told of itself, as far as there is something to tell."""
    words = {
        "count": "requests",
        "errors": "answered with 5xx",
        "caught": "errors told",
        "client_errors": "of clients",
        "dropped": "dropped by the reporters",
        "malformed": "not understood",
    }
    return ", ".join(f"{reports[key]} {word}" for key, word in words.items() if reports.get(key))


def _memory(answer: Mapping[str, Any]) -> str:
    """What it uses, of how much, and the most that it ever used, as far as the kernel tells."""
    limit, peak = answer.get("memory_max_bytes"), answer.get("memory_peak_bytes")
    used = f"{size(answer['memory_bytes'])} of {size(limit)}" if limit else size(answer["memory_bytes"])
    return f"{used}, at most {size(peak)} so far" if peak else used


def _running(answer: Mapping[str, Any]) -> str:
    if answer.get("pid") is None:
        return ""
    parts = [f"pid {answer['pid']}", f"generation {answer.get('generation', '?')}"]
    if isinstance(answer.get("uptime_s"), int | float):
        parts.append(f"up {duration(answer['uptime_s'])}")
    tree = answer.get("tree")
    if isinstance(tree, list) and len(tree) > 1:
        parts.append(f"{len(tree)} processes")
    return ", ".join(parts)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {clean(str(item))}" for key, item in value.items() if item not in (None, "", False))
    if isinstance(value, list):
        return ", ".join(clean(str(item)) for item in value)
    return clean(str(value))


def _status_of_all(terminal: Terminal, *, as_json: bool) -> int:
    rows = _rows(instances.everywhere(os.environ), alone=False)
    if as_json:
        terminal.json(rows)
        return 0
    if not rows:
        terminal.say("no application is enrolled here; wolverinectl init NAME enrols one")
        return 0
    columns = (
        Column("APP"),
        Column("STATE"),
        Column("UP", rank=1),
        Column("PID", rank=3, right=True),
        Column("RESTARTS", rank=4, right=True),
        Column("INCIDENTS", rank=2, right=True),
    )
    terminal.table(columns, [_row(terminal, row) for row in rows])
    return 0


def _row(terminal: Terminal, row: Mapping[str, Any]) -> list[Cell | str]:
    up = duration(row["uptime_s"]) if isinstance(row.get("uptime_s"), int | float) and row.get("pid") else ""
    return [
        str(row.get("app", "")),
        _state_cell(terminal, str(row.get("state", "?"))),
        up,
        str(row.get("pid") or ""),
        str(row.get("restarts", "")),
        str(row.get("incidents_open", "")),
    ]


def _state_cell(terminal: Terminal, state: str) -> Cell:
    return Cell(f"{terminal.mark(state)} {state}", STATE_COLOURS.get(state, ""))


def _rows(found: list[Found], *, alone: bool) -> list[dict[str, Any]]:
    """What is known of each instance: what its daemon says, its unit, its file; by name.

    Args:
        found: Those with a runtime directory.
        alone: Only these; else all that are configured, too.
    """
    rows = [_line_of(one) for one in found]
    if alone:
        return rows
    from wolverined.cli import units

    configured = instances.configured()
    of_system = {one.name for one in found if one.directory.startswith(f"{instances.SYSTEM}/")}
    known = units.ask([*configured, *of_system])
    others = sorted({*configured, *known} - {one.name for one in found})
    rows += [{"app": name, "state": "inactive", "directory": "", "configuration": ""} for name in others]
    for row in rows:
        if not row["directory"].startswith(f"{instances.SYSTEM}/") and row["directory"]:
            continue  # of a terminal
        if row["app"] in configured:
            row["configuration"] = f"{instances.CONFIGURATIONS}/{row['app']}.toml"
        if unit := known.get(row["app"]):
            row["unit"] = unit.plain()
            if row["state"] in {"inactive", "unreachable"} and (unit.down or unit.active.endswith("activating")):
                row["state"] = {"activating": "starting", "deactivating": "stopping"}.get(unit.active, unit.active)
    return sorted(rows, key=lambda row: str(row["app"]))


def _line_of(found: Found) -> dict[str, Any]:
    row = {"directory": found.directory, "configuration": ""}
    try:
        answer = found.client().get("/v1/status")
        assert isinstance(answer, dict)
    except WolverineError as error:
        # One dead daemon must not hide the others.
        return {"app": found.name, "state": error.kind, "error": error.message, **row}
    return {**row, **answer}


def _all(invocation: Invocation) -> list[Found]:
    split_name(["-", *invocation.args.words], ("",), named=False, usage=invocation.usage)
    directory = runtime_dir(invocation.args)
    return [Found("", directory)] if directory else instances.everywhere(os.environ)


def _predicate(invocation: Invocation, answer: Mapping[str, Any], *, holds: bool, word: str) -> int:
    if invocation.args.json:
        invocation.terminal.json({"app": answer.get("app"), "state": answer.get("state"), word: holds})
    else:
        invocation.terminal.say(str(answer.get("state")))
    return 0 if holds else EXIT_NOT


def _declare(parser: Parser) -> None:
    add_words(parser)


COMMANDS = {
    "status": Command("status [NAME]", "how an application is; all of them without NAME", _declare, status),
    "list": Command("list", "the applications that are enrolled or run here", _declare, listing),
    "is-active": Command("is-active NAME", "exit 0 when it runs and was ready, else 3", _declare, is_active),
    "is-healthy": Command(
        "is-healthy NAME", "exit 0 when it is ready and nothing is wrong, else 3", _declare, is_healthy
    ),
}
