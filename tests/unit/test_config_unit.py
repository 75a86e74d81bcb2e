# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.projects import unit
from wolverined.config.projects.project import Start
from wolverined.errors import NotFound, UsageError, WolverineError

WHOLE = """
[Unit]
Description=Shop
ExecStart=/not/this
[Service]
# a comment
Type=notify
User=daemon
Group=www-data
WorkingDirectory=/srv/%i
Environment="NODE_ENV=production" PORT=3131 'GREETING=a b' %i=x
Environment=LATER=1
EnvironmentFile=-/etc/missing.env
ExecStart=/usr/bin/node \\
    server.js --mode=${NODE_ENV} $LIST
KillSignal=INT
TimeoutStopSec=1min 30s
KillMode=mixed
Restart=always
LimitNOFILE=9999
ProtectSystem=strict
[Install]
WantedBy=multi-user.target
"""


def start(text: str, name: str = "shop@eu.service") -> Start:
    """What a unit of this text means."""
    return unit.start_of(unit.Unit(name=name, path=f"/x/{name}", service=unit.parse([text])), name="shop")


def notes(text: str) -> str:
    """What is said about a unit of this text."""
    return "; ".join(start(text).notes)


def test_a_whole_unit() -> None:
    """Each directive that has a counterpart is taken over; the rest is named."""
    found = start(WHOLE)
    assert found.command == ("/usr/bin/node", "server.js", "--mode=production", "$LIST")
    assert (found.user, found.directory, found.port) == ("daemon", Path("/srv/eu"), 3131)
    assert found.environment == {"NODE_ENV": "production", "GREETING": "a b", "LATER": "1"}
    assert found.environment_file is None
    assert found.stop == {"signal": "SIGINT", "timeout_s": 90, "scope": "main"}
    assert found.notify
    said = "; ".join(found.notes)
    assert "LimitNOFILE, ProtectSystem" in said
    assert "Restart" not in said
    assert "Group=www-data" in said
    assert "$LIST" in said


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("ExecStart=/bin/x 'a b' \"c\"", ("/bin/x", "a b", "c")),
        ("ExecStart=-/bin/x", ("/bin/x",)),
        ("ExecStart=@/bin/x called-so real", ("/bin/x", "real")),
        ("ExecStart=+/bin/x %i %p %N %%", ("/bin/x", "eu", "shop", "shop@eu", "%")),
        ("ExecStart=/bin/y\nExecStart=\nExecStart=/bin/x", ("/bin/x",)),
        ("Environment=A='1 2'\nExecStart=/bin/x", ("/bin/x",)),
        ('Environment="A=1 2"\nExecStart=/bin/x $A ${A}', ("/bin/x", "1", "2", "1 2")),
        ("WorkingDirectory=~\nUser=daemon\nExecStart=/bin/x", ("/bin/x",)),
    ],
)
def test_exec_start(line: str, command: tuple[str, ...]) -> None:
    """Prefixes, quotes, specifiers, variables and resets mean what systemd means by them."""
    assert start(f"[Service]\n{line}\n").command == command


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("ExecStart=/bin/x %m", "the specifier %m"),
        ("ExecStart=/bin/x $NOWHERE", "nothing is put in for variables"),
        ("ExecStart=-/bin/x", "the prefix -"),
        ("ExecStart=/bin/x\nTimeoutStopSec=infinity", "TimeoutStopSec=infinity"),
        ("ExecStart=/bin/x\nExecStartPre=/bin/y\nMemoryMax=1G", "ExecStartPre, MemoryMax"),
        ("ExecStart=/bin/x\nEnvironmentFile=/a\nEnvironmentFile=/b", "/b"),
    ],
)
def test_what_is_not_carried_over_is_said(lines: str, said: str) -> None:
    """Nobody loses a limit, a step or a value without being told."""
    assert said in notes(f"[Service]\n{lines}\n")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("User=x", "has no ExecStart"),
        ("Type=oneshot\nExecStart=/bin/a\nExecStart=/bin/b", "has 2 ExecStart"),
        ("Type=forking\nExecStart=/bin/a", "leaves its starter"),
        ("ExecStart=-", "names no program"),
        ("ExecStart=/bin/a 'x", "cannot be read"),
        ("ExecStart=/bin/a\nEnvironment='x", "cannot be read"),
    ],
)
def test_units_that_cannot_be_supervised(lines: str, message: str) -> None:
    """What is no single program in the foreground is refused with what to do."""
    with pytest.raises(UsageError, match=message) as caught:
        start(f"[Service]\n{lines}\n")
    assert caught.value.hint


def test_units_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own places in systemd's order, templates, and drop-ins on top."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for place in (etc, lib):
        place.mkdir()
    monkeypatch.setattr(unit, "PLACES", (str(etc), str(lib)))
    (lib / "shop.service").write_text("[Service]\nExecStart=/lib\n")
    assert unit.find("shop").last("ExecStart") == "/lib"
    (etc / "shop.service").write_text("[Service]\nExecStart=/etc\nUser=a\n")
    (etc / "shop.service.d").mkdir()
    (etc / "shop.service.d" / "10-more.conf").write_text("[Service]\nUser=b\nExecStart=\nExecStart=/dropped\n")
    found = unit.find("shop.service")
    assert (found.service["ExecStart"], found.last("User")) == (["/dropped"], "b")
    (lib / "blog@.service").write_text("[Service]\nExecStart=/bin/x %i\n")
    assert unit.start_of(unit.find("blog@one"), name="blog").command == ("/bin/x", "one")
    assert unit.find(str(lib / "shop.service")).last("ExecStart") == "/lib"
    for missing in ("nothing", str(tmp_path / "nothing.service")):
        with pytest.raises(NotFound) as caught:
            unit.find(missing)
        assert caught.value.hint


lines = st.lists(
    st.tuples(
        st.sampled_from(
            ["ExecStart", "User", "Environment", "EnvironmentFile", "KillSignal", "TimeoutStopSec", "Type"]
        ),
        st.text(alphabet="ab/%$\"'\\ =-@{}1 s", max_size=20),
    ),
    max_size=6,
)


@given(lines, st.text(max_size=20))
def test_no_unit_breaks_the_reader(entries: list[tuple[str, str]], junk: str) -> None:
    """Whatever a unit holds, the answer is a start or a refusal with a hint."""
    text = "[Service]\n" + "\n".join(f"{key}={value}" for key, value in entries) + f"\n{junk}"
    assert started_or_refused(text)


def started_or_refused(text: str) -> str:
    """The program of a unit, or why there is none."""
    try:
        return start(text).command[0]
    except WolverineError as error:
        return error.hint
