# SPDX-License-Identifier: MIT
"""The secrets that the daemon knows, so that no event, incident or line of evidence repeats them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wolverined.errors import SpawnError
from wolverined.redact import Redactor, known_secrets


class Secrets:
    """Secrets of the app's environment and of ours.

    Args:
        ours: Our own.
        environment: Gives the environment that the app would get now.

    Attributes:
        redactor: Takes every secret that is known out of a text.
    """

    def __init__(self, *, ours: Mapping[str, str], environment: Callable[[], dict[str, str]]) -> None:
        self._ours = ours
        self._environment = environment
        self._known: dict[str, str] = {}
        self.redactor = Redactor({})

    def hand_over(self) -> dict[str, str]:
        """All of them, for a successor in this process: what the app said before may hold an earlier one."""
        return dict(self._known)

    def adopt(self, known: Mapping[str, str]) -> None:
        """Know what a predecessor knew."""
        self._known = dict(known)
        self.redactor = Redactor(self._known)

    def learn(self) -> None:
        """Know the secrets of the environment as it is now, and those of the one before."""
        try:
            app = self._environment()
        except SpawnError:
            app = {}  # the environment file is wrong: the app cannot start with it either, and that is told then
        found = known_secrets({**app, **self._ours})
        if found.items() <= self._known.items():
            return
        # A key that was changed still stands in what the app said before.
        earlier = {f"{name}_EARLIER": value for name, value in self._known.items() if name in found}
        self._known = {**self._known, **earlier, **found}
        self.redactor = Redactor(self._known)
