# SPDX-License-Identifier: MIT
"""Configuration files that tests write: a project that can be used, and what is wrong with a text."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from wolverined.config.load import parse
from wolverined.config.problems import Loaded, Problem
from wolverined.errors import ConfigError

USER = pwd.getpwuid(os.geteuid()).pw_name
ALLOW = "allow_root = true" if os.geteuid() == 0 else "allow_root = false"


def text_of(directory: Path, more: str = "", *, app: str = "") -> str:
    """A file that can be used here, by whoever runs the tests; `app` is added to [app], `more` after it.

    [app] stands in the lines 1 to 4, `app` from line 5 on, `more` from the line after that on.
    """
    head = f'[app]\ncommand = ["/bin/sleep", "60"]\ndirectory = "{directory}"\n{ALLOW}\n'
    return head + (f"{app}\n" if app else "") + more


def accepted(text: str, directory: Path) -> Loaded:
    """What `text` means as shop.toml in `directory`."""
    return parse(text, origin=directory / "shop.toml")


def problems_of(text: str, directory: Path) -> list[Problem]:
    """Everything that is wrong with `text`; each has a hint, whatever else it lacks."""
    with pytest.raises(ConfigError) as caught:
        parse(text, origin=directory / "shop.toml")
    found = [problem for problem in caught.value.problems if isinstance(problem, Problem)]
    assert found
    assert all(problem.hint and problem.message for problem in found)
    assert len(str(caught.value).splitlines()) == len(found) + 1, "one line for each"
    return found


def only_problem(text: str, directory: Path) -> Problem:
    """The one thing that is wrong with `text`."""
    (problem,) = problems_of(text, directory)
    return problem
