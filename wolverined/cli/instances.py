# SPDX-License-Identifier: MIT
"""Which instances there are on this machine, and the client of the one that is meant.

An instance is a directory NAME below `$XDG_RUNTIME_DIR/wolverine` (one's own) or `/run/wolverine`
(the system's). `--runtime-dir` names one such directory itself, wherever it lies.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from wolverined.control.client import Client
from wolverined.errors import NoSuchInstance, Unreachable, UsageError

SYSTEM = "/run/wolverine"
CONFIGURATIONS = "/etc/wolverine"


class Found(NamedTuple):
    """One instance: its name (empty when only its directory is known) and its runtime directory."""

    name: str
    directory: str

    def client(self) -> Client:
        """A client of its daemon."""
        return Client(self.directory)


def parents(environment: Mapping[str, str]) -> list[str]:
    """Where instances are looked for, one's own first."""
    own = environment.get("XDG_RUNTIME_DIR", "")
    return [*([os.path.join(own, "wolverine")] if own.startswith("/") else []), SYSTEM]  # noqa: PTH118


def everywhere(environment: Mapping[str, str]) -> list[Found]:
    """Every instance that has a runtime directory, by name."""
    found: dict[str, Found] = {}
    for parent in parents(environment):
        try:
            names = sorted(entry.name for entry in os.scandir(parent) if entry.is_dir())
        except OSError:
            continue  # no such place here, or none of our business
        for name in names:
            found.setdefault(name, Found(name, f"{parent}/{name}"))
    return [found[name] for name in sorted(found)]


def configured() -> list[str]:
    """The names of all applications that have a file in /etc/wolverine, whether they run or not."""
    try:
        files = sorted(entry.name for entry in os.scandir(CONFIGURATIONS) if entry.is_file())
    except OSError:
        return []  # nothing is enrolled here, or it is none of our business
    return [file.removesuffix(".toml") for file in files if file.endswith(".toml") and not file.startswith(".")]


def locate(name: str, environment: Mapping[str, str]) -> Found:
    """The instance called `name`.

    Raises:
        NoSuchInstance: Nothing of that name is known.
        Unreachable: It is configured, but its daemon does not run.
        UsageError: `name` cannot be a name.
    """
    if not name or name.startswith((".", "-")) or "/" in name:
        raise UsageError(f"{name!r} is no application's name", hint="wolverinectl list")
    for parent in parents(environment):
        if os.path.isdir(f"{parent}/{name}"):  # noqa: PTH112
            return Found(name, f"{parent}/{name}")
    if os.path.exists(f"{CONFIGURATIONS}/{name}.toml"):  # noqa: PTH110
        raise Unreachable(f"{name} is configured but not running", hint=f"systemctl start wolverine@{name}")
    raise NoSuchInstance(f"there is no application {name!r}", hint=_nearest(name, environment))


def verified(found: Found, name: str) -> dict[str, Any]:
    """The status of a directory that was named by `--runtime-dir`; NAME, when given, must be its app."""
    status = found.client().get("/v1/status")
    assert isinstance(status, dict)
    if name and status.get("app") != name:
        raise NoSuchInstance(
            f"{found.directory} serves {status.get('app')}, not {name}",
            hint="leave the name out, or give the right one",
        )
    return status


def _nearest(name: str, environment: Mapping[str, str]) -> str:
    import difflib

    names = sorted({*(found.name for found in everywhere(environment)), *configured()})
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]}?"
    if names:
        return f"there are: {', '.join(names[:8])}"
    return "no application is enrolled here: wolverinectl init NAME, or name its directory by --runtime-dir"
