# SPDX-License-Identifier: MIT
"""The name that a request's route is counted under: the framework's pattern, else the path without its values."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIELDS = re.compile(r"<(?:[^<>:]+:)?([^<>:]+)>|\{([^{}:]+)(?::[^{}]*)?\}")
_VALUE = re.compile(r"\d+|[0-9a-f]{24}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def route_of(rule: Any, path: str) -> str:
    """A route's name.

    Args:
        rule: The framework's pattern; or a dict, what it took out of the path, where that is all it tells.
        path: What was asked for.
    """
    if isinstance(rule, str) and rule:
        name = _FIELDS.sub(lambda found: ":" + (found[1] or found[2]), rule)
        return name if name.startswith("/") else "/" + name
    if isinstance(rule, dict):
        for key, value in rule.items():
            path = _replaced(path, str(value), f":{key}")
    return "/".join(":id" if _VALUE.fullmatch(part) else part for part in path.split("/"))


def _replaced(path: str, value: str, name: str) -> str:
    if not value:
        return path
    at = f"{path}/".rfind(f"/{value}/")
    return path if at < 0 else f"{path[:at]}/{name}{path[at + 1 + len(value) :]}"
