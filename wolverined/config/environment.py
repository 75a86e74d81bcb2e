# SPDX-License-Identifier: MIT
"""The environment variables of the predecessor, which override the file under `wolverined run` (and only there).

Their names and units are the predecessor's (milliseconds), so that an existing start script keeps
working. Keys to AI and platform endpoints are not configuration: the roles that need them read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config import numbers, words
from wolverined.config.problems import Problem, Problems, visible
from wolverined.config.schema import Config
from wolverined.errors import ConfigError


def override(config: Config, environ: Mapping[str, str]) -> tuple[Config, tuple[str, ...]]:
    """Lay the known variables of `environ` over `config`.

    Returns:
        The new configuration, and one line for each override, to be said at start.

    Raises:
        ConfigError: Naming every variable whose value cannot be used.
    """
    tables, found = read(environ)
    made = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in tables.items()}
    changed = msgspec.structs.replace(config, **made)
    problems = found + _out_of_bounds(changed, tables)
    if problems:
        said = "\n".join(f"  {problem.message}; hint: {problem.hint}" for problem in problems)
        raise ConfigError(f"the environment cannot be used\n{said}", problems=tuple(problems))
    notes = [
        f"{variable} overrides {key}: {visible(str(numbers.value_of(made, key)))}"
        for variable, key in _VARIABLE_KEYS.items()
        if environ.get(variable)
    ]
    return changed, tuple(notes)


def ignored(environ: Mapping[str, str], *, file: Path) -> tuple[str, ...]:
    """One line for each known variable that is set where none has a say: under a service manager."""
    return tuple(
        f"{variable} in the environment is ignored here: write {key} into {file}"
        for variable, key in _VARIABLE_KEYS.items()
        if environ.get(variable) and variable != "OPENAI_BASE_URL"  # it goes with the key: see whoever knows of keys
    )


def read(environ: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """What the variables say, as tables of the configuration, and what is wrong with some of them."""
    tables: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for name, (table, key, convert) in _VARIABLES.items():
        text = environ.get(name, "")
        if not text:
            continue
        try:
            tables.setdefault(table, {})[key] = convert(text)
        except ValueError as error:
            problems.append(_problem(name, f"{name}={text!r}: {error}"))
    return {table: keys for table, keys in tables.items() if keys}, problems


def _out_of_bounds(config: Config, tables: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """The checks that the file's values pass, for those that the environment brought; the file's passed already."""
    problems = Problems(lines={})
    whole = {name: getattr(config, name) for name in config.__struct_fields__}
    numbers.check(whole, problems=problems)
    words.check_urls(whole, problems=problems)
    brought = {f"{table}.{key}" for table, keys in tables.items() for key in keys}
    variables = {key: variable for variable, key in _VARIABLE_KEYS.items()}
    return [
        _problem(variables[each.key], f"{variables[each.key]}: {each.message}")
        for each in problems.found
        if each.key in brought
    ]


def _problem(variable: str, message: str) -> Problem:
    return Problem(line=None, key=variable, message=visible(message), hint=f"correct it, or unset {variable}")


def _milliseconds(text: str) -> float:
    return _positive(text) / 1000


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER) or int(text) < 1:
        raise ValueError("must be a whole number above 0")
    return int(text)


def _flag(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise ValueError("must be true or false")
    return known[text.lower()]


_LONGEST_NUMBER = 18

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
_VARIABLE_KEYS = {variable: f"{table}.{key}" for variable, (table, key, _) in _VARIABLES.items()}
"""Variable -> the key of the file that it overrides."""
