# SPDX-License-Identifier: MIT
"""Events and lines as fields of journal entries (pure; DESIGN 7.4, wolverined(8))."""

from __future__ import annotations

from wolverined.daemon.messageids import MESSAGE_IDS
from wolverined.linux.journal import Value
from wolverined.model import Event, LogLine

_PRIORITY = {"info": 6, "warn": 4, "error": 3, "critical": 2}
_OF_FIELDS = {
    "code_file": "CODE_FILE",
    "code_line": "CODE_LINE",
    "code_function": "CODE_FUNC",
    "fingerprint": "WOLVERINE_FINGERPRINT",
    "kind": "WOLVERINE_KIND",
    "route": "WOLVERINE_ROUTE",
}
"""What an event brings along (see `words.facts`) -> its field."""


def of_event(app: str, event: Event) -> dict[str, Value]:
    """The entry of one event; WOLVERINE_CURSOR is what `wolverinectl events` calls it."""
    entry: dict[str, Value] = {
        "MESSAGE": event.message,
        "PRIORITY": _PRIORITY.get(event.severity, 6),
        "SYSLOG_IDENTIFIER": app,
        "WOLVERINE_APP": app,
        "WOLVERINE_EVENT": event.name,
        "WOLVERINE_CURSOR": event.cursor,
    }
    if event.name in MESSAGE_IDS:
        entry["MESSAGE_ID"] = MESSAGE_IDS[event.name]
    if event.generation is not None:
        entry["WOLVERINE_GENERATION"] = event.generation
    about = {"WOLVERINE_INCIDENT": event.incident, "WOLVERINE_REPAIR": event.repair}
    entry |= {field: value for field, value in about.items() if value}
    brought = {field: event.fields.get(key) for key, field in _OF_FIELDS.items()}
    entry |= {field: value for field, value in brought.items() if isinstance(value, str | int) and value}
    return entry


def of_line(app: str, line: LogLine) -> dict[str, Value]:
    """The entry of one line of the app, as it was written; no field of it can be mistaken for an event's."""
    entry: dict[str, Value] = {
        "MESSAGE": line.text,
        "PRIORITY": 4 if line.stream == "stderr" else 6,
        "SYSLOG_IDENTIFIER": app,
        "WOLVERINE_APP": app,
        "WOLVERINE_STREAM": line.stream,
        "WOLVERINE_GENERATION": line.generation,
    }
    if line.pid is not None:
        entry["WOLVERINE_APP_PID"] = line.pid
    if line.truncated:
        entry["WOLVERINE_TRUNCATED"] = 1
    return entry
