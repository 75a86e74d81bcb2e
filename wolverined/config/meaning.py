# SPDX-License-Identifier: MIT
"""Checks what the values mean on this machine, and fills in what is derived from others.

Everything is looked at, so that one run of `config check` says all there is to mend.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from wolverined.config.problems import Loaded, Problems
from wolverined.config.schema import AppTable, Config, HealTable, PlatformTable, ProbeTable

_POSITIVE = [
    "stop.timeout_s",
    "restart.initial_s",
    "restart.max_s",
    "restart.reset_s",
    "restart.crash_loop_s",
    "probe.interval_s",
    "probe.timeout_s",
    "probe.startup_s",
    "routes.interval_s",
    "resources.sample_s",
    "resources.leak_window_s",
    "errors.window_s",
    "heal.timeout_s",
    "heal.probation_s",
    "heal.approval_s",
    "platform.heartbeat_s",
]
_AT_LEAST_ONE = [
    "restart.factor",
    "probe.failures",
    "errors.threshold",
    "heal.max_attempts",
    "heal.max_files",
    "heal.max_lines",
]
_NOT_NEGATIVE = [
    "stop.abort_s",
    "restart.jitter",
    "routes.slow_ms",
    "resources.memory_max_mb",
    "errors.cooldown_s",
    "cluster.workers",
    "heal.settle_s",
    "alerts.digest_s",
    "retention.backups_days",
    "retention.stable_per_day",
    "retention.evidence_days",
    "retention.state_max_mb",
]
_CHOICES = {"heal.auto_risk": ("low", "any"), "alerts.min_severity": ("info", "warn", "error", "critical")}
_LONGEST_S = 366 * 86400.0  # a larger number is a slip of units, and overflows timers
_FIRST_UNPRIVILEGED_PORT = 1024
_LAST_PORT = 65535


def check(tables: dict[str, msgspec.Struct], *, problems: Problems, origin: Path) -> Loaded:
    """Complete the tables to a Config; what is wrong goes to `problems`."""
    app = cast("AppTable", tables["app"])
    warnings: list[str] = []
    _check_numbers(tables, problems)
    app = _check_app(app, problems, base=origin.parent)
    heal = _check_heal(cast("HealTable", tables.get("heal", HealTable())), app, problems, warnings)
    _check_probe(cast("ProbeTable", tables.get("probe", ProbeTable())), app, problems)
    _check_signal(tables, problems)
    _check_urls(tables, problems)
    platform = cast("PlatformTable", tables.get("platform", PlatformTable()))
    if not platform.instance_name:
        platform = msgspec.structs.replace(platform, instance_name=origin.stem)
    made: dict[str, Any] = {**tables, "app": app, "heal": heal, "platform": platform}
    return Loaded(config=Config(**made), warnings=tuple(warnings))


def _check_numbers(tables: dict[str, msgspec.Struct], problems: Problems) -> None:
    for keys, least, words in (
        (_POSITIVE, None, "must be more than 0"),
        (_AT_LEAST_ONE, 1, "must be at least 1"),
        (_NOT_NEGATIVE, 0, "must not be negative"),
    ):
        for key in keys:
            value = _get(tables, key)
            if value is None:
                continue
            if not (value > 0 if least is None else value >= least):  # written so that NaN fails
                problems.add(key, f"{key} {words}, not {value}", "write a larger number")
            elif value > _LONGEST_S:
                problems.add(
                    key, f"{key} is more than a year, or not a number", "is the unit right? `_s` means seconds"
                )
    for key, allowed in _CHOICES.items():
        value = _get(tables, key)
        if value is not None and value not in allowed:
            problems.add(key, f"{key} cannot be {value!r}", f"write one of: {', '.join(allowed)}")
    jitter = _get(tables, "restart.jitter")
    if jitter is not None and jitter > 1:
        problems.add("restart.jitter", "restart.jitter must not be above 1", "0.1 means up to 10 % longer")


def _get(tables: dict[str, msgspec.Struct], key: str) -> Any:
    table, _, name = key.partition(".")
    return getattr(tables.get(table), name, None)


def _check_app(app: AppTable, problems: Problems, *, base: Path) -> AppTable:
    directory = app.directory if app.directory.is_absolute() else Path(os.path.normpath(base / app.directory))
    there = directory.is_dir()
    if not there:
        what = "is not a directory" if directory.exists() else "does not exist"
        problems.add("app.directory", f"app.directory {directory} {what}", "write the directory of the application")
    if not app.command:
        problems.add("app.command", "app.command is empty", 'write command = ["node", "server/index.js"]')
    elif there:
        _check_command(app, directory, problems)
    _check_port(app, problems)
    user = _check_user(app, directory if there else None, problems)
    environment_file = _check_environment_file(app, base, problems)
    _check_environment(app, problems)
    return msgspec.structs.replace(app, directory=directory, user=user, environment_file=environment_file)


def _check_command(app: AppTable, directory: Path, problems: Problems) -> None:
    program = app.command[0]
    if any("\0" in word for word in app.command):
        problems.add("app.command", "app.command holds a NUL character", "remove it")
        return
    path = app.environment.get("PATH", os.environ.get("PATH", os.defpath))
    if "/" in program:
        found = str(directory / program) if os.access(directory / program, os.X_OK) else None
    else:
        found = shutil.which(program, path=path)
    if found is None:
        problems.add(
            "app.command", f"the program {program!r} is not found or not executable", "write its absolute path"
        )


def _check_port(app: AppTable, problems: Problems) -> None:
    if app.port is None:
        return
    if not 0 < app.port <= _LAST_PORT:
        problems.add("app.port", f"app.port {app.port} is no port", f"write a number from 1024 to {_LAST_PORT}")
    elif app.port < _FIRST_UNPRIVILEGED_PORT:
        problems.add(
            "app.port",
            f"app.port {app.port} is privileged, and the app gets no capability",
            "let a reverse proxy (nginx, caddy, haproxy) listen there and pass to a port from 1024 up",
        )


def _check_user(app: AppTable, directory: Path | None, problems: Problems) -> str:
    if app.user:
        try:
            entry = pwd.getpwnam(app.user)
        except KeyError:
            problems.add("app.user", f"there is no user {app.user!r}", f"adduser --system --group {app.user}")
            return app.user
    elif directory is None:
        return ""
    else:
        owner = directory.stat().st_uid
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            problems.add("app.user", f"{directory} belongs to uid {owner}, which has no name", "write app.user")
            return ""
    if entry.pw_uid == 0 and not app.allow_root:
        why = "app.user is root" if app.user else f"{directory} belongs to root, so the app would run as root"
        problems.add("app.user", why, "write user = the app's own user, or allow_root = true if you must")
    elif os.geteuid() not in (0, entry.pw_uid):
        problems.add(
            "app.user",
            f"only root can run the app as {entry.pw_name}",
            f"run as root, or as {entry.pw_name}, or write user = {pwd.getpwuid(os.geteuid()).pw_name!r}",
        )
    return entry.pw_name


def _check_environment_file(app: AppTable, base: Path, problems: Problems) -> Path | None:
    file = app.environment_file
    if file is None:
        return None
    file = file if file.is_absolute() else base / file
    try:
        file.open("rb").close()
    except OSError as error:
        problems.add("app.environment_file", f"cannot read {file}: {error.strerror}", "check the path, owner and mode")
    return file


def _check_environment(app: AppTable, problems: Problems) -> None:
    for name, value in app.environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            problems.add("app.environment", f"{name!r} cannot be an environment variable", "rename it")


def _check_heal(heal: HealTable, app: AppTable, problems: Problems, warnings: list[str]) -> HealTable:
    source = Path(os.path.normpath(app.directory / heal.source))
    if not app.directory.is_dir():
        return heal  # said already
    if not source.is_relative_to(app.directory):
        problems.add("heal.source", "heal.source lies outside app.directory", 'write a path below it, such as "."')
        return heal
    if not source.is_dir():
        problems.add("heal.source", f"heal.source {source} is not a directory", "write a path below app.directory")
        return heal
    apply_as = heal.apply_as
    if apply_as:
        try:
            pwd.getpwnam(apply_as)
        except KeyError:
            problems.add("heal.apply_as", f"there is no user {apply_as!r}", "write the owner of the source")
    else:
        owner = source.stat().st_uid
        try:
            apply_as = pwd.getpwuid(owner).pw_name
        except KeyError:
            problems.add("heal.apply_as", f"{source} belongs to uid {owner}, which has no name", "write heal.apply_as")
    if apply_as == "root" and not heal.allow_root_owner:
        warnings.append(
            f"{source} belongs to root: repairs are proposed and proven but not applied; "
            "chown the source to a user of its own, or write heal.allow_root_owner = true"
        )
    return msgspec.structs.replace(heal, apply_as=apply_as)


def _check_probe(probe: ProbeTable, app: AppTable, problems: Problems) -> None:
    chosen = [
        name
        for name, on in (("http", probe.http), ("tcp", probe.tcp), ("exec", probe.exec), ("notify", probe.notify))
        if on
    ]
    if len(chosen) > 1:
        problems.add(f"probe.{chosen[1]}", f"[probe] has {' and '.join(chosen)}", "keep one of them")
    if probe.http and not probe.http.startswith("/"):
        problems.add("probe.http", f"probe.http {probe.http!r} is no path", 'write http = "/health"')
    if any(character in probe.http for character in " \r\n\t\0"):
        problems.add("probe.http", "probe.http holds a blank or a control character", "percent-encode it")
    if (probe.http or probe.tcp) and app.port is None:
        problems.add(f"probe.{chosen[0]}", "this probe needs app.port", "write port = … in [app]")


def _check_signal(tables: dict[str, msgspec.Struct], problems: Problems) -> None:
    name = _get(tables, "stop.signal")
    if name is None:
        return
    known = {member.name for member in signal.Signals}
    if name not in known:
        problems.add("stop.signal", f"there is no signal {name!r}", 'write signal = "SIGTERM"')


def _check_urls(tables: dict[str, msgspec.Struct], problems: Problems) -> None:
    for key in ("ai.base_url", "platform.url"):
        url = _get(tables, key)
        if url and not _acceptable(url):
            problems.add(key, f"{key} must be https (plain http only to loopback)", 'write "https://host/…"')


def _acceptable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))
