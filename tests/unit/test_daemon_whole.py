# SPDX-License-Identifier: MIT
"""Whether the source is whole, as the daemon asks before it starts the app: a store that fails is no yes."""

from __future__ import annotations

import asyncio
from typing import Any

from wolverined.daemon.serve import _Composition
from wolverined.errors import StoreError


class Desk:
    """Takes the place of the desk; its store fails so many times, then knows."""

    def __init__(self, *, failures: int, torn: bool) -> None:
        self._failures = failures
        self._torn = torn

    async def recover(self) -> None:
        """Nothing is to be done."""

    @property
    def torn(self) -> bool:
        """The answer, or the failure."""
        self._failures -= 1
        if self._failures >= 0:
            raise StoreError("the disk gives errors")
        return self._torn


class Teller:
    """Takes the place of the narrator."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, name: str, message: str, **_: Any) -> None:
        """Keep it."""
        self.said.append(f"{name} {message}")


def composition(desk: Desk) -> tuple[_Composition, Teller]:
    """As much of the daemon as asks."""
    made = object.__new__(_Composition)
    teller = Teller()
    made._desk, made._narrator, made._told = desk, teller, set()  # type: ignore[assignment]
    return made, teller


def test_a_store_that_fails_says_not_known_to_be_whole_and_is_asked_again() -> None:
    """The main line, and with it daemon and app, goes on; it is told once."""
    daemon, teller = composition(Desk(failures=2, torn=False))
    assert [asyncio.run(daemon._is_whole()) for _ in range(3)] == [False, False, True]
    assert len(teller.said) == 1
    assert "disk gives errors" in teller.said[0]


def test_a_torn_source_is_not_whole() -> None:
    """As the store says."""
    daemon, _ = composition(Desk(failures=0, torn=True))
    assert asyncio.run(daemon._is_whole()) is False
