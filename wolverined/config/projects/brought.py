# SPDX-License-Identifier: MIT
"""`init --import-env`: what the predecessor's variables say, each to where it belongs.

Settings go into the file; the two keys go into files of root's that nobody else may read. No key is ever
printed, and none is written where it could be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config.environment import read
from wolverined.config.load import toml_value
from wolverined.config.projects.project import Project
from wolverined.errors import ConfigError

NAMES = re.compile(r"(?:WOLVERINE_[A-Z_]+|OPENAI_[A-Z_]+)")
_LINE = re.compile(r"^\s*(?:export\s+)?((?:WOLVERINE|OPENAI)_[A-Z_]+)\s*=\s*(.*?)\s*$", re.MULTILINE)


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """Tables for the file, files of keys (path -> text) to be made 0600, and what was said about it."""

    tables: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def bring(project: Project, *, name: str, environ: Mapping[str, str], etc: Path, as_root: bool) -> Brought:
    """Sort the variables of `environ` and of the project's .env, the former first.

    Args:
        project: Its `.env` is read for these names only.
        name: The application's.
        environ: The environment of whoever runs `init`.
        etc: Where configurations lie.
        as_root: Whether files of root's can be made.

    Raises:
        ConfigError: A variable has a value that cannot be used.
    """
    found = {key: _plain(value) for key, value in _LINE.findall(project.text(".env"))}
    found |= {key: value for key, value in environ.items() if NAMES.fullmatch(key)}
    found = {key: value for key, value in found.items() if value}
    tables, problems = read(found)
    if problems:
        said = "\n".join(f"  {problem.message}; hint: {problem.hint}" for problem in problems)
        raise ConfigError(f"the environment cannot be imported\n{said}", problems=tuple(problems))
    notes: list[str] = []
    keys: dict[str, str] = {}
    secret, url = found.get("OPENAI_API_KEY", ""), found.get("OPENAI_BASE_URL", "")
    if as_root and (secret or url):
        # Under systemd the adviser takes both from this file alone, and `[ai] base_url` would say nothing.
        tables.pop("ai", None)
        keys[str(etc / "ai" / f"{name}.toml")] = (
            f"# The adviser's alone: endpoint and key of the model that {name} may ask.\n"
            + (f"base_url = {toml_value(url)}\n" if url else "")
            + (f"key = {toml_value(secret)}\n" if secret else '# key = ""\n')
        )
    elif secret:
        notes.append("OPENAI_API_KEY is not written down: leave it in the environment of `wolverined run`")
    if secret := found.get("WOLVERINE_PLATFORM_KEY", ""):
        if as_root:
            keys[str(_platform_key(etc / "credentials", name, secret))] = f"{secret}\n"
        else:
            notes.append(
                "WOLVERINE_PLATFORM_KEY is not written down: only root can put it where the forwarder reads it"
            )
    if not tables and not keys and not notes:
        notes.append("no variable of WOLVERINE_ or OPENAI_ is set")
    return Brought(tables=tables, keys=keys, notes=tuple(notes))


def _plain(value: str) -> str:
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        return value[1:-1]
    return re.sub(r"\s+#.*$", "", value)


def _platform_key(directory: Path, name: str, secret: str) -> Path:
    """One key serves all applications of a host, until one brings another."""
    common = directory / "platform-key"
    try:
        other = common.read_text("utf-8").strip() != secret
    except FileNotFoundError:
        return common
    except (OSError, UnicodeDecodeError):
        other = True
    return directory / f"platform-key.{name}" if other else common


def write_key(path: Path, text: str, *, force: bool) -> bool:
    """Make a file that only its owner may read; False when another one is there and `force` is not given.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if path.read_bytes() == text.encode():
            path.chmod(0o600)
            return True
        if not force:
            return False
    except FileNotFoundError:
        pass
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return True
