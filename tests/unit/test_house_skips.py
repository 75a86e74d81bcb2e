# SPDX-License-Identifier: MIT
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"


def run(place: Path, reason: str, *, ci: bool) -> int:
    """Run one test that skips for this reason under the house's conftest, and give pytest's exit code."""
    (place / "conftest.py").write_bytes(CONFTEST.read_bytes())
    (place / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    pytest.skip({reason!r})\n")
    environment = {**os.environ, "CI": "true" if ci else ""}
    argv = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(place), str(place)]
    return subprocess.run(argv, env=environment, capture_output=True, cwd=place, check=False).returncode


@pytest.mark.parametrize(
    ("reason", "ci", "code"),
    [
        ("needs a writable cgroup v2: it is read-only", True, 1),
        ("needs a writable cgroup v2: it is read-only", False, 0),
        ("no corpora beside the project root (../shared/corpora)", True, 0),
    ],
)
def test_ci_fails_on_a_skip_for_want_of_something(tmp_path: Path, reason: str, ci: bool, code: int) -> None:
    """A skip says what is missing; in CI nothing may be missing but what is no part of the project."""
    assert run(tmp_path, reason, ci=ci) == code
