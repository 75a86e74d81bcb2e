# SPDX-License-Identifier: MIT
"""wolverined beside its peers: medians of one run, in which all take their turns on the same machine.

    restart_ms     kill -9 of the application -> first instruction of the new one
    beyond_ms      the same without what that program's own start takes, measured in the same rounds
    survivors      processes of a tree of 1,000 that outlive `stop` (the most that were seen)
    tree_empty_ms  `stop` asked for -> the last of that tree is gone; null when one outlives it
    rss_mib        memory of the idle supervisor;  rss_after_mib: after all rounds
    status_ms      the command that shows the application's state, whole
    detect_ms      death -> the supervisor's own time stamp of having noticed

The row `floor` is what the machine itself needs: a bare start, a bare `cgroup.kill`, an empty Python.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import machine
from pm2 import Pm2
from programs import Circus, Program, Supervisor, Wolverined
from stamps import Stamps, Tree
from units import PlainUnit, WolverineUnit

APPS = Path(__file__).with_name("apps")
COLUMNS = (
    "restart_ms",
    "beyond_ms",
    "survivors",
    "tree_empty_ms",
    "rss_mib",
    "rss_after_mib",
    "status_ms",
    "detect_ms",
)
TARGETS = {
    "beyond_ms": "<= 15",
    "survivors": "0",
    "tree_empty_ms": "<= 50",
    "rss_mib": "<= 25",
    "status_ms": "<= 60",
    "detect_ms": "<= 5",
}
QUIET_S = 2.0
"""How long an application runs before it is killed: the peers call shorter lives unstable and wait."""
PATIENCE_S = 30.0
NS_PER_MS = 1e6

Maker = Callable[[Path], Program]


class Figures:
    """What was measured of one program."""

    def __init__(self) -> None:
        self.restart_ms: list[float] = []
        self.status_ms: list[float] = []
        self.detect_ms: list[float] = []
        self.tree_ms: list[float | None] = []
        self.survivors: list[int] = []
        self.rss_mib: float | None = None
        self.rss_after_mib: float | None = None

    def summary(self, *, start_ms: Sequence[float]) -> dict[str, Any]:
        """The medians; a tree that survived once has no time at all."""
        restart, start = machine.median(self.restart_ms, 2), machine.median(start_ms, 2)
        whole = [ms for ms in self.tree_ms if ms is not None]
        return {
            "restart_ms": restart,
            "beyond_ms": None if restart is None or start is None else round(restart - start, 2),
            "survivors": max(self.survivors, default=None),
            "tree_empty_ms": machine.median(whole) if len(whole) == len(self.tree_ms) else None,
            "rss_mib": self.rss_mib,
            "rss_after_mib": self.rss_after_mib,
            "status_ms": machine.median(self.status_ms),
            "detect_ms": machine.median(self.detect_ms, 2),
        }


class Bench:
    """One run.

    Args:
        place: A directory that every user may enter.
        makers: How each program is made.
        rounds: How often each figure is taken.
        trees: How often a tree is stopped.
        count: How many processes a tree has besides its root.
    """

    def __init__(self, *, place: Path, makers: dict[str, Maker], rounds: int, trees: int, count: int) -> None:
        self._place = place
        self._makers = makers
        self._rounds = rounds
        self._trees = trees
        self._count = count
        self._figures = {name: Figures() for name in makers}
        self._sources: dict[str, str] = {}
        self._start_ms: list[float] = []
        self._floor = Figures()

    def run(self) -> dict[str, dict[str, Any]]:
        """Measure everything."""
        before = machine.load()
        with ExitStack() as stack:
            self._kill_rounds(stack)
        for name in self._makers:
            self._stop_trees(name)
        self._floor_trees()
        result = {name: figures.summary(start_ms=self._start_ms) for name, figures in self._figures.items()}
        for name, source in self._sources.items():
            result[name]["detect_source"] = source
        result["floor"] = {
            **self._floor.summary(start_ms=self._start_ms),
            "restart_ms": machine.median(self._start_ms, 2),
            "machine": machine.described(),
            "load": [round(before, 2), round(machine.load(), 2)],
        }
        return result

    def _new_place(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._place))

    # --- restart, detection, status, memory

    def _kill_rounds(self, stack: ExitStack) -> None:
        seats = {name: self._seat(name, stack) for name in self._makers}
        time.sleep(2 * QUIET_S)
        for name, seat in seats.items():
            self._figures[name].rss_mib = machine.resident_mib(seat.program.pids())
            self._sources[name] = seat.program.detect_source
        for number in range(self._rounds):
            _say(f"round {number + 1} of {self._rounds}")
            self._start_ms.append(self._bare_start())
            self._floor.status_ms.append(_timed([sys.executable, "-I", "-S", "-c", "pass"]))
            for name, seat in seats.items():
                self._one_round(seat, self._figures[name])
        for name, seat in seats.items():
            self._figures[name].rss_after_mib = machine.resident_mib(seat.program.pids())

    def _seat(self, name: str, stack: ExitStack) -> _Seat:
        place = self._new_place(name)
        place.chmod(0o755)
        seat = _Seat(self._makers[name](place), stack.enter_context(Stamps(place / "stamps")))
        stack.callback(seat.program.close)
        seat.program.launch(["/bin/sh", str(APPS / "stamp.sh"), str(seat.stamps.path)])
        seat.greet()
        return seat

    def _one_round(self, seat: _Seat, figures: Figures) -> None:
        figures.status_ms.append(_timed(seat.program.status_command()))
        time.sleep(max(0.0, seat.since + QUIET_S - time.monotonic()))
        wall, killed = time.time(), time.monotonic_ns()
        os.kill(seat.pid, signal.SIGKILL)
        figures.restart_ms.append((seat.greet() - killed) / NS_PER_MS)
        noticed = seat.program.exit_noticed(wall)
        if noticed is not None:
            figures.detect_ms.append(max(0.0, (noticed - wall) * 1000))

    def _bare_start(self) -> float:
        """What the application's own start takes when nobody supervises it."""
        place = self._new_place("bare")
        with Stamps(place / "stamps") as stamps:
            began = time.monotonic_ns()
            argv = ["/bin/sh", str(APPS / "stamp.sh"), str(stamps.path)]
            pid = os.posix_spawn(argv[0], argv, os.environ)
            _, here = stamps.read(1, within_s=PATIENCE_S)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return (here - began) / NS_PER_MS

    # --- trees

    def _forest(self, stamps: Stamps) -> list[str]:
        return [_python(), "-I", "-S", str(APPS / "forest.py"), str(self._count), str(stamps.path)]

    def _stop_trees(self, name: str) -> None:
        _say(f"{name}: trees of {self._count}")
        place = self._new_place(name)
        place.chmod(0o755)
        program, figures = self._makers[name](place), self._figures[name]
        with Stamps(place / "stamps") as stamps:
            try:
                program.launch(self._forest(stamps))
                for number in range(self._trees):
                    if number:
                        program.start()
                    pids, _ = stamps.read(self._count + 1, within_s=PATIENCE_S)
                    self._stop_tree(pids, program.stop, figures)
            finally:
                program.close()

    def _stop_tree(self, pids: list[int], stop: Callable[[], int], figures: Figures) -> None:
        time.sleep(QUIET_S)
        with Tree(pids) as tree, ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(stop)
            gone = tree.watch(stopping.done, grace_s=1.0)
            figures.survivors.append(tree.survivors)
            figures.tree_ms.append(None if tree.survivors else (gone - stopping.result()) / NS_PER_MS)

    def _floor_trees(self) -> None:
        """The same tree killed by one write of ours, where we may have a cgroup."""
        from wolverined.linux.hierarchy import open_hierarchy  # noqa: PLC0415 - after the peers

        hierarchy = open_hierarchy("bench-floor", state_dir=self._new_place("floor"))
        try:
            for number in range(self._trees if hierarchy.contained else 0):
                self._floor_tree(hierarchy.leaf(f"tree-{number}"))
        finally:
            hierarchy.close()

    def _floor_tree(self, leaf: Any) -> None:
        with Stamps(self._new_place("floor") / "stamps") as stamps:
            door = leaf.entrance()
            join = ["/bin/sh", "-c", 'echo 0 >&0 && exec "$@" </dev/null', "sh", *self._forest(stamps)]
            process = subprocess.Popen(join, stdin=door)
            os.close(door)
            pids, _ = stamps.read(self._count + 1, within_s=PATIENCE_S)

            def kill() -> int:
                asked = time.monotonic_ns()
                leaf.kill()
                return asked

            self._stop_tree(pids, kill, self._floor)
            process.wait()


class _Seat:
    """One program with its application and what that says."""

    def __init__(self, program: Program, stamps: Stamps) -> None:
        self.program = program
        self.stamps = stamps
        self.pid = 0
        self.since = 0.0

    def greet(self) -> int:
        """Wait for the next application; gives the monotonic nanosecond of its first instruction."""
        pids, here = self.stamps.read(1, within_s=PATIENCE_S)
        self.pid, self.since = pids[-1], time.monotonic()
        return here


def _timed(argv: Sequence[str]) -> float:
    began = time.monotonic_ns()
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return (time.monotonic_ns() - began) / NS_PER_MS


def _python() -> str:
    """An interpreter that every user may run."""
    return next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), "python3")


def _say(words: str) -> None:
    print(f"-- {words}", file=sys.stderr)


def _makers(args: argparse.Namespace) -> dict[str, Maker]:
    makers: dict[str, Maker] = {"wolverined": Wolverined, "supervisor": Supervisor, "circus": Circus}
    if args.units:
        return {"wolverine@": WolverineUnit, "plain-unit": PlainUnit}
    if args.pm2:
        package, node = Path(args.pm2), shutil.which("node") or "node"
        makers["pm2"] = lambda place: Pm2(place, package=package, node=node)
    wanted = args.programs.split(",") if args.programs else list(makers)
    return {name: makers[name] for name in wanted}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="packaging/bench supervise", description="wolverined beside its peers")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="restarts of each program (10)")
    parser.add_argument("--trees", type=int, default=5, metavar="N", help="trees that each program stops (5)")
    parser.add_argument("--tree", type=int, default=1000, metavar="N", help="processes in a tree (1000)")
    parser.add_argument("--units", action="store_true", help="under systemd: wolverine@bench beside a plain unit")
    parser.add_argument("--programs", default="", metavar="A,B", help="only these")
    parser.add_argument("--pm2", default="", metavar="DIR", help="the installed npm package")
    parser.add_argument("--work", default=None, metavar="DIR", help="where directories are made; they are removed")
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a pidfd for each process of a tree
    with tempfile.TemporaryDirectory(prefix="wolverine-bench-", dir=args.work) as directory:
        place = Path(directory)
        place.chmod(0o755)
        bench = Bench(place=place, makers=_makers(args), rounds=args.rounds, trees=args.trees, count=args.tree)
        result = bench.run()
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(machine.table(COLUMNS, {**result, "target": TARGETS}))
    floor = result["floor"]
    print(f"\n{floor['machine']}; load {floor['load'][0]} before, {floor['load'][1]} after; medians of {args.rounds}")


if __name__ == "__main__":
    main()
