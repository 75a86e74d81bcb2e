# SPDX-License-Identifier: MIT
"""Servers with a fault that no remedy mends, answers of a model to it, and how a heal of it ends.

with asked(NODE_SHOP, fix(...)) as (running, server):
    assert running.get(NODE_SHOP.trigger).crashed
    end = ending(running)
    assert end["name"] == "incident.closed"
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from support.daemons import NODE, PYTHON, Running
from support.model_server import ModelServer, Scripted, answer
from support.places import eventually

KEY = "sk-test-Zq81xkW03bLr5Tn7"
MODEL = "mender"
PRICES = f'[ai.models]\nfast = "{MODEL}"\n[ai.prices.{MODEL}]\ninput = 1.0\noutput = 2.0\n'
ENDS = ("heal.nothing", "heal.failed", "heal.approval", "heal.observed", "heal.rolled_back", "heal.wait")
HEALED = "incident.closed"


class App(NamedTuple):
    """A server with one fault: its source, how it is run, the request that ends it, the right mend."""

    files: Mapping[str, str]
    command: Sequence[str]
    trigger: str
    path: str
    search: str
    right: str
    other: str
    """A request that is answered well, before and after."""


NODE_SHOP = App(
    files={
        "server.js": """
const http = require("node:http");
const prices = require("./prices");
http.createServer((request, response) => {
  if (request.url === "/health") return response.end("ok");
  if (request.url === "/names") return response.end(JSON.stringify({ names: prices.names() }));
  const asked = /^\\/price\\/(\\d+)/.exec(request.url);
  if (asked) return response.end(JSON.stringify(prices.quote(asked[1])));
  response.statusCode = 404;
  response.end("no");
}).listen(process.env.PORT, "127.0.0.1");
""",
        "prices.js": """
const goods = {
  1: { name: "cup", tag: { cents: 250 } },
  2: { name: "pot", tag: null },
  3: { name: "pan", tag: null },
};

function names() {
  return Object.values(goods).map((item) => item.name);
}

function quote(id) {
  const item = goods[id];
  return { id, cents: item.tag.cents };
}

module.exports = { names, quote };
""",
        "package.json": '{ "name": "shop", "version": "1.0.0" }\n',
        ".env": "SHOP_MODE=plain\n",
        "tests/prices.js": "// what must hold\n",
    },
    command=(NODE, "server.js"),
    trigger="/price/2",
    path="prices.js",
    search="  return { id, cents: item.tag.cents };\n",
    right="  return { id, cents: item?.tag?.cents ?? null };\n",
    other="/price/1",
)

PYTHON_BILL = App(
    files={
        "app.py": """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import bill

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/health":
            return self.say(200, b"ok")
        if url.path == "/share":
            people = parse_qs(url.query).get("who", [])
            return self.say(200, json.dumps({"share": bill.share(90, people)}).encode())
        return self.say(404, b"no")

    def say(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

class FailFast(HTTPServer):
    def handle_error(self, request, client_address):
        raise

FailFast(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
        "bill.py": '''
def share(total, people):
    """What each pays."""
    return total / len(people)
''',
        "requirements.txt": "",
    },
    command=(PYTHON, "app.py"),
    trigger="/share",
    path="bill.py",
    search="    return total / len(people)\n",
    right="    return total / len(people) if people else 0\n",
    other="/share?who=a&who=b",
)


def block(path: str, search: str, replace: str) -> str:
    """One search/replace block."""
    return f"{path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def reply(*blocks: str, cause: str = "an unchecked value") -> str:
    """A whole answer of a model."""
    return f"ROOT: {cause}\n{''.join(blocks)}CONFIDENCE: 0.9\n"


def mend(app: App, replace: str) -> str:
    """The answer that puts `replace` where the fault is."""
    return reply(block(app.path, app.search, replace))


@contextlib.contextmanager
def asked(
    app: App,
    *script: Scripted | str,
    tables: str = "",
    heal: str = "",
    attempts: int = 1,
    probation_s: float = 0.5,
    environment: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> Iterator[tuple[Running, ModelServer]]:
    """Run the app with a model that answers by the script; healthy when given.

    Args:
        app: What is run.
        script: Replies; a plain text is a good answer with that text.
        tables: More of the configuration.
        heal: More of its `[heal]`.
        attempts: `heal.max_attempts`.
        probation_s: `heal.probation_s`.
        environment: More of wolverined's own.
        links: Symbolic links in the source: name -> target.
    """
    probe = '[probe]\nhttp = "/health"\nstartup_s = 5.0\n'
    config = f"{probe}[heal]\nprobation_s = {probation_s}\nmax_attempts = {attempts}\n{heal}\n{PRICES}{tables}"
    with ModelServer() as server:
        server.script(*(answer(one, model=MODEL) if isinstance(one, str) else one for one in script))
        variables = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, **(environment or {})}
        running = Running(files=app.files, command=app.command, tables=config, environment=variables, probe="")
        for name, target in (links or {}).items():
            (running.app / name).symlink_to(target)
        with running:
            running.until_healthy()
            yield running, server


def ending(running: Running, *, after: int = 0) -> dict[str, Any]:
    """The event that says how the heal of the first incident ended."""
    return running.until_event(HEALED, *ENDS, after=after)


def serves(running: Running, app: App) -> bool:
    """Whether the app is up and answers what it always answered."""
    running.until_healthy()
    return running.get(app.other).status == 200


def untouched(running: Running, app: App) -> bool:
    """Whether every file of the app is byte for byte as it was, and no other one is there."""
    return running.tree() == {name: text.encode() for name, text in sorted(app.files.items())}


def journal_is_clean(running: Running) -> bool:
    """Whether no temporary file of a surgery lies in the source."""
    return not list(running.app.rglob(".wolverine-*"))


def usage(running: Running) -> dict[str, Any]:
    """`usage --json`."""
    answered: dict[str, Any] = running.ctl("--json", "usage").json
    return answered


def everything_kept(running: Running) -> dict[str, bytes]:
    """Every file of the state and of the runtime directory, by name."""
    kept: dict[str, bytes] = {}
    for place in (running.state, running.runtime):
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file():
                    kept[str(path.relative_to(running.place))] = path.read_bytes()
    return kept


def until_settled(running: Running) -> None:
    """Wait until no heal is under way."""
    eventually(lambda: not running.status()["healing"], within_s=30.0)


def as_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())
