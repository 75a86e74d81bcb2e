# SPDX-License-Identifier: MIT
"""The unit file: what systemd itself says of its walls, and of its words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "wolverine@.service"
MOST = 26
"""Tenths of the score of `systemd-analyze security`: 0 is a closed box, 100 a root service. The app inherits it."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit of one application."""
    return Path(shutil.copy(UNIT, tmp_path / "wolverine@shop.service"))


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says."""
    argv = ["systemd-analyze", "--no-pager", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_the_walls_are_as_high_as_a_web_application_allows(unit: Path) -> None:
    """A wall that is taken away makes this fail; one more is welcome where no application notices it."""
    done = analyze("security", "--offline=true", f"--threshold={MOST}", str(unit))
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_score_notices_a_wall_that_is_gone(unit: Path) -> None:
    """The test above is no empty gesture."""
    unit.write_text(unit.read_text().replace("RestrictNamespaces=yes", "RestrictNamespaces=no"))
    assert analyze("security", "--offline=true", f"--threshold={MOST}", str(unit)).returncode != 0


def test_systemd_knows_every_word_of_it(unit: Path) -> None:
    """What Debian 12's does not know it would ignore in silence; programs that are not installed here are no fault."""
    done = analyze("verify", str(unit))
    assert [line for line in done.stderr.splitlines() if "Unknown" in line or "ignoring" in line.lower()] == []
