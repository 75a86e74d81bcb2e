# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import UsageError
from wolverined.heal.trial.plan import clean, read_plan

GOOD: dict[str, Any] = {"directory": "/srv/app", "command": ["node", "x.js"], "port": 3000}


def test_blobs_go_to_the_files_that_are_not_removed() -> None:
    """Contents arrive in the order of the files; a removed one has none."""
    files = [{"path": "a"}, {"path": "b", "removed": True}, {"path": "c", "mode": 0o755}]
    plan, changes = read_plan({**GOOD, "files": files}, (b"A", b"C"))
    assert plan.command == ("node", "x.js")
    assert changes == (("a", b"A", 0o644), ("b", None, 0o644), ("c", b"C", 0o755))


@pytest.mark.parametrize(
    ("args", "blobs"),
    [
        ({}, ()),
        ({**GOOD, "command": []}, ()),
        ({**GOOD, "command": "node x"}, ()),
        ({**GOOD, "directory": "srv"}, ()),
        ({**GOOD, "port": 0}, ()),
        ({**GOOD, "port": 70000}, ()),
        ({**GOOD, "startup_s": 0}, ()),
        ({**GOOD, "startup_s": 1e9}, ()),
        ({**GOOD, "command": ["a\0b"]}, ()),
        ({**GOOD, "files": [{"path": "a"}]}, ()),
        ({**GOOD, "files": [{"path": "a"}, {"path": "a"}]}, (b"", b"")),
        ({**GOOD, "files": [{"path": 1}]}, (b"",)),
        ({**GOOD, "environment": {"A": 1}}, ()),
        (GOOD, (b"stray",)),
    ],
)
def test_a_plan_that_breaks_the_contract_is_refused(args: dict[str, Any], blobs: tuple[bytes, ...]) -> None:
    """Either side treats the other as hostile."""
    with pytest.raises(UsageError):
        read_plan(args, blobs)


def test_the_candidate_does_not_get_the_supervisors_channels() -> None:
    """A candidate must neither report to the live instance nor notify its supervisor."""
    kept = clean(
        {
            "PORT": "1",
            "NOTIFY_SOCKET": "/run/x",
            "WOLVERINE_REPORT_SOCKET": "/run/y",
            "WATCHDOG_USEC": "1",
            "WATCHDOG_PID": "1",
            "LISTEN_FDS": "1",
            "CREDENTIALS_DIRECTORY": "/run/c",
            "WOLVERINE_MANAGED": "1",
        }
    )
    assert kept == {"PORT": "1", "WOLVERINE_MANAGED": "1"}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("--require /usr/lib/hooks/node/report.cjs", None),
        ("--require=/usr/lib/hooks/node/report.cjs --max-old-space-size=100", "--max-old-space-size=100"),
        ("--max-old-space-size=100 --import file:///usr/lib/hooks/x.mjs", "--max-old-space-size=100"),
        ("--require /srv/app/own.cjs", "--require /srv/app/own.cjs"),
        ('--require "/srv/an app/own.cjs" --require "/usr/lib/hooks/a b.cjs"', '--require "/srv/an app/own.cjs"'),
        ('--require="/usr/lib/hooks/a b.cjs"', None),
        ('--title="un closed', '--title="un closed'),
    ],
)
def test_injected_reporters_are_taken_out(options: str, left: str | None) -> None:
    """What the app's own options are stays; what lies in the hooks' directory goes."""
    assert clean({"NODE_OPTIONS": options}, hooks="/usr/lib/hooks").get("NODE_OPTIONS") == left


def test_a_hooks_directory_with_a_space_is_known_again() -> None:
    """Node's quoting is undone before the path is looked at."""
    options = r'--a --require "/run/my \"app\"/hooks/node/reporter.cjs" --b'
    assert clean({"NODE_OPTIONS": options}, hooks='/run/my "app"/hooks') == {"NODE_OPTIONS": "--a --b"}


def test_python_hooks_are_taken_out_of_the_path() -> None:
    """The app's own places stay."""
    kept = clean({"PYTHONPATH": "/usr/lib/hooks/python:/srv/lib"}, hooks="/usr/lib/hooks")
    assert kept == {"PYTHONPATH": "/srv/lib"}
    assert clean({"PYTHONPATH": "/usr/lib/hooks/python"}, hooks="/usr/lib/hooks") == {}


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=6), st.text(max_size=10))
def test_any_environment_can_be_given_to_exec(environment: dict[str, str], hooks: str) -> None:
    """No NUL, no empty name, no '=' in a name: execve would refuse the whole."""
    for name, value in clean({**environment, "NODE_OPTIONS": "--x", "PYTHONPATH": ":a:"}, hooks=hooks).items():
        assert name
        assert "=" not in name
        assert "\0" not in name + value
