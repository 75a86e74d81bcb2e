# SPDX-License-Identifier: MIT
"""The environment variables of the predecessor, which override the file under `wolverined run`.

Their names and units are the predecessor's (milliseconds), so that an existing start script keeps
working. Keys to AI and platform endpoints are not configuration: the roles that need them read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wolverined.config.problems import Problem
from wolverined.config.schema import Config
from wolverined.errors import ConfigError


def override(config: Config, environ: Mapping[str, str]) -> tuple[Config, tuple[str, ...]]:
    """Lay the known variables of `environ` over `config`.

    Returns:
        The new configuration, and one line for each override, to be said at start.

    Raises:
        ConfigError: Naming every variable whose value cannot be used.
    """
    tables: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    problems: list[Problem] = []
    for name, (table, key, read) in _VARIABLES.items():
        text = environ.get(name, "")
        if not text:
            continue
        try:
            value = read(text)
        except ValueError as error:
            problems.append(Problem(line=None, key=name, message=f"{name}={text!r}: {error}", hint=f"unset {name}"))
            continue
        tables.setdefault(table, {})[key] = value
        notes.append(f"{name} overrides {table}.{key}: {value}")
    if problems:
        said = "\n".join(f"  {problem.message}; hint: {problem.hint}" for problem in problems)
        raise ConfigError(f"the environment cannot be used\n{said}", problems=tuple(problems))
    changed = {table: msgspec.structs.replace(getattr(config, table), **keys) for table, keys in tables.items()}
    return msgspec.structs.replace(config, **changed), tuple(notes)


def _milliseconds(text: str) -> float:
    return _positive(text) / 1000


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError("must be a whole number above 0")
    return int(text)


def _flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError("must be true or false")
    return words[text.lower()]


_VARIABLES: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "OPENAI_BASE_URL": ("ai", "base_url", str),
    "WOLVERINE_CLUSTER": ("cluster", "enabled", _flag),
    "WOLVERINE_ERROR_COOLDOWN_MS": ("errors", "cooldown_s", _milliseconds),
    "WOLVERINE_ERROR_THRESHOLD": ("errors", "threshold", _positive),
    "WOLVERINE_ERROR_WINDOW_MS": ("errors", "window_s", _milliseconds),
    "WOLVERINE_HEARTBEAT_INTERVAL_MS": ("platform", "heartbeat_s", _milliseconds),
    "WOLVERINE_INSTANCE_NAME": ("platform", "instance_name", str),
    "WOLVERINE_PLATFORM_URL": ("platform", "url", str),
}
