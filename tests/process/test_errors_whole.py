# SPDX-License-Identifier: MIT
"""Errors that an application catches and answers with a 500, through every room: real wolverined, real servers."""

from __future__ import annotations

from typing import Any

from support.daemons import NODE, PYTHON, Running
from support.places import eventually

NODE_SHOP = {
    "server.js": """
const http = require("node:http");
const net = require("node:net");
const stock = require("./stock");

function tell(report) {
  if (!process.env.WOLVERINE_REPORT_SOCKET) return;
  const sender = net.connect(process.env.WOLVERINE_REPORT_SOCKET);
  sender.on("error", () => {});
  sender.end(JSON.stringify({ type: "route_error", timestamp: Date.now(), pid: process.pid, ...report }) + "\\n");
}

function answer(request, response) {
  const path = request.url.split("?")[0];
  if (path === "/health") return "ok";
  if (path === "/names") return JSON.stringify(stock.names());
  if (path === "/left") return JSON.stringify(stock.left());
  if (path === "/bad") throw Object.assign(new Error("what is that?"), { statusCode: 400 });
  const item = /^\\/items\\/(\\d+)$/.exec(path);
  if (item) return JSON.stringify(stock.shw(item[1]));
  throw Object.assign(new Error("no such page"), { statusCode: 404 });
}

http.createServer((request, response) => {
  try {
    response.end(answer(request, response));
  } catch (error) {
    const statusCode = error.statusCode || 500;
    const path = request.url.split("?")[0];
    const asked = { method: request.method, path: request.url, headers: request.headers };
    tell({ path, method: request.method, statusCode, name: error.name, message: error.message,
           stack: error.stack, request: asked });
    response.statusCode = statusCode;
    response.end(JSON.stringify({ error: statusCode }));
  }
}).listen(process.env.PORT, "127.0.0.1");
""",
    "stock.js": """
const goods = { 1: "cup", 2: "pot" };
function names() { return Object.values(goods); }
function show(id) { return { id, name: goods[id] }; }
function left() { return nmes().length; }
module.exports = { names, show, left };
""",
}

PYTHON_SHOP = {
    "app.py": """
import json, os, socket, traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stock

def tell(**report):
    if "WOLVERINE_REPORT_SOCKET" not in os.environ:
        return
    with socket.socket(socket.AF_UNIX) as sender:
        sender.connect(os.environ["WOLVERINE_REPORT_SOCKET"])
        sender.sendall(json.dumps({"type": "route_error", **report}).encode() + b"\\n")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            found = self.found(self.path)
        except Exception as error:
            tell(path=self.path, method="GET", statusCode=500, name=type(error).__name__, message=str(error),
                 stack=traceback.format_exc())
            return self.say(500, {"error": "sorry"})
        return self.say(200, found)

    def found(self, path):
        if path == "/health":
            return "ok"
        if path == "/names":
            return stock.names()
        return stock.show(path.rpartition("/")[2])

    def say(self, status, found):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
    "stock.py": """
goods = {"1": "cup"}

def names():
    return list(goods.values())

def show(key):
    return {"id": key, "name": gods[key]}
""",
}

FAST = "[heal]\nprobation_s = 0.5\n"
OFF = '[heal]\npolicy = "off"\n'


def only(running: Running) -> dict[str, Any]:
    """The one incident."""
    (incident,) = running.incidents()
    return incident


def test_a_caught_500_of_node_opens_one_incident_and_is_healed_while_the_app_runs() -> None:
    """Report, incident with route and request, remedy, proof by replay, apply, probation; other routes go on."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=FAST) as running:
        running.until_healthy()
        for _ in range(3):
            assert running.get("/items/1?full=1").status == 500
        running.until_event("incident.opened")
        assert running.get("/names").json == ["cup", "pot"]
        running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/items/1").json == {"id": "1", "name": "cup"}
        (repair,) = running.repairs()
        assert (repair["state"], repair["verdict"]["outcome"]) == ("verified", "proven")
        assert "the request fails without the patch" in repair["verdict"]["reason"]
        incident = only(running)
        assert (incident["kind"], incident["route"]) == ("http5xx", "GET /items/:id")
        assert incident["closed_by"] == repair["id"]
        shown = running.ctl("--json", "incidents", "show", incident["id"]).json
        assert shown["request"]["path"] == "/items/1?full=1"
        assert not [event for event in running.events() if event["name"] == "app.exit" and event["severity"] == "error"]


def test_a_caught_500_of_python_is_healed() -> None:
    """The same through http.server, with what the sender's own message has in the seed's protocol."""
    with Running(files=PYTHON_SHOP, command=[PYTHON, "app.py"], tables=FAST) as running:
        running.until_healthy()
        assert running.get("/items/1").status == 500
        running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/items/1").json == {"id": "1", "name": "cup"}
        assert only(running)["route"] == "GET /items/:id"
        assert running.tree()["stock.py"] == PYTHON_SHOP["stock.py"].replace("gods[", "goods[").encode()


def test_a_storm_of_client_errors_heals_nothing() -> None:
    """Whoever tells a 4xx is heard and counted; no incident, no heal, the same process."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=FAST) as running:
        running.until_healthy()
        pid = running.status()["pid"]
        for number in range(40):
            assert running.get("/bad" if number % 2 else f"/nothing/{number}").status in (400, 404)
        eventually(lambda: running.status()["reports"]["client_errors"] == 40)
        assert running.incidents() == []
        assert running.status()["pid"] == pid
        assert running.get("/names").status == 200


def test_more_of_the_same_is_counted_on_the_incident_once_and_told_once() -> None:
    """Thirty errors are one incident of thirty, one event, and status and incidents name the route."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=OFF) as running:
        running.until_healthy()
        for _ in range(30):
            assert running.get("/items/2").status == 500
        eventually(lambda: only(running)["count"] == 30)
        names = [event["name"] for event in running.events()]
        assert (names.count("incident.opened"), names.count("incident.repeated")) == (1, 0)
        assert running.status()["state"] == "ready"
        assert running.status()["routes_failing"] == [{"route": "GET /items/:id", "count": 30, "incident": "i1"}]
        told = running.ctl("status").out
        assert "GET /items/:id" in told
        assert "30 times" in told
        assert "GET /items/:id" in running.ctl("incidents").out


def test_errors_below_the_threshold_make_no_incident() -> None:
    """`errors.threshold` within `errors.window_s`."""
    tables = f"{OFF}[errors]\nthreshold = 3\n"
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=tables) as running:
        running.until_healthy()
        for _ in range(2):
            running.get("/items/2")
        eventually(lambda: running.status()["reports"]["caught"] == 2)
        assert running.incidents() == []
        running.get("/items/2")
        running.until_event("incident.opened")
        eventually(lambda: only(running)["count"] == 3)


def test_an_error_that_comes_during_a_heal_is_healed_after_it() -> None:
    """Two faults on two routes, the second one while the first is healed: two incidents, two repairs."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=FAST) as running:
        running.until_healthy()
        assert running.get("/items/1").status == 500
        running.until_event("heal.started")
        assert running.get("/left").status == 500
        running.until_event("repair.verified", count=2)
        running.until_healthy()
        assert running.get("/items/1").json == {"id": "1", "name": "cup"}
        assert running.get("/left").json == 2
        assert sorted(incident["route"] for incident in running.incidents()) == ["GET /items/:id", "GET /left"]
        assert {incident["state"] for incident in running.incidents()} == {"closed"}


SEED_SERVER = {
    **NODE_SHOP,
    "server.js": NODE_SHOP["server.js"]
    .replace(
        "  if (!process.env.WOLVERINE_REPORT_SOCKET) return;\n",
        '  if (process.send) process.send({ type: "route_error", timestamp: Date.now(), ...report });\n  return;\n',
    )
    .replace("stack: error.stack, request: asked", "stack: error.stack"),
}


def test_a_server_written_for_the_seed_is_healed_as_it_is() -> None:
    """It tells by `process.send`, without a request; one error is one, though the reporter in it may tell it too."""
    with Running(files=SEED_SERVER, command=[NODE, "server.js"], tables=FAST) as running:
        running.until_healthy()
        assert running.get("/items/1").status == 500
        running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/items/1").json == {"id": "1", "name": "cup"}
        assert (only(running)["route"], only(running)["count"]) == ("GET /items/:id", 1)


TWO_FACED = {
    **NODE_SHOP,
    "stock.js": """
const goods = { 1: "cup", 2: "pot" };
function names() { return Object.values(goods); }
function show(id) {
  if (process.env.WOLVERINE_REPORT_SOCKET) throw new RangeError("only a trial is served");
  return { id, name: goods[id] };
}
module.exports = { names, show };
""",
}


def test_a_repair_after_which_a_route_fails_in_a_new_way_is_taken_back() -> None:
    """Proven in the trial, wrong in the world: a caught error in the probation is enough."""
    with Running(
        files=TWO_FACED, command=[NODE, "server.js"], tables="[heal]\nprobation_s = 60\nmax_attempts = 1\n"
    ) as running:
        running.until_healthy()
        before = running.tree()
        assert running.get("/items/1").status == 500
        running.until_event("repair.probation")
        assert running.get("/items/1").status == 500
        event = running.until_event("repair.rolled_back")
        assert "a new error in the app's own code" in event["message"]
        running.until_healthy()
        assert running.tree() == before


def test_an_error_that_was_there_before_the_repair_is_not_laid_at_its_door() -> None:
    """Another route that fails as ever while a repair is watched ends no probation."""
    tables = "[heal]\nprobation_s = 2\n[errors]\ncooldown_s = 600\n"
    files = {**NODE_SHOP, "stock.js": NODE_SHOP["stock.js"].replace("nmes()", "JSON.parse('{')")}
    with Running(files=files, command=[NODE, "server.js"], tables=tables) as running:
        running.until_healthy()
        assert running.get("/items/1").status == 500
        assert running.get("/left").status == 500
        running.until_event("repair.probation")
        assert running.get("/left").status == 500
        running.until_event("repair.verified")
        assert not [event for event in running.events() if event["name"] == "repair.rolled_back"]


def test_an_incident_of_an_error_outlives_a_kill_of_wolverined() -> None:
    """Opened while another heal ran, then SIGKILL: the next wolverined heals both."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=FAST) as running:
        running.until_healthy()
        assert running.get("/items/1").status == 500
        running.until_event("heal.started")
        assert running.get("/left").status == 500
        running.until_event("incident.opened", count=2)
        running.kill()
        running.start()
        running.until_event("repair.verified", count=2, within_s=90)
        running.until_healthy()
        assert [running.get(path).status for path in ("/items/1", "/left")] == [200, 200]
        eventually(lambda: {incident["state"] for incident in running.incidents()} == {"closed"})


def test_errors_go_on_being_counted_over_a_reexec() -> None:
    """The cooldown goes on, no count is lost, nothing is told twice; and the app's connection made anew is heard."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=OFF) as running:
        running.until_healthy()
        pid = running.status()["pid"]
        for _ in range(3):
            assert running.get("/items/1").status == 500
        eventually(lambda: running.status()["reports"]["caught"] == 3)
        done = running.ctl("reexec")
        assert done.code == 0, done.err
        for _ in range(2):
            assert running.get("/items/1").status == 500
        eventually(lambda: only(running)["count"] == 5)
        names = [event["name"] for event in running.events()]
        assert (names.count("incident.opened"), names.count("incident.repeated")) == (1, 0)
        assert running.status()["reports"]["caught"] == 5
        assert running.status()["pid"] == pid
