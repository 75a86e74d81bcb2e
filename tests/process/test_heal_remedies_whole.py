# SPDX-License-Identifier: MIT
"""Each code remedy, end to end: a real server that crashes at its start or at a request, healed without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
from support.daemons import NODE, PYTHON, Running

FAST = "[heal]\nprobation_s = 0.3\n[restart]\ninitial_s = 0.2\nmax_s = 1.0\n"

NODE_SERVER = """
const http = require("node:http");
{head}
http.createServer((request, response) => {{
  if (request.url === "/work") return response.end(String({work}));
  response.end("ok");
}}).listen(process.env.PORT, "127.0.0.1");
"""
PYTHON_SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
{head}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = str({work}) if self.path == "/work" else "ok"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

class FailFast(HTTPServer):
    def handle_error(self, request, client_address):
        raise

FailFast(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
SUM_JS = "function sum(values) {\n  return values.reduce((a, b) => a + b, 0);\n}\n"
SUM_PY = "def add_up(values):\n    return sum(values)\n"
SETTINGS = '{ "greeting": "hello", "shelf": { "height": 3 } }\n'


class Fault(NamedTuple):
    """A source with one slip, which remedy mends it, and what `/work` answers then."""

    files: Mapping[str, str]
    changed: str
    answer: bytes
    at_start: bool = False


def node(*, head: str, work: str, **more: str) -> dict[str, str]:
    """The source of a Node server; `name__ext` stands for name.ext."""
    return {"server.js": NODE_SERVER.format(head=head, work=work), **_named(more)}


def python(*, head: str, work: str, **more: str) -> dict[str, str]:
    """The source of a Python server."""
    return {"app.py": PYTHON_SERVER.format(head=head, work=work), **_named(more)}


def _named(files: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("__", "."): text for name, text in files.items()}


FAULTS = {
    "node: a misspelt name": Fault(node(head="const shelves = 7;", work="shelfes"), "server.js", b"7"),
    "node: a misspelt method": Fault(
        node(
            head='const s = require("./s");',
            work="s.conted([1, 2])",
            s__js="module.exports = { counted: (v) => v.length };\n",
        ),
        "server.js",
        b"2",
    ),
    "node: a wrong export name": Fault(
        node(
            head='const { summed } = require("./s");',
            work="summed([1, 2])",
            s__js=f"{SUM_JS.replace('sum(', 'summed(')}module.exports = {{ sumed: summed }};\n",
        ),
        "s.js",
        b"3",
    ),
    "node: a misspelt path": Fault(
        node(
            head='const { sum } = require("./sumary");',
            work="sum([2, 2])",
            summary__js=f"{SUM_JS}module.exports = {{ sum }};\n",
        ),
        "server.js",
        b"4",
        at_start=True,
    ),
    "node: a misspelt key": Fault(
        node(
            head='const settings = require("./settings.json");\nconst shelf = settings.shelv.height;',
            work="shelf",
            settings__json=SETTINGS,
        ),
        "server.js",
        b"3",
        at_start=True,
    ),
    "node: an open bracket": Fault(
        node(
            head='const { sum } = require("./s");',
            work="sum([1, 4])",
            s__js="function sum(values) {\n  return values.reduce((a, b) => a + b, 0;\n}\nmodule.exports = { sum };\n",
        ),
        "s.js",
        b"5",
        at_start=True,
    ),
    "python: a misspelt attribute": Fault(
        python(head="import s", work="s.ad_up([1, 2])", s__py=SUM_PY), "app.py", b"3"
    ),
    "python: a wrong imported name": Fault(
        python(head="from s import ad_up", work="ad_up([2, 2])", s__py=SUM_PY), "app.py", b"4", at_start=True
    ),
    "python: a misspelt module": Fault(
        python(head="from sumary import add_up", work="add_up([2, 3])", summary__py=SUM_PY),
        "app.py",
        b"5",
        at_start=True,
    ),
    "python: a misspelt key": Fault(
        python(
            head='with open("settings.json") as file:\n    SETTINGS = json.load(file)',
            work='SETTINGS["greeting"]',
            settings__json=SETTINGS.replace("greeting", "greetnig"),
        ),
        "settings.json",
        b"hello",
    ),
    "python: an open bracket": Fault(
        python(
            head="from s import add_up", work="add_up([3, 3])", s__py="def add_up(values):\n    return sum(values\n"
        ),
        "s.py",
        b"6",
        at_start=True,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_slip_is_healed_by_its_remedy_alone(fault: Fault) -> None:
    """Crash, remedy, proof, probation, verified: one file changed, no key, no model; undone byte for byte."""
    command = [NODE, "server.js"] if "server.js" in fault.files else [PYTHON, "app.py"]
    with Running(files=fault.files, command=command, tables=FAST) as running:
        if not fault.at_start:
            running.until_healthy()
            assert running.get("/work").crashed
        running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/work").body == fault.answer
        (repair,) = running.repairs()
        assert (repair["mode"], repair["verdict"]["outcome"], repair["tokens"]) == ("remedy", "proven", 0)
        before = {name: text.encode() for name, text in fault.files.items()}
        changed = [name for name, data in running.tree().items() if before[name] != data]
        assert changed == repair["files"]
        assert changed == [fault.changed]
        assert running.incidents()[0]["closed_by"] == repair["id"]
        assert running.ctl("rollback", repair["id"]).code in (0, 1)
        assert running.tree() == dict(sorted(before.items()))
