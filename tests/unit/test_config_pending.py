# SPDX-License-Identifier: MIT
from pathlib import Path

import msgspec
import pytest

from wolverined.config import pending
from wolverined.config.schema import AppTable, Config, ResourcesTable

CONFIG = Config(app=AppTable(command=("x",), directory=Path("/")))


def test_defaults_warn_of_nothing() -> None:
    """Who sets nothing is told nothing."""
    assert pending.warnings(CONFIG) == ()


def test_a_key_without_effect_is_told() -> None:
    """A watch for leaks that nobody keeps must not look like one."""
    config = msgspec.structs.replace(CONFIG, resources=ResourcesTable(leak_window_s=60.0))
    assert pending.warnings(config) == ("resources.leak_window_s has no effect in this version of wolverined",)


@pytest.mark.parametrize("path", pending.PENDING)
def test_every_pending_key_is_one_of_the_schema(path: str) -> None:
    """The list names real keys, with their real defaults."""
    assert pending._value(CONFIG, path) == pending._default(path)
