# SPDX-License-Identifier: MIT
"""Reads and checks one TOML file: a whole Config, or every problem with its line.

Three passes over what `tomllib` gives: the shape (each key by itself, so that one wrong value does not
hide another), the meaning (`meaning`), and the environment of `wolverined run` (`environment`).
"""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config import meaning, schema
from wolverined.config.lines import key_lines
from wolverined.config.problems import Loaded, Problem, Problems
from wolverined.errors import ConfigError

MAX_BYTES = 1 << 20

# Keys that may also be one string, split as a shell would and never run by one.
_COMMANDS = {"app.command", "probe.exec", "heal.test_command", "heal.build_command"}


def load(path: Path) -> Loaded:
    """Read `path` and give the Config with its warnings.

    Raises:
        ConfigError: With every problem found, each with its line, what is wrong and what to write.
    """
    return parse(_read(path), origin=path)


def parse(text: str, *, origin: Path) -> Loaded:
    """Give the Config that `text` describes; `origin` names the file in messages.

    Raises:
        ConfigError: As `load` does.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        what = re.sub(r" \(at .*\)$", "", str(error))
        raise _refused(
            origin,
            (Problem(line=int(at[1]) if at else None, key="", message=f"not TOML: {what}", hint="mend this line"),),
        ) from error
    problems = Problems(lines=key_lines(text))
    tables = _shape(raw, problems)
    loaded = meaning.check(tables, problems=problems, origin=origin) if tables is not None else None
    if loaded is None or problems.found:
        raise _refused(origin, tuple(sorted(problems.found, key=lambda problem: problem.line or 0)))
    return loaded


def _refused(origin: Path, found: tuple[Problem, ...]) -> ConfigError:
    count = "one problem" if len(found) == 1 else f"{len(found)} problems"
    lines = "\n".join(f"  {problem.describe(origin)}" for problem in found)
    return ConfigError(f"{origin}: {count}\n{lines}", problems=found)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}", hint="`wolverinectl init NAME` writes one") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check its owner and mode") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB", hint="is this the right file?")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} line {line}: not UTF-8", hint="save the file as UTF-8") from error


def _shape(raw: dict[str, Any], problems: Problems) -> dict[str, msgspec.Struct] | None:
    """Convert table by table and key by key; None when [app] cannot be made at all."""
    tables: dict[str, msgspec.Struct] = {}
    known = {field.name: field for field in msgspec.structs.fields(schema.Config)}
    for name in raw:
        if name not in known:
            problems.add(name, f"unknown table [{name}]", _did_you_mean(name, known))
    for name, field in known.items():
        kind: Any = field.type
        made = _table(raw.get(name, {}), kind, name, problems)
        if made is not None:
            tables[name] = made
    return tables if "app" in tables else None


def _table(raw: Any, kind: type[msgspec.Struct], path: str, problems: Problems) -> msgspec.Struct | None:
    if not isinstance(raw, dict):
        problems.add(path, f"{path} must be a table", f"write [{path}] on a line of its own")
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in raw:
        if key not in fields:
            problems.add(f"{path}.{key}", f"unknown key {key!r} in [{path}]", _did_you_mean(key, fields))
    values: dict[str, Any] = {}
    whole = True
    for key, field in fields.items():
        where = f"{path}.{key}"
        if key not in raw:
            if field.required:
                problems.add(path, f"{where} is missing", _required_hint(where))
                whole = False
            continue
        try:
            values[key] = _value(raw[key], field.type, where, problems)
        except _Wrong as wrong:
            # The default stands in, so that the checks of meaning still look at the table's other keys.
            problems.add(where, *wrong.args)
            whole = whole and not field.required
    return kind(**values) if whole else None


class _Wrong(Exception):
    """A value that cannot be used: message and hint."""


def _value(raw: Any, kind: Any, where: str, problems: Problems) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        made = _table(raw, kind, where, problems)
        return made if made is not None else kind()
    if where in _COMMANDS and isinstance(raw, str):
        return _split(raw, where)
    try:
        return msgspec.convert(raw, kind, strict=True, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise _Wrong(f"{where}: {_plain(str(error))}", _example(where)) from error


def _split(raw: str, where: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(raw))
    except ValueError as error:
        raise _Wrong(f"{where}: {str(error).lower()}", 'write it as a list: ["program", "argument"]') from error


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a text in quotes",
    "`bool`": "true or false",
    "`array`": "a list in brackets",
    "`object`": "a table",
    "`Path`": "a path in quotes",
}


def _plain(message: str) -> str:
    """Turn msgspec's message into words of the file's author."""
    message = re.sub(r" - at `\$.*`$", "", message)
    for technical, plain in _WORDS.items():
        message = message.replace(technical, plain)
    return message[:1].lower() + message[1:]


_EXAMPLES = {
    "app.command": 'command = ["node", "server/index.js"]',
    "app.directory": 'directory = "/srv/myapp"',
    "app.port": "port = 3000",
    "stop.scope": 'scope = "tree" (or "main")',
    "heal.policy": 'policy = "auto" (or "approve", "observe", "off")',
    "heal.unprovable": 'unprovable = "approve" (or "apply")',
}


def _example(where: str) -> str:
    if where in _EXAMPLES:
        return f"write {_EXAMPLES[where]}"
    table, _, key = where.rpartition(".")
    kind: Any = schema.Config
    for part in table.split("."):
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.name == part), None)
        if kind is None or not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return "see wolverine.toml(5)"
    field = next((field for field in msgspec.structs.fields(kind) if field.name == key), None)
    if field is None or field.default is msgspec.NODEFAULT:
        return "see wolverine.toml(5)"
    return f"the default is {key} = {toml_value(field.default)}"


def toml_value(value: Any) -> str:
    """Write a default as the file would have it."""
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return msgspec.json.encode(value, enc_hook=str).decode()


def _required_hint(where: str) -> str:
    return f"write {_EXAMPLES.get(where, where.rpartition('.')[2] + ' = …')} in [{where.rpartition('.')[0]}]"


def _did_you_mean(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known here: {', '.join(sorted(known))}"
