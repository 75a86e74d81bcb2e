# SPDX-License-Identifier: MIT
"""Reads and checks one TOML file: a whole Config, or every problem with its line.

Two passes over what `tomllib` gives: the shape (each key by itself, so that one wrong value does not
hide another) and the meaning (`meaning`). Whatever the file holds, what comes out is a Config or a ConfigError.
"""

from __future__ import annotations

import difflib
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import FieldInfo, fields

from wolverined.config import meaning, schema
from wolverined.config.facts import Facts, digest_of
from wolverined.config.lines import key_lines
from wolverined.config.problems import Loaded, Problem, Problems, visible
from wolverined.errors import ConfigError, NotPrepared

MAX_BYTES = 1 << 20

_LONGEST_NAME = 64

# Keys that may also be one string, split as a shell would and never run by one.
_COMMANDS = {"app.command", "probe.exec", "heal.test_command", "heal.build_command"}


def load(path: Path, *, facts: Facts | None = None) -> Loaded:
    """Read `path` and give the Config with its warnings.

    Args:
        path: The file.
        facts: What root saw of the app (`config.facts`); then nothing of the app is looked at, and its
            `environment_file` is the copy that root made.

    Raises:
        ConfigError: With every problem found, each with its line, what is wrong and what to write; or the facts
            are of another text than the file holds.
    """
    text = read_text(path)
    if facts is not None:
        _agree(text, facts, path)
    return parse(text, origin=path, facts=facts)


def _agree(text: str, facts: Facts, path: Path) -> None:
    """What root saw counts for what it read, and what it refused is refused in its words."""
    if facts.config_digest and facts.config_digest != digest_of(text.encode()):
        raise NotPrepared(
            f"{path} was changed after root had looked at what it names",
            hint=f"`systemctl reload wolverine@{path.stem}` looks again",
        )
    if facts.refused:
        raise ConfigError(facts.refused)


def parse(text: str, *, origin: Path, facts: Facts | None = None) -> Loaded:
    """Give the Config that `text` describes; `origin` names the file in messages.

    Raises:
        ConfigError: As `load` does.
    """
    raw, problems = read_toml(text, origin=origin)
    tables = shape(raw, problems)
    loaded = meaning.check(tables, problems=problems, origin=origin, facts=facts)
    refuse(problems, origin=origin)
    return loaded


def read_toml(text: str, *, origin: Path) -> tuple[dict[str, Any], Problems]:
    """The tables of a text, and a collector of problems that knows its lines.

    Raises:
        ConfigError: It is no TOML.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")  # as a Windows editor writes it
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # ValueError: TOMLDecodeError, and int() on thousands of digits. RecursionError: thousands of brackets.
        raise _refused(origin, (_not_toml(error, text),)) from error
    return raw, Problems(lines=key_lines(text))


def refuse(problems: Problems, *, origin: Path) -> None:
    """Raise the ConfigError that says every problem that was found, if any was."""
    if problems.found:
        raise _refused(origin, tuple(sorted(problems.found, key=lambda problem: problem.line or 0)))


def _not_toml(error: Exception, text: str) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(line=None, key="", message="not TOML: brackets are nested too deeply", hint="nest less")
    at = re.search(r"\(at line (\d+), column \d+\)$", str(error))
    last = text.rstrip("\n").count("\n") + 1 if str(error).endswith("(at end of document)") else None
    what = re.sub(r" \(at [^)]*\)$", "", str(error))
    if not isinstance(error, tomllib.TOMLDecodeError):
        what = "a number has too many digits"
    hints = {
        "Cannot overwrite a value": "a key may stand only once in its table",
        "Cannot declare": "a table may be opened only once; put its keys together",
        "Invalid value": "a text needs quotes, true and false are written small",
        "Expected '=' after a key in a key/value pair": "write key = value",
    }
    hint = next((words for begin, words in hints.items() if what.startswith(begin)), "mend this line")
    return Problem(line=int(at[1]) if at else last, key="", message=visible(f"not TOML: {what}"), hint=hint)


def _refused(origin: Path, found: tuple[Problem, ...]) -> ConfigError:
    count = "one problem" if len(found) == 1 else f"{len(found)} problems"
    lines = "\n".join(f"  {problem.describe(origin)}" for problem in found)
    return ConfigError(f"{origin}: {count}\n{lines}", problems=found)


def read_text(path: Path) -> str:
    """The text of a configuration file, bounded.

    Raises:
        ConfigError: It cannot be read, or is no such text.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode) and not path.is_relative_to("/dev"):
            raise ConfigError(f"{path} is a pipe", hint="name a file")  # opening it could wait for ever
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}", hint="`wolverinectl init NAME` writes one") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check its owner and mode") from error
    return decode(data, origin=path)


def decode(data: bytes, *, origin: Path) -> str:
    """The text that the bytes of a configuration file are.

    Raises:
        ConfigError: They are too many, or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{origin} is larger than 1 MiB", hint="is this the right file?")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{origin} line {line}: not UTF-8", hint="save the file as UTF-8") from error


def shape(raw: dict[str, Any], problems: Problems) -> dict[str, msgspec.Struct]:
    """Convert table by table and key by key; what is missing or wrong is stood in for."""
    known = {field.name: field for field in fields(schema.Config)}
    for name, value in raw.items():
        if name not in known:
            what = f"unknown table [{name}]" if isinstance(value, dict) else f"{name!r} stands outside of any table"
            problems.add(name, what, _elsewhere(name, known))
    return {name: _table(raw.get(name, {}), cast("Any", field.type), name, problems) for name, field in known.items()}


def _table(raw: Any, kind: type[msgspec.Struct], path: str, problems: Problems) -> msgspec.Struct:
    """Make one table; what is missing or wrong is stood in for, so that the checks of meaning still see the rest."""
    known = {field.name: field for field in fields(kind)}
    if not isinstance(raw, dict):
        problems.add(path, f"{path} must be a table", f"write [{path}] on a line of its own")
        return kind(**{key: _stand_in(field) for key, field in known.items()})
    for key in raw:
        if key not in known:
            problems.add(f"{path}.{key}", f"unknown key {key!r} in [{path}]", _elsewhere(key, known))
    values: dict[str, Any] = {}
    for key, field in known.items():
        where = f"{path}.{key}"
        if key not in raw:
            values[key] = _stand_in(field)
            if field.required:
                problems.add(where, f"{where} is missing", _required_hint(where))
            continue
        try:
            values[key] = _value(raw[key], field.type, where, problems)
        except Wrong as wrong:
            values[key] = _stand_in(field)
            problems.add(where, *wrong.args)
    return kind(**values)


def _stand_in(field: FieldInfo) -> Any:
    if field.required:
        return () if field.name == "command" else Path()
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


class Wrong(Exception):
    """A value that cannot be used: message and hint."""


def _value(raw: Any, kind: Any, where: str, problems: Problems) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        _refuse_odd(raw, where)
        return _table(raw, kind, where, problems)
    return convert(raw, kind, where)


def convert(raw: Any, kind: Any, where: str) -> Any:
    """`raw`, as `tomllib` gives it, as a `kind`.

    Raises:
        Wrong: It is none; with message and hint.
    """
    _refuse_odd(raw, where)
    if where in _COMMANDS and isinstance(raw, str):
        return _split(raw, where)
    try:
        return msgspec.convert(raw, kind, strict=True, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise Wrong(f"{where}: {_plain(str(error))}", _example(where)) from error


def _refuse_odd(raw: Any, where: str) -> None:
    """What TOML allows and no system call takes: NUL characters, and whole numbers beyond 64 bits."""
    pending = [raw]
    while pending:
        value = pending.pop()
        if isinstance(value, str) and "\0" in value:
            raise Wrong(f"{where} holds a NUL character", "remove \\u0000")
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise Wrong(f"{where}: the number is far too large", "write a smaller number")
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += [*value, *value.values()]


def _split(raw: str, where: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(raw))
    except ValueError as error:
        raise Wrong(f"{where}: {str(error).lower()}", 'write it as a list: ["program", "argument"]') from error


def _path(kind: type, value: Any) -> Any:
    if not (kind is Path and isinstance(value, str)):
        # msgspec adds the place to a ValueError, and takes NotImplementedError for a bug of ours.
        raise ValueError("Expected a path in quotes")
    return Path(value)


_WORDS = {
    "`int | null`": "a whole number",
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
    message = re.sub(r"^Invalid enum value (.*)$", r"there is no \1", message)
    message = re.sub(r"^Object missing required field `(.*)`$", r"\1 is missing", message)
    return message[:1].lower() + message[1:]


_EXAMPLES = {
    "app.command": 'command = ["node", "server/index.js"]',
    "app.directory": 'directory = "/srv/myapp"',
    "app.environment": 'environment = {NODE_ENV = "production"}, each value in quotes',
    "app.port": "port = 3000",
    "ai.prices": 'prices = {"MODEL" = {input = 0.5, output = 2.0}}, in US dollars for a million tokens',
    "heal.trial.read_only": 'read_only = ["public/videos"]',
    "heal.trial.environment": 'environment = {NAME = "value"}, each value in quotes',
    "heal.trial.setup": 'setup = [["npm", "run", "seed"]], a list of lists',
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
        kind = next((field.type for field in fields(kind) if field.name == part), None)
        if kind is None or not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return "see wolverine.toml(5)"
    field = next((field for field in fields(kind) if field.name == key), None)
    if field is None or field.default is msgspec.NODEFAULT:
        return "see wolverine.toml(5)"
    return f"the default is {key} = {toml_value(_stand_in(field))}"


def toml_value(value: Any) -> str:
    """Write a value as the file would have it."""
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return msgspec.json.encode(value, enc_hook=str).decode().replace("\x7f", "\\u007f")  # JSON allows it bare, TOML not


def _required_hint(where: str) -> str:
    return f"write {_EXAMPLES.get(where, where.rpartition('.')[2] + ' = …')} in [{where.rpartition('.')[0]}]"


def _elsewhere(name: str, known: dict[str, Any]) -> str:
    """What the author may have meant: a key of this table, or of another one."""
    near = difflib.get_close_matches(name[:_LONGEST_NAME], known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    homes = [path for path, kind in _tables(schema.Config) if name in {each.name for each in fields(kind)}]
    if homes:
        return f"it belongs into {' or '.join(f'[{home}]' for home in homes)}"
    return f"known here: {', '.join(sorted(known))}"


def _tables(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for field in fields(kind):
        inner: Any = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield f"{prefix}{field.name}", inner
            yield from _tables(inner, f"{prefix}{field.name}.")
