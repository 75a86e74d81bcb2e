# SPDX-License-Identifier: MIT
"""The options that every command has, and words of the command line: NAME, IDs, durations."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from wolverined.cli import instances
from wolverined.cli.instances import Found
from wolverined.cli.terminal import Terminal
from wolverined.control.client import Client
from wolverined.errors import UsageError

PROGRAM = "wolverinectl"
COLOURS = ("auto", "always", "never")
_KINDS = {"i": "incident", "r": "repair", "b": "backup"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Command(NamedTuple):
    """One command: how it is written, what it is for, its options, what it does."""

    usage: str
    about: str
    declare: Callable[[Parser], None]
    run: Callable[[Invocation], int]


class Invocation(NamedTuple):
    """One run of a command."""

    name: str
    usage: str
    args: argparse.Namespace
    terminal: Terminal

    def aim(self, *shapes: str) -> tuple[Target, list[str]]:
        """The instance and the words after its NAME, which must have one of `shapes`.

        A shape is words: a letter and `#` stands for an id (`show i#`), anything else for itself.
        """
        name, rest = split_name(self.args.words, shapes, named=bool(runtime_dir(self.args)), usage=self.usage)
        return Target.of(name, runtime_dir(self.args)), rest


class Target(NamedTuple):
    """The instance that a command is about."""

    name: str
    client: Client

    @classmethod
    def of(cls, name: str, directory: str) -> Target:
        """Find it by its name, or check that it is what `--runtime-dir` names."""
        if not directory:
            found = instances.locate(name, os.environ)
            return cls(found.name, found.client())
        found = Found(name, directory)
        status = instances.verified(found, name)
        return cls(str(status.get("app", name)), found.client())


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in the house's form."""
        raise UsageError(message, hint=f"{self.prog} --help")


def parser_of(name: str, command: Command) -> Parser:
    """The parser of one command."""
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {command.usage}",
        description=command.about,
        allow_abbrev=False,
        # A width of our own: argparse would import shutil, and with it every compressor, to ask for one.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=100),
        add_help=False,
    )
    command.declare(parser)
    common = parser.add_argument_group("options of every command")
    common.add_argument(
        "--runtime-dir", metavar="DIR", default="", help="the instance's own directory (or WOLVERINE_RUNTIME_DIR)"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("--color", choices=COLOURS, default="auto", help="when to use colours (NO_COLOR is obeyed)")
    common.add_argument("-h", "--help", action="help", help="show this text")
    return parser


def add_words(parser: Parser) -> None:
    """Take NAME and what follows it; `Invocation.aim` reads them."""
    parser.add_argument("words", nargs="*", metavar="NAME", help=argparse.SUPPRESS)


def runtime_dir(args: argparse.Namespace) -> str:
    """The directory that was named, by option or by environment."""
    return args.runtime_dir or os.environ.get("WOLVERINE_RUNTIME_DIR", "")


def split_name(words: Sequence[str], shapes: Sequence[str], *, named: bool, usage: str) -> tuple[str, list[str]]:
    """NAME and the rest. NAME may be missing when the instance is `named` by its directory."""
    hint = f"{PROGRAM} {usage}"
    if named and any(_fits(words, shape) for shape in shapes):
        return "", list(words)
    if not words:
        raise UsageError("which application? its name is missing", hint=hint)
    rest = list(words[1:])
    if any(_fits(rest, shape) for shape in shapes):
        return words[0], rest
    for shape in shapes:
        wanted = shape.split()
        if len(wanted) == len(rest) and all(
            _fits([have], want) or "#" in want for have, want in zip(rest, wanted, strict=True)
        ):
            wrong = next(have for have, want in zip(rest, wanted, strict=True) if not _fits([have], want))
            letter = next(want for have, want in zip(rest, wanted, strict=True) if have == wrong)[0]
            raise UsageError(f"{wrong!r} is no id of a {_KINDS[letter]}", hint=f"it looks like {letter}12")
    if rest:
        raise UsageError(f"cannot make sense of {' '.join(rest)!r}", hint=hint)
    raise UsageError("something is missing after the name", hint=hint)


def seconds(text: str) -> float:
    """A duration such as `90`, `30s`, `10m`, `2h`, `1d`, in seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 30s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def count(text: str) -> int:
    """A number of lines."""
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or int(text) > 1000:  # noqa: PLR2004  (what the API gives at once)
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1000")
    return int(text)


def _fits(words: Sequence[str], shape: str) -> bool:
    wanted = shape.split()
    return len(wanted) == len(words) and all(
        re.fullmatch(rf"{want[0]}[0-9]{{1,18}}", have, re.ASCII) is not None if want.endswith("#") else have == want
        for have, want in zip(words, wanted, strict=True)
    )
