# SPDX-License-Identifier: MIT
"""The bench of supervisors in a booted machine with the .deb in it: `wolverine@` beside a plain unit, in one run.

Figures and words as in supervise.py, which is what runs in the machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from support.lab import Machine, ensure_base, sweep, why_not
from support.lab_deb import ensure_deb, ensure_installed

HERE = Path(__file__).parent
LONGEST_S = 1800.0
PROGRAM = "PYTHONPATH=/usr/lib/wolverine/app:/usr/lib/wolverine/vendor exec python3 /bench/supervise.py --units "


def main() -> int:
    """Boot, measure, print what supervise.py prints."""
    parser = argparse.ArgumentParser(prog="packaging/bench system", description="under systemd, beside a plain unit")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="restarts of each program (10)")
    parser.add_argument("--trees", type=int, default=5, metavar="N", help="trees that each program stops (5)")
    parser.add_argument("--tree", type=int, default=1000, metavar="N", help="processes in a tree (1000)")
    args = parser.parse_args()
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    sweep()
    base = ensure_base()
    words = f"--rounds {args.rounds} --trees {args.trees} --tree {args.tree}" + (" --json" if args.json else "")
    with Machine([ensure_installed(ensure_deb(), lower=[base]), base], name="bench", binds={HERE: "/bench"}) as machine:
        done = machine.run(PROGRAM + words, timeout_s=LONGEST_S, properties=("Delegate=yes", "TasksMax=infinity"))
    sys.stdout.write(done.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
