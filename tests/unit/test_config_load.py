# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields
from support.configs import accepted, only_problem, problems_of, text_of
from support.places import IS_ROOT

from wolverined.config.load import MAX_BYTES, load
from wolverined.config.problems import Loaded
from wolverined.config.schema import DENY, Config, Policy, Unprovable
from wolverined.errors import ConfigError

DEFAULTS: dict[str, dict[str, Any]] = {
    "stop": {"signal": "SIGTERM", "scope": "tree", "timeout_s": 3, "abort_s": 2},
    "restart": {"initial_s": 0.1, "factor": 2, "max_s": 30, "jitter": 0.1, "reset_s": 60, "crash_loop_s": 300},
    "probe": {
        "http": "", "tcp": False, "exec": (), "notify": False, "interval_s": 3, "timeout_s": 2, "failures": 3,
        "startup_s": 60, "loop_heartbeat": True,
    },
    "routes": {"watch": (), "interval_s": 30, "slow_ms": 2000},
    "resources": {"sample_s": 10, "memory_max_mb": 0, "leak_window_s": 1800},
    "errors": {"threshold": 1, "window_s": 30, "cooldown_s": 60},
    "cluster": {"enabled": False, "workers": 0},
    "heal": {
        "policy": Policy.AUTO, "auto_risk": "low", "unprovable": Unprovable.APPROVE, "source": ".", "allow": ("**",),
        "deny": DENY, "test_command": (), "build_command": (), "max_attempts": 3, "timeout_s": 300, "probation_s": 60,
        "settle_s": 30, "approval_s": 86400, "max_files": 5, "max_lines": 200, "allow_root_owner": False,
    },
    "ai": {"base_url": "", "prices": {}},
    "alerts": {"min_severity": "warn", "digest_s": 60},
    "platform": {"url": "", "instance_name": "shop", "heartbeat_s": 60},
    "retention": {"backups_days": 7, "stable_per_day": 1, "evidence_days": 30, "state_max_mb": 500},
}  # fmt: skip


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    """A file with command and directory alone gives what the contract promises, key for key."""
    config = accepted(text_of(tmp_path), tmp_path).config
    for table, keys in DEFAULTS.items():
        for key, value in keys.items():
            assert getattr(getattr(config, table), key) == value, f"{table}.{key}"
    assert {field.name for field in fields(Config)} == {"app", *DEFAULTS}
    assert config.app.port is None
    assert {".env*", ".git/**", "node_modules/**"} < set(DENY)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    """Every table of the contract can be written."""
    (tmp_path / "app.env").write_text("A=1\n")
    more = """
[app.environment]
NODE_ENV = "production"
[stop]
scope = "main"
timeout_s = 10
[probe]
http = "/health"
[routes]
watch = ["/", "/api/items"]
[heal]
policy = "approve"
test_command = "npm test"
[heal.trial]
setup = [["createdb", "scratch"]]
environment = {DATABASE_URL = "sqlite://"}
[ai]
budget = {usd_per_day = 1}
models = {fast = "small"}
[ai.prices."small-4.1"]
input = 1
output = 2.5
"""
    config = accepted(text_of(tmp_path, more, app='port = 3000\nenvironment_file = "app.env"'), tmp_path).config
    assert config.app.environment == {"NODE_ENV": "production"}
    assert config.app.environment_file == tmp_path / "app.env"
    assert config.heal.test_command == ("npm", "test")
    assert config.heal.trial.setup == (("createdb", "scratch"),)
    assert config.ai.budget.usd_per_day == 1
    assert config.ai.prices["small-4.1"].output == 2.5


def test_every_problem_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    """Wrong keys, types, numbers, texts and directories: one run says them all, in the order of the file."""
    text = f"""[app]
command = 5
directory = "{tmp_path}/missing"
port = true
user = 7
[stop]
signal = "SIGFOO"
tiemout_s = 1
[probe]
interval_s = -1
http = "health"
[heal]
policy = "sometimes"
max_files = 0
[heal.trial]
setup = "npm ci"
[nonsense]
[ai]
budget = {{usd_per_day = nan}}
"""
    found = [(problem.line, problem.key) for problem in problems_of(text, tmp_path)]
    assert found == [
        (2, "app.command"),
        (3, "app.directory"),
        (4, "app.port"),
        (5, "app.user"),
        (7, "stop.signal"),
        (8, "stop.tiemout_s"),
        (10, "probe.interval_s"),
        (11, "probe.http"),
        (13, "heal.policy"),
        (14, "heal.max_files"),
        (16, "heal.trial.setup"),
        (17, "nonsense"),
        (19, "ai.budget.usd_per_day"),
    ]


def test_a_missing_command_hides_nothing_else(tmp_path: Path) -> None:
    """Without command and directory the rest is still looked at."""
    keys = {problem.key for problem in problems_of("[app]\nport = 80\n[stop]\ntimeout_s = 0\n", tmp_path)}
    assert keys == {"app.command", "app.directory", "app.port", "stop.timeout_s"}
    assert {problem.key for problem in problems_of("", tmp_path)} == {"app.command", "app.directory"}
    assert only_problem("app = 1", tmp_path).hint == "write [app] on a line of its own"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("prot = 3000", "unknown key 'prot' in [app]", "did you mean 'port'?"),
        ("timeout_s = 3", "unknown key 'timeout_s' in [app]", "it belongs into [stop] or [probe] or [heal]"),
        ("xyzzy = 3", "unknown key 'xyzzy' in [app]", "known here: allow_root, command"),
        ("port = 3000.5", "app.port: expected a whole number, got a number", "write port = 3000"),
        ('port = "3000"', "app.port: expected a whole number, got a text in quotes", "write port = 3000"),
        ("port = true", "app.port: expected a whole number, got true or false", "write port = 3000"),
        (
            "environment = {A = 1}",
            "app.environment: expected a text in quotes, got a whole number",
            "each value in quotes",
        ),
        ("environment_file = []", "app.environment_file: expected a path", "default is environment_file = absent"),
        ("user = 1000", "app.user: expected a text in quotes, got a whole number", 'the default is user = ""'),
        ("port = 123456789012345678901234567890", "app.port: the number is far too large", "smaller"),
        (f"port = 0x{'f' * 5000}", "app.port: the number is far too large", "smaller"),
        ('user = "a\\u0000b"', "app.user holds a NUL character", "remove"),
    ],
)
def test_a_wrong_line_is_explained(tmp_path: Path, line: str, message: str, hint: str) -> None:
    """What is wrong and what to write, in words of the file's author, at the right line."""
    problem = only_problem(text_of(tmp_path, app=line), tmp_path)
    assert problem.line == 5
    assert problem.message.startswith(message)
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("port = 3000", 1, "'port' stands outside of any table", "[app]"),
        ("[ap]", 1, "unknown table [ap]", "did you mean 'app'?"),
        ("[trial]\n", 1, "unknown table [trial]", "[heal]"),
    ],
)
def test_what_stands_in_no_table_is_sent_home(tmp_path: Path, text: str, line: int, message: str, hint: str) -> None:
    """A key before the first header, and a table that does not exist, say where they may belong."""
    problem = problems_of(text, tmp_path)[-1]
    assert (problem.line, problem.message) == (line, message)
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[app\n", 1, "Expected ']'"),
        ("[app]\nport = \n", 2, "Invalid value"),
        ("[app]\nport = 1\nport = 2\n", 3, "Cannot overwrite a value"),
        ("[app]\n[app]\n", 2, "Cannot declare"),
        ('[app]\nx = """\nnever closed', 3, "Unterminated string"),
        ("[app]\nx = " + "9" * 5000, None, "a number has too many digits"),
        ("x = " + "[" * 100_000, None, "brackets are nested too deeply"),
        ("[app]\nx = 'a\x00'\n", 2, "Found invalid character"),
    ],
)
def test_what_is_no_toml_is_pointed_at(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    """A file that no TOML reader takes is refused with the line where reading ended."""
    problem = only_problem(text, tmp_path)
    assert problem.line == line
    assert problem.message.startswith(f"not TOML: {message}")


def test_every_kind_of_newline_and_a_byte_order_mark(tmp_path: Path) -> None:
    """A file saved on Windows is the same file."""
    text = "\ufeff" + text_of(tmp_path, "[stop]\ntimeout_s = 0\n").replace("\n", "\r\n")
    assert only_problem(text, tmp_path).line == 6


def test_hostile_names_cannot_move_the_cursor(tmp_path: Path) -> None:
    """Names out of the file are shown without escape sequences, newlines and endless length."""
    text = text_of(tmp_path, '["\\u001b[31m\\nx"]\n[stop]\n"\\u001b]0;x\\u0007" = 1\n' + "y" * 9000 + " = 1\n")
    for problem in problems_of(text, tmp_path):
        assert (problem.message + problem.hint + problem.key).isprintable()
        assert len(problem.message) < 500


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("\"/bin/sh -c 'exit 3'\"", ("/bin/sh", "-c", "exit 3")),
        ("'/bin/echo $HOME `id` ; rm -rf x > y'", ("/bin/echo", "$HOME", "`id`", ";", "rm", "-rf", "x", ">", "y")),
        ('["/bin/echo", "a b"]', ("/bin/echo", "a b")),
        ('["/bin/echo", ""]', ("/bin/echo", "")),
    ],
)
def test_a_command_is_split_and_never_run_by_a_shell(tmp_path: Path, command: str, argv: tuple[str, ...]) -> None:
    """A string becomes words as a shell would split it; nothing in it is expanded."""
    text = f'[app]\ncommand = {command}\ndirectory = "{tmp_path}"\nallow_root = true\n'
    assert accepted(text, tmp_path).config.app.command == argv


@pytest.mark.parametrize("command", ['"node \'unclosed"', '""', "[]", '[""]', '["a", 1]', "{}", '"  "'])
def test_a_command_that_is_none(tmp_path: Path, command: str) -> None:
    """Empty, half-quoted and mixed commands are refused at their line."""
    text = f'[app]\ncommand = {command}\ndirectory = "{tmp_path}"\nallow_root = true\n'
    assert only_problem(text, tmp_path).line == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, directory, pipe, too large, not UTF-8: each a ConfigError with a hint, none waits."""
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "latin.toml").write_bytes(b"[app]\n# caf\xe9\n")
    (tmp_path / "dir.toml").mkdir()
    for name, words in {
        "missing": "there is no file", "pipe": "is a pipe", "large": "larger than 1 MiB", "latin": "line 2: not UTF-8",
        "dir": "Is a directory",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=words) as caught:
            load(tmp_path / f"{name}.toml")
        assert caught.value.hint
        assert caught.value.exit_code == 78
    if not IS_ROOT:
        (tmp_path / "large.toml").chmod(0)
        with pytest.raises(ConfigError, match="Permission denied"):
            load(tmp_path / "large.toml")


def test_half_a_file_is_never_a_whole_one(tmp_path: Path) -> None:
    """Cut off anywhere, a file is refused or means no more than what is left of it; nothing else is raised."""
    text = text_of(tmp_path, '[stop]\ntimeout_s = 10\n[heal]\npolicy = "approve"\n', app="port = 3000")
    for end in range(len(text)):
        loaded = refused_or_loaded(text[:end], tmp_path)
        assert loaded is None or loaded.config.app.command == ("/bin/sleep", "60")


def key_names() -> list[str]:
    """Every name that the schema knows."""
    kinds: list[Any] = [field.type for field in fields(Config)]
    return [*(field.name for field in fields(Config)), *(each.name for kind in kinds for each in fields(kind))]


words = st.sampled_from(key_names())
values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
        st.sampled_from(["/", "/nonexistent", ".", "\0", "SIGTERM", "auto", "a" * 5000, "\x1b[2J"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def toml_of(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_of(key)} = {toml_of(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, float):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


names = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.dictionaries(st.one_of(words, names), st.dictionaries(st.one_of(words, names), values, max_size=6), max_size=5)
)
def test_no_well_formed_file_breaks_the_reader(tmp_path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Any key with any value is accepted or refused with hints; nothing else is raised."""
    text = "\n".join(
        f"[{toml_of(name)}]\n" + "\n".join(f"{toml_of(key)} = {toml_of(value)}" for key, value in keys.items())
        for name, keys in tables.items()
    )
    refused_or_loaded(text, tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.text(alphabet="[]{}=\"'\\\n.,#a1 _u0")))
def test_no_text_breaks_the_reader(tmp_path: Path, text: str) -> None:
    """Any text at all is refused with hints; nothing else is raised."""
    refused_or_loaded(text, tmp_path)


def refused_or_loaded(text: str, directory: Path) -> Loaded | None:
    """What a text that may be anything means; None when it is refused, as it has to be."""
    try:
        return accepted(text, directory)
    except ConfigError:
        problems_of(text, directory)
        return None
