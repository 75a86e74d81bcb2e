# SPDX-License-Identifier: MIT
"""How a child process is started with one of our own modules, from a checkout and from the Debian package alike.

The package keeps us and our libraries in private directories that no interpreter looks into by itself, and a
child in isolated mode (`-I`) takes no hint from its environment: there a launcher that knows the place stands
beside them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import wolverined

LAUNCHER = "run-module"
"""Named as `debian/rules` installs it: /usr/lib/wolverine/run-module, beside /usr/lib/wolverine/app."""


def launcher() -> Path | None:
    """The package's launcher, or None where the interpreter itself finds us (a checkout, a virtual environment)."""
    path = Path(wolverined.__file__).resolve().parents[2] / LAUNCHER
    return path if path.is_file() else None


def module_argv(module: str) -> list[str]:
    """The argument vector that runs `module` as `__main__`; the module's own arguments go behind it."""
    beside = launcher()
    # The interpreter is named though the launcher has a #! line: a child runs on the very Python that runs us.
    # -S with the launcher: what somebody installed for the whole machine is not for us.
    return [sys.executable, *(["-IS", str(beside)] if beside else ["-I", "-m"]), module]
