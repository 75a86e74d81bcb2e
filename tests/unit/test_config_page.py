# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import FieldInfo, fields
from support.configs import USER, accepted, text_of

from wolverined.config.environment import _VARIABLE_KEYS
from wolverined.config.load import toml_value
from wolverined.config.schema import DENY, Config

PAGE = Path(__file__).resolve().parents[2] / "packaging" / "man" / "wolverine.toml.5"
DERIVED = {
    "app.user": "the owner of the directory",
    "heal.apply_as": "the owner of the source",
    "platform.instance_name": "the name of the instance",
}
"""Keys whose empty default is filled in from elsewhere."""


def keys_of(kind: type[msgspec.Struct], prefix: str = "") -> dict[str, FieldInfo]:
    """Every key of the schema by dotted path; tables are walked into."""
    found: dict[str, FieldInfo] = {}
    for field in fields(kind):
        inner: Any = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found |= keys_of(inner, f"{prefix}{field.name}.")
        else:
            found[f"{prefix}{field.name}"] = field
    return found


KEYS = keys_of(Config)


def plain(roff: str) -> str:
    """A page without fonts and escapes."""
    text = re.sub(r"\\f[A-Z]", "", roff).replace("\\-", "-").replace("\\ ", " ")
    return re.sub(r"^\.(?:BR|B|RB|I|IR|br) ?", "", text, flags=re.MULTILINE).replace(" ,", ",")


def described() -> dict[str, str]:
    """Key -> its paragraph on the page."""
    (tables,) = re.findall(r"^\.SH TABLES\n(.*?)^\.SH ", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^\.SS \[(.+)\]$", tables, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for table, text in zip(parts[1::2], parts[2::2], strict=True):
        entries = re.split(r"^\.TP\n\.B (\w+)$", text, flags=re.MULTILINE)
        assert entries[0].strip(), f"[{table}] says what it is for"
        found |= {f"{table}.{key}": plain(words) for key, words in zip(entries[1::2], entries[2::2], strict=True)}
    return found


PARAGRAPHS = described()


def test_every_key_is_described_and_no_other() -> None:
    """Page and schema name the same keys."""
    assert set(PARAGRAPHS) == set(KEYS)


def default_of(key: str) -> str:
    """A default as the page writes it."""
    field = KEYS[key]
    if field.required:
        return "must be given"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if key in DERIVED or value is None or value == "":
        return DERIVED.get(key, "absent" if value is None else "empty")
    if value == DENY:
        return ",\n".join(DENY)
    return f"{value:g}" if isinstance(value, float) else toml_value(value)


@pytest.mark.parametrize("key", PARAGRAPHS)
def test_every_default_is_that_of_the_schema(key: str) -> None:
    """The page promises what the code does."""
    (told,) = re.findall(r"^Default:\s(.*?) ?\.\n+Example:", PARAGRAPHS[key], flags=re.MULTILINE | re.DOTALL)
    assert told == default_of(key)


@pytest.mark.parametrize("key", PARAGRAPHS)
def test_every_example_can_be_written(key: str, tmp_path: Path) -> None:
    """Each example is taken as it stands, and is no repetition of the default."""
    (example,) = re.findall(r"^Example: (.*)$", PARAGRAPHS[key], flags=re.MULTILINE)
    table, _, name = key.rpartition(".")
    assert example.startswith(f"{name} = ")
    (tmp_path / "src").mkdir()
    (tmp_path / "myapp.env").touch()
    example = example.replace("/etc/wolverine/", f"{tmp_path}/").replace("/srv/myapp", str(tmp_path))
    example = re.sub(r'^(user|apply_as) = "\w+"', rf'\1 = "{USER}"', example).replace('["node"', '["/bin/sh"')
    if table == "app":
        kept = [line for line in text_of(tmp_path).splitlines() if not line.startswith(name)]
        text = "\n".join([*kept, example])
    else:
        text = text_of(tmp_path, f"[{table}]\n{example}\n", app="port = 3000")
    config: Any = accepted(text, tmp_path).config
    value = config
    for part in key.split("."):
        value = getattr(value, part)
    assert KEYS[key].required or key in DERIVED or value != KEYS[key].default or value is True


def test_every_environment_variable_is_described() -> None:
    """The variables that override keys stand on the page with their keys."""
    (section,) = re.findall(r"^\.SH ENVIRONMENT\n(.*?)^\.SH ", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    told = dict(re.findall(r"^\.TP\n\.B (\w+)\n\.BR ([\w.]+) [.:]$", section, flags=re.MULTILINE))
    assert told == _VARIABLE_KEYS


def test_the_examples_of_whole_files(tmp_path: Path) -> None:
    """The files at the end of the page can be used, once their places exist."""
    blocks = re.findall(r"^\.EX\n(.*?)^\.EE$", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "myapp.env").touch()
    assert len(blocks) == 2
    for block in blocks:
        text = block.replace("/srv/myapp", str(tmp_path)).replace("/etc/wolverine", str(tmp_path))
        text = re.sub(r'"(/usr/bin/)?node"', '"/bin/sh"', text).replace('user = "myapp"', f'user = "{USER}"')
        assert accepted(text.replace("[app]\n", "[app]\nallow_root = true\n"), tmp_path)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_page_is_good_roff() -> None:
    """Groff has nothing to say about the page."""
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z", PAGE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
