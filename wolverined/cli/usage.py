# SPDX-License-Identifier: MIT
"""`usage`: what models were asked, and what it has cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wolverined.cli.options import Command, Invocation, add_words
from wolverined.cli.terminal import Terminal, clean, money


def run(invocation: Invocation) -> int:
    """`usage NAME`."""
    target, _ = invocation.aim("")
    usage = target.client.get("/v1/usage")
    if invocation.args.json:
        invocation.terminal.json(usage)
    elif not usage.get("total", usage).get("calls"):
        invocation.terminal.say(f"{target.name} has asked no model")
    else:
        show(invocation.terminal, usage)
    return 0


def show(terminal: Terminal, table: Mapping[str, Any], indent: str = "") -> None:
    """Print nested figures."""
    plain = [(_title(key), _value(key, value)) for key, value in table.items() if not isinstance(value, dict)]
    terminal.fields(plain, indent=indent)
    for key, value in table.items():
        if isinstance(value, dict) and value:
            terminal.say(f"{indent}{terminal.paint(_title(key), '1')}")
            show(terminal, value, indent + "  ")


def _title(key: str) -> str:
    return clean(str(key)).removesuffix("_usd").replace("_", " ")


def _value(key: str, value: Any) -> str:
    if key.endswith("_usd"):
        return money(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else clean(str(value))


COMMANDS = {"usage": Command("usage NAME", "tokens and money that models took", add_words, run)}
