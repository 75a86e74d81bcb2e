# SPDX-License-Identifier: MIT
"""What is killed, stopped, deployed over or crowded in the middle of a heal leaves one whole tree and a true record."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.daemons import NODE, Running
from support.healing import (
    NODE_SHOP,
    App,
    asked,
    block,
    ending,
    journal_is_clean,
    mend,
    reply,
    serves,
    until_settled,
    untouched,
)
from support.model_server import Recorded, Reply, answer, hang
from support.places import eventually
from support.surgeries import Journal

WIDE = reply(
    block(
        "tags.js",
        "",
        "function centsOf(item) {\n  return item?.tag?.cents ?? null;\n}\nmodule.exports = { centsOf };\n",
    ),
    block("prices.js", "const goods = {\n", 'const tags = require("./tags");\nconst goods = {\n'),
    block("prices.js", NODE_SHOP.search, "  return { id, cents: tags.centsOf(item) };\n"),
    block("server.js", '  response.end("no");\n', '  response.end("not here");\n'),
)
"""A right repair over three files, one of them new: half of it would not run."""

OLD_STATES = {"approval", "rolled_back", "failed", "proposed"}
NEW_STATES = {"probation", "verified", "applied"}
ROLES = {"heal": "wolverined.heal", "surgeon": "wolverined.heal.surgeon"}
KILLED_AT = ("intent", "swapping", "committed")
TRIES = 4
AT_MOST = 16
"""How often it is tried when every surgery so far was quicker than its death."""


def members(running: Running, module: str) -> list[int]:
    """Pids of this daemon's children that run a module."""
    assert running.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if module.encode() in words and parent == running.process.pid:
                found.append(int(entry.name))
    return found


def strike(running: Running, target: str, rng: random.Random, step: str) -> bool:
    """End `target` when a surgery has come to `step`; whether the surgery was really cut off."""
    assert running.process is not None
    journal = Journal(running.state)
    doomed = running.status()["tree"] if target == "daemon and app" else []
    if target in ROLES:
        doomed = journal.wait_for_role(lambda: members(running, ROLES[target]))
    journal.wait_for(step)
    time.sleep(rng.uniform(0.0, 0.004))
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if "daemon" not in target:
        return bool(doomed) and journal.newest()[1] not in ("done", "committed")
    running.kill(signal.SIGTERM if target == "daemon, politely" else signal.SIGKILL)
    eventually(lambda: not members_of_nobody(running), within_s=5)
    cut_off = journal.newest()[1] not in ("done", "undone")
    running.start()
    return cut_off


def members_of_nobody(running: Running) -> list[int]:
    """Roles of this instance's daemon that outlived it."""
    return [pid for pid in running.survivors() if b"wolverined" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("target", ["heal", "surgeon", "daemon", "daemon and app", "daemon, politely"])
def test_whatever_is_killed_while_files_are_written_the_tree_is_old_or_new(target: str) -> None:
    """Approve and roll back again and again, with a death at each step: never half a tree, never a wrong word."""
    rng = random.Random(f"{target} 7")
    cut_off = 0
    with asked(NODE_SHOP, WIDE, probation_s=0.2) as (running, _):
        old = running.tree()
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == "heal.approval"
        assert running.ctl("approve", "r1").code == 0
        new = running.tree()
        assert new.keys() - old.keys() == {"tags.js"}
        for number in range(AT_MOST):
            if number >= TRIES and cut_off:
                break
            word = "rollback" if running.tree() == new else "approve"
            argv = [sys.executable, "-P", "-m", "wolverined.cli", "--runtime-dir", str(running.runtime), word, "r1"]
            with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                cut_off += strike(running, target, rng, KILLED_AT[number % len(KILLED_AT)])
            running.until_healthy()
            eventually(lambda: _is_over(running), within_s=20)
            tree = running.tree()
            assert tree in (old, new), f"try {number}: a mixture"
            state = running.repairs()[0]["state"]
            assert state in (NEW_STATES if tree == new else OLD_STATES), f"try {number}: {state}"
            assert journal_is_clean(running)
            assert serves(running, NODE_SHOP)
            assert running.get("/nowhere").body == (b"not here" if tree == new else b"no"), "it runs what is there"
    assert cut_off, "no death came in the middle of anything"


def _is_over(running: Running) -> bool:
    return not running.status()["healing"] and running.repairs()[0]["state"] != "probation"


def test_a_heal_that_is_killed_while_it_watches_is_followed_by_another_watch() -> None:
    """The repair is not forgotten: it ends verified, and the incident is closed."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right), probation_s=1.0) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("repair.probation")
        for pid in members(running, "wolverined.heal"):
            os.kill(pid, signal.SIGKILL)
        running.until_event("repair.verified")
        until_settled(running)
        assert running.incidents()[0]["closed_by"] == "r1"
        assert serves(running, NODE_SHOP)


def test_a_daemon_that_is_killed_while_it_watches_goes_on_watching() -> None:
    """After the restart the repair stands its probation from the beginning."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right), probation_s=1.0) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("repair.probation")
        running.kill()
        running.start()
        running.until_event("repair.verified")
        until_settled(running)
        assert running.incidents()[0]["closed_by"] == "r1"
        assert running.repairs()[0]["state"] == "verified"


def test_a_heal_that_was_cut_off_before_it_decided_begins_again() -> None:
    """Killed while the model thinks: nothing was touched, and the next start heals."""
    with asked(NODE_SHOP, hang()) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        server.wait_for(1)
        running.kill()
        assert untouched(running, NODE_SHOP)
        server.script(answer(mend(NODE_SHOP, NODE_SHOP.right)))
        running.start()
        running.until_event("repair.verified")
        until_settled(running)
        assert running.incidents()[0]["state"] == "closed"


def test_a_polite_end_in_the_middle_of_a_heal_is_quick_and_leaves_nothing() -> None:
    """SIGTERM while the model thinks: exit 0 within seconds, no process and no change."""
    with asked(NODE_SHOP, hang()) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        server.wait_for(1)
        assert members(running, "wolverined.heal.adviser")
        before = time.monotonic()
        assert running.kill(signal.SIGTERM) == 0
        assert time.monotonic() - before < 5
        assert running.survivors() == []
        assert untouched(running, NODE_SHOP)


@pytest.mark.parametrize("path", ["prices.js", "server.js"])
def test_a_deploy_in_the_middle_of_a_heal_aborts_it_and_is_kept(path: str) -> None:
    """Files that others wrote while the model thought stay as they wrote them, and the repair is not applied."""
    deployed = {"text": b""}

    def deploy(_: Recorded) -> Reply:
        target = running.app / path
        deployed["text"] = target.read_bytes() + b"// version 2\n"
        target.write_bytes(deployed["text"])
        return answer(mend(NODE_SHOP, NODE_SHOP.right))

    with asked(NODE_SHOP, deploy) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        end = ending(running)
        assert end["name"] == "heal.failed"
        assert "not applied" in end["message"]
        assert path in end["message"]
        expected = {name: text.encode() for name, text in NODE_SHOP.files.items()} | {path: deployed["text"]}
        assert running.tree() == dict(sorted(expected.items()))
        assert running.repairs()[0]["state"] == "failed"
        assert serves(running, NODE_SHOP)


def test_data_that_the_app_writes_in_the_middle_of_a_heal_is_no_deploy() -> None:
    """An app that writes beside its code does not abort its own heal."""

    def write(_: Recorded) -> Reply:
        (running.app / "visits.json").write_text("[1]")
        (running.app / "app.log").write_text("a visit\n")
        return answer(mend(NODE_SHOP, NODE_SHOP.right))

    with asked(NODE_SHOP, write) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == "incident.closed"
        assert (running.app / "visits.json").read_text() == "[1]"


def test_a_repair_that_is_deployed_over_and_fails_is_left_to_a_human() -> None:
    """It crashes in its probation and its file is somebody else's now: their text stays, loudly, and once."""
    late = reply(
        block("prices.js", NODE_SHOP.search, NODE_SHOP.right),
        block("prices.js", "module.exports = { names, quote };\n", f"module.exports = {{ names, quote }};\n{LATE}"),
    )
    with asked(NODE_SHOP, late, heal='auto_risk = "any"', probation_s=5.0) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        eventually(lambda: "repair.applied" in running.log.read_text(), within_s=20)
        theirs = (running.app / "prices.js").read_bytes() + b"// theirs\n"
        (running.app / "prices.js").write_bytes(theirs)
        running.until_event("repair.rollback_failed")
        until_settled(running)
        assert (running.app / "prices.js").read_bytes() == theirs
        (repair,) = running.repairs()
        assert repair["state"] == "failed"
        assert "not rolled back" in repair["note"]
        assert [event["name"] for event in running.events()].count("repair.rollback_failed") == 1


LATE = 'if (process.env.WOLVERINE_REPORT_SOCKET) setTimeout(() => { throw new Error("late"); }, 1000);\n'


def test_a_stop_in_the_middle_of_a_heal_is_obeyed_and_the_probation_waits() -> None:
    """The repair goes in, the app stays stopped as the operator wants it; started, it stands its probation."""
    release: list[bool] = []

    def answer_once_stopped(_: Recorded) -> Reply:
        eventually(lambda: release, within_s=20)
        return answer(mend(NODE_SHOP, NODE_SHOP.right))

    with asked(NODE_SHOP, answer_once_stopped, probation_s=0.5) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        server.wait_for(1)
        assert running.ctl("stop").code == 0
        release.append(True)
        running.until_event("heal.paused")
        assert running.status()["state"] == "stopped"
        assert running.repairs()[0]["state"] == "probation"
        assert running.ctl("start").code == 0
        running.until_event("repair.verified")
        until_settled(running)
        assert running.incidents()[0]["closed_by"] == "r1"
        assert running.get(NODE_SHOP.trigger).status == 200


def test_a_stop_in_a_probation_puts_it_off_and_a_start_begins_it_again() -> None:
    """A stopped app proves nothing, neither way."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right), probation_s=2.0) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("repair.probation")
        assert running.ctl("stop").code == 0
        running.until_event("heal.paused")
        until_settled(running)
        assert (running.status()["state"], running.repairs()[0]["state"]) == ("stopped", "probation")
        assert running.ctl("start").code == 0
        running.until_event("repair.verified")


def test_an_operator_may_roll_back_in_the_middle_of_a_probation() -> None:
    """They need not wait for its end."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right), probation_s=60.0) as (running, _):
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("repair.probation")
        done = running.ctl("rollback", "r1")
        assert done.code == 0, done.err
        assert untouched(running, NODE_SHOP)
        assert running.repairs()[0]["state"] == "rolled_back"
        assert serves(running, NODE_SHOP)


TWO_FAULTS = App(
    files={
        "server.js": """
const http = require("node:http");
const colour = "red";
const weight = 12;
http.createServer((request, response) => {
  if (request.url === "/colour") return response.end(colur);
  if (request.url === "/weight") return response.end(String(wieght));
  response.end("ok");
}).listen(process.env.PORT, "127.0.0.1");
""",
    },
    command=(NODE, "server.js"),
    trigger="/colour",
    path="server.js",
    search="",
    right="",
    other="/health",
)


def test_a_second_crash_in_the_middle_of_a_heal_is_healed_after_the_first() -> None:
    """Another fingerprint waits for its turn, and gets it."""
    tables = "[heal]\nprobation_s = 0.3\n"
    with Running(files=TWO_FAULTS.files, command=TWO_FAULTS.command, tables=tables) as running:
        running.until_healthy()
        assert running.get("/colour").crashed
        running.until_event("heal.started")
        eventually(lambda: running.get("/weight").crashed and running.status()["generation"] > 2, within_s=10)
        running.until_event("repair.verified", count=2)
        running.until_healthy()
        assert (running.get("/colour").body, running.get("/weight").body) == (b"red", b"12")
        until_settled(running)
        assert [incident["state"] for incident in running.incidents()] == ["closed", "closed"]


def test_a_source_that_has_just_changed_is_left_alone_for_a_while() -> None:
    """A deploy may be under way: the heal waits, then heals."""
    tables = "[heal]\nprobation_s = 0.3\nsettle_s = 4.0\n"
    running = Running(files=TWO_FAULTS.files, command=TWO_FAULTS.command, tables=tables, settled=False)
    with running:
        running.until_healthy()
        assert running.get("/colour").crashed
        waits = running.until_event("heal.wait")
        assert "changed a moment ago" in waits["message"]
        running.until_event("repair.verified")
        assert running.get("/colour").body == b"red"
