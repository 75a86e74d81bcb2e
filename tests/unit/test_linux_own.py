# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import wolverined
from wolverined.linux import own

ROOT = Path(wolverined.__file__).parent


def installed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that we are installed below `tmp_path`; where the launcher would stand."""
    package = tmp_path / "app" / "wolverined"
    package.mkdir(parents=True)
    monkeypatch.setattr(wolverined, "__file__", str(package / "__init__.py"))
    return tmp_path / "run-module"


def test_a_checkout_runs_a_module_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher beside the package the interpreter finds the module itself, in isolated mode."""
    installed_at(tmp_path, monkeypatch)
    assert own.module_argv("wolverined.heal") == [sys.executable, "-I", "-m", "wolverined.heal"]
    assert own.launcher() is None


def test_the_package_runs_a_module_through_its_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a launcher beside the private directory, it is run by this interpreter, in isolated mode."""
    launcher = installed_at(tmp_path, monkeypatch)
    launcher.write_text("")
    assert own.module_argv("wolverined.heal") == [sys.executable, "-IS", str(launcher), "wolverined.heal"]
    assert own.launcher() == launcher


def test_a_directory_of_that_name_is_no_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a file counts: a directory named like the launcher changes nothing."""
    installed_at(tmp_path, monkeypatch).mkdir()
    assert own.module_argv("m")[1:] == ["-I", "-m", "m"]


def test_no_other_module_starts_our_own_by_hand() -> None:
    """Whoever starts a module of ours goes through here: `-m wolverined...` finds nothing in the package."""
    by_hand = re.compile(r'"-m",\s*(f?"wolverined|module)')
    found = [path for path in ROOT.rglob("*.py") if by_hand.search(path.read_text(encoding="utf-8"))]
    assert found == []
