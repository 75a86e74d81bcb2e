# SPDX-License-Identifier: MIT
"""What a text of the configuration may be: choices, signals, paths of URLs, addresses, globs, variables (pure)."""

from __future__ import annotations

import difflib
import ipaddress
import re
import signal
from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import urlsplit

import msgspec

from wolverined.config.numbers import value_of
from wolverined.config.problems import Problems

_CHOICES = {"heal.auto_risk": ("low", "any"), "alerts.min_severity": ("info", "warn", "error", "critical")}
_NOT_TO_STOP_WITH = ("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGURG", "SIGWINCH")
_URL_PATH = re.compile(r"/[!-~]*")
_VARIABLE = re.compile(r"[^=\0]+")


def check(tables: Mapping[str, msgspec.Struct], *, problems: Problems) -> None:
    """Add a problem for each text of `tables` that cannot mean anything."""
    for key, allowed in _CHOICES.items():
        if (value := value_of(tables, key)) not in allowed:
            problems.add(key, f"{key} cannot be {value!r}", f"write one of: {', '.join(allowed)}")
    _check_signal(str(value_of(tables, "stop.signal")), problems)
    _check_probe(tables, problems)
    for path in value_of(tables, "routes.watch"):
        _check_url_path("routes.watch", path, problems)
    check_urls(tables, problems=problems)
    _check_globs(tables, problems)
    for key in ("app.environment", "heal.trial.environment"):
        for name in value_of(tables, key):
            if not _VARIABLE.fullmatch(name):
                problems.add(f"{key}.{name}", f"{name!r} cannot be an environment variable", "rename it")
    for path in value_of(tables, "heal.trial.read_only"):
        if not path or not path.isprintable() or path.rstrip("/") in {"", "."}:
            key = "heal.trial.read_only"
            problems.add(key, f"{key} cannot name {path!r:.80}", 'write ["public/videos"], paths in app.directory')
    for command in value_of(tables, "heal.trial.setup"):
        if not command or not command[0]:
            problems.add(
                "heal.trial.setup", "heal.trial.setup holds an empty command", 'write [["npm", "run", "seed"]]'
            )


def check_urls(tables: Mapping[str, msgspec.Struct], *, problems: Problems) -> None:
    """Refuse addresses that would carry source, keys or telemetry in the clear."""
    for key in ("ai.base_url", "platform.url"):
        if (url := value_of(tables, key)) and (wrong := wrong_url(url)):
            problems.add(key, f"{key} {wrong}", 'write "https://HOST/…"')


def wrong_url(url: str) -> str:
    """What is wrong with an address that source, keys or telemetry would travel to; "" when nothing is."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        return "is no URL of https"
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password, which belong into a credential"
    if parts.query or parts.fragment:
        return "holds more than scheme, host, port and path"
    if parts.scheme == "http" and not is_loopback(host):
        return "is plain http to another machine"
    return ""


def is_loopback(host: str) -> bool:
    """Whether what is sent to that host stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_signal(name: str, problems: Problems) -> None:
    known = [member.name for member in signal.Signals]
    if name not in known:
        near = name and difflib.get_close_matches(f"SIG{name[:32].upper().removeprefix('SIG')}", known, n=1, cutoff=0.7)
        problems.add(
            "stop.signal", f"there is no signal {name!r}", f'write signal = "{near[0] if near else "SIGTERM"}"'
        )
    elif name in _NOT_TO_STOP_WITH:
        problems.add("stop.signal", f"{name} ends no program", 'write signal = "SIGTERM"')


def _check_probe(tables: Mapping[str, msgspec.Struct], problems: Problems) -> None:
    chosen = [name for name in ("http", "tcp", "exec", "notify") if value_of(tables, f"probe.{name}")]
    if len(chosen) > 1:
        problems.add(f"probe.{chosen[1]}", f"[probe] has {' and '.join(chosen)}", "keep one of them")
    if "http" in chosen:
        _check_url_path("probe.http", value_of(tables, "probe.http"), problems)
    command = cast("Sequence[str]", value_of(tables, "probe.exec"))
    if command and not command[0]:
        problems.add("probe.exec", "probe.exec names no program", 'write exec = ["/usr/bin/curl", "-f", "…"]')


def _check_url_path(key: str, path: str, problems: Problems) -> None:
    if not path.startswith("/"):
        problems.add(key, f"{key}: {path!r} is no path", 'write it from the first slash on, as "/health"')
    elif not _URL_PATH.fullmatch(path) or "#" in path:
        problems.add(key, f"{key}: {path!r} holds a character that no request line has", "percent-encode it")


def _check_globs(tables: Mapping[str, msgspec.Struct], problems: Problems) -> None:
    """A glob that can match nothing is a wall that is not there."""
    for key in ("heal.allow", "heal.deny"):
        for glob in value_of(tables, key):
            parts = glob.strip("/").split("/")
            if {"", ".", ".."}.intersection(parts):
                problems.add(key, f"{key}: {glob!r} matches nothing", 'write paths from heal.source on, as "src/**"')
            elif glob.endswith("/"):
                problems.add(key, f"{key}: {glob!r} names a directory", f'write "{glob}**" for what lies in it')
