# SPDX-License-Identifier: MIT
"""`logs` and `events`: what the application wrote, and what wolverined did; `-f` goes on as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from wolverined.cli.options import Command, Invocation, Parser, add_words, count
from wolverined.cli.terminal import DIM, RED, STATE_COLOURS, Terminal, clean
from wolverined.errors import Unreachable

Line = Callable[[Terminal, Mapping[str, Any]], str]
_NOTES = {"dropped", "reset"}


def run(invocation: Invocation) -> int:
    """`logs NAME [-f] [-n COUNT]` and `events`, which are read alike."""
    target, _ = invocation.aim("")
    args = invocation.args
    begin = f"after={args.after}" if args.after is not None else f"n={args.lines}"
    line = log_line if invocation.name == "logs" else event_line
    if args.follow:
        following: str | None = begin
        while following is not None:  # another program of the same wolverined goes on where the stream ended
            path = f"/v1/{invocation.name}?follow=true&{following}"
            following = _follow(invocation, line, path, target.client.stream)
        raise Unreachable("wolverined ended the stream", hint="it may be restarting; try again")
    records = target.client.get(f"/v1/{invocation.name}?{begin}&n={args.lines}")
    for record in records:
        if args.json:
            invocation.terminal.json(record, line=True)
        else:
            invocation.terminal.say(line(invocation.terminal, record))
    return 0


def log_line(terminal: Terminal, record: Mapping[str, Any]) -> str:
    """One line of output: time, a mark for stderr, the text."""
    wrong = record.get("stream") == "stderr"
    mark = terminal.paint("!", RED) if wrong else " "
    return f"{terminal.paint(_clock(record), DIM)} {mark} {clean(str(record.get('text', '')))}".rstrip()


def event_line(terminal: Terminal, record: Mapping[str, Any]) -> str:
    """One event: time, name, what happened, in the colour of its severity."""
    colour = STATE_COLOURS.get(str(record.get("severity")), "")
    name = clean(str(record.get("name", ""))).ljust(20)
    message = clean(str(record.get("message", "")))
    return f"{terminal.paint(_clock(record), DIM)}  {terminal.paint(name, colour)}  {message}".rstrip()


def _follow(invocation: Invocation, line: Line, path: str, open_stream: Callable[[str], Any]) -> str | None:
    """Show a stream to its end; how to ask for what follows it, if it says that there is more to come."""
    terminal = invocation.terminal
    with open_stream(path) as stream:
        for record in stream:
            kind = record.get("type")
            if kind == "again":
                return f"after={record.get('cursor')}"
            if kind in {"start", "heartbeat"} and not invocation.args.json:
                continue
            if invocation.args.json:
                terminal.json(record, line=True)
            elif kind in _NOTES:
                terminal.say(terminal.paint(_note(record), STATE_COLOURS["warn"]))
            else:
                terminal.say(line(terminal, record))
            terminal.flush()
    return None


def _note(record: Mapping[str, Any]) -> str:
    if record.get("type") == "reset":
        return "-- wolverined began to count anew; earlier records are gone --"
    return f"-- {record.get('count')} records are gone: they were not read in time --"


def _clock(record: Mapping[str, Any]) -> str:
    at = record.get("at")
    if not isinstance(at, int | float):
        return "?"
    # A day that is not today is told; both are in the reader's own time zone.
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%Y-%m-%d %H:%M:%S", then)


def _declare(parser: Parser) -> None:
    add_words(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it comes")
    parser.add_argument("-n", "--lines", type=count, default=50, metavar="COUNT", help="the last so many (default 50)")
    parser.add_argument("--after", type=_cursor, metavar="CURSOR", help="what follows a cursor of an earlier record")


def _cursor(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004  (fits 63 bits)
        import argparse

        raise argparse.ArgumentTypeError(f"{text!r} is no cursor")
    return int(text)


COMMANDS = {
    "logs": Command("logs NAME [-f] [-n COUNT]", "what the application wrote", _declare, run),
    "events": Command("events NAME [-f] [-n COUNT]", "what wolverined noticed and did", _declare, run),
}
