# SPDX-License-Identifier: MIT
"""Entry point of `wolverinectl`: finds the command, and turns every error into words and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code is the answer (DESIGN 7.3)."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `wolverinectl logs | head`: nobody reads on. Python flushes again at exit, so give it a sink.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


def _run(argv: list[str]) -> int:
    from wolverined.errors import WolverineError

    try:
        from wolverined.cli.commands import dispatch

        return dispatch(argv)
    except WolverineError as error:
        return _tell(error.message, error.hint, error.exit_code)
    except SystemExit as end:  # argparse, after --help
        return end.code if isinstance(end.code, int) else 0
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        # A bug must reach the operator as one line, and its trace whoever asks for it.
        if os.environ.get("WOLVERINE_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}"
        return _tell(what, "this is a bug of wolverinectl; WOLVERINE_TRACEBACK=1 shows where", 1)


def _tell(message: str, hint: str, code: int) -> int:
    from wolverined.cli.terminal import clean

    # What was printed before belongs before the error, also when both go to one file.
    sys.stdout.flush()
    # A list of problems (a configuration that was refused) stays a list.
    lines = "\n".join(clean(line) for line in message.split("\n"))
    sys.stderr.write(f"error: {lines}" + (f"; hint: {clean(hint)}" if hint else "") + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
