# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.configs import accepted, text_of

from wolverined.config.environment import override
from wolverined.config.problems import Problem
from wolverined.config.schema import AppTable, Config
from wolverined.errors import ConfigError

CONFIG = Config(app=AppTable(command=("true",), directory=Path("/")))
NUMBERS = [
    "WOLVERINE_ERROR_COOLDOWN_MS",
    "WOLVERINE_ERROR_THRESHOLD",
    "WOLVERINE_ERROR_WINDOW_MS",
    "WOLVERINE_HEARTBEAT_INTERVAL_MS",
]
KNOWN = [*NUMBERS, "OPENAI_BASE_URL", "WOLVERINE_CLUSTER", "WOLVERINE_INSTANCE_NAME", "WOLVERINE_PLATFORM_URL"]


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("WOLVERINE_ERROR_THRESHOLD", "5", "errors.threshold", 5),
        ("WOLVERINE_ERROR_WINDOW_MS", "45000", "errors.window_s", 45.0),
        ("WOLVERINE_ERROR_COOLDOWN_MS", "1500", "errors.cooldown_s", 1.5),
        ("WOLVERINE_HEARTBEAT_INTERVAL_MS", "60000", "platform.heartbeat_s", 60.0),
        ("WOLVERINE_INSTANCE_NAME", "my-api-prod", "platform.instance_name", "my-api-prod"),
        ("WOLVERINE_PLATFORM_URL", "https://platform.example", "platform.url", "https://platform.example"),
        ("WOLVERINE_CLUSTER", "true", "cluster.enabled", True),
        ("WOLVERINE_CLUSTER", "false", "cluster.enabled", False),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1", "ai.base_url", "http://127.0.0.1:8080/v1"),
    ],
)
def test_each_variable_reaches_its_key_in_its_unit(variable: str, text: str, key: str, value: object) -> None:
    """The predecessor's variables override the file, milliseconds become seconds, and it is said."""
    config, notes = override(CONFIG, {variable: text})
    table, _, name = key.partition(".")
    assert getattr(getattr(config, table), name) == value
    assert notes == (f"{variable} overrides {key}: {value}",)


def test_the_rest_of_a_table_stays(tmp_path: Path) -> None:
    """One variable changes one key of the file, not its neighbours."""
    config = accepted(text_of(tmp_path, "[errors]\nthreshold = 7\nwindow_s = 8\n"), tmp_path).config
    changed, _ = override(config, {"WOLVERINE_ERROR_WINDOW_MS": "9000", "HOME": "/"})
    assert (changed.errors.threshold, changed.errors.window_s) == (7, 9)


def test_nothing_set_changes_nothing() -> None:
    """Empty variables count as unset, and keys are no business of the configuration."""
    environ = dict.fromkeys(KNOWN, "") | {"OPENAI_API_KEY": "sk-1", "WOLVERINE_PLATFORM_KEY": "wlvk_1"}
    assert override(CONFIG, environ) == (CONFIG, ())


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *((name, text) for name in NUMBERS for text in ("0", "-1", "1.5", "nan", "1e9", "٣", "ten", " 5", "9" * 18)),
        ("WOLVERINE_ERROR_THRESHOLD", "9" * 6000),
        ("WOLVERINE_CLUSTER", "maybe"),
        ("WOLVERINE_PLATFORM_URL", "http://platform.example"),
        ("WOLVERINE_PLATFORM_URL", "platform.example"),
        ("OPENAI_BASE_URL", "http://127.evil.example/v1"),
        ("OPENAI_BASE_URL", "https://user:pass@host/v1"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(variable: str, text: str) -> None:
    """Wrong numbers, flags and addresses are refused by name, with what to do about it."""
    with pytest.raises(ConfigError) as caught:
        override(CONFIG, {variable: text})
    (problem,) = caught.value.problems
    assert isinstance(problem, Problem)
    assert problem.key == variable
    assert variable in problem.message
    assert problem.hint == f"correct it, or unset {variable}"
    assert caught.value.exit_code == 78


def test_every_wrong_variable_is_said_at_once() -> None:
    """One start tells all of them."""
    wrong = {"WOLVERINE_CLUSTER": "x", "WOLVERINE_ERROR_THRESHOLD": "x", "WOLVERINE_PLATFORM_URL": "x"}
    with pytest.raises(ConfigError) as caught:
        override(CONFIG, wrong)
    assert {problem.key for problem in caught.value.problems if isinstance(problem, Problem)} == set(wrong)


def test_a_number_of_the_file_is_not_blamed_on_the_environment() -> None:
    """Only what the environment brought is checked against its bounds here."""
    config = Config(app=CONFIG.app, errors=type(CONFIG.errors)(threshold=0))
    changed, _ = override(config, {"WOLVERINE_ERROR_WINDOW_MS": "1000"})
    assert changed.errors.threshold == 0


@given(st.dictionaries(st.sampled_from(KNOWN), st.text(max_size=30)))
def test_no_environment_breaks_the_reader(environ: dict[str, str]) -> None:
    """Whatever the variables hold, the answer is a configuration or a refusal in printable words."""
    try:
        _, notes = override(CONFIG, environ)
    except ConfigError as error:
        notes = tuple(str(error).splitlines())
    assert all(note.isprintable() for note in notes)
