# SPDX-License-Identifier: MIT
"""The bench of the reporters runs and answers in its shape. Its figures are for people: no test looks at a time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import node_path

BENCHMARKS = Path(__file__).parent.parent.parent / "packaging" / "benchmarks"


def test_the_hooks_bench_answers_in_its_shape() -> None:
    """One tiny run of the barest server: every column has a number, and the reporter was heard."""
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks lie in the source tree, which is not here")
    node = node_path()
    if node is None or shutil.which("wrk") is None:
        pytest.skip("no node or no wrk on this machine")
    argv = [sys.executable, str(BENCHMARKS / "hooks.py"), "--json", "--rounds", "1", "--seconds", "1"]
    environment = {**os.environ, "PATH": f"{node.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*argv, "--programs", "node:http"], capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"node:http", "floor"}
    row = answer["node:http"]
    noise = {"again_us", "again_pct", "again_mib"}
    assert set(row) == {"cpu_us", "extra_us", "per_s", "loss_pct", "start_mib", "after_mib", "lines"} | noise
    assert all(isinstance(value, int | float) for value in row.values())
    assert row["lines"] > 0
