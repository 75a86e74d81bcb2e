# SPDX-License-Identifier: MIT
"""What systemd knows of instances without a daemon reaches the operator in words, and its absence harms nobody."""

from __future__ import annotations

import io
import json
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wolverined.cli import absent, instances, status, units
from wolverined.cli.commands import dispatch
from wolverined.cli.options import Invocation
from wolverined.cli.terminal import Terminal
from wolverined.cli.units import Unit
from wolverined.errors import Unreachable

ANSWER = """\
Id=wolverine@blog.service
LoadState=loaded
ActiveState=failed
SubState=failed
UnitFileState=enabled
Result=exit-code
ExecMainCode=1
ExecMainStatus=78
StateChangeTimestamp=@1700000000
NRestarts=0
MainPID=0
NeedDaemonReload=no

Id=wolverine@shop.service
ActiveState=active
SubState=running
UnitFileState=disabled
Result=success
ExecMainCode=0
ExecMainStatus=0
StatusText=ready, generation 1
StateChangeTimestamp=@1700000100
NRestarts=2
NeedDaemonReload=yes

Id=wolverine-adviser@shop.service
ActiveState=active
"""
Fake = Callable[[str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A machine with systemd, whose systemctl and journalctl print what the test says."""
    programs = tmp_path / "bin"
    for directory in (programs, tmp_path / "booted", tmp_path / "run", tmp_path / "etc"):
        directory.mkdir()
    monkeypatch.setattr(units, "BOOTED", str(tmp_path / "booted"))
    monkeypatch.setattr(units, "_PLACES", (str(programs),))
    monkeypatch.setattr(instances, "SYSTEM", str(tmp_path / "run"))
    monkeypatch.setattr(instances, "CONFIGURATIONS", str(tmp_path / "etc"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("WOLVERINE_RUNTIME_DIR", raising=False)
    (tmp_path / "journal").write_text("one\ntwo\n")

    def answers(text: str) -> None:
        (tmp_path / "answer").write_text(text)
        for name, file in (("systemctl", "answer"), ("journalctl", "journal")):
            program = programs / name
            program.write_text(
                f'#!/bin/sh\necho "$*" >>{tmp_path}/{name}.log\n'
                f'while IFS= read -r line; do echo "$line"; done <{tmp_path}/{file}\n'
            )
            program.chmod(0o755)

    return answers


def unit(**fields: Any) -> Unit:
    """A unit that ended well, but for what the test says."""
    values = {
        "name": "shop", "active": "inactive", "sub": "dead", "enabled": "disabled", "result": "success", "code": "",
        "status": 0, "since": 0.0, "restarts": 0, "said": "", "stale": False,
    }  # fmt: skip
    return Unit(**{**values, **fields})


def printed(act: Callable[[Terminal], object]) -> str:
    """What is printed."""
    out = io.StringIO()
    act(Terminal(out, colour=False, unicode=True, width=None))
    return out.getvalue()


def test_the_answer_is_read(fake: Fake, tmp_path: Path) -> None:
    """One call for all; other units of ours are none of an instance's."""
    fake(ANSWER)
    found = units.ask(["shop", "blog"])
    assert sorted(found) == ["blog", "shop"]
    assert (found["blog"].active, found["blog"].status, found["blog"].since) == ("failed", 78, 1700000000.0)
    assert found["shop"].stale
    assert not found["shop"].down
    (line,) = (tmp_path / "systemctl.log").read_text().splitlines()
    assert line.endswith("wolverine@*.service wolverine@blog.service wolverine@shop.service")


@pytest.mark.parametrize("text", ["", "\n\n\n", "Id=\n", "Id=wolverine@.service\nx", "no lines of ours", "Id=x\n" * 99])
def test_an_odd_answer_is_no_unit(text: str) -> None:
    """What is no answer says nothing."""
    assert units.parse(text) == {}


def test_odd_values_are_nothing() -> None:
    """Values that are missing or no numbers are left out."""
    (found,) = units.parse("Id=wolverine@a.service\nExecMainStatus=-1\nStateChangeTimestamp=\nNRestarts=x\n").values()
    assert (found.status, found.since, found.restarts) == (0, 0.0, 0)


def test_without_systemd_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where systemd does not run the machine nobody is asked; neither where its program is missing."""
    monkeypatch.setattr(units, "BOOTED", "/nonexistent")
    monkeypatch.setattr(units, "output", None)
    assert units.ask(["shop"]) == {}
    monkeypatch.undo()
    monkeypatch.setattr(units, "_PLACES", ("/nonexistent",))
    assert units.output(["systemctl"]) == ""


def test_a_program_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came in time counts, and nothing of it is left."""
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\necho early\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(units, "_PLACES", (str(tmp_path), "/usr/bin", "/bin"))
    begun = time.monotonic()
    assert units.output(["slow"], timeout_s=0.3) == "early\n"
    assert time.monotonic() - begun < 5


def test_the_list_has_what_does_not_run(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Configured, failed, disabled: all of them stand in the list; hidden and other files do not."""
    fake(ANSWER)
    for name in ("blog.toml", "shop.toml", "wiki.toml", ".x.toml", "shop.env"):
        (tmp_path / "etc" / name).touch()
    (tmp_path / "etc" / "ai.toml").mkdir()
    (tmp_path / "run" / "shop").mkdir()
    assert dispatch(["list", "--json"]) == 0
    rows = {row["app"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "blog": "failed", "shop": "unreachable", "wiki": "inactive",
    }  # fmt: skip
    assert rows["blog"]["unit"]["enabled"] == "enabled"
    assert rows["blog"]["configuration"] == str(tmp_path / "etc/blog.toml")
    assert dispatch(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["APP", "STATE", "UNIT", "DIRECTORY"]
    assert "failed (exit-code), enabled" in lines[1]
    assert "active, disabled" in lines[2]


def test_the_list_without_systemd(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is configured is listed all the same, without a column for units."""
    fake("")
    monkeypatch.setattr(units, "BOOTED", "/nonexistent")
    (tmp_path / "etc" / "shop.toml").touch()
    assert dispatch(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["APP", "STATE", "DIRECTORY"]


def test_a_start_that_is_under_way_is_seen(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit that PID 1 is starting is no dead one."""
    fake(ANSWER.replace("ActiveState=failed", "ActiveState=activating"))
    assert dispatch(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "starting"


@pytest.mark.parametrize(
    ("command", "fields", "what", "hint"),
    [
        ("start", {}, "wolverine@shop is not running", "systemctl start wolverine@shop"),
        ("stop", {}, "so nothing of shop runs", "starts both"),
        ("status", {"active": "failed", "code": "exited", "status": 78}, "exit 78", "config check shop"),
        ("restart", {"active": "failed", "code": "killed", "status": 9}, "SIGKILL", "journalctl -u wolverine@shop"),
        ("logs", {"active": "activating"}, "is starting", "systemctl status wolverine@shop"),
        ("logs", {"active": "active"}, "does not answer", "systemctl status wolverine@shop"),
        ("logs", {"active": "deactivating"}, "is being stopped", "systemctl status wolverine@shop"),
    ],
)
def test_whose_down_is_said(
    command: str, fields: dict[str, Any], what: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command says which of the two is down, and the next command to type."""
    monkeypatch.setattr(units, "ask", lambda _names: {"shop": unit(**fields)})
    told = absent.explained(Unreachable("nobody listens"), "shop", command=command)
    assert what in told.message
    assert hint in told.hint
    assert told.exit_code == 5


def test_without_systemd_the_terminal_is_the_way(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is sent to a systemctl that is not there."""
    fake("")
    monkeypatch.setattr(units, "BOOTED", "/nonexistent")
    error = Unreachable("x", hint="y")
    assert absent.explained(error, "shop", command="start") is error
    (tmp_path / "etc" / "shop.toml").touch()
    assert "wolverined run --config" in absent.explained(error, "shop", command="start").hint


def test_the_status_of_a_failed_unit(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How it ended, whether it starts at boot, its last words and where there are more of them; exit 5."""
    fake(ANSWER)
    (tmp_path / "etc" / "blog.toml").touch()
    with pytest.raises(Unreachable, match="config check blog"):
        dispatch(["status", "blog"])
    said = capsys.readouterr().out
    for text in ("○ failed", "exit 78: the configuration cannot be used", "journalctl -u wolverine@blog", "two"):
        assert text in said
    assert dispatch(["status", "blog", "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["unit"]["result"], told["last_words"]) == ("failed", "exit-code", ["one", "two"])


def test_a_directory_that_was_named_is_no_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An instance of a terminal has no unit to be told of, be it by --runtime-dir or in one's own place."""

    def about(words: list[str], directory: str = "") -> str:
        args = Namespace(words=words, runtime_dir=directory)
        return absent.named(Invocation(name="status", usage="", args=args, terminal=None))  # type: ignore[arg-type]

    monkeypatch.delenv("WOLVERINE_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "wolverine" / "mine").mkdir(parents=True)
    assert about(["shop"]) == "shop"
    assert about([]) == ""
    assert about(["shop"], "/run/x") == ""
    assert about(["mine"]) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"result": "resources"}, "resources"),
        ({"code": "exited", "status": 3}, "exit 3"),
        ({"code": "killed", "status": 15}, "SIGTERM"),
        ({"code": "dumped", "status": 6, "result": "watchdog"}, "SIGABRT by systemd: its loop stood still (watchdog)"),
        ({"code": "killed", "status": 999}, "signal 999"),
    ],
)
def test_how_it_ended(fields: dict[str, Any], words: str) -> None:
    """In words."""
    assert absent.how_it_ended(unit(**fields)) == words


def test_whether_it_starts_at_boot() -> None:
    """With the command that changes it."""
    assert absent.boot_words(unit(enabled="enabled")) == "yes"
    assert "systemctl enable wolverine@shop" in absent.boot_words(unit())
    assert "unmask" in absent.boot_words(unit(enabled="masked"))


def test_a_changed_unit_is_told() -> None:
    """Systemd goes by the old file until it is told."""
    assert "daemon-reload" in printed(lambda terminal: absent.show(terminal, unit(stale=True)))


def test_the_columns_of_a_unit() -> None:
    """A starting unit counts as active, one whose enablement is unknown as that."""
    assert status._unit_words({"unit": unit(active="activating", enabled="").plain()}) == "active, unknown"
    assert status._unit_words({}) == ""
    assert SimpleNamespace(**unit().plain()).since is None
