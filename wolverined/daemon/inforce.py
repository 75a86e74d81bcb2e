# SPDX-License-Identifier: MIT
"""The configuration in force, what a new reading of the file would change in it, and what a reload cannot change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from wolverined.config.problems import Loaded
from wolverined.config.schema import Config
from wolverined.errors import ConfigError


class InForce:
    """What the file said when it was last read and could be used.

    Args:
        load: Reads it.

    Attributes:
        config: The configuration.
        notes: What is to be said of it.

    Raises:
        ConfigError: It cannot be used.
    """

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        loaded = load()
        self.config: Config = loaded.config
        self.notes: tuple[str, ...] = loaded.warnings

    def renew(self) -> list[dict[str, str]]:
        """Read the file again and put it in force; gives what differs.

        Raises:
            ConfigError: It cannot be used, or not before the next start; nothing has changed.
        """
        loaded = self._load()
        refuse_what_needs_a_start(self.config, loaded.config)
        changed = differences(self.config, loaded.config)
        self.config, self.notes = loaded.config, loaded.warnings
        return changed


def refuse_what_needs_a_start(old: Config, new: Config) -> None:
    """The app's user decides who may speak to whom; that is laid down when wolverined starts."""
    if new.app.user != old.app.user:
        raise ConfigError(
            f"app.user is now {new.app.user!r}, and {old.app.user!r} is in force",
            hint="stop wolverined and start it again: the user of the app does not change while it runs",
        )


def differences(old: Config | dict[str, Any], new: Config) -> list[dict[str, str]]:
    """Which keys differ, each with its old and new value as text; values of environments stay unsaid."""
    found: list[dict[str, str]] = []
    _compare("", old if isinstance(old, dict) else plain(old), plain(new), found)
    return found


def plain(config: Config) -> dict[str, Any]:
    """A configuration as plain JSON data: what outlives the program that read it."""
    return msgspec.json.decode(msgspec.json.encode(config, enc_hook=str), type=dict[str, Any])


def _compare(path: str, old: Any, new: Any, found: list[dict[str, str]]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(f"{path}.{key}" if path else key, old.get(key), new.get(key), found)
    elif old != new:
        secret = ".environment." in f".{path}."
        found.append({"key": path, "old": "…" if secret else _short(old), "new": "…" if secret else _short(new)})


def _short(value: Any) -> str:
    text = "absent" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  a terminal's width
