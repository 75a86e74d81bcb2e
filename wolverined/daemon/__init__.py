# SPDX-License-Identifier: MIT
"""The composition root of `wolverined`: the only room that knows all the others.

`serve` builds and connects; `listener`, `desk` and `instance` stand between supervision, healing and
the control API; `narrator` is the one mouth. Nothing here decides anything that is not a pure function
in the room that it belongs to.
"""

from __future__ import annotations

import sys

# asyncio imports ssl when it is there, which costs 3 MB of the 25 that a supervisor may use; nothing in
# this process speaks TLS (rule 1: the network is other processes' business). `None` makes the import fail
# in the way that asyncio is prepared for.
if "ssl" not in sys.modules and "asyncio" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment]

from wolverined.daemon.serve import main

__all__ = ["main"]
