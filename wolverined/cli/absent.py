# SPDX-License-Identifier: MIT
"""What to say when nobody answers for an application: which unit it is, how it ended, what to do next.

`wolverinectl` speaks to a daemon. Whether there is one is systemd's to know, and a person who types
`wolverinectl start` wants to hear which of the two is down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from wolverined.cli import instances, units
from wolverined.cli.options import Invocation, runtime_dir
from wolverined.cli.terminal import STATE_COLOURS, Terminal, ago, clean
from wolverined.cli.units import EXIT_CONFIG, Unit
from wolverined.errors import Unreachable

LAST_WORDS = 6
_DOING_NOTHING = {"inactive": "is not running", "failed": "has failed", "deactivating": "is being stopped"}


def named(invocation: Invocation) -> str:
    """The instance of the system that a command was about; empty when it was about another kind of one."""
    words = getattr(invocation.args, "words", None) or [getattr(invocation.args, "name", "")]
    if not words[0] or runtime_dir(invocation.args):
        return ""
    own = instances.parents(os.environ)[0]
    return "" if own != instances.SYSTEM and os.path.isdir(f"{own}/{words[0]}") else words[0]  # noqa: PTH112


def explained(error: Unreachable, name: str, *, command: str) -> Unreachable:
    """The same error, with what systemd knows of the unit and what to do about it."""
    unit = units.ask([name]).get(name)
    if unit is None:
        return _without_systemd(error, name)
    if not unit.down and unit.active != "deactivating":
        what = "is starting" if unit.active == "activating" else f"is {unit.active}, but does not answer"
        return Unreachable(f"{unit.id} {what}: {error.message}", hint=f"systemctl status {unit.id}")
    what = f"{unit.id} {_DOING_NOTHING[unit.active]}"
    if command == "stop":
        return Unreachable(f"{what}, so nothing of {name} runs", hint=f"systemctl start {unit.id} starts both")
    why = f" ({how_it_ended(unit)})" if unit.active == "failed" else ""
    return Unreachable(f"{what}{why}: no wolverined answers for {name}", hint=next_step(unit))


def _without_systemd(error: Unreachable, name: str) -> Unreachable:
    file = f"{instances.CONFIGURATIONS}/{name}.toml"
    if units.booted() or not os.path.exists(file):  # noqa: PTH110
        return error
    return Unreachable(error.message, hint=f"systemd does not run here: wolverined run --config {file}")


def next_step(unit: Unit) -> str:
    """What to do about a unit that is down."""
    if unit.active == "deactivating":
        return f"systemctl status {unit.id}"
    if (unit.active, unit.code, unit.status) == ("failed", "exited", EXIT_CONFIG):
        return f"wolverinectl config check {unit.name}, then systemctl start {unit.id}"
    if unit.active == "failed":
        return f"journalctl -u {unit.id} -n 50, then systemctl start {unit.id}"
    return f"systemctl start {unit.id}"


def how_it_ended(unit: Unit) -> str:
    """The end of wolverined in words, as far as systemd knows it; empty when it never ran."""
    if not unit.code or unit.result == "resources":
        return unit.result if unit.result not in {"", "success"} else ""
    if unit.code == "exited":
        meaning = ": the configuration cannot be used" if unit.status == EXIT_CONFIG else ""
        return f"exit {unit.status}{meaning}"
    import signal

    try:
        name = signal.Signals(unit.status).name
    except ValueError:
        name = f"signal {unit.status}"
    watchdog = " by systemd: its loop stood still (watchdog)" if unit.result == "watchdog" else ""
    return f"{name}{watchdog}"


def boot_words(unit: Unit) -> str:
    """Whether it comes back with the machine."""
    if unit.enabled.startswith("enabled"):
        return "yes"
    if unit.enabled.startswith("masked"):
        return f"no, it is masked: systemctl unmask {unit.id}"
    return f"no: systemctl enable {unit.id}"


def show(terminal: Terminal, unit: Unit) -> None:
    """Tell a person what systemd knows of a unit without a daemon."""
    state = terminal.paint(f"{terminal.mark('stopped')} {unit.active}", STATE_COLOURS.get(unit.active, ""))
    terminal.say(f"{terminal.paint(clean(unit.name), '1')}  {state}")
    pairs = [
        ("unit", f"{unit.id}.service, {unit.active} {_since(unit)}"),
        ("ended", how_it_ended(unit)),
        ("status", clean(unit.said)),
        ("starts", str(unit.restarts) if unit.restarts else ""),
        ("at boot", boot_words(unit)),
        ("reload", "the unit has changed on disk: systemctl daemon-reload" if unit.stale else ""),
        ("journal", f"journalctl -u {unit.id} -e"),
    ]
    terminal.fields([(name, value) for name, value in pairs if value])
    for line in last_words(unit):
        terminal.say(f"    {terminal.shorten(clean(line), (terminal.width or 200) - 4)}")


def _since(unit: Unit) -> str:
    return f"since {ago(unit.since, time.time())}" if unit.since else "since this machine was booted"


def last_words(unit: Unit) -> list[str]:
    """The newest lines of its journal, as far as whoever asks may read them."""
    argv = ["journalctl", "--quiet", "--no-pager", "-u", unit.id, "-n", str(LAST_WORDS), "-o", "cat"]
    return units.output(argv).splitlines()[-LAST_WORDS:]


def plain(name: str, unit: Unit, error: Unreachable) -> Mapping[str, Any]:
    """The same for a program."""
    return {
        "app": name,
        "state": unit.active,
        "unit": unit.plain(),
        "ended": how_it_ended(unit),
        "last_words": last_words(unit),
        "error": error.message,
        "hint": error.hint,
    }
