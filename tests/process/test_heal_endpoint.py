# SPDX-License-Identifier: MIT
"""An endpoint that is down, slow, limited, cut off or talks nonsense: a clear incident, and the app is supervised."""

from __future__ import annotations

import socket

import pytest
from support.healing import (
    KEY,
    NODE_SHOP,
    PYTHON_BILL,
    App,
    asked,
    ending,
    everything_kept,
    mend,
    serves,
    until_settled,
    untouched,
    usage,
)
from support.model_server import Scripted, answer, cut, hang, raw, status

RIGHT = mend(NODE_SHOP, NODE_SHOP.right)
SHORT = "timeout_s = 4.5"
"""A heal that gives the adviser 2.5 s: it gives up by itself and says why."""

TROUBLES: dict[str, tuple[Scripted, str]] = {
    "a refused key": (status(401, message="bad key"), "the endpoint answers 401: Error code: 401 - bad key"),
    "a limit for long": (status(429, retry_after=60), "the endpoint answers 429"),
    "an error of its own": (status(500, message="oops"), "the endpoint answers 500: Error code: 500 - oops"),
    "silence": (hang(), "the model did not answer in time"),
    "a cut answer": (cut(RIGHT), "the endpoint cannot be reached"),
    "no finish_reason": (answer(RIGHT, finish_reason=None), "it has no finish_reason"),
    "the length": (answer(RIGHT, finish_reason="length"), "ended by 'length'"),
    "no JSON": (raw(b"<html>busy</html>"), "is no chat completion"),
}


@pytest.mark.parametrize(("reply", "words"), TROUBLES.values(), ids=TROUBLES)
def test_an_endpoint_in_trouble_ends_in_a_clear_incident(reply: Scripted, words: str) -> None:
    """Note and event say what is wrong, the fingerprint rests, the app answers, and nothing is touched."""
    with asked(NODE_SHOP, reply, heal=SHORT) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        end = ending(running)
        assert end["name"] == "heal.nothing"
        assert words in end["message"]
        (incident,) = running.incidents()
        assert incident["state"] == "open"
        assert words in incident["note"]
        assert words in running.ctl("incidents", "show", incident["id"]).out
        assert serves(running, NODE_SHOP)
        calls = len(server.requests)
        assert running.get(NODE_SHOP.trigger).crashed
        running.until_event("incident.repeated")
        until_settled(running)
        assert len(server.requests) == calls, "it rests"
        assert running.repairs() == []
        assert untouched(running, NODE_SHOP)
        assert serves(running, NODE_SHOP)


def test_an_endpoint_that_is_down_ends_in_a_clear_incident() -> None:
    """Nobody listens there: no call is counted as paid for, and the app is supervised."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with asked(PYTHON_BILL, "", heal=SHORT, environment={"OPENAI_BASE_URL": url}) as (running, _):
            assert running.get(PYTHON_BILL.trigger).crashed
            assert "the endpoint cannot be reached" in ending(running)["message"]
            assert usage(running)["total"]["calls"] == 0
            assert serves(running, PYTHON_BILL)


def test_a_limit_with_retry_after_is_waited_for_and_the_heal_goes_on() -> None:
    """429 with Retry-After: 1, then a right answer: healed, and both calls are in the ledger."""
    with asked(NODE_SHOP, status(429, retry_after=1), RIGHT) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        assert ending(running)["name"] == "incident.closed"
        assert len(server.requests) == 2
        assert usage(running)["total"]["calls"] == 1, "a call that was refused cost nothing"


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("usd_per_incident = 0.001", "the incident's budget of $0.001 is used up"),
        ("usd_per_day = 0.001", "the day's budget of $0.001 is used up"),
        ("tokens_per_hour = 1000", "the hour's budget of 1000 tokens is used up"),
    ],
)
def test_a_budget_that_is_too_small_sends_nothing(budget: str, words: str) -> None:
    """The worst case does not fit: nothing is asked, nothing is spent, and the incident says which limit it was."""
    with asked(NODE_SHOP, RIGHT, tables=f"[ai.budget]\n{budget}\n") as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        assert words in ending(running)["message"]
        assert server.requests == []
        assert usage(running)["total"]["calls"] == 0
        assert serves(running, NODE_SHOP)


PHRASE = "velvet-otter-93-lantern"
WRITTEN = "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5qRs8t"
LEAKY = App(
    files={
        **NODE_SHOP.files,
        "server.js": NODE_SHOP.files["server.js"].replace(
            'if (request.url === "/health")',
            f"""const phrase = process.env.TEST_PHRASE;
  const written = "{WRITTEN}";
  if (request.url.startsWith("/connect")) {{
    console.log("connecting with", phrase, encodeURIComponent(phrase), Buffer.from(phrase).toString("base64"));
    console.error(JSON.stringify({{ token: phrase, key: written }}));
    phrase.connect(new Error("no way with " + phrase));
  }}
  if (request.url === "/health")""",
        ),
    },
    command=NODE_SHOP.command,
    trigger=f"/connect?with={PHRASE}",
    path="server.js",
    search='    phrase.connect(new Error("no way with " + phrase));\n',
    right="",
    other="/price/1",
)


@pytest.mark.parametrize("endpoint", ["answers", "fails", "echoes"])
def test_no_secret_and_no_key_leaves_the_app_or_stays_behind(endpoint: str) -> None:
    """A secret of the environment, printed, asked for and thrown, is in no prompt, event, log line of ours or store."""
    replies: dict[str, Scripted] = {
        "answers": answer(mend(LEAKY, '    return response.end("ok");\n')),
        "fails": status(500, message=f"bad request: {PHRASE} {KEY}"),
        "echoes": answer(f"NEEDS_HUMAN: I saw {PHRASE} and {KEY}"),
    }
    secrets = {"TEST_PHRASE": PHRASE}
    tables = f'[app.environment]\nTEST_PHRASE = "{PHRASE}"\n'
    with asked(LEAKY, replies[endpoint], heal=SHORT, tables=tables, environment=secrets) as (running, server):
        assert running.request("GET", LEAKY.trigger, headers={"authorization": f"Bearer {PHRASE}"}).crashed
        ending(running)
        until_settled(running)
        prompts = "\n".join(request.prompt for request in server.wait_for(1))
        assert "phrase.connect" in prompts, "the model has seen the fault"
        assert all(secret not in prompts for secret in (PHRASE, KEY, WRITTEN))
        told = running.ctl("--json", "events", "-n", "1000").out + running.ctl("--json", "incidents").out
        told += running.ctl("--json", "repairs").out + running.ctl("--json", "status").out
        told += running.ctl("incidents", "show", "i1").out
        ours = "\n".join(line for line in running.log.read_text().splitlines() if "│" not in line)
        for text in (told, ours):
            assert PHRASE not in text
            assert KEY not in text
    for name, data in everything_kept(running).items():
        assert PHRASE.encode() not in data, name
        assert KEY.encode() not in data, name
