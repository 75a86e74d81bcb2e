# SPDX-License-Identifier: MIT
# ruff: noqa: INP001 - Python looks for this very name in a directory
"""Loaded into a supervised Python application (PYTHONPATH): the supervisor is told of its errors.

Three promises to the application: nothing here raises into it, nothing here changes a request or a
response, and a `sitecustomize` of its own still runs. Python 3.9 and newer, nothing but the standard
library, and of that as little as can be at the start. The protocol stands in ../README.md.
"""

from __future__ import annotations

import os
import sys


def _run_next() -> None:
    """Run the `sitecustomize` that Python would have found without this directory in its path."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded yet
    others = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
    # Of `importlib` nothing is loaded at this point, and it would cost some milliseconds: Debian has a
    # `sitecustomize` of its own, so nearly every start comes by here.
    finder = next((each for each in sys.meta_path if getattr(each, "__name__", "") == "PathFinder"), None)
    spec = finder.find_spec("sitecustomize", others) if finder is not None else None
    if spec is not None and spec.loader is not None:
        module = type(sys)("sitecustomize")
        module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, ""
        module.__file__ = spec.origin
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("WOLVERINE_REPORT_SOCKET"):
    try:
        from wolverine_reporter.start import install  # type: ignore[import-not-found,unused-ignore] # its path

        install(os.environ["WOLVERINE_REPORT_SOCKET"])
    except Exception:  # noqa: S110 - a reporter that cannot start must not keep the application from starting
        pass

# Not guarded: an error in it is the application's own, and Python tells of it as it always does.
_run_next()
