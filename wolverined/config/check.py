# SPDX-License-Identifier: MIT
"""`wolverinectl config check NAME|FILE`: everything that is wrong in a file, or what it amounts to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config.load import load, toml_value
from wolverined.config.problems import Loaded, Problem
from wolverined.config.schema import Config
from wolverined.errors import ConfigError

DIRECTORY = Path("/etc/wolverine")


def main(args: argparse.Namespace) -> int:
    """Check the file that `args.target` names; 0 when it can be used, 78 when it cannot, as `wolverined run` ends."""
    path = locate(args.target)
    try:
        loaded = load(path)
    except ConfigError as error:
        _refuse(path, error, as_json=args.json)
        return error.exit_code
    _accept(path, loaded, as_json=args.json)
    return 0


def locate(target: str) -> Path:
    """The file that a word means: a path when it looks like one, else an application's name."""
    if "/" in target or target.endswith(".toml"):
        return Path(target)
    return DIRECTORY / f"{target}.toml"


def _refuse(path: Path, error: ConfigError, *, as_json: bool) -> None:
    if not as_json:
        sys.stderr.write(f"error: {error}\n")
        return
    found = [msgspec.to_builtins(problem) for problem in error.problems if isinstance(problem, Problem)]
    if not found:
        found = [{"line": None, "key": "", "message": error.message, "hint": error.hint}]
    _print_json({"file": str(path), "ok": False, "problems": found, "warnings": []})


def _accept(path: Path, loaded: Loaded, *, as_json: bool) -> None:
    if as_json:
        _print_json({"file": str(path), "ok": True, "problems": [], "warnings": list(loaded.warnings)})
        return
    for warning in loaded.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(f"{path}: can be used\n")
    for line in effective(loaded.config):
        sys.stdout.write(f"  {line}\n")


def effective(config: Config) -> list[str]:
    """Every key with the value in force, as `table.key = value`; values of environments are not shown."""
    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=str)
    lines: list[str] = []
    for table, keys in plain.items():
        lines += _lines(table, keys)
    return lines


def _lines(path: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        hide = path.endswith(".environment")
        if not value:
            return [f"{path} = {{}}"]
        return [line for key, inner in value.items() for line in _lines(f"{path}.{key}", "…" if hide else inner)]
    return [f"{path} = {toml_value(tuple(value) if isinstance(value, list) else value)}"]


def _print_json(answer: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
