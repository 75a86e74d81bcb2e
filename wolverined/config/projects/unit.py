# SPDX-License-Identifier: MIT
"""Reads a systemd service, to take over what it says of an application: systemd.service(5), systemd.exec(5).

What has a key in the configuration is taken; what has none is said, so that nobody loses a limit unawares.
"""

from __future__ import annotations

import glob
import pwd
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config.projects import programs
from wolverined.config.projects.project import Start, is_file, read_text
from wolverined.errors import NotFound, UsageError

PLACES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_LISTS = {"Environment", "EnvironmentFile", "ExecStart"}
_TAKEN = {
    "ExecStart", "User", "Group", "WorkingDirectory", "Environment", "EnvironmentFile", "KillSignal",
    "TimeoutStopSec", "Type", "NotifyAccess",
}  # fmt: skip
_OURS = {"Restart", "RestartSec", "StandardOutput", "StandardError", "SyslogIdentifier", "KillMode", "WatchdogSec"}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|sec|m|min|h)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, None: 1}


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """The [Service] section, drop-ins applied: key -> values in order."""

    name: str
    path: str
    service: dict[str, list[str]]

    def last(self, key: str) -> str:
        """The value in force of a key that takes one."""
        return self.service.get(key, [""])[-1]


def find(word: str) -> Unit:
    """The unit that `word` names: a file, or a unit's name.

    Raises:
        NotFound: There is none.
    """
    if "/" in word or is_file(Path(word)):
        path = Path(word)
        if not is_file(path):
            raise NotFound(f"there is no file {word}", hint="name a unit, or the file of one")
        return Unit(name=path.name, path=str(path), service=parse([read_text(path)]))
    name = word if word.endswith(".service") else f"{word}.service"
    template = re.sub(r"@[^@]*\.service$", "@.service", name)
    for place in PLACES:
        for candidate in dict.fromkeys((name, template)):
            if is_file(path := Path(place) / candidate):
                texts = [read_text(path), *(read_text(Path(each)) for each in _drop_ins(name))]
                return Unit(name=name, path=str(path), service=parse(texts))
    raise NotFound(f"there is no unit {name} in {', '.join(PLACES)}", hint="name its file: --from-unit ./app.service")


def parse(texts: list[str]) -> dict[str, list[str]]:
    """The [Service] sections of a unit and its drop-ins; an empty value takes earlier ones back."""
    found: dict[str, list[str]] = {}
    for text in texts:
        section = ""
        for line in re.sub(r"\\\n[ \t]*", " ", text.replace("\r\n", "\n")).split("\n"):
            line = line.strip()  # noqa: PLW2901
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
            elif section == "Service" and line[:1] not in {"#", ";"} and "=" in line:
                key, _, value = (part.strip() for part in line.partition("="))
                if not value:
                    found.pop(key, None)
                elif key in _LISTS:
                    found.setdefault(key, []).append(value)
                else:
                    found[key] = [value]
    return found


def start_of(unit: Unit, *, name: str) -> Start:
    """What the unit says of its application, as a start.

    Args:
        unit: As `find` gave it.
        name: The application's name here.

    Raises:
        UsageError: It cannot be taken over.
    """
    notes: list[str] = []
    user = _resolve(unit.last("User"), unit, home="", notes=notes)
    home = _home(user)
    environment, file = _environment(unit, home, notes)
    command = _command(unit, home, environment, notes)
    directory = _directory(unit, home, notes)
    if unit.last("Type") == "forking":
        raise UsageError(
            f"{unit.name} is of Type=forking: it leaves its starter",
            hint="find its option to stay in the foreground, and write that command yourself",
        )
    if unit.last("Group") and user and unit.last("Group") != user:
        notes.append(f"Group={unit.last('Group')} is not carried over: the app gets the groups of its user")
    dropped = sorted(set(unit.service) - _TAKEN - _OURS)
    if dropped:
        notes.append(f"not carried over, since it has no counterpart for {name}: {', '.join(dropped)}")
    return Start(
        command=command,
        origin=f"ExecStart of {unit.path}",
        directory=Path(directory) if directory else None,
        entry=next((word for word in command[1:] if word.endswith((".js", ".mjs", ".cjs", ".py"))), ""),
        language="node" if Path(command[0]).name.startswith("node") else "",
        port=programs.port_in(command) or _port(environment),
        port_origin=f"{unit.path}",
        environment={key: value for key, value in environment.items() if key != "PORT"},
        environment_file=file,
        user=user,
        notify=unit.last("Type") in {"notify", "notify-reload"},
        stop=_stop(unit, notes),
        notes=tuple(notes),
    )


def _port(environment: Mapping[str, str]) -> int | None:
    return int(environment["PORT"]) if re.fullmatch(r"\d{1,5}", environment.get("PORT", "")) else None


def _drop_ins(name: str) -> Iterator[str]:
    template = re.sub(r"@[^@]*\.service$", "@.service", name)
    found: dict[str, str] = {}
    for place in reversed(PLACES):
        for each in dict.fromkeys((template, name)):
            for path in glob.glob(f"{glob.escape(f'{place}/{each}.d')}/*.conf"):  # noqa: PTH207
                found[Path(path).name] = path  # a file of the same name in /etc hides one in /usr
    return iter(path for _, path in sorted(found.items()))


def _home(user: str) -> str:
    try:
        return pwd.getpwnam(user).pw_dir if user else "/root"
    except KeyError:
        return "/"


def _resolve(text: str, unit: Unit, *, home: str, notes: list[str]) -> str:
    """Put values for the specifiers (%i and its like) whose meaning can be known from here."""
    stem = unit.name.removesuffix(".service")
    prefix, _, instance = stem.partition("@")
    known = {
        "n": unit.name,
        "N": stem,
        "p": prefix,
        "i": instance,
        "I": instance.replace("-", "/"),
        "%": "%",
        "h": home,
    }

    def value(found: re.Match[str]) -> str:
        if found[1] in known and (known[found[1]] or found[1] in "iI"):
            return known[found[1]]
        notes.append(f"the specifier %{found[1]} in {text!r} is not resolved")
        return found[0]

    return re.sub(r"%(.)", value, text)


def _words(text: str, what: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{what} cannot be read: {str(error).lower()}", hint="mend the unit") from error


def _command(unit: Unit, home: str, environment: Mapping[str, str], notes: list[str]) -> tuple[str, ...]:
    lines = unit.service.get("ExecStart", [])
    if len(lines) != 1:
        raise UsageError(
            f"{unit.path} has {len(lines) or 'no'} ExecStart", hint="one command is what can be supervised"
        )
    bare = lines[0].lstrip("-@:+!")
    if prefixes := lines[0][: len(lines[0]) - len(bare)]:
        notes.append(f"the prefix {prefixes} of ExecStart is not carried over")
    words: list[str] = []
    for word in _words(bare, "ExecStart"):
        resolved = _resolve(word, unit, home=home, notes=notes)
        if (whole := re.fullmatch(r"\$([A-Za-z_]\w*)", resolved)) and whole[1] in environment:
            words += environment[whole[1]].split()  # as systemd does for a word of its own
            continue
        words.append(re.sub(r"\$\{([A-Za-z_]\w*)\}", lambda found: environment.get(found[1], found[0]), resolved))
    if unknown := [word for word in words if re.search(r"\$[{A-Za-z_]", word)]:
        notes.append(f"{', '.join(unknown)}: nothing is put in for variables here; write the value")
    if "@" in prefixes and len(words) > 1:
        del words[1]  # what the program is told that it is called
    if not words or not words[0]:
        raise UsageError(f"the ExecStart of {unit.path} names no program", hint="mend the unit")
    return tuple(words)


def _directory(unit: Unit, home: str, notes: list[str]) -> str:
    text = _resolve(unit.last("WorkingDirectory").lstrip("-"), unit, home=home, notes=notes)
    return home if text == "~" else text


def _environment(unit: Unit, home: str, notes: list[str]) -> tuple[dict[str, str], Path | None]:
    environment: dict[str, str] = {}
    for line in unit.service.get("Environment", []):
        for word in _words(line, "Environment"):
            key, equals, value = word.partition("=")
            if equals and re.fullmatch(r"[A-Za-z_]\w*", key):
                environment[key] = _resolve(value, unit, home=home, notes=notes)
    files = [
        (_resolve(each.lstrip("-"), unit, home=home, notes=notes), each.startswith("-"))
        for each in unit.service.get("EnvironmentFile", [])
    ]
    there = [path for path, optional in files if not optional or is_file(Path(path))]
    if len(there) > 1:
        notes.append(f"one file of variables can be named; put these into it too: {', '.join(there[1:])}")
    return environment, Path(there[0]) if there else None


def _stop(unit: Unit, notes: list[str]) -> dict[str, Any]:
    stop: dict[str, Any] = {}
    if signal := unit.last("KillSignal"):
        stop["signal"] = signal if signal.startswith("SIG") else f"SIG{signal}"
    if span := unit.last("TimeoutStopSec"):
        parts = _SPAN.findall(span)
        if span == "infinity" or not parts:
            notes.append(f"TimeoutStopSec={span} is not carried over")
        else:
            stop["timeout_s"] = sum(float(number) * _SECONDS[unit_name or None] for number, unit_name in parts)
    if unit.last("KillMode") in {"process", "mixed"}:
        stop["scope"] = "main"
    return stop
