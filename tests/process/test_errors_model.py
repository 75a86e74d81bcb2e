# SPDX-License-Identifier: MIT
"""Caught errors that a model mends: what it is sent, and what its answer must do to the failing request."""

from __future__ import annotations

from support.daemons import NODE
from support.healing import App, asked, ending, mend

SHOP = App(
    files={
        "server.js": """
const http = require("node:http");
const net = require("node:net");
const prices = require("./prices");
function tell(report) {
  if (!process.env.WOLVERINE_REPORT_SOCKET) return;
  net.connect(process.env.WOLVERINE_REPORT_SOCKET).on("error", () => {}).end(JSON.stringify(report) + "\\n");
}
http.createServer((request, response) => {
  const path = request.url.split("?")[0];
  try {
    if (path === "/health") return response.end("ok");
    const asked = /^\\/price\\/(\\w+)/.exec(path);
    const found = asked && prices.quote(asked[1]);
    response.statusCode = found ? 200 : 404;
    response.end(JSON.stringify(found || { error: "none" }));
  } catch (error) {
    response.statusCode = 500;
    response.end("sorry");
    tell({ type: "route_error", path, method: request.method, statusCode: 500, name: error.name, route: "/price/:id",
           message: error.message, stack: error.stack,
           request: { method: request.method, path: request.url, headers: request.headers } });
  }
}).listen(process.env.PORT, "127.0.0.1");
""",
        "prices.js": """
const goods = {
  1: { name: "cup", tag: { cents: 250 } },
};

function quote(id) {
  const item = goods[id];
  return { id, cents: item.tag.cents };
}

module.exports = { quote };
""",
        "package.json": '{ "name": "shop", "version": "1.0.0" }\n',
    },
    command=(NODE, "server.js"),
    trigger="/price/7",
    path="prices.js",
    search="  return { id, cents: item.tag.cents };\n",
    right="  return item ? { id, cents: item.tag.cents } : null;\n",
    other="/price/1",
)
SECRET = "tok_Zq81xkW03bLr5Tn7sd9"


def test_a_mend_after_which_the_request_gets_404_asks_a_person_as_long_as_nobody_has_seen_that_be_right() -> None:
    """A 4xx is no failure of the server, but may be the wrong answer; the request reaches the model without secrets."""
    with asked(SHOP, mend(SHOP, SHOP.right)) as (running, server):
        headers = {"authorization": f"Bearer {SECRET}", "x-plain": "yes"}
        assert running.request("GET", f"{SHOP.trigger}?token={SECRET}", headers=headers).status == 500
        event = ending(running)
        assert event["name"] == "heal.approval"
        assert "nobody knows whether that is right" in event["message"]
        (sent,) = [recorded.prompt for recorded in server.wait_for(1)]
        assert "GET /price/7?token=" in sent
        assert "x-plain" in sent
        assert SECRET not in sent


TELLING = SHOP._replace(
    files={
        **SHOP.files,
        "server.js": SHOP.files["server.js"]
        + 'tell({ type: "requests", count: 1, sample: [{ method: "GET", path: "/price/1234", status: 404 }] });\n',
    }
)


def test_a_mend_is_proven_when_404_is_what_the_route_answers_when_all_is_well() -> None:
    """The application's own `requests` say so, of another item of that route."""
    with asked(TELLING, mend(TELLING, TELLING.right)) as (running, _):
        assert running.get(TELLING.trigger).status == 500
        ending(running)
        (repair,) = running.repairs()
        assert repair["verdict"]["outcome"] == "proven"
        checks = {check["name"]: (check["baseline"], check["patched"]) for check in repair["verdict"]["checks"]}
        assert checks["GET /price/7"] == ("500", "404")
