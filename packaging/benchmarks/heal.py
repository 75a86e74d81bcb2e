# SPDX-License-Identifier: MIT
"""From a crash to a proven repair that serves: real servers under the real `wolverined run`, per class of fault.

    items, healed, refuted, rolled_back, unprovable
                           how the heals of the class ended; what is none of them was refused or given up
    tree_changed           items whose source ended neither as it was nor, healed, as it should be
    crash_to_serving_ms    median: the crash -> the repair is proven, applied, and the route answers 200

No model takes part in the classes of remedies; in those of proposals a scripted one answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import machine
from heal_cases import LATE, PROPOSALS, REMEDIES, Case
from support.daemons import Running
from support.healing import App, asked, ending, mend, until_settled

from wolverined.control.client import Client
from wolverined.errors import Unreachable

OUTCOMES = ("healed", "refuted", "rolled_back", "unprovable", "approval", "refused")
COLUMNS = ("items", *OUTCOMES, "tree_changed", "crash_to_serving_ms")
TARGET = {"tree_changed": "0", "crash_to_serving_ms": "<= 3000"}
FAST = "[heal]\nprobation_s = 0.5\n"
PATIENCE_S = 60.0


class Tally:
    """The outcomes of one class."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._ms: list[float] = []

    def add(self, outcome: str, *, tree_as_it_should_be: bool, ms: float | None) -> None:
        """Count one item."""
        self._counts["items"] += 1
        self._counts[outcome] += 1
        self._counts["tree_changed"] += not tree_as_it_should_be
        if ms is not None:
            self._ms.append(ms)

    def summary(self) -> dict[str, Any]:
        """As DESIGN 7.8 has it."""
        counts: dict[str, Any] = {name: self._counts[name] for name in COLUMNS[:-1]}
        return {**counts, "crash_to_serving_ms": machine.median(self._ms, 0)}


def mended(case: Case, tally: Tally) -> None:
    """Let one fault crash its server and watch the heal by remedies."""
    with Running(files=case.broken, command=case.command, tables=FAST) as running:
        crash = _crash_of_boot if case.boot else _crash_by_request
        ms = _until_serving(running, crash(running, case.route), case.route)
        outcome = _outcome(running)
        healed = {name: text.encode() for name, text in case.right.items()}
        before = {name: text.encode() for name, text in case.broken.items()}
        right = running.tree() == (healed if outcome == "healed" else before)
        tally.add(outcome, tree_as_it_should_be=right, ms=ms)


def proposed(app: App, answer: str, tally: Tally) -> None:
    """Let one fault crash its server and watch what becomes of a model's proposal."""
    with asked(app, answer, heal='auto_risk = "any"' if LATE in answer else "") as (running, _):
        crashed = _crash_by_request(running, app.trigger)
        right_answer = answer == mend(app, app.right)
        ms = _until_serving(running, crashed, app.trigger) if right_answer else None
        ending(running)
        until_settled(running)
        outcome = _outcome(running)
        before = {name: text.encode() for name, text in app.files.items()}
        after = {**before, app.path: before[app.path].replace(app.search.encode(), app.right.encode())}
        right = running.tree() == (after if outcome == "healed" else before)
        tally.add(outcome, tree_as_it_should_be=right, ms=ms)


def _crash_by_request(running: Running, route: str) -> int:
    """Send what ends the server; the monotonic nanosecond at which it was gone."""
    running.until_healthy()
    answer = running.get(route)
    if not answer.crashed:
        raise RuntimeError(f"{route} did not crash the server: {answer}")
    return time.monotonic_ns()


def _crash_of_boot(running: Running, _: str) -> int:
    """The monotonic nanosecond of the first exit that wolverined tells of."""
    event = _first_event(running, "app.exit", after_name="")
    return time.monotonic_ns() - int((time.time() - event["at"]) * 1e9)


def _until_serving(running: Running, crashed: int, route: str) -> float | None:
    """Milliseconds until the repair is applied, the server is ready and the route answers; None: never healed."""
    if _first_event(running, "app.ready", after_name="repair.applied") is None:
        return None
    deadline = time.monotonic() + PATIENCE_S
    while running.get(route).status != 200:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)
    return (time.monotonic_ns() - crashed) / 1e6


def _first_event(running: Running, name: str, *, after_name: str) -> Any:
    """The first event of a name after one of another name, followed as it comes; None when the heal ended without."""
    deadline = time.monotonic() + PATIENCE_S
    seen = not after_name
    with _client(running).stream("/v1/events?follow=true&after=0") as stream:
        for record in stream:
            event = record.get("event", record)
            if seen and event.get("name") == name:
                return event
            seen = seen or event.get("name") == after_name
            if event.get("name") in {"heal.nothing", "heal.failed"} or time.monotonic() > deadline:
                return None
    return None


def _client(running: Running) -> Client:
    deadline = time.monotonic() + PATIENCE_S
    client = Client(str(running.runtime))
    while True:
        try:
            client.get("/v1/status")
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return client


def _outcome(running: Running) -> str:
    """How the newest heal ended, once it has; the last word counts, a verdict where a state says less."""
    ending(running)
    until_settled(running)
    repairs = running.repairs()
    states = [repair["state"] for repair in repairs]
    verdicts = [(repair.get("verdict") or {}).get("outcome") for repair in repairs]
    if any(state in {"verified", "stable"} for state in states):
        return "healed"
    for name in ("rolled_back", "unprovable", "refuted", "approval"):
        if name in states or name in verdicts:
            return name
    return "refused"


def measure(rounds: int, wanted: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
    """Run every wanted class so many times."""
    result: dict[str, dict[str, Any]] = {}
    classes: Mapping[str, Any] = {**REMEDIES, **PROPOSALS}
    for name, items in classes.items():
        if not wanted(name):
            continue
        print(f"-- {name}", file=sys.stderr)
        tally = Tally()
        for item in items * rounds:
            if isinstance(item, Case):
                mended(item, tally)
            else:
                app, answer = item
                proposed(app, answer, tally)
        result[name] = tally.summary()
    return result


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="packaging/bench heal", description="from a crash to a proven repair")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each item is healed (3)")
    parser.add_argument("--classes", default="", metavar="WORD", help="only classes with this in their name")
    args = parser.parse_args()
    before = machine.load()
    result = measure(args.rounds, lambda name: args.classes in name)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(machine.table(COLUMNS, {**result, "target": TARGET}))
    print(f"\n{machine.described()}; load {before:.2f} before, {machine.load():.2f} after; {args.rounds} rounds")


if __name__ == "__main__":
    main()
