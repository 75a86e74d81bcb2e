# SPDX-License-Identifier: MIT
from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from support.configs import text_of

from wolverined.config import check


def run(target: str, *, as_json: bool = False) -> int:
    """`wolverinectl config check TARGET`."""
    return check.main(argparse.Namespace(target=target, json=as_json))


def test_a_good_file_is_shown_with_every_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in force is printed key by key; values of environments are not."""
    more = '[app.environment]\nTOKEN = "hidden"\n[ai.prices."small-4.1"]\ninput = 1\noutput = 2\n'
    (tmp_path / "shop.toml").write_text(text_of(tmp_path, more))
    assert run(str(tmp_path / "shop.toml")) == 0
    out = capsys.readouterr().out
    assert 'heal.policy = "auto"' in out
    assert "restart.jitter = 0.1" in out
    assert "app.port = absent" in out
    assert "app.environment.TOKEN" in out
    assert "hidden" not in out


def test_a_bad_file_is_refused_with_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem is a line FILE:LINE: what; hint: how. The exit code is that of wolverined."""
    path = tmp_path / "shop.toml"
    path.write_text(text_of(tmp_path, "[stop]\ntimeout_s = 0\nsignal = 5\n"))
    assert run(str(path)) == 78
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: {path}: 2 problems"
    assert [line.strip().partition(": ")[0] for line in lines[1:]] == [f"{path}:6", f"{path}:7"]
    assert all("; hint: " in line for line in lines[1:])


@pytest.mark.parametrize("target", ["missing.toml", "./none/x.toml"])
def test_a_missing_file_as_json(tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get problems as a list, whatever is wrong."""
    assert run(str(tmp_path / target), as_json=True) == 78
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["problems"][0]["line"]) == (False, None)
    assert answer["problems"][0]["hint"]


def test_json_of_good_and_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same keys in both cases: file, ok, problems, warnings."""
    path = tmp_path / "shop.toml"
    path.write_text(text_of(tmp_path, '[heal]\nunprovable = "apply"\n'))
    assert run(str(path), as_json=True) == 0
    good = json.loads(capsys.readouterr().out)
    path.write_text("[")
    assert run(str(path), as_json=True) == 78
    bad = json.loads(capsys.readouterr().out)
    assert good.keys() == bad.keys() == {"file", "ok", "problems", "warnings"}
    assert good["warnings"]
    assert bad["problems"][0]["line"] == 1


def test_a_bare_name_means_the_machines_own_file() -> None:
    """A name is looked for in /etc/wolverine; what looks like a path is one."""
    assert check.locate("shop") == Path("/etc/wolverine/shop.toml")
    assert check.locate("shop.toml") == Path("shop.toml")
    assert check.locate("./shop") == Path("shop")
