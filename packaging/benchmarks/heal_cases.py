# SPDX-License-Identifier: MIT
"""Small servers with one fault each: what the daemon's own remedies mend, and what models propose wrongly.

A case is a right program and one slip in it. The right program is what a repair must lead to, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from support.daemons import NODE, PYTHON
from support.healing import NODE_SHOP, PYTHON_BILL, App, block, mend, reply


class Case(NamedTuple):
    """One server with one fault.

    Attributes:
        language: Of the server.
        right: Its source as it should be.
        path: The file with the fault.
        good: Words of that file.
        bad: What stands there instead.
        command: How it is run.
        route: What does not work; a fault at boot breaks it as well.
        boot: It does not even start.
    """

    language: str
    right: Mapping[str, str]
    path: str
    good: str
    bad: str
    command: Sequence[str]
    route: str = "/total"
    boot: bool = False

    @property
    def broken(self) -> dict[str, str]:
        """Its source with the fault."""
        source = self.right[self.path]
        assert source.count(self.good) == 1, f"{self.good!r} must stand once in {self.path}"
        return {**self.right, self.path: source.replace(self.good, self.bad)}


NODE_CART = {
    "server.js": """\
const http = require("node:http");
const cart = require("./lib/cart");
const settings = require("./settings.json");

http.createServer((request, response) => {
  if (request.url === "/health") return response.end("ok");
  if (request.url === "/total") return response.end(JSON.stringify(cart.total([1, 2, 3])));
  if (request.url === "/money") return response.end(settings.currency.toUpperCase());
  response.statusCode = 404;
  response.end("no");
}).listen(process.env.PORT, "127.0.0.1");
""",
    "lib/cart.js": """\
function total(prices) {
  const amount = prices.reduce((sum, price) => sum + price, 0);
  return { amount, count: prices.length };
}

module.exports = { total };
""",
    "settings.json": '{\n  "currency": "eur",\n  "limit": 10\n}\n',
}

PYTHON_CART = {
    "app.py": """\
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import cart
from prices import PRICES

with open("settings.json") as file:
    settings = json.load(file)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            return self.say(200, "ok")
        if self.path == "/total":
            return self.say(200, json.dumps(cart.total(PRICES)))
        if self.path == "/money":
            return self.say(200, settings["currency"].upper())
        return self.say(404, "no")

    def say(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


class FailFast(HTTPServer):
    def handle_error(self, request, client_address):
        raise


FailFast(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
    "cart.py": """\
def total(prices):
    amount = sum(prices)
    return {"amount": amount, "count": len(prices)}
""",
    "prices.py": "PRICES = [1, 2, 3]\n",
    "settings.json": '{\n  "currency": "eur",\n  "limit": 10\n}\n',
}

_NODE = ("node", NODE_CART)
_PYTHON = ("python", PYTHON_CART)
_RUN_NODE = (NODE, "server.js")
_RUN_PYTHON = (PYTHON, "app.py")

REMEDIES: dict[str, tuple[Case, ...]] = {
    "undefined name": (
        Case(*_NODE, "lib/cart.js", "count: prices.length", "count: pries.length", _RUN_NODE),
        Case(*_PYTHON, "cart.py", '{"amount": amount,', '{"amount": amuont,', _RUN_PYTHON),
    ),
    "misspelt export": (
        Case(*_NODE, "server.js", "cart.total(", "cart.totl(", _RUN_NODE),
        Case(*_PYTHON, "app.py", "cart.total(", "cart.totl(", _RUN_PYTHON),
    ),
    "near import": (
        Case(*_NODE, "server.js", '"./lib/cart"', '"./lib/crt"', _RUN_NODE, boot=True),
        Case(*_PYTHON, "app.py", "from prices import", "from prces import", _RUN_PYTHON, boot=True),
    ),
    "bracket at boot": (
        Case(*_NODE, "lib/cart.js", "sum + price, 0);", "sum + price, 0;", _RUN_NODE, boot=True),
        Case(*_PYTHON, "cart.py", "sum(prices)", "sum(prices", _RUN_PYTHON, boot=True),
    ),
    "JSON key": (
        Case(*_NODE, "settings.json", '"currency"', '"curency"', _RUN_NODE, "/money"),
        Case(*_PYTHON, "settings.json", '"currency"', '"curency"', _RUN_PYTHON, "/money"),
    ),
}

_NODE_SWALLOWS = "  try {\n    return { id, cents: item.tag.cents };\n  } catch {\n    return {};\n  }\n"
_PYTHON_SWALLOWS = "    try:\n        return total / len(people)\n    except Exception:\n        pass\n"

LATE = block(
    NODE_SHOP.path,
    "module.exports = { names, quote };\n",
    "module.exports = { names, quote };\n"
    'if (process.env.WOLVERINE_REPORT_SOCKET) setTimeout(() => { throw new Error("late"); }, 200);\n',
)

PROPOSALS: dict[str, tuple[tuple[App, str], ...]] = {
    "model: a right answer": tuple((app, mend(app, app.right)) for app in (NODE_SHOP, PYTHON_BILL)),
    "model: a syntax error": (
        (NODE_SHOP, mend(NODE_SHOP, "  return { id, cents: item?.tag?.cents ?? ;\n")),
        (PYTHON_BILL, mend(PYTHON_BILL, "    return total / max(1, len(people)\n")),
    ),
    "model: another file": (
        (NODE_SHOP, reply(block("package.json", '"shop"', '"store"'))),
        (PYTHON_BILL, reply(block("requirements.txt", "", "requests\n"))),
    ),
    "model: out of the source": tuple(
        (app, reply(block(f"../src/{app.path}", app.search, app.right))) for app in (NODE_SHOP, PYTHON_BILL)
    ),
    "model: swallows the error": (
        (NODE_SHOP, mend(NODE_SHOP, _NODE_SWALLOWS)),
        (PYTHON_BILL, mend(PYTHON_BILL, _PYTHON_SWALLOWS)),
    ),
    # Only a live server sees what makes it crash, so that no trial can: probation has to.
    "model: crashes later": ((NODE_SHOP, reply(block(NODE_SHOP.path, NODE_SHOP.search, NODE_SHOP.right), LATE)),),
}
