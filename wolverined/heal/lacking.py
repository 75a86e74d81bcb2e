# SPDX-License-Identifier: MIT
"""What a trial lacked, told from its output (pure): a verdict that says so can be acted upon.

Only where the app's directory was sent rather than seen, as under systemd; see `heal.whole`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_WANTING = re.compile(
    r"\b(ENOENT|EACCES|EROFS|SQLITE_CANTOPEN|SQLITE_READONLY)\b|No such file|FileNotFoundError|PermissionError"
    r"|Permission denied|Cannot find module|ModuleNotFoundError|unable to open database file|readonly database"
)
_LINES = 100


def lacking(tail: Sequence[str], absent: Mapping[str, str] | None) -> str:
    """Words to put behind a reason: which file is wanting and what to do; "" when nothing speaks for that.

    Args:
        tail: What the app printed.
        absent: What stands in its directory and not in the trial; None: the trial sees the directory itself.
    """
    if absent is None:
        return ""
    lines = [line for line in tail[-_LINES:] if _WANTING.search(line)]
    for path, why in absent.items():
        if any(_names(line, path) for line in lines):
            return f"; a trial does not have {path} ({why}): see heal.trial in wolverine.toml(5)"
    if lines:
        return (
            "; a trial has the source and its dependencies alone: for what else it needs, see heal.trial "
            "in wolverine.toml(5)"
        )
    return ""


def _names(line: str, path: str) -> bool:
    """Whether the line speaks of that file, or of something in that directory."""
    return re.search(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", line) is not None
