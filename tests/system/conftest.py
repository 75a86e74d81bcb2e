# SPDX-License-Identifier: MIT
"""Machines for the tests of the installed system: a base, the built .deb, and one machine per module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Machine, ensure_base, sweep, why_not
from support.lab_deb import ensure_deb, ensure_installed

COLD_S = 600
"""A first run builds a base, the .deb and a layer; nothing after that takes a fraction of it."""


if os.environ.get("WOLVERINE_LANE") != "vm":
    collect_ignore = ["vm"]  # minutes in an emulated machine: by `packaging/test --lane vm` alone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this directory the time that a cold cache takes."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(COLD_S))


@pytest.fixture(scope="session")
def base() -> Path:
    """The root directory of a Debian 12 with systemd, Python and Node."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    sweep()
    return ensure_base()


@pytest.fixture(scope="session")
def deb(base: Path) -> Path:
    """The .deb of this checkout (or that of `$WOLVERINE_DEB`)."""
    given = os.environ.get("WOLVERINE_DEB")
    return Path(given).resolve() if given else ensure_deb()


@pytest.fixture(scope="session")
def installed(base: Path, deb: Path) -> list[Path]:
    """Layers to boot a machine from that has the .deb: give them to `Machine`."""
    return [ensure_installed(deb, lower=[base]), base]


@pytest.fixture(scope="module")
def machine(installed: list[Path]) -> Iterator[Machine]:
    """A booted machine with the .deb, nothing else in it, shared by the tests of one module."""
    with Machine(installed, name="wolf") as booted:
        yield booted


@pytest.fixture(scope="module")
def bare(base: Path) -> Iterator[Machine]:
    """A booted machine as Debian leaves it, shared by the tests of one module."""
    with Machine([base], name="bare") as booted:
        yield booted
