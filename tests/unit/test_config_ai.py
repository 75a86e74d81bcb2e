# SPDX-License-Identifier: MIT
"""The file of the AI endpoint: strict, and no message of it holds the key."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.ai import DEFAULT_URL, AiFile, candidates, parse
from wolverined.config.problems import Problem
from wolverined.config.projects.brought import bring
from wolverined.config.projects.project import Project
from wolverined.errors import ConfigError

ORIGIN = Path("/etc/wolverine/ai/shop.toml")
KEY = "sk-secret-0123456789abcdef"


def _refused(text: str | bytes) -> ConfigError:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ConfigError) as caught:
        parse(data, origin=ORIGIN)
    assert KEY not in str(caught.value)
    assert str(ORIGIN) in str(caught.value)
    return caught.value


def test_nothing_is_no_ai() -> None:
    """The empty credential that a unit falls back to means: no model."""
    assert parse(b"", origin=ORIGIN) == AiFile()
    assert parse(b"# later\n", origin=ORIGIN).key == ""


def test_a_whole_file_is_understood() -> None:
    """Address, key, models and prices arrive."""
    text = f"""
base_url = "https://ai.example/v1"
key = " {KEY} "
models = {{fast = "small", agent = "big"}}
[prices."small"]
input = 0.5
output = 2
"""
    read = parse(text.encode(), origin=ORIGIN)
    assert (read.url, read.key, read.models.fast) == ("https://ai.example/v1", KEY, "small")
    assert read.prices["small"].output == 2.0


def test_without_an_address_the_usual_one_is_asked() -> None:
    """A key alone is enough."""
    assert parse(f'key = "{KEY}"'.encode(), origin=ORIGIN).url == DEFAULT_URL


def test_a_key_is_never_shown() -> None:
    """Whoever prints the struct prints no key."""
    assert KEY not in repr(parse(f'key = "{KEY}"'.encode(), origin=ORIGIN))


def test_every_problem_has_its_line() -> None:
    """All problems of the file come at once, each with the line it stands in."""
    error = _refused(
        f'key = "{KEY} and more"\nbase_url = "http://elsewhere.example"\nmodel = "x"\n'
        f"models = {{fast = 3}}\n[prices.m]\ninput = -1.0\noutput = 1.0\n[ai]\n"
    )
    found = [problem for problem in error.problems if isinstance(problem, Problem)]
    assert [problem.line for problem in found] == [1, 2, 3, 4, 6, 8]
    assert all(problem.hint for problem in found)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"key = {KEY}",
        f"key = '{KEY}",
        f'key = ["{KEY}"]',
        f'key = "{KEY}\\u0000"',
        f'key = "{KEY}\\nX-More: 1"',
        f'"{KEY}" = 1',
        f'["{KEY}"]',
        f'key = "{KEY}"\nkey = "{KEY}"',
        f'base_url = "https://u:{KEY}@h.example/"',
        f'base_url = "https://h.example/?key={KEY}"',
        "models = 1",
        'models = {fast = "a", slow = "b"}',
        'prices = {"m" = {input = 1.0}}',
        'prices = {"m" = {input = nan, output = 1.0}}',
        "prices = " + "[" * 5000,
        "x = " + "9" * 9000,
    ],
)
def test_what_cannot_be_meant_is_refused_without_saying_the_key(text: str) -> None:
    """The file is named, the key is not."""
    _refused(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    """The line is said."""
    assert "line 2" in _refused(b"# x\n\xff\xfe").message


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_a_file_or_a_config_error_comes_out(data: bytes) -> None:
    """No other exception ends `prepare` or the adviser."""
    with contextlib.suppress(ConfigError):
        parse(data, origin=ORIGIN)


def test_the_own_file_comes_before_the_default() -> None:
    """One file may serve all applications."""
    assert [path.name for path in candidates("shop")] == ["shop.toml", "default.toml"]


def test_what_init_writes_is_understood(tmp_path: Path) -> None:
    """`init --import-env` and the adviser agree on the keys."""
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://ai.example/v1"}
    project = Project.of(tmp_path)
    brought = bring(project, name="shop", environ=environ, etc=tmp_path, as_root=True)
    [(path, text)] = brought.keys.items()
    assert path == str(tmp_path / "ai" / "shop.toml")
    read = parse(text.encode(), origin=ORIGIN)
    assert (read.key, read.url) == (KEY, "https://ai.example/v1")


def test_as_root_the_address_goes_with_the_key_and_not_into_the_configuration(tmp_path: Path) -> None:
    """Under systemd `[ai] base_url` has no effect, so `init` does not write it there."""
    environ = {"OPENAI_BASE_URL": "https://ai.example/v1", "WOLVERINE_ERROR_THRESHOLD": "3"}
    project = Project.of(tmp_path)
    as_root = bring(project, name="shop", environ=environ, etc=tmp_path, as_root=True)
    assert "ai" not in as_root.tables
    assert parse(as_root.keys[str(tmp_path / "ai" / "shop.toml")].encode(), origin=ORIGIN).url.endswith("example/v1")
    as_user = bring(project, name="shop", environ=environ, etc=tmp_path, as_root=False)
    assert as_user.tables["ai"] == {"base_url": "https://ai.example/v1"}
    assert as_user.keys == {}
