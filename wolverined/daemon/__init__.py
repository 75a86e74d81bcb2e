# SPDX-License-Identifier: MIT
"""The composition root of `wolverined`: the only room that knows all the others.

`serve` builds and connects; `listener`, `desk` and `instance` stand between supervision, healing and
the control API; `narrator` is the one mouth. Nothing here decides anything that is not a pure function
in the room that it belongs to.
"""

from __future__ import annotations

from wolverined.daemon.serve import main

__all__ = ["main"]
