# SPDX-License-Identifier: MIT
"""Writes a configuration for a person to read: what was found, where, and why it is so (pure).

Texts of the project go through one door each: values as TOML strings, everything else as a comment that
cannot end its line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config.load import toml_value
from wolverined.config.problems import visible
from wolverined.config.projects.listening import Seen
from wolverined.config.projects.project import Start
from wolverined.redact import Redactor

_WIDTH = 100
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")

POLICY = """\
"approve": a fix is found and proven, and waits until you have read it (wolverinectl diff, wolverinectl approve). \
An applied fix has all the power of your application, so begin like this; when you trust what you see, \
"auto" applies what is proven and of low risk by itself. "observe" only writes fixes down, "off" looks for none."""

TEMPLATE = """\
# Wolverine's configuration of {name}: a template, to be filled in.
# `wolverinectl config check` says what is still wrong; every key stands in wolverine.toml(5).

[app]
command = ["/usr/bin/node", "server/index.js"]    # absolute program, then its arguments
directory = {directory}
# user = "myapp"         # default: the owner of the directory
# port = 3000            # exported as PORT

{heal}"""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that goes into the file."""

    name: str
    start: Start
    directory: Path
    user: str
    user_origin: str
    seen: Seen | None = None
    hints: tuple[str, ...] = ()  # commented-out lines of [app], each with its reason before it
    tables: dict[str, dict[str, Any]] = {}
    notes: tuple[str, ...] = ()


def template(name: str, directory: Path) -> str:
    """A file for a project of which nothing was recognised."""
    return TEMPLATE.format(name=name, directory=toml_value(str(directory)), heal="\n".join(_heal()) + "\n")


def render(draft: Draft) -> str:
    """The text of the file."""
    lines = comment(f"Wolverine's configuration of {draft.name}. `wolverinectl init` found it in {draft.start.origin}.")
    lines += comment(
        "After a change: wolverinectl config check, then systemctl reload "
        f"wolverine@{draft.name}, or wolverinectl reload where it runs in a terminal. All keys: wolverine.toml(5)."
    )
    for note in draft.notes:
        lines += ["#", *comment(f"Look at this: {note}")]
    lines += ["", *_app(draft)]
    if draft.start.stop:
        lines += ["", "[stop]", *_keys(draft.start.stop)]
    lines += ["", *_probe(draft)]
    for table, keys in draft.tables.items():
        lines += ["", f"[{table}]", *_keys(keys)]
    lines += ["", *_heal()]
    return "\n".join(lines) + "\n"


def comment(text: str) -> list[str]:
    """A text as comment lines; nothing in it can end one."""
    safe = visible(Redactor({}).text(text))  # a line of a script may hold a password; the file is for everyone to read
    return [f"# {line}" for line in textwrap.wrap(safe, _WIDTH - 2, break_on_hyphens=False)]


def _app(draft: Draft) -> list[str]:
    start = draft.start
    lines = ["[app]", f"command = {toml_value(start.command)}", f"directory = {toml_value(str(draft.directory))}"]
    lines.append(f"user = {toml_value(draft.user)}    # {visible(draft.user_origin)}")
    if start.port is not None:
        lines += comment(f"From {start.port_origin}; the application gets it as PORT.")
        lines.append(f"port = {start.port}")
    else:
        lines += comment("No port was found. With one, its readiness is seen by connecting to it:")
        lines.append("# port = 3000")
    if start.environment_file is not None:
        lines.append(f"environment_file = {toml_value(str(start.environment_file))}")
    lines += [line for hint in draft.hints for line in comment(hint)]
    if start.environment:
        lines += ["", "[app.environment]", *_keys(start.environment)]
    return lines


def _probe(draft: Draft) -> list[str]:
    lines = ["[probe]"]
    if draft.start.notify:
        return [
            *lines,
            *comment("It tells systemd when it is ready (Type=notify); so it tells wolverined."),
            "notify = true",
        ]
    if draft.seen is not None and draft.seen.path:
        lines += comment(f"GET {draft.seen.path} answered {draft.seen.status} when this file was written.")
        return [*lines, f"http = {toml_value(draft.seen.path)}"]
    if draft.start.port is None:
        return [*lines, *comment("Without a port the application counts as ready once it runs.")]
    why = f" ({draft.seen.why})" if draft.seen else ""
    lines += comment(
        f"By connecting to the port. Better is a path that answers 2xx when all is well; none was seen{why}. "
        "Run init again with --force while the application runs, or write the path here:"
    )
    return [*lines, '# http = "/health"']


def _heal() -> list[str]:
    return ["[heal]", *comment(POLICY), 'policy = "approve"']


def _keys(keys: dict[str, Any]) -> Iterable[str]:
    return [f"{_key(key)} = {toml_value(value)}" for key, value in keys.items()]


def _key(key: str) -> str:
    return key if key and _BARE.issuperset(key) else toml_value(key)
