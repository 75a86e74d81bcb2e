# SPDX-License-Identifier: MIT
"""`start`, `stop`, `restart`, `reload`, `reexec`, `hold`."""

from __future__ import annotations

from wolverined.cli.instances import SYSTEM
from wolverined.cli.operations import REPAIR_TIMEOUT_S, add_waiting, carry_out
from wolverined.cli.options import Command, Invocation, Parser, Target, add_words, seconds
from wolverined.cli.terminal import DIM


def run(invocation: Invocation) -> int:
    """`start|stop|restart|reload|reexec NAME`."""
    target, _ = invocation.aim("")
    code = carry_out(invocation, target, f"/v1/{invocation.name}")
    terminal = invocation.terminal
    # systemd itself reloads us by this command, and needs no advice.
    heard = invocation.name == "stop" or terminal.width is not None
    if invocation.name in _HALF and heard and not invocation.args.json and _is_unit(target):
        words = _HALF[invocation.name].format(name=target.name)
        terminal.say(terminal.paint(words, DIM))
    return code


_HALF = {
    "stop": "wolverined stays: wolverinectl start {name} starts the application, as does the unit's next start; "
    "systemctl stop wolverine@{name} ends both",
    "reload": "systemctl reload wolverine@{name} also has root look at the environment file, keys, and trials",
}
"""Two things can be stopped or reloaded, and whoever does it to one of them may have meant the other."""


def _is_unit(target: Target) -> bool:
    if not target.client.directory.startswith(f"{SYSTEM}/"):
        return False
    from wolverined.cli import units

    unit = units.ask([target.name]).get(target.name)
    return unit is not None and not unit.down


def hold(invocation: Invocation) -> int:
    """`hold NAME --for TIME`."""
    target, _ = invocation.aim("")
    return carry_out(invocation, target, "/v1/hold", {"for_s": invocation.args.hold_s})


def _declare(parser: Parser) -> None:
    add_words(parser)
    add_waiting(parser)


def _declare_reexec(parser: Parser) -> None:
    add_words(parser)
    add_waiting(parser, default_s=REPAIR_TIMEOUT_S)


def _declare_hold(parser: Parser) -> None:
    _declare(parser)
    parser.add_argument(
        "--for", dest="hold_s", type=seconds, required=True, metavar="TIME", help="how long, such as 10m; 0 ends it"
    )


_WAITING = "[--no-wait] [--timeout TIME]"
COMMANDS = {
    "start": Command(f"start NAME {_WAITING}", "start it, wait until it is ready", _declare, run),
    "stop": Command(f"stop NAME {_WAITING}", "stop it, wait until no process is left", _declare, run),
    "restart": Command(f"restart NAME {_WAITING}", "stop it and start it again", _declare, run),
    "reload": Command(f"reload NAME {_WAITING}", "read its configuration again, show what changed", _declare, run),
    "reexec": Command(
        f"reexec NAME {_WAITING}", "replace wolverined itself by what is installed now", _declare_reexec, run
    ),
    "hold": Command("hold NAME --for TIME", "let no heal begin for a while, for a deploy", _declare_hold, hold),
}
