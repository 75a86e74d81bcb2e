# SPDX-License-Identifier: MIT
"""A fault that no remedy mends, and a model that answers well, badly, or with malice: only a right repair stays."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from support.healing import (
    KEY,
    MODEL,
    NODE_SHOP,
    PYTHON_BILL,
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
    usage,
)

APPS = pytest.mark.parametrize("app", [NODE_SHOP, PYTHON_BILL], ids=["node", "python"])

NODE_SWALLOW = """\
  try {
    return { id, cents: item.tag.cents };
  } catch {
    return {};
  }
"""
PYTHON_SWALLOW = """\
    try:
        return total / len(people)
    except Exception:
        pass
"""
NODE_ROUTE = """\
  const asked = /^\\/price\\/(\\d+)/.exec(request.url);
  if (asked) return response.end(JSON.stringify(prices.quote(asked[1])));
"""
PYTHON_ROUTE = """\
        if url.path == "/share":
            people = parse_qs(url.query).get("who", [])
            return self.say(200, json.dumps({"share": bill.share(90, people)}).encode())
"""
NODE_LATE = reply(
    block(NODE_SHOP.path, NODE_SHOP.search, NODE_SHOP.right),
    block(
        NODE_SHOP.path,
        "module.exports = { names, quote };\n",
        "module.exports = { names, quote };\n"
        'if (process.env.WOLVERINE_REPORT_SOCKET) setTimeout(() => { throw new Error("late"); }, 200);\n',
    ),
)
NODE_BY_HELPER = "  return { id, cents: centsOf(item) };\n"
NODE_HELPER = block(
    NODE_SHOP.path,
    "function quote(id) {\n",
    "function centsOf(item) {\n  return item?.tag?.cents ?? null;\n}\n\nfunction quote(id) {\n",
)
HIGHER_RISK = reply(NODE_HELPER, block(NODE_SHOP.path, NODE_SHOP.search, NODE_BY_HELPER))

REFUSED = {
    "no block": "I would look at the price of the pot. Good luck!",
    "an endless answer": "prices.js\n<<<<<<< SEARCH\n" + "  return item;\n" * 15_000,
    "a syntax error": mend(NODE_SHOP, "  return { id, cents: item?.tag?.cents ?? ;\n"),
    "a path above": reply(block("../src/prices.js", NODE_SHOP.search, NODE_SHOP.right)),
    "a new file above": reply(block("../evil.js", "", "1;\n")),
    "an absolute new file": reply(block("/etc/wolverine-evil", "", "1;\n")),
    "a link": reply(block("linked.js", NODE_SHOP.search, NODE_SHOP.right)),
    "below a linked directory": reply(block("outside/evil.js", "", "1;\n")),
    "secrets": reply(block(".env", "SHOP_MODE=plain\n", "SHOP_MODE=safe\n")),
    "a test": reply(block("tests/prices.js", "// what must hold\n", "// nothing must hold\n")),
    "a git hook": reply(block(".git/hooks/post-checkout", "", "#!/bin/sh\n")),
    "the same again": mend(NODE_SHOP, NODE_SHOP.search),
}
REFUTED_NODE = {
    "another item's fix": reply(
        block(
            "prices.js", "  return Object.values(goods).map((item) => item.name);\n", "  return Object.keys(goods);\n"
        )
    ),
    "a dependency that nobody has": reply(
        block("prices.js", "const goods = {\n", 'const get = require("lodash.get");\nconst goods = {\n'),
        block("prices.js", NODE_SHOP.search, '  return { id, cents: get(item, "tag.cents") };\n'),
    ),
    "the literal input": mend(NODE_SHOP, '  if (id === "2") return { id, cents: null };\n' + NODE_SHOP.search),
    "an exit": mend(NODE_SHOP, "  if (!item?.tag) process.exit(0);\n" + NODE_SHOP.search),
    "the health route broken": reply(
        block("server.js", '  if (request.url === "/health") return response.end("ok");\n', ""),
        block("prices.js", NODE_SHOP.search, NODE_SHOP.right),
    ),
}
REFUTED_PYTHON = {
    "another file": reply(
        block("app.py", '        return self.say(404, b"no")\n', '        return self.say(404, b"")\n')
    ),
    "another item's fix": mend(PYTHON_BILL, "    return total / len(names)\n"),
    "a dependency that nobody has": reply(
        block("bill.py", "def share(total, people):\n", "import numpy\n\n\ndef share(total, people):\n"),
        block("bill.py", PYTHON_BILL.search, "    return numpy.divide(total, len(people))\n"),
    ),
    "another error instead": mend(
        PYTHON_BILL, '    if not people:\n        raise KeyError("who")\n' + PYTHON_BILL.search
    ),
}


@APPS
def test_a_right_answer_is_proven_applied_and_accounted_for(app: App) -> None:
    """A low-risk patch of a model goes in by itself; repair and usage name model, tokens and money."""
    with asked(app, mend(app, app.right)) as (running, server):
        assert running.get(app.trigger).crashed
        assert ending(running)["name"] == "incident.closed"
        assert running.get(app.trigger).status == 200
        assert serves(running, app)
        (repair,) = running.repairs()
        assert (repair["state"], repair["mode"], repair["model"]) == ("verified", "fast", MODEL)
        assert (repair["tokens"], repair["files"]) == (150, [app.path])
        assert repair["cost_usd"] == pytest.approx(0.0002)
        total = usage(running)["total"]
        assert (total["calls"], total["input_tokens"], total["output_tokens"]) == (1, 100, 50)
        assert total["cost_usd"] == pytest.approx(0.0002)
        changed = {name: text.encode() for name, text in app.files.items()}
        changed[app.path] = app.files[app.path].replace(app.search, app.right).encode()
        assert running.tree() == dict(sorted(changed.items()))
        (request,) = server.requests
        assert request.body["model"] == MODEL
        assert app.search.strip() in request.prompt


def test_answers_that_break_a_rule_are_refused_before_any_trial() -> None:
    """Nonsense, broken syntax, and paths that no patch may take: none is tried, and nothing is touched."""
    running = _all_turned_down(NODE_SHOP, REFUSED, links={"linked.js": "prices.js", "outside": "/tmp"})
    assert not any(name.startswith(("heal.step", "heal.proven")) and "R3" in text for name, text in running)
    assert not any("evil" in entry.name for entry in Path("/etc").iterdir())


@pytest.mark.parametrize(
    ("app", "answers"), [(NODE_SHOP, REFUTED_NODE), (PYTHON_BILL, REFUTED_PYTHON)], ids=["node", "python"]
)
def test_answers_that_mend_nothing_are_refuted_by_the_trial(app: App, answers: dict[str, str]) -> None:
    """The wrong file, another fault's fix, a special case, an exit, a broken neighbour: nothing is touched."""
    _all_turned_down(app, answers)


def _all_turned_down(
    app: App, answers: Mapping[str, str], links: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Give them one after the other; the events, as name and message."""
    with asked(app, *answers.values(), attempts=len(answers), links=links) as (running, server):
        before = running.tree()
        assert running.get(app.trigger).crashed
        assert ending(running)["name"] == "heal.nothing"
        assert len(server.requests) == len(answers)
        assert {repair["state"] for repair in running.repairs()} == {"refuted"}
        assert running.tree() == before
        assert serves(running, app)
        (incident,) = running.incidents()
        assert incident["state"] == "open"
        assert f"no proposal stood the trial in {len(answers)} attempts" in incident["note"]
        return [(event["name"], event["message"]) for event in running.events()]


ASKING = {
    "swallows the error": (NODE_SHOP, mend(NODE_SHOP, NODE_SWALLOW)),
    "swallows the error in Python": (PYTHON_BILL, mend(PYTHON_BILL, PYTHON_SWALLOW)),
    "answers nothing": (PYTHON_BILL, mend(PYTHON_BILL, "    return {}\n")),
    "deletes the route": (NODE_SHOP, reply(block("server.js", NODE_ROUTE, ""))),
    "deletes the route in Python": (PYTHON_BILL, reply(block("app.py", PYTHON_ROUTE, ""))),
    "adds an import": (
        PYTHON_BILL,
        reply(
            block("bill.py", "def share(total, people):\n", "import os\n\n\ndef share(total, people):\n"),
            block("bill.py", PYTHON_BILL.search, PYTHON_BILL.right),
        ),
    ),
    "runs a program": (
        NODE_SHOP,
        mend(NODE_SHOP, '  require("node:child_process").exec("id");\n' + NODE_SHOP.right),
    ),
    "changes the package too": (
        NODE_SHOP,
        reply(
            block(
                "package.json", '{ "name": "shop", "version": "1.0.0" }\n', '{ "name": "shop", "type": "commonjs" }\n'
            ),
            block("prices.js", NODE_SHOP.search, NODE_SHOP.right),
        ),
    ),
}


@pytest.mark.parametrize(("app", "text"), ASKING.values(), ids=ASKING)
def test_an_answer_that_does_more_than_mend_never_goes_in_by_itself(app: App, text: str) -> None:
    """It works in the trial, or nobody can tell: a human is asked, or it is refuted; nothing is touched."""
    with asked(app, text) as (running, _server):
        assert running.get(app.trigger).crashed
        end = ending(running)
        assert end["name"] in ("heal.approval", "heal.nothing")
        (repair,) = running.repairs()
        assert repair["state"] == ("approval" if end["name"] == "heal.approval" else "refuted")
        assert repair["note"] or repair["verdict"]["outcome"] == "refuted"
        assert untouched(running, app)
        assert serves(running, app)


def test_a_repair_that_crashes_in_its_probation_is_taken_back() -> None:
    """It behaves in the trial and crashes in earnest: rolled back to the byte, its own crash is closed with it."""
    with asked(NODE_SHOP, NODE_LATE, heal='auto_risk = "any"') as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        end = running.until_event("heal.rolled_back")
        assert "new error" in end["message"]
        assert untouched(running, NODE_SHOP)
        assert serves(running, NODE_SHOP)
        (repair,) = running.repairs()
        assert (repair["state"], repair["success"]) == ("rolled_back", False)
        until_settled(running)
        newer, older = running.incidents()
        assert (newer["state"], newer["closed_by"]) == ("closed", repair["id"])
        assert older["state"] == "open"
        assert repair["id"] in older["note"]
        assert len(server.requests) == 1
        assert journal_is_clean(running)


def test_a_right_answer_of_higher_risk_waits_for_exactly_that_approval() -> None:
    """A wrong sha256 is refused and changes nothing; the right one applies exactly the diff that was shown."""
    with asked(NODE_SHOP, HIGHER_RISK) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == "heal.approval"
        (repair,) = running.repairs()
        assert repair["state"] == "approval"
        assert running.incidents()[0]["state"] == "approval"
        refused = running.ctl("approve", repair["id"], "--sha256", "0" * 64)
        assert refused.code == 1
        assert "another sha256" in refused.err
        assert untouched(running, NODE_SHOP)
        assert (running.repairs()[0]["state"], running.incidents()[0]["state"]) == ("approval", "approval")
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("incident.repeated")
        assert running.ctl("approve", repair["id"], "--sha256", repair["sha256"]).code == 0
        running.until_healthy()
        assert running.get(NODE_SHOP.trigger).status == 200
        expected = NODE_SHOP.files["prices.js"].replace(NODE_SHOP.search, NODE_BY_HELPER)
        expected = expected.replace(
            "function quote", "function centsOf(item) {\n  return item?.tag?.cents ?? null;\n}\n\nfunction quote"
        )
        assert running.tree()["prices.js"] == expected.encode()
        assert running.incidents()[0]["closed_by"] == repair["id"]
        assert len(server.requests) == 1


def test_a_rejected_repair_is_never_offered_again() -> None:
    """The model gives the same patch again for the same trouble: it is turned down unseen."""
    with asked(NODE_SHOP, HIGHER_RISK) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == "heal.approval"
        assert running.ctl("reject", "r1").code == 0
        assert running.incidents()[0]["state"] == "open"
        assert running.ctl("approve", "r1").code == 1
        asked_again = running.ctl("heal")
        assert asked_again.code == 1
        assert len(server.wait_for(2)) >= 2
        assert "tried before" in server.requests[-1].prompt or len(server.requests) == 2
        assert [repair["state"] for repair in running.repairs()] == ["rejected"]
        assert untouched(running, NODE_SHOP)


@pytest.mark.parametrize(
    ("policy", "end", "state"),
    [("approve", "heal.approval", "approval"), ("observe", "heal.observed", "proposed")],
)
def test_a_policy_that_touches_nothing_touches_nothing(policy: str, end: str, state: str) -> None:
    """Even a proven repair stays on paper, once, until an operator approves it."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right), heal=f'policy = "{policy}"') as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == end
        running.until_healthy()
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("incident.repeated")
        assert serves(running, NODE_SHOP)
        assert not running.status()["healing"]
        assert untouched(running, NODE_SHOP)
        (repair,) = running.repairs()
        assert (repair["state"], repair["verdict"]["outcome"]) == (state, "proven")
        assert len(server.requests) == 1
        assert running.ctl("approve", repair["id"]).code == 0
        assert running.get(NODE_SHOP.trigger).status == 200


def test_policy_off_records_the_incident_and_does_nothing_more() -> None:
    """No proposal, no call of a model; the app is supervised."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right), heal='policy = "off"') as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("incident.opened")
        assert serves(running, NODE_SHOP)
        (incident,) = running.incidents()
        assert (incident["state"], incident["note"]) == ("open", "heal.policy is off")
        assert running.repairs() == []
        assert server.requests == []
        assert untouched(running, NODE_SHOP)


def test_a_dry_run_shows_the_verdict_and_touches_nothing() -> None:
    """`heal --dry-run` under hold: a proven proposal on paper, and no heal in earnest behind the operator's back."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right)) as (running, _server):
        assert running.ctl("hold", "--for", "10m").code == 0
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("incident.opened")
        running.until_healthy()
        dry = running.ctl("heal", "--dry-run")
        assert dry.code == 0, dry.err
        assert "proven" in dry.out
        until_settled(running)
        assert untouched(running, NODE_SHOP)
        assert [repair["state"] for repair in running.repairs()] == ["proposed"]
        assert running.ctl("hold", "--for", "0s").code == 0
        assert ending(running, after=running.cursor() - 1)["name"] == "incident.closed"
        assert running.get(NODE_SHOP.trigger).status == 200


@APPS
def test_a_model_that_asks_for_a_human_is_heard(app: App) -> None:
    """NEEDS_HUMAN ends the heal with the model's reason, cleaned, as the incident's note."""
    with asked(app, "NEEDS_HUMAN: ask \x1b[31m the shop keeper") as (running, server):
        assert running.get(app.trigger).crashed
        assert ending(running)["name"] == "heal.nothing"
        (incident,) = running.incidents()
        assert "needs a human: ask" in incident["note"]
        assert "\x1b" not in incident["note"]
        assert running.repairs() == []
        assert usage(running)["total"]["calls"] == 1
        assert len(server.requests) == 1
        assert serves(running, app)
        assert untouched(running, app)


def test_the_second_answer_knows_why_the_first_one_failed() -> None:
    """A refuted attempt is told to the model, and the right second answer is applied."""
    wrong = mend(NODE_SHOP, '  if (id === "2") return { id, cents: null };\n' + NODE_SHOP.search)
    with asked(NODE_SHOP, wrong, mend(NODE_SHOP, NODE_SHOP.right), attempts=3) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == "incident.closed"
        assert "refuted, a request that is a little different still fails" in server.requests[1].prompt
        assert [repair["state"] for repair in running.repairs()] == ["verified", "refuted"]
        assert usage(running)["total"]["calls"] == 2
        assert all(KEY not in request.prompt for request in server.requests)
