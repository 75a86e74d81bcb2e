# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.configs import USER, accepted, only_problem, problems_of, text_of
from support.places import IS_ROOT, public_tmp, unused_user

from wolverined.config.numbers import BOUNDS
from wolverined.config.schema import Config

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
needs_plain = pytest.mark.skipif(IS_ROOT, reason="root may do this")


def key_line(key: str, value: str) -> str:
    """`table.key = value` as two lines of a file."""
    table, _, name = key.rpartition(".")
    return f"[{table}]\n{name} = {value}\n"


@pytest.mark.parametrize("key", BOUNDS)
@pytest.mark.parametrize("value", ["-1", "-0.5", "nan", "inf", "-inf", "1e300", "true", '"1"', "99999999999999"])
def test_no_number_is_taken_that_makes_no_sense(tmp_path: Path, key: str, value: str) -> None:
    """Negative, not a number, endless, far too large, a flag or a text: refused at its line, with a hint."""
    problem = only_problem(text_of(tmp_path, key_line(key, value)), tmp_path)
    assert (problem.line, problem.key) == (6, key)


def test_every_number_has_a_bound() -> None:
    """A new number of the schema must say what it may be."""
    numbers = set()

    def walk(value: object, path: str) -> None:
        for name in getattr(value, "__struct_fields__", ()):
            inner = getattr(value, name)
            walk(inner, f"{path}{name}.")
            if isinstance(inner, int | float) and not isinstance(inner, bool):
                numbers.add(f"{path}{name}")

    from wolverined.config.schema import AppTable

    walk(Config(app=AppTable(command=(), directory=Path())), "")
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stop.timeout_s", "0", "must be more than 0, not 0"),
        ("restart.factor", "0.9", "must be at least 1, not 0.9"),
        ("restart.jitter", "1.1", "must be at most 1, not 1.1"),
        ("errors.threshold", "0", "must be at least 1, not 0"),
        ("heal.timeout_s", "300000000", "must be at most 3.16224e+07, not 3e+08"),
        ("cluster.workers", "20000", "must be at most 10000, not 20000"),
        ("ai.budget.usd_per_day", "-0.01", "must be at least 0, not -0.01"),
    ],
)
def test_numbers_out_of_bounds(tmp_path: Path, key: str, value: str, message: str) -> None:
    """The message says the bound and the value, the hint the unit."""
    problem = only_problem(text_of(tmp_path, key_line(key, value)), tmp_path)
    assert problem.message == f"{key} {message}"
    if key.endswith("_s"):
        assert "means seconds" in problem.hint


@pytest.mark.parametrize("key", [key for key, bound in BOUNDS.items() if not bound.above and bound.least == 0])
def test_zero_means_none_or_no_limit(tmp_path: Path, key: str) -> None:
    """Where 0 has a meaning it is taken."""
    assert accepted(text_of(tmp_path, key_line(key, "0")), tmp_path)


def test_prices_are_looked_at(tmp_path: Path) -> None:
    """A negative price would make a budget endless."""
    more = '[ai.prices."small-4.1"]\ninput = -1\noutput = nan\n'
    assert {problem.key for problem in problems_of(text_of(tmp_path, more), tmp_path)} == {
        "ai.prices.small-4.1.input",
        "ai.prices.small-4.1.output",
    }


def test_a_backoff_that_begins_above_its_end(tmp_path: Path) -> None:
    """The first pause may not be longer than the longest."""
    problem = only_problem(text_of(tmp_path, "[restart]\ninitial_s = 40\nmax_s = 30\n"), tmp_path)
    assert (problem.key, problem.line) == ("restart.max_s", 7)


@pytest.mark.parametrize("port", [0, -1, 65536, 10**12])
def test_no_port(tmp_path: Path, port: int) -> None:
    """What is no port is refused with the range."""
    assert "1024 to 65535" in only_problem(text_of(tmp_path, app=f"port = {port}"), tmp_path).hint


@pytest.mark.parametrize("port", [1, 80, 443, 1023])
def test_a_privileged_port_names_the_reverse_proxy(tmp_path: Path, port: int) -> None:
    """The app has no capability, so another program has to listen there."""
    problem = only_problem(text_of(tmp_path, app=f"port = {port}"), tmp_path)
    assert "privileged" in problem.message
    assert "reverse proxy" in problem.hint


def test_ports_from_1024_up(tmp_path: Path) -> None:
    """The edges of what is allowed."""
    for port in (1024, 65535):
        assert accepted(text_of(tmp_path, app=f"port = {port}"), tmp_path).config.app.port == port


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('[probe]\nhttp = "/"\n', "probe.http"),
        ("[probe]\ntcp = true\n", "probe.tcp"),
        ('[routes]\nwatch = ["/"]\n', "routes.watch"),
    ],
)
def test_what_needs_a_port(tmp_path: Path, more: str, key: str) -> None:
    """Requests cannot be sent to nowhere."""
    problem = only_problem(text_of(tmp_path, more), tmp_path)
    assert (problem.key, problem.line) == (key, 6)
    assert accepted(text_of(tmp_path, more, app="port = 3000"), tmp_path)


@pytest.mark.parametrize("path", ["health", "", "/a b", "/a\\nb", "/\\u0007", "/ä", "/#x", "http://x/"])
def test_paths_that_no_request_line_has(tmp_path: Path, path: str) -> None:
    """A path begins with a slash and is percent-encoded."""
    text = text_of(tmp_path, f'[routes]\nwatch = ["/ok", "{path}"]\n', app="port = 3000")
    assert only_problem(text, tmp_path).key == "routes.watch"
    if path:
        text = text_of(tmp_path, f'[probe]\nhttp = "{path}"\n', app="port = 3000")
        assert only_problem(text, tmp_path).key == "probe.http"


def test_one_probe_only(tmp_path: Path) -> None:
    """Two kinds of probe contradict each other."""
    text = text_of(tmp_path, '[probe]\nhttp = "/"\nnotify = true\n', app="port = 3000")
    assert only_problem(text, tmp_path).hint == "keep one of them"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("TERM", "SIGTERM"), ("sigint", "SIGINT"), ("", "SIGTERM"), ("SIGSTOP", "SIGTERM"), ("x" * 5000, "SIGTERM")],
)
def test_signals_that_end_nothing(tmp_path: Path, name: str, hint: str) -> None:
    """A misspelt signal, and one that only pauses, is refused with the nearest that ends a program."""
    problem = only_problem(text_of(tmp_path, f'[stop]\nsignal = "{name}"\n'), tmp_path)
    assert problem.hint == f'write signal = "{hint}"'


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR2", "SIGKILL"])
def test_signals_that_end_a_program(tmp_path: Path, name: str) -> None:
    """What a program may be ended with is taken."""
    assert signal.Signals[accepted(text_of(tmp_path, f'[stop]\nsignal = "{name}"\n'), tmp_path).config.stop.signal]


@pytest.mark.parametrize("key", ["ai.base_url", "platform.url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://api.example/v1",
        "http://127.evil.example",
        "http://localhost.evil.example",
        "ftp://localhost/",
        "//host",
        "https://",
        "https://user:word@host/",
        "https://host/?key=1",
        "https://host:99999/",
        "https://[::1",
        "https://ho st/",
        "words",
    ],
)
def test_addresses_in_the_clear(tmp_path: Path, key: str, url: str) -> None:
    """Source, keys and telemetry travel by https, or stay on this machine."""
    assert only_problem(text_of(tmp_path, key_line(key, f'"{url}"')), tmp_path).key == key


@pytest.mark.parametrize(
    "url", ["https://api.example/v1", "http://localhost:1/", "http://127.0.0.2/", "http://[::1]:8/"]
)
def test_addresses_that_are_safe(tmp_path: Path, url: str) -> None:
    """Https anywhere, plain http to loopback."""
    assert accepted(text_of(tmp_path, key_line("ai.base_url", f'"{url}"')), tmp_path).config.ai.base_url == url


@pytest.mark.parametrize("glob", ["./secrets/**", "../x", "a//b", "", "/", "src/", "a/./b"])
@pytest.mark.parametrize("key", ["heal.allow", "heal.deny"])
def test_globs_that_match_nothing(tmp_path: Path, key: str, glob: str) -> None:
    """A deny list that denies nothing must not look as if it did."""
    assert only_problem(text_of(tmp_path, key_line(key, f'["**", "{glob}"]')), tmp_path).key == key


def test_choices(tmp_path: Path) -> None:
    """A word that is none of the choices is answered with all of them."""
    more = '[heal]\nauto_risk = "high"\n[alerts]\nmin_severity = "loud"\n'
    assert [problem.hint for problem in problems_of(text_of(tmp_path, more), tmp_path)] == [
        "write one of: low, any",
        "write one of: info, warn, error, critical",
    ]


def test_variables_that_no_process_can_have(tmp_path: Path) -> None:
    """A name without letters, or with an equals sign, is refused; its value is not repeated."""
    problem = only_problem(text_of(tmp_path, '[app.environment]\n"A=B" = "hidden"\n'), tmp_path)
    assert "hidden" not in problem.message + problem.hint
    assert only_problem(text_of(tmp_path, '[heal.trial.environment]\n"" = "x"\n'), tmp_path)


def test_setup_without_a_program(tmp_path: Path) -> None:
    """An empty command among the trial's setup is refused."""
    assert only_problem(text_of(tmp_path, "[heal.trial]\nsetup = [[]]\n"), tmp_path).key == "heal.trial.setup"


@pytest.mark.parametrize("name", ["missing", "file", "x" * 300, "loop", "file/below"])
def test_directories_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    """Missing, a file, too long, a circle: said, and the rest is still looked at."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    text = f'[app]\ncommand = ["/bin/true"]\ndirectory = "{tmp_path}/{name}"\nport = 80\n'
    assert [problem.key for problem in problems_of(text, tmp_path)] == ["app.directory", "app.port"]


@needs_plain
def test_a_directory_behind_a_closed_door(tmp_path: Path) -> None:
    """A directory that we may not even look at is refused, not stumbled over."""
    (tmp_path / "closed").mkdir(mode=0)
    text = f'[app]\ncommand = ["/bin/true"]\ndirectory = "{tmp_path}/closed/app"\n'
    assert "Permission denied" in only_problem(text, tmp_path).message


def test_a_relative_directory_counts_from_the_file(tmp_path: Path) -> None:
    """So that a project can carry its own configuration."""
    (tmp_path / "app").mkdir()
    text = text_of(tmp_path).replace(f'"{tmp_path}"', '"./app/../app"')
    assert accepted(text, tmp_path).config.app.directory == tmp_path / "app"


@pytest.mark.parametrize("program", ["./missing", "no-such-program-here", "./plain", "./folder", "/"])
def test_programs_that_cannot_run(tmp_path: Path, program: str) -> None:
    """Missing, not executable, a directory: said before anything is started."""
    (tmp_path / "plain").touch(mode=0o644)
    (tmp_path / "folder").mkdir()
    text = text_of(tmp_path).replace("/bin/sleep", program)
    assert "not found or not executable" in only_problem(text, tmp_path).message


def test_programs_of_the_app(tmp_path: Path) -> None:
    """A relative program counts from the directory, a bare one from the app's own PATH."""
    (tmp_path / "server").touch(mode=0o755)
    assert accepted(text_of(tmp_path).replace("/bin/sleep", "./server"), tmp_path)
    more = f'[app.environment]\nPATH = "{tmp_path}"\n'
    assert accepted(text_of(tmp_path, more).replace("/bin/sleep", "server"), tmp_path)
    (tmp_path / "app.env").write_text(f"A=1\nexport PATH={tmp_path}\n")
    from_file = text_of(tmp_path, app='environment_file = "app.env"').replace("/bin/sleep", "server")
    assert accepted(from_file, tmp_path)
    overridden = f'{from_file}[app.environment]\nPATH = "/nowhere"\n'
    assert only_problem(overridden, tmp_path).key == "app.command"


def test_the_environment_file(tmp_path: Path) -> None:
    """It must be a file that can be read; a pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        text = text_of(tmp_path, app=f'environment_file = "{name}"')
        assert only_problem(text, tmp_path).key == "app.environment_file"


def test_a_user_that_is_none(tmp_path: Path) -> None:
    """An unknown user is answered with the command that makes one."""
    problem = only_problem(text_of(tmp_path, app='user = "no-such-user"'), tmp_path)
    assert problem.hint == "adduser --system --group no-such-user"
    assert only_problem(text_of(tmp_path, '[heal]\napply_as = "no-such-user"\n'), tmp_path).key == "heal.apply_as"


def test_root_as_user_is_refused(tmp_path: Path) -> None:
    """Root needs to be asked for by name, whether written or inherited from the directory."""
    text = text_of(tmp_path, app='user = "root"').replace("allow_root = true", "")
    assert "app.user is root" in problems_of(text, tmp_path)[0].message
    text = f'[app]\ncommand = ["/bin/true"]\ndirectory = "{"/usr" if not IS_ROOT else tmp_path}"\n'
    problem = only_problem(text, tmp_path)
    assert "belongs to root" in problem.message
    assert "allow_root = true" in problem.hint


@needs_root
def test_the_owner_of_the_directory_is_the_user() -> None:
    """Without a word about it, the app runs as whom its directory belongs to, and repairs are written so."""
    with public_tmp() as place:
        nobody = unused_user()
        os.chown(place, nobody.pw_uid, nobody.pw_gid)
        loaded = accepted(f'[app]\ncommand = ["/bin/true"]\ndirectory = "{place}"\n', place)
        assert (loaded.config.app.user, loaded.config.heal.apply_as) == (nobody.pw_name, nobody.pw_name)
        assert loaded.warnings == ()
        os.chown(place, 54321, 54321)
        keys = {
            problem.key for problem in problems_of(f'[app]\ncommand = ["/bin/true"]\ndirectory = "{place}"\n', place)
        }
        assert keys == {"app.user", "heal.apply_as"}


@needs_root
@pytest.mark.parametrize("more", ["", '[heal]\napply_as = "root"\n'])
def test_a_source_of_root_is_warned_of(tmp_path: Path, more: str) -> None:
    """Repairs of root's files are not applied unless that is allowed."""
    loaded = accepted(text_of(tmp_path, more, app=f'user = "{unused_user().pw_name}"'), tmp_path)
    assert len(loaded.warnings) == 1
    assert "not applied" in loaded.warnings[0]
    allowed = text_of(tmp_path, (more or "[heal]\n") + "allow_root_owner = true\n")
    assert accepted(allowed, tmp_path).warnings == ()


@needs_plain
def test_a_plain_user_can_only_run_itself(tmp_path: Path) -> None:
    """Another user in a plain user's file is refused with the name to write."""
    problem = only_problem(text_of(tmp_path, app='user = "daemon"'), tmp_path)
    assert USER in problem.hint
    assert "written as" in accepted(text_of(tmp_path, '[heal]\napply_as = "daemon"\n'), tmp_path).warnings[0]


@pytest.mark.parametrize("source", ["..", "/etc", "../other", "missing", "file"])
def test_a_source_outside_of_the_app(tmp_path: Path, source: str) -> None:
    """Repairs stay in the application's own directory."""
    (tmp_path / "file").touch()
    assert only_problem(text_of(tmp_path, f'[heal]\nsource = "{source}"\n'), tmp_path).key == "heal.source"


def test_what_makes_healing_bolder_is_said(tmp_path: Path) -> None:
    """Settings that lift a wall are warnings at every start."""
    warnings = accepted(text_of(tmp_path, '[heal]\nunprovable = "apply"\nauto_risk = "any"\n'), tmp_path).warnings
    assert len([warning for warning in warnings if "apply" in warning or "any" in warning]) >= 2


def test_the_name_of_the_instance_is_that_of_the_file(tmp_path: Path) -> None:
    """Unless the file says another one."""
    assert accepted(text_of(tmp_path), tmp_path).config.platform.instance_name == "shop"
    named = accepted(text_of(tmp_path, '[platform]\ninstance_name = "shop-eu"\n'), tmp_path)
    assert named.config.platform.instance_name == "shop-eu"
