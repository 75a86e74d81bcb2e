# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from support.projects import Sketch

from wolverined.config.projects.brought import Brought, bring, write_key
from wolverined.errors import ConfigError

KEYS = {"OPENAI_API_KEY": "sk-abcdef", "WOLVERINE_PLATFORM_KEY": "wlvk_abcdef"}


def brought(tmp_path: Path, *, as_root: bool = True, dotenv: str = "", **environ: str) -> Brought:
    """What is imported from variables and a .env."""
    sketch = Sketch(Path(tempfile.mkdtemp(dir=tmp_path)))
    sketch.file(".env", dotenv)
    return bring(sketch.project(), name="shop", environ=environ, etc=tmp_path / "etc", as_root=as_root)


def test_settings_go_into_tables(tmp_path: Path) -> None:
    """Each variable to its key, in the file's units."""
    found = brought(
        tmp_path,
        WOLVERINE_ERROR_WINDOW_MS="45000",
        WOLVERINE_CLUSTER="true",
        WOLVERINE_PLATFORM_URL="https://platform.example",
        WOLVERINE_HEARTBEAT_INTERVAL_MS="30000",
        HOME="/x",
    )
    assert found.tables == {
        "errors": {"window_s": 45.0},
        "cluster": {"enabled": True},
        "platform": {"url": "https://platform.example", "heartbeat_s": 30.0},
    }
    assert found.keys == {}


def test_the_projects_own_file_counts_less(tmp_path: Path) -> None:
    """.env is read for these names alone; the environment wins."""
    dotenv = "WOLVERINE_INSTANCE_NAME='shop-eu'\nexport WOLVERINE_ERROR_THRESHOLD=5 # few\nDATABASE_URL=x\n"
    found = brought(tmp_path, dotenv=dotenv, WOLVERINE_ERROR_THRESHOLD="7")
    assert found.tables == {"errors": {"threshold": 7}, "platform": {"instance_name": "shop-eu"}}


def test_keys_go_to_files_of_roots(tmp_path: Path) -> None:
    """The model's key with its endpoint, the platform's by itself."""
    found = brought(tmp_path, OPENAI_BASE_URL="https://ai.example/v1", **KEYS)
    assert set(found.keys) == {str(tmp_path / "etc/ai/shop.toml"), str(tmp_path / "etc/credentials/platform-key")}
    assert 'key = "sk-abcdef"' in found.keys[str(tmp_path / "etc/ai/shop.toml")]
    assert 'base_url = "https://ai.example/v1"' in found.keys[str(tmp_path / "etc/ai/shop.toml")]
    assert found.keys[str(tmp_path / "etc/credentials/platform-key")] == "wlvk_abcdef\n"
    assert not any("abcdef" in str(note) for note in (*found.notes, found.tables))


def test_a_second_key_of_the_platform_gets_a_file_of_its_own(tmp_path: Path) -> None:
    """One key serves a host until an application brings another."""
    (tmp_path / "etc/credentials").mkdir(parents=True)
    common = tmp_path / "etc/credentials/platform-key"
    common.write_text("wlvk_abcdef\n")
    assert str(common) in brought(tmp_path, **KEYS).keys
    common.write_text("wlvk_other\n")
    assert f"{common}.shop" in brought(tmp_path, **KEYS).keys


def test_a_plain_user_is_told_what_is_not_written(tmp_path: Path) -> None:
    """Keys are root's to store; their values are in no message."""
    found = brought(tmp_path, as_root=False, **KEYS)
    assert found.keys == {}
    assert [note.split()[0] for note in found.notes] == list(KEYS)
    assert not any("abcdef" in note for note in found.notes)


def test_nothing_to_import_is_said(tmp_path: Path) -> None:
    """An import that found nothing does not look like one that worked."""
    assert "no variable" in brought(tmp_path).notes[0]


def test_a_value_that_cannot_be_used_stops_the_import(tmp_path: Path) -> None:
    """Better nothing than half of it."""
    with pytest.raises(ConfigError, match="WOLVERINE_ERROR_WINDOW_MS"):
        brought(tmp_path, WOLVERINE_ERROR_WINDOW_MS="soon")


def test_files_of_keys(tmp_path: Path) -> None:
    """0600 from the first moment, whole, and never in the place of another key unless that is asked for."""
    path = tmp_path / "etc" / "ai" / "shop.toml"
    old = os.umask(0)
    try:
        assert write_key(path, "key = 1\n", force=False)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    assert write_key(path, "key = 1\n", force=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not write_key(path, "key = 2\n", force=False)
    assert path.read_text() == "key = 1\n"
    path.write_bytes(b"\xff")
    assert write_key(path, "key = 2\n", force=True)
    assert path.read_text() == "key = 2\n"
    assert [each.name for each in path.parent.iterdir()] == ["shop.toml"]
