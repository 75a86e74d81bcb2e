# SPDX-License-Identifier: MIT
"""Entry point of `wolverined`: reads the command line, hands over to `daemon`, turns errors into exit codes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from wolverined import __version__
from wolverined.errors import UsageError, WolverineError
from wolverined.lean import be_lean

if TYPE_CHECKING:
    import argparse


def parser() -> argparse.ArgumentParser:
    """The command line of `wolverined`."""
    import argparse  # noqa: PLC0415 - so that `_options` can take it out of memory again

    class _Parser(argparse.ArgumentParser):
        def __init__(self, **words: Any) -> None:
            # A width of our own: argparse would import shutil, and with it every compressor, to ask for one.
            super().__init__(
                allow_abbrev=False, formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100), **words
            )

        def error(self, message: str) -> NoReturn:
            raise UsageError(message, hint=f"{self.prog} --help")

    top = _Parser(prog="wolverined", description="Supervises one application and heals it.")
    top.add_argument("--version", action="version", version=f"wolverined {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="supervise one application until a signal ends it")
    run.add_argument(
        "--config", metavar="FILE", required=True, help="the application's configuration; its name is the file's stem"
    )
    run.add_argument(
        "--runtime-dir",
        metavar="DIR",
        default="",
        help="where its sockets lie (default: $XDG_RUNTIME_DIR/wolverine/NAME, as root /run/wolverine/NAME)",
    )
    run.add_argument("--state-dir", metavar="DIR", default="", help="where its store and backups lie")
    run.add_argument("--json-log", action="store_true", help="log JSON, one object a line, the app's lines too")
    run.add_argument("-v", "--verbose", action="store_true", help="also print who asked for what")
    service = commands.add_parser("service", help="supervise as wolverine@NAME.service does (systemd starts this)")
    service.add_argument("name", metavar="NAME", help="the application; its file is /etc/wolverine/NAME.toml")
    return top


def _options(argv: Sequence[str] | None) -> SimpleNamespace:
    """What the command line says, without the 600 KB that it took to read it: they hold what is imported next."""
    brought = {"argparse", "gettext", "locale"} - sys.modules.keys()  # what somebody else uses stays
    options = SimpleNamespace(**vars(parser().parse_args(argv)))
    for name in brought & sys.modules.keys():
        del sys.modules[name]
    gc.collect()
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code says how it ended (78: the configuration cannot be used)."""
    try:
        options = _options(argv)
        be_lean()
        # What the daemon needs is imported only now: `--version` and a wrong option answer at once.
        from wolverined.daemon import main as run_daemon  # noqa: PLC0415

        return run_daemon(options)
    except WolverineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # Whatever it is, systemd and the operator get a line and a code; the trace is for who asks.
        if os.environ.get("WOLVERINE_TRACEBACK"):
            raise
        sys.stderr.write(
            f"error: {type(error).__name__}: {error}; hint: this is a bug; WOLVERINE_TRACEBACK=1 shows where\n"
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
