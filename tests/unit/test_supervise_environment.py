# SPDX-License-Identifier: MIT
"""The app's environment: what it holds, in which order, and what it never holds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import AppTable, ClusterTable, Config, ProbeTable
from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials
from wolverined.supervise.environment import build_environment, may_reach, parse_environment_file, read_environment_file

USER = Credentials(uid=1234, gid=1234, name="web", home="/home/web", shell="/bin/bash", known=False)
RUNTIME = Path("/run/wolverine/shop")


def config(tmp_path: Path, *, port: int | None = 3000, **fields: object) -> Config:
    """A configuration with that port and those fields of [app]."""
    return Config(app=AppTable(command=("true",), directory=tmp_path, port=port, **fields))  # type: ignore[arg-type]


def build(config: Config, *, base: dict[str, str] | None = None, hooks_dir: Path | None = None) -> dict[str, str]:
    """Its environment."""
    return build_environment(
        config, credentials=USER, generation=1, runtime_dir=RUNTIME, base=base or {}, hooks_dir=hooks_dir, workers=3
    )


def test_it_is_a_login_plus_what_wolverined_says(tmp_path: Path) -> None:
    """Nothing but the documented variables is there."""
    assert build(config(tmp_path), base={"PATH": "/bin", "LANG": "de_DE.UTF-8", "TZ": "Europe/Berlin"}) == {
        "HOME": "/home/web",
        "USER": "web",
        "LOGNAME": "web",
        "SHELL": "/bin/bash",
        "PATH": "/bin",
        "LANG": "de_DE.UTF-8",
        "TZ": "Europe/Berlin",
        "PORT": "3000",
        "WOLVERINE_MANAGED": "1",
        "WOLVERINE_RECOMMENDED_WORKERS": "3",
        "WOLVERINE_REPORT_SOCKET": "/run/wolverine/shop/app/report.sock",
    }


def test_nothing_of_the_supervisor_leaks(tmp_path: Path) -> None:
    """Keys, watchdog and sockets of the supervisor do not reach the app."""
    secret = dict.fromkeys(
        ("OPENAI_API_KEY", "NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_FDS", "CREDENTIALS_DIRECTORY", "LD_PRELOAD"), "x"
    )
    assert not secret.keys() & build(config(tmp_path), base=secret).keys()


def test_the_table_wins_over_the_file_and_wolverined_over_both(tmp_path: Path) -> None:
    """environment_file < [app.environment] < what wolverined tells."""
    file = tmp_path / "env"
    file.write_text("A=file\nB=file\nPORT=1\nHOME=/elsewhere\n")
    environment = build(config(tmp_path, environment_file=file, environment={"B": "table", "PORT": "2"}))
    assert (environment["A"], environment["B"], environment["PORT"]) == ("file", "table", "3000")
    assert environment["HOME"] == "/elsewhere"


def test_without_a_port_the_operators_port_stands(tmp_path: Path) -> None:
    """PORT is only said when it is configured."""
    assert build(config(tmp_path, port=None, environment={"PORT": "81"}))["PORT"] == "81"


def test_the_notify_socket_is_there_only_for_a_notify_probe(tmp_path: Path) -> None:
    """An app with probe.notify gets its own socket and a watchdog period; others get none."""
    plain = config(tmp_path)
    asked = Config(app=plain.app, probe=ProbeTable(notify=True, interval_s=2, failures=3))
    assert build(asked)["NOTIFY_SOCKET"] == "/run/wolverine/shop/app/notify.sock"
    assert build(asked)["WATCHDOG_USEC"] == "6000000"
    assert "NOTIFY_SOCKET" not in build(plain)


def test_a_cluster_is_told_of_its_workers(tmp_path: Path) -> None:
    """WOLVERINE_CLUSTER appears when enabled, with the configured number of workers."""
    environment = build(Config(app=config(tmp_path).app, cluster=ClusterTable(enabled=True, workers=7)))
    assert environment["WOLVERINE_CLUSTER"] == "true"
    assert environment["WOLVERINE_RECOMMENDED_WORKERS"] == "7"


# --- hooks


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """A directory with reporters for both languages."""
    directory = tmp_path / "hooks"
    (directory / "node").mkdir(parents=True)
    (directory / "node/reporter.cjs").write_text("")
    (directory / "python").mkdir()
    return directory


def test_hooks_are_added_to_what_the_app_has(tmp_path: Path, hooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NODE_OPTIONS is appended to, PYTHONPATH prepended to; the operator's own values stay."""
    monkeypatch.setattr("wolverined.supervise.environment.may_reach", lambda *_: True)
    own = {"NODE_OPTIONS": "--max-old-space-size=512", "PYTHONPATH": "/srv/lib"}
    environment = build(config(tmp_path, environment=own), hooks_dir=hooks)
    assert environment["NODE_OPTIONS"] == f"--max-old-space-size=512 --require {hooks}/node/reporter.cjs"
    assert environment["PYTHONPATH"] == f"{hooks}/python:/srv/lib"


def test_hooks_alone_leave_no_stray_separator(tmp_path: Path, hooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No leading space and no empty PYTHONPATH entry, which would mean the current directory."""
    monkeypatch.setattr("wolverined.supervise.environment.may_reach", lambda *_: True)
    environment = build(config(tmp_path), hooks_dir=hooks)
    assert environment["NODE_OPTIONS"] == f"--require {hooks}/node/reporter.cjs"
    assert environment["PYTHONPATH"] == f"{hooks}/python"


def test_a_path_with_spaces_is_quoted_for_node(tmp_path: Path, hooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NODE_OPTIONS survives a space in the path of the reporter."""
    monkeypatch.setattr("wolverined.supervise.environment.may_reach", lambda *_: True)
    spaced = hooks.rename(tmp_path / "my hooks")
    assert build(config(tmp_path), hooks_dir=spaced)["NODE_OPTIONS"] == f'--require "{spaced}/node/reporter.cjs"'


def test_hooks_that_the_app_cannot_read_are_left_out(tmp_path: Path, hooks: Path) -> None:
    """A reporter below a private directory would keep the app from booting, so it is not injected."""
    tmp_path.chmod(0o700)  # ours; the app's user 1234 may not enter
    assert not may_reach(hooks, USER)
    environment = build(config(tmp_path), hooks_dir=hooks)
    assert "NODE_OPTIONS" not in environment
    assert "PYTHONPATH" not in environment


def test_hooks_that_are_missing_are_left_out(tmp_path: Path) -> None:
    """A directory without reporters changes nothing."""
    assert "NODE_OPTIONS" not in build(config(tmp_path), hooks_dir=tmp_path / "none")


# --- the file


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n# comment\n; comment\n  # indented\n", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("  A = spaced out  ", {"A": "spaced out"}),
        ("A=", {"A": ""}),
        ("A=a=b", {"A": "a=b"}),
        ("A=$HOME `id`", {"A": "$HOME `id`"}),
        ("A=one # note", {"A": "one"}),
        ("A=one#two", {"A": "one#two"}),
        ("A='a # b'", {"A": "a # b"}),
        ('A="a # b" # note', {"A": "a # b"}),
        ("A='it\\n'", {"A": "it\\n"}),
        ('A="tab\\t\\"q\\" \\\\ \\$x"', {"A": 'tab\t"q" \\ $x'}),
        ('A="one\ntwo  \nthree"\nB=2', {"A": "one\ntwo  \nthree", "B": "2"}),
        ('A="one \\\ntwo"', {"A": "one two"}),
        ("A=1\nA=2", {"A": "2"}),
        ("spring.profiles.active=prod", {"spring.profiles.active": "prod"}),
        ("A=ünïcode 🦡", {"A": "ünïcode 🦡"}),
    ],
)
def test_lines_of_key_and_value(text: str, values: dict[str, str]) -> None:
    """Quotes, comments and continuations are read as systemd and dotenv files agree on."""
    assert parse_environment_file(text) == (values, ())


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A=1\njust words", 2, "no '='"),
        ("1A=x", 1, "no name"),
        ("A B=x", 1, "no name"),
        ("=x", 1, "no name"),
        ('A="open\nB=2', 1, "closing quote is missing"),
        ("A='x' y", 1, "follows the closing quote"),
        ("A=x\0y", 1, "NUL"),
    ],
)
def test_a_mistake_is_said_with_its_line(text: str, line: int, message: str) -> None:
    """Each mistake names its line and what is wrong."""
    _, problems = parse_environment_file(text)
    assert problems[0].line == line
    assert message in problems[0].message


def test_a_mistake_never_repeats_a_value(tmp_path: Path) -> None:
    """A message about a secrets file holds no secret."""
    file = tmp_path / "env"
    file.write_text("TOKEN='hunter2' trailing\nhunter3\n")
    with pytest.raises(SpawnError) as caught:
        read_environment_file(file)
    assert "hunter" not in str(caught.value)
    assert "line 1" in str(caught.value)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"A=" + b"x" * (1 << 20)])
def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path, content: bytes) -> None:
    """Neither binary nor endless files are taken in."""
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(SpawnError):
        read_environment_file(file)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A pipe that nobody writes to would stop the supervisor for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(SpawnError) as caught:
            read_environment_file(path)
        assert caught.value.hint


@pytest.mark.parametrize("unit", ['A="x\n"\n', "A='\n", "A=x #\n", 'A="\\'])
def test_the_largest_file_is_parsed_in_a_moment(unit: str) -> None:
    """Whatever it holds: the work grows with the file, not with its square, which would be minutes."""
    began = time.thread_time()
    parse_environment_file(unit * ((256 << 10) // len(unit)))
    assert time.thread_time() - began < 2


def test_a_missing_file_is_said_with_its_name(tmp_path: Path) -> None:
    """The error names the file and what to do."""
    with pytest.raises(SpawnError, match=r"nowhere\.env") as caught:
        read_environment_file(tmp_path / "nowhere.env")
    assert caught.value.hint


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Whatever the file holds, the answer is variables and problems."""
    values, problems = parse_environment_file(text)
    assert all("\0" not in value for value in values.values())
    assert all(1 <= problem.line <= text.count("\n") + text.count("\r") + 1 for problem in problems)


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), st.text(max_size=30), max_size=5))
def test_what_is_written_in_double_quotes_comes_back(values: dict[str, str]) -> None:
    """Any value survives quoting with the two escapes that are needed."""
    values = {key: value.replace("\0", "").replace("\r", "") for key, value in values.items()}
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in values.items()}
    assert parse_environment_file("".join(f'{key}="{value}"\n' for key, value in quoted.items())) == (values, ())
