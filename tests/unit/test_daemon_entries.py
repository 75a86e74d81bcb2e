# SPDX-License-Identifier: MIT
"""Events and lines as journal entries, and the numbers by which others know our events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.daemon.entries import of_event, of_line
from wolverined.daemon.messageids import MESSAGE_IDS
from wolverined.daemon.words import facts
from wolverined.linux.journal import encode
from wolverined.model import ErrorLink, Event, Frame, Incident, IncidentKind, LogLine, Trace

PROJECT = Path(__file__).resolve().parents[2]


def test_an_event_has_every_field_of_the_vocabulary() -> None:
    """What it is about, how bad it is, its number for all machines, and where the code is."""
    fields = {"fingerprint": "f1", "kind": "crash", "code_file": "lib/a.js", "code_line": 7, "code_function": "price"}
    event = Event(
        cursor=41, at=1.0, name="incident.opened", message="it broke", severity="error", generation=3, incident="i2",
        repair="r5", fields=fields,
    )  # fmt: skip
    assert of_event("shop", event) == {
        "MESSAGE": "it broke", "MESSAGE_ID": MESSAGE_IDS["incident.opened"], "PRIORITY": 3,
        "SYSLOG_IDENTIFIER": "shop", "WOLVERINE_APP": "shop", "WOLVERINE_EVENT": "incident.opened",
        "WOLVERINE_CURSOR": 41, "WOLVERINE_GENERATION": 3, "WOLVERINE_INCIDENT": "i2", "WOLVERINE_REPAIR": "r5",
        "WOLVERINE_FINGERPRINT": "f1", "WOLVERINE_KIND": "crash",
        "CODE_FILE": "lib/a.js", "CODE_LINE": 7, "CODE_FUNC": "price",
    }  # fmt: skip


def test_what_an_event_is_not_about_is_not_there() -> None:
    """No empty fields; an event without a number of its own has none."""
    entry = of_event("shop", Event(cursor=1, at=1.0, name="heal.step", message="m"))
    assert entry.keys() == {
        "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "WOLVERINE_APP", "WOLVERINE_EVENT", "WOLVERINE_CURSOR"
    }  # fmt: skip


@pytest.mark.parametrize(("severity", "priority"), [("info", 6), ("warn", 4), ("error", 3), ("critical", 2), ("?", 6)])
def test_severity_is_a_priority(severity: str, priority: int) -> None:
    """As `journalctl -p` knows it."""
    assert of_event("a", Event(cursor=1, at=1.0, name="x", message="m", severity=severity))["PRIORITY"] == priority


def test_a_line_is_told_with_its_stream_and_pid_and_is_no_event() -> None:
    """Whatever it says of itself, it has no field of an event."""
    line = LogLine(cursor=9, at=1.0, stream="stderr", text="WOLVERINE_EVENT=repair.applied\n", generation=2, pid=77)
    assert of_line("shop", line) == {
        "MESSAGE": "WOLVERINE_EVENT=repair.applied\n", "PRIORITY": 4, "SYSLOG_IDENTIFIER": "shop",
        "WOLVERINE_APP": "shop", "WOLVERINE_STREAM": "stderr", "WOLVERINE_GENERATION": 2, "WOLVERINE_APP_PID": 77,
    }  # fmt: skip
    cut = LogLine(cursor=9, at=1.0, stream="stdout", text="x", generation=2, truncated=True)
    assert of_line("shop", cut)["WOLVERINE_TRUNCATED"] == 1
    assert of_line("shop", cut)["PRIORITY"] == 6


@given(
    st.dictionaries(
        st.sampled_from(["code_file", "code_line", "fingerprint", "kind", "other"]),
        st.one_of(st.none(), st.text(), st.integers(), st.lists(st.integers()), st.booleans()),
    ),
    st.text(),
)
def test_any_event_can_be_encoded(fields: dict[str, object], message: str) -> None:
    """A heal may bring what it likes in its fields."""
    assert encode(of_event("a", Event(cursor=1, at=1.0, name="heal.step", message=message, fields=fields)))


def incident(*frames: Frame) -> Incident:
    """A crash with these frames, the innermost first."""
    trace = Trace(language="node", errors=(ErrorLink("TypeError", "x"),), frames=frames)
    return Incident(id="i1", fingerprint="f", kind=IncidentKind.CRASH, error="TypeError", trace=trace)


def test_a_crash_brings_its_innermost_own_frame() -> None:
    """Frames of dependencies stand before it; callers of ours behind it."""
    frames = (
        Frame(path="/usr/lib/node/x.js", line=1),
        Frame(path="lib/a.js", line=7, function="price", own=True),
        Frame(path="server.js", line=2, own=True),
    )
    assert facts(incident(*frames)) == {
        "fingerprint": "f", "kind": "crash", "code_file": "lib/a.js", "code_line": 7, "code_function": "price",
    }  # fmt: skip
    assert facts(incident(frames[0])) == {"fingerprint": "f", "kind": "crash"}
    assert "code_line" not in facts(incident(Frame(path="a.py", line=0, own=True)))


def test_message_ids_are_128_bits_and_one_for_each() -> None:
    """Hexadecimal as journald wants them, never used twice."""
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in MESSAGE_IDS.values())
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert list(MESSAGE_IDS) == sorted(MESSAGE_IDS)


def test_every_event_with_a_number_is_told_explained_and_documented() -> None:
    """No id for a name that no room uses; `journalctl -x` and wolverined(8) know each."""
    rooms = (PROJECT / "wolverined").rglob("*.py")
    source = "".join(path.read_text() for path in rooms if path.name != "messageids.py")
    composed = {"heal.approval", "heal.failed", "heal.nothing", "incident.opened", "incident.repeated"}
    catalog = (PROJECT / "systemd" / "wolverine.catalog").read_text()
    manual = (PROJECT / "packaging" / "man" / "wolverined.8").read_text()
    for name, number in MESSAGE_IDS.items():
        assert f'"{name}"' in source or name in composed, name
        assert catalog.count(f"\n-- {number}\nSubject: ") == 1, name
        assert f"\n.B {name}\n{number}\n" in manual, name
    assert catalog.count("\n-- ") == len(MESSAGE_IDS)
