# SPDX-License-Identifier: MIT
"""Entry point of `wolverined`: reads the command line, hands over to `daemon`, turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from wolverined import __version__
from wolverined.errors import UsageError, WolverineError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The command line of `wolverined`."""
    top = _Parser(prog="wolverined", description="Supervises one application and heals it.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"wolverined {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="supervise one application until a signal ends it", allow_abbrev=False)
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
    run.add_argument("--json-log", action="store_true", help="log JSON, one object a line")
    run.add_argument("-v", "--verbose", action="store_true", help="log more")
    return top


def leave_openssl_out() -> None:
    """Make this process do without OpenSSL, which asyncio and hashlib take along when they find it.

    7 MB of memory in a process that speaks to Unix sockets, probes plain HTTP and hashes a few lines.
    Both are written to do without (asyncio has no TLS then, hashlib uses Python's own code), and None is
    the import system's own word for "there is none". Children are new interpreters and have it.
    """
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    if find_spec("_sha256") or find_spec("_sha2"):  # some builds leave Python's own hashes out
        sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit code says how it ended (78: the configuration cannot be used)."""
    try:
        args = parser().parse_args(argv)
        leave_openssl_out()
        # What the daemon needs is imported only now: `--version` and a wrong option answer at once.
        from wolverined.daemon import main as run_daemon  # noqa: PLC0415

        return run_daemon(args)
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
