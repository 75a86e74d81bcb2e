# SPDX-License-Identifier: MIT
"""`config check`, `init`, `doctor`: their options; the work is done in `config` and in `cli.doctor`."""

from __future__ import annotations

from importlib import import_module

from wolverined.cli.options import Command, Invocation, Parser
from wolverined.errors import UsageError


def config(invocation: Invocation) -> int:
    """`config check NAME|FILE`."""
    verb, target = invocation.args.verb, invocation.args.target
    if verb != "check" or not target:
        raise UsageError("config knows one word: check", hint="wolverinectl config check NAME, or a file")
    return _hand_over("wolverined.config.check", invocation)


def init(invocation: Invocation) -> int:
    """`init NAME`."""
    from wolverined.linux.runtime import check_name, check_service_name

    (check_name if invocation.args.output else check_service_name)(invocation.args.name)
    from wolverined.cli.enrol import advise
    from wolverined.config.init import main

    return main(invocation.args, advise=advise)


def doctor(invocation: Invocation) -> int:
    """`doctor`."""
    return _hand_over("wolverined.cli.doctor", invocation)


def _hand_over(module: str, invocation: Invocation) -> int:
    return int(import_module(module).main(invocation.args))


def _declare_config(parser: Parser) -> None:
    parser.add_argument("verb", nargs="?", default="", help=_hidden())
    parser.add_argument("target", nargs="?", default="", help=_hidden())


def _declare_init(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="the application's name: the file becomes NAME.toml")
    parser.add_argument("--directory", metavar="DIR", default=".", help="where its source is (default: here)")
    parser.add_argument(
        "--from-unit", metavar="UNIT", default="", help="take command, user and environment of a systemd unit"
    )
    parser.add_argument(
        "--import-env", action="store_true", help="write what WOLVERINE_ and OPENAI_ variables say where it belongs"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="", help="the file to write (default: /etc/wolverine/NAME.toml)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument("--print", action="store_true", help="print the file, write nothing")


def _declare_doctor(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="also look at this application")


def _hidden() -> str:
    import argparse

    return argparse.SUPPRESS


COMMANDS = {
    "config": Command(
        "config check NAME|FILE", "say everything that is wrong in a configuration", _declare_config, config
    ),
    "init": Command(
        "init NAME [--directory DIR] [--print]", "write a configuration for a project", _declare_init, init
    ),
    "doctor": Command(
        "doctor [NAME]", "look whether this machine offers what wolverined needs", _declare_doctor, doctor
    ),
}
