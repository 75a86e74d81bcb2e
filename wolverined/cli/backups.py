# SPDX-License-Identifier: MIT
"""`backups`: the files that repairs replaced, and putting them back."""

from __future__ import annotations

import time

from wolverined.cli.operations import REPAIR_TIMEOUT_S, add_waiting, carry_out
from wolverined.cli.options import Command, Invocation, Parser, add_words
from wolverined.cli.terminal import STATE_COLOURS, Cell, Column, ago, size


def run(invocation: Invocation) -> int:
    """`backups NAME [restore ID]`."""
    target, rest = invocation.aim("", "restore b#")
    if rest:
        return carry_out(invocation, target, f"/v1/backups/{rest[1]}/restore", live=True)
    found = target.client.get("/v1/backups")
    if invocation.args.json:
        invocation.terminal.json(found)
        return 0
    if not found:
        invocation.terminal.say(f"{target.name} has no backups")
        return 0
    columns = (
        Column("ID"),
        Column("STATE"),
        Column("REPAIR", rank=2),
        Column("FILES", flexible=True),
        Column("SIZE", rank=3, right=True),
        Column("WHEN", rank=1),
    )
    now = time.time()
    rows: list[list[Cell | str]] = [
        [
            str(backup.get("id")),
            Cell(str(backup.get("state")), STATE_COLOURS.get(str(backup.get("state")), "")),
            str(backup.get("repair")),
            ", ".join(backup.get("files", ())),
            size(backup.get("size_bytes", 0)),
            ago(backup.get("created_at"), now),
        ]
        for backup in found
    ]
    invocation.terminal.table(columns, rows)
    return 0


def _declare(parser: Parser) -> None:
    add_words(parser)
    add_waiting(parser, default_s=REPAIR_TIMEOUT_S)


COMMANDS = {
    "backups": Command("backups NAME [restore ID]", "the files that repairs replaced; put them back", _declare, run),
}
