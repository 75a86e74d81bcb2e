# SPDX-License-Identifier: MIT
"""What a trial is asked to run: the arguments of `prepare`, checked.

The environment arrives with its secrets already replaced; what belongs to the supervisor's own
machinery is taken out here once more, since a candidate must not report to the live instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wolverined.config.schema import ProbeTable
from wolverined.errors import UsageError
from wolverined.linux.sandboxtree import Change

PRIVATE_VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WOLVERINE_REPORT_SOCKET", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
MAX_FILES = 1000
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"')
_OPTION = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s"]|")+')
"""One word of NODE_OPTIONS: Node splits at spaces and knows double quotes with backslashes in them."""
MAX_STARTUP_S = 600.0


class PlannedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One changed file; its content is the next blob unless it is removed."""

    path: str
    mode: int = 0o644
    removed: bool = False


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial has of the app's directory by itself: all of it, or (`whole`) only what is `bound` into it."""

    whole: bool = False
    bound: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to run the candidate: at its own path, by its own command.

    `hide` are directories and files that must look empty, `hooks` the directory of injected reporters.
    """

    directory: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    port: int | None = None
    probe: ProbeTable = ProbeTable()
    startup_s: float = 20.0
    hide: tuple[str, ...] = ()
    hooks: str = ""
    setup: tuple[tuple[str, ...], ...] = ()
    files: tuple[PlannedFile, ...] = ()


def read_plan(args: Mapping[str, Any], blobs: Sequence[bytes]) -> tuple[Plan, tuple[Change, ...]]:
    """Check the arguments of `prepare`; give the plan and the changes of the tree.

    Raises:
        UsageError: They are not what the contract says.
    """
    try:
        plan = msgspec.convert(args, Plan)
    except msgspec.ValidationError as error:
        raise UsageError(f"prepare: {error}") from None
    if not plan.command or not plan.directory.startswith("/") or len(plan.files) > MAX_FILES:
        raise UsageError("prepare: no command, no absolute directory, or too many files")
    if not 0 < plan.startup_s <= MAX_STARTUP_S or (plan.port is not None and not 0 < plan.port < 65536):  # noqa: PLR2004
        raise UsageError("prepare: startup_s or port is out of range")
    if any("\0" in word for word in (plan.directory, *plan.command, *(w for argv in plan.setup for w in argv))):
        raise UsageError("prepare: a NUL byte")
    kept = [file for file in plan.files if not file.removed]
    if len(kept) != len(blobs) or len({file.path for file in plan.files}) != len(plan.files):
        raise UsageError("prepare: the blobs do not fit the files")
    contents = iter(blobs)
    changes = tuple((file.path, None if file.removed else next(contents), file.mode) for file in plan.files)
    return msgspec.structs.replace(plan, environment=clean(plan.environment, hooks=plan.hooks)), changes


def clean(environment: Mapping[str, str], *, hooks: str = "") -> dict[str, str]:
    """The environment without the supervisor's channels and without reporters injected from `hooks`."""
    kept = {
        name: value
        for name, value in environment.items()
        if name and "=" not in name and "\0" not in name + value
        if name not in PRIVATE_VARIABLES and not name.startswith("WATCHDOG_")
    }
    if hooks and "NODE_OPTIONS" in kept:
        kept["NODE_OPTIONS"] = _without_hook_options(kept["NODE_OPTIONS"], hooks)
    if hooks and "PYTHONPATH" in kept:
        places = kept["PYTHONPATH"].split(":")
        kept["PYTHONPATH"] = ":".join(place for place in places if place and not _lies_in(place, hooks))
    return {name: value for name, value in kept.items() if value or name not in {"NODE_OPTIONS", "PYTHONPATH"}}


def _without_hook_options(options: str, hooks: str) -> str:
    kept: list[str] = []
    for raw in _OPTION.findall(options):
        word = _QUOTED.sub(lambda match: re.sub(r"\\(.)", r"\1", match[1]), raw)
        name, equals, value = word.partition("=")
        if _lies_in((value if equals and name.startswith("-") else word).removeprefix("file://"), hooks):
            if not equals and kept and kept[-1].startswith("-"):
                kept.pop()  # `--require PATH` in two words
            continue
        kept.append(raw)
    return " ".join(kept)


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
