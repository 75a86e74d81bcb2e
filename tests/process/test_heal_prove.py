# SPDX-License-Identifier: MIT
"""Proposals for real servers, proven, refuted or unprovable by real runs in sandboxes."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.places import IS_ROOT, eventually, node_path, public_python, public_tmp
from support.trials import in_loop, needs_sandbox, open_trial, still_running, trial_uid

from wolverined.config.schema import AppTable, Config, HealTable, ProbeTable, RoutesTable
from wolverined.errors import StreamError, WolverineError
from wolverined.heal import prove
from wolverined.heal.prove import Prover
from wolverined.heal.stream import Channel
from wolverined.model import (
    Check,
    Evidence,
    Exit,
    FileChange,
    Incident,
    IncidentKind,
    Outcome,
    Proposal,
    RepairMode,
    Request,
    Snapshot,
    SourceFile,
    Trace,
    Verdict,
)
from wolverined.traces import fingerprint, parse

pytestmark = needs_sandbox
PORT = 3998
PROVEN, REFUTED, UNPROVABLE = Outcome.PROVEN, Outcome.REFUTED, Outcome.UNPROVABLE

NODE = """\
const http = require('http');
const items = { 1: { price: 10 }, 2: { price: 20 } };
function total(id) {
  return items[id].prise.toFixed(2);
}
function reply(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
http.createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (path === '/') return reply(response, 200, { ok: true, version: 1 });
  if (path.startsWith('/total/')) return reply(response, 200, { total: total(path.slice(7)) });
  reply(response, 404, { error: 'no such path' });
}).listen(process.env.PORT, () => console.log('up'));
"""
NODE_TAIL = (
    "TypeError: Cannot read properties of undefined (reading 'toFixed')",
    "    at total (DIR/server.js:4:26)",
    "    at Server.<anonymous> (DIR/server.js:13:75)",
    "    at Server.emit (node:events:509:28)",
)
PYTHON = """\
import http.server, json, os

items = {"1": {"price": 10}, "2": {"price": 20}}

def total(number):
    return "%.2f" % items[number]["prise"]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/":
                return self.reply(200, {"ok": True})
            if self.path.startswith("/total/"):
                return self.reply(200, {"total": total(self.path[7:])})
            self.reply(404, {"error": "no such path"})
        except Exception:
            import traceback
            traceback.print_exc()
            self.reply(500, {"error": "oops"})
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
PYTHON_TAIL = (
    "Traceback (most recent call last):",
    '  File "DIR/server.py", line 14, in do_GET',
    '    return self.reply(200, {"total": total(self.path[7:])})',
    "                                     ^^^^^^^^^^^^^^^^^^^^",
    '  File "DIR/server.py", line 6, in total',
    '    return "%.2f" % items[number]["prise"]',
    "                    ~~~~~~~~~~~~~^^^^^^^^^",
    "KeyError: 'prise'",
)


class Case:
    """One app with one incident, and a prover for it."""

    def __init__(self, place: Path, name: str, source: str, command: list[str], **config: Any) -> None:
        self.place = place
        self.name = name
        self.source = source
        (place / name).write_text(source)
        if IS_ROOT:
            os.chown(place, trial_uid(), trial_uid())
        app = AppTable(command=tuple(command), directory=place, port=PORT)
        self.config = Config(**{"app": app, "probe": ProbeTable(http="/"), **config})
        self.opened: list[subprocess.Popen[bytes]] = []
        self.checks: list[Check] = []

    def evidence(
        self,
        kind: IncidentKind,
        tail: tuple[str, ...],
        *,
        path: str = "",
        uptime_s: float = 100.0,
        request: Request | None = None,
    ) -> Evidence:
        """What the daemon would know."""
        lines = tuple(line.replace("DIR", str(self.place)) for line in tail)
        traces = parse(lines, app_root=str(self.place))
        trace: Trace | None = traces[-1] if traces else None
        asked = request or (Request(method="GET", path=path) if path else None)
        incident = Incident(
            id="i1",
            fingerprint=fingerprint(kind, trace, None),
            kind=kind,
            error="error",
            trace=trace,
            exit=Exit(generation=1, code=1, uptime_s=uptime_s, ready=True),
        )
        return Evidence(incident=incident, tail=lines, traces=tuple(traces), request=asked)

    def prover(self, evidence: Evidence, **given: Any) -> Prover:
        """A prover for this incident."""
        files = {self.name: SourceFile(self.source.encode(), 0o644)}
        base: dict[str, Any] = {
            "open_trial": lambda _side: open_trial(self.opened),
            "config": self.config,
            "snapshot": Snapshot(root=str(self.place), files=files, tree_hash="0"),
            "evidence": evidence,
            "environment": {"PATH": "/usr/bin:/bin", "PORT": str(PORT)},
        }
        return Prover(**{**base, **given})

    def proposal(self, *edits: tuple[str, str]) -> Proposal:
        """A change of the one source file."""
        after = self.source
        for old, new in edits:
            assert old in after, old
            after = after.replace(old, new)
        change = FileChange(path=self.name, before=self.source.encode(), after=after.encode())
        return Proposal(mode=RepairMode.REMEDY, reason="test", changes=(change,))

    async def tell(self, check: Check) -> None:
        """Take note of a check."""
        self.checks.append(check)

    async def prove(self, evidence: Evidence, *edits: tuple[str, str], **given: Any) -> Verdict:
        """Prove one proposal with a prover of its own; nothing may be left of it."""
        prover = self.prover(evidence, **given)
        try:
            verdict = await prover.prove(self.proposal(*edits), self.tell)
        finally:
            await prover.close()
        assert (self.place / self.name).read_text() == self.source
        return verdict


@pytest.fixture
def place() -> Iterator[Path]:
    """An app's directory."""
    with public_tmp() as path:
        yield path


@pytest.fixture
def node(place: Path) -> Case:
    """A Node server that dies at /total/1."""
    program = node_path()
    if program is None:
        pytest.skip("no Node interpreter")
    return Case(place, "server.js", NODE, [str(program), "server.js"])


@pytest.fixture
def python(place: Path) -> Case:
    """A Python server that answers 500 at /total/1."""
    return Case(place, "server.py", PYTHON, [public_python(), "server.py"])


RIGHT = ("prise", "price")
NODE_PATCHES: list[tuple[str, tuple[tuple[str, str], ...], Outcome, str]] = [
    ("right", (RIGHT,), PROVEN, "succeeds"),
    ("syntax error", ((".prise.toFixed(2);", ".price.toFixed(2;"),), REFUTED, "does not parse"),
    ("does not boot", (("const items", "throw new Error('x'); const items"),), REFUTED, "does not boot"),
    ("changes nothing", (("'no such path'", "'no path'"),), REFUTED, "still fails"),
    ("another crash", ((".prise.toFixed", ".price.toFixedd"),), REFUTED, "still fails"),
    (
        "swallowed",
        (
            (
                "{ total: total(path.slice(7)) });",
                "(() => { try { return total(1) } catch (e) { console.error(e); return {} } })());",
            ),
        ),
        REFUTED,
        "swallowed",
    ),
    (
        "special-cased",
        (("return items[id]", "if (id === '1') return '10.00'; return items[id]"),),
        REFUTED,
        "a little different",
    ),
    ("route deleted", (("path.startsWith('/total/')", "false"),), UNPROVABLE, "404"),
    ("breaks another route", (RIGHT, ("ok: true, version", "fine: true, version")), REFUTED, "fields changed"),
    ("dies later", (RIGHT, ("console.log('up')", "setTimeout(() => process.exit(7), 100)")), REFUTED, ""),
    ("never listens", ((".listen(process.env.PORT", ".listen(1 + +process.env.PORT"),), REFUTED, "not ready"),
]


@pytest.mark.parametrize(("what", "edits", "outcome", "words"), NODE_PATCHES, ids=[row[0] for row in NODE_PATCHES])
@in_loop
async def test_patches_of_a_node_server_that_dies_at_a_request(
    node: Case, what: str, edits: tuple[tuple[str, str], ...], outcome: Outcome, words: str
) -> None:
    """The right one is proven, every other is refused for its own reason."""
    startup = ProbeTable(http="/", startup_s=2.0 if what == "never listens" else 20.0)
    node.config = Config(app=node.config.app, probe=startup)
    seen = node.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1")
    verdict = await node.prove(seen, *edits)
    assert verdict.outcome is outcome, verdict
    assert words in verdict.reason
    assert {(check.rung, check.name) for check in node.checks} >= {(check.rung, check.name) for check in verdict.checks}
    assert len(node.checks) == len({(check.rung, check.name) for check in node.checks}), "each is told once"
    eventually(lambda: not still_running([process.pid for process in node.opened]))


@pytest.mark.parametrize(
    ("edits", "outcome"),
    [
        ((RIGHT,), PROVEN),
        (((PYTHON.split("\n")[5], '    return "%.2f" % items[number].get("prise")'),), REFUTED),
        (
            (
                (
                    "            traceback.print_exc()\n            self.reply(500",
                    "            traceback.print_exc()\n            self.reply(200",
                ),
            ),
            REFUTED,
        ),
    ],
    ids=["right", "another error", "answers 200 all the same"],
)
@in_loop
async def test_patches_of_a_python_server_that_answers_500(
    python: Case, edits: tuple[tuple[str, str], ...], outcome: Outcome
) -> None:
    """An error that is caught and answered is a trigger like a crash."""
    seen = python.evidence(IncidentKind.HTTP5XX, PYTHON_TAIL, path="/total/1")
    verdict = await python.prove(seen, *edits)
    assert verdict.outcome is outcome, verdict


@in_loop
async def test_a_request_that_nobody_recorded_is_found_in_the_source(node: Case) -> None:
    """Every path that stands in the source is tried on the baseline until the very error comes."""
    seen = node.evidence(IncidentKind.CRASH, NODE_TAIL)
    verdict = await node.prove(seen, RIGHT)
    # What is tried, /total/1, exists in this app; its sibling does not, and fails of another fault on both.
    assert verdict.outcome is PROVEN, verdict
    assert any("found in the source" in check.name for check in verdict.checks)


@in_loop
async def test_the_baseline_runs_once_for_all_proposals(node: Case) -> None:
    """Two proposals, three trials; and a heal without a proven one leaves nothing either."""
    prover = node.prover(node.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"))
    first = await prover.prove(node.proposal(("'no such path'", "'no path'")), node.tell)
    second = await prover.prove(node.proposal(RIGHT), node.tell)
    await prover.close()
    await prover.close()
    assert (first.outcome, second.outcome) == (REFUTED, PROVEN)
    assert len(node.opened) == 3
    eventually(lambda: not still_running([process.pid for process in node.opened]))


@in_loop
async def test_a_crash_at_boot(place: Path) -> None:
    """It fails the same way without the patch, and is ready with it; another way is not this failure."""
    source = PYTHON.replace('items = {"1"', 'itens = {"1"').replace(
        "http.server.Threading", "items\nhttp.server.Threading"
    )
    case = Case(place, "server.py", source, [public_python(), "server.py"])
    tail = (
        "Traceback (most recent call last):",
        '  File "DIR/server.py", line 28, in <module>',
        "    items",
        "NameError: name 'items' is not defined. Did you mean: 'itens'?",
    )
    seen = case.evidence(IncidentKind.BOOT, tail)
    proven = await case.prove(seen, ("itens", "items"))
    assert proven.outcome is PROVEN, proven
    refuted = await case.prove(seen, ("itens", "itemz"))
    assert refuted.outcome is REFUTED, refuted
    swallowed = await case.prove(
        seen, ("items\nhttp", "import traceback\ntry: items\nexcept NameError: traceback.print_exc()\nhttp")
    )
    assert swallowed.outcome is REFUTED, swallowed
    assert "swallowed" in swallowed.reason
    other = case.evidence(IncidentKind.BOOT, (*tail[:-1], "ImportError: no such thing"))
    assert (await case.prove(other, ("itens", "items"))).outcome is UNPROVABLE


@in_loop
async def test_a_crash_that_comes_by_itself(place: Path) -> None:
    """It ends without a request soon after the start; with the patch it outlives that time."""
    program = node_path()
    if program is None:
        pytest.skip("no Node interpreter")
    timer = "function tick() { itemz.length }\nsetTimeout(tick, 300);\n"
    case = Case(place, "server.js", NODE + timer, [str(program), "server.js"])
    tail = ("ReferenceError: itemz is not defined", f"    at Timeout.tick (DIR/server.js:{NODE.count(chr(10)) + 1}:19)")
    seen = case.evidence(IncidentKind.CRASH, tail, uptime_s=0.3)
    proven = await case.prove(seen, ("itemz", "items"))
    assert proven.outcome is PROVEN, proven
    assert (await case.prove(seen, ("itemz", "itemy"))).outcome is REFUTED


@in_loop
async def test_what_cannot_be_seen_here_is_unprovable(node: Case) -> None:
    """A request that does not fail here, an app that needs a database, an operator's words: no blame, no proof."""
    well = node.evidence(
        IncidentKind.CRASH, ("TypeError: x is not a function", "    at f (DIR/server.js:3:1)"), path="/"
    )
    assert (await node.prove(well, RIGHT)).outcome is UNPROVABLE
    words = node.evidence(IncidentKind.REPORT, ())
    assert (await node.prove(words, RIGHT)).outcome is UNPROVABLE
    needy = Case(node.place, "server.js", "require('net').connect(5432).on('connect', () => {});" + NODE.replace(
        "http.createServer", "setTimeout(() => http.createServer").replace(
        "console.log('up'));", "console.log('up')), 100);"), list(node.config.app.command))  # fmt: skip
    verdict = await needy.prove(needy.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"), RIGHT)
    assert verdict.outcome is UNPROVABLE
    assert "ECONNREFUSED" in verdict.reason


@in_loop
async def test_the_apps_own_tests_and_build_count(node: Case) -> None:
    """A test that passed must pass; a build that fails is the patch's fault only where it built before."""
    seen = node.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1")
    program = node.config.app.command[0]
    grep = HealTable(test_command=("grep", "-q", "no such path", "server.js"))
    node.config = Config(app=node.config.app, probe=node.config.probe, heal=grep)
    assert (await node.prove(seen, RIGHT)).outcome is PROVEN
    assert (await node.prove(seen, RIGHT, ("no such path", "no path"))).outcome is REFUTED
    build = HealTable(build_command=(program, "-e", "require('fs').copyFileSync('server.js', 'built.js')"))
    app = AppTable(command=(program, "built.js"), directory=node.place, port=PORT)
    node.config = Config(app=app, probe=node.config.probe, heal=build)
    built = node.evidence(
        IncidentKind.CRASH, tuple(line.replace("server.js", "built.js") for line in NODE_TAIL), path="/total/1"
    )
    assert (await node.prove(built, RIGHT)).outcome is PROVEN
    assert not (node.place / "built.js").exists()


@in_loop
async def test_the_source_may_lie_below_the_apps_directory(place: Path) -> None:
    """Paths of a proposal are relative to heal.source; outside of the app's directory there is no trial."""
    program = node_path()
    if program is None:
        pytest.skip("no Node interpreter")
    (place / "src").mkdir()
    case = Case(place, "server.js", NODE, [str(program), "src/server.js"], heal=HealTable(source="src"))
    (place / "server.js").rename(place / "src" / "server.js")
    (place / "server.js").write_text(NODE)
    tail = tuple(line.replace("DIR/", "DIR/src/") for line in NODE_TAIL)
    seen = case.evidence(IncidentKind.CRASH, tail, path="/total/1")
    assert (await case.prove(seen, RIGHT)).outcome is PROVEN
    case.config = Config(app=case.config.app, probe=case.config.probe, heal=HealTable(source="../elsewhere"))
    assert (await case.prove(seen, RIGHT)).outcome is UNPROVABLE


@in_loop
async def test_a_trial_whose_place_is_still_being_cleared_is_asked_for_again(
    node: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while, however often it is turned away: the patch is proven in the end."""
    monkeypatch.setattr(prove, "AGAIN_S", 0.0001)
    turned_away = {"baseline": 0, "candidate": 0}

    @contextlib.asynccontextmanager
    async def at_last(side: str) -> AsyncIterator[Channel]:
        if turned_away[side] < 8:
            turned_away[side] += 1
            raise StreamError("gone")
        async with open_trial(node.opened) as channel:
            yield channel

    verdict = await node.prove(node.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"), RIGHT, open_trial=at_last)
    assert verdict.outcome is PROVEN, verdict
    assert len(node.opened) == 2


def test_asking_again_lasts_longer_than_a_loaded_machine_clears() -> None:
    """Ten seconds of pauses that grow, some dozen attempts."""
    pauses = [min(prove.AGAIN_S * 2**number, prove.AGAIN_MOST_S) for number in range(12)]
    assert prove.AGAIN_FOR_S >= 10
    assert sum(pauses) >= prove.AGAIN_FOR_S


@pytest.mark.parametrize("error", [WolverineError("no such role"), StreamError("gone")])
@in_loop
async def test_a_trial_that_cannot_be_opened_is_unprovable(
    node: Case, error: WolverineError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patch is not blamed for a machine without a sandbox."""
    monkeypatch.setattr(prove, "AGAIN_FOR_S", 0.1)

    @contextlib.asynccontextmanager
    async def refuse(_side: str) -> AsyncIterator[Channel]:
        raise error
        yield

    verdict = await node.prove(node.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"), RIGHT, open_trial=refuse)
    assert verdict.outcome is UNPROVABLE
    assert error.message in verdict.reason


@in_loop
async def test_a_trial_that_is_killed_is_unprovable(node: Case) -> None:
    """Half an observation proves nothing and blames nobody."""

    @contextlib.asynccontextmanager
    async def short_lived(_side: str) -> AsyncIterator[Channel]:
        async with open_trial(node.opened) as channel:
            node.opened[-1].kill()
            yield channel

    verdict = await node.prove(
        node.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"), RIGHT, open_trial=short_lived
    )
    assert verdict.outcome is UNPROVABLE


@in_loop
async def test_an_answer_that_changes_by_itself_blames_nobody(node: Case) -> None:
    """A good request whose fields differ from one time to the next without a patch is not compared."""
    source = NODE.replace("version: 1", "[Math.random()]: 1")
    case = Case(node.place, "server.js", source, list(node.config.app.command), routes=RoutesTable(watch=("/",)))
    verdict = await case.prove(case.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"), RIGHT)
    assert verdict.outcome is PROVEN, verdict


@in_loop
async def test_secrets_of_the_host_are_not_in_the_candidates_environment(node: Case) -> None:
    """It has what the caller gave, and nothing of the role's own environment."""
    source = NODE.replace("version: 1", "env: Object.keys(process.env).sort().join()")
    case = Case(node.place, "server.js", source, list(node.config.app.command))
    environment = {"PORT": str(PORT), "PATH": "/bin", "NOTIFY_SOCKET": "/x"}
    prover = case.prover(case.evidence(IncidentKind.CRASH, NODE_TAIL, path="/total/1"), environment=environment)
    try:
        verdict = await prover.prove(
            case.proposal(("'content-type'", "env: Object.keys(process.env), 'content-type'"), RIGHT), case.tell
        )
    finally:
        await prover.close()
    assert verdict.outcome is PROVEN, verdict
