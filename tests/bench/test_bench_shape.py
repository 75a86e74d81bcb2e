# SPDX-License-Identifier: MIT
"""The benches run and answer in the agreed shape. Their figures are for people: no test looks at a time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "packaging" / "benchmarks"
TINY = ("--rounds", "1", "--trees", "1", "--tree", "30", "--programs", "wolverined")


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """One tiny run without peers."""
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks lie in the source tree, which is not here")
    argv = [sys.executable, str(BENCHMARKS / "supervise.py"), "--json", *TINY]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_supervise_bench_answers_in_the_agreed_shape(result: dict[str, Any]) -> None:
    """Each program has every agreed figure, and a run tells of its machine and its load."""
    agreed = {"restart_ms", "survivors", "tree_empty_ms", "rss_mib", "status_ms", "detect_ms"}
    assert set(result) == {"wolverined", "floor"}
    assert agreed <= set(result["wolverined"])
    assert all(isinstance(result["wolverined"][name], int | float) for name in agreed)
    assert {"machine", "load"} <= set(result["floor"])


def test_no_process_of_a_tree_outlives_a_stop(result: dict[str, Any]) -> None:
    """Neither children, nor those in sessions of their own, nor the double-forked."""
    assert result["wolverined"]["survivors"] == 0
