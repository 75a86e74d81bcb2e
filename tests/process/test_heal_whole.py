# SPDX-License-Identifier: MIT
"""One crash through every room: real wolverined, real servers, real requests."""

from support.daemons import NODE, PYTHON, Running

NODE_SHOP = {
    "server.js": """
const http = require("node:http");
const stock = require("./stock");
http.createServer((request, response) => {
  if (request.url === "/health") return response.end("ok");
  if (request.url === "/stock") return response.end(JSON.stringify(stock.listAl()));
  response.statusCode = 404;
  response.end("no");
}).listen(process.env.PORT, "127.0.0.1");
""",
    "stock.js": """
function listAll() { return [{ name: "cup", left: 3 }]; }
module.exports = { listAll };
""",
}

PYTHON_DESK = {
    "app.py": """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"ok" if self.path == "/health" else json.dumps(self.average([1, 2, 3])).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def average(self, values):
        total = sum(values)
        return totl / len(values)

class FailFast(HTTPServer):
    def handle_error(self, request, client_address):
        raise

FailFast(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
""",
}

FAST = "[heal]\nprobation_s = 0.5\n"


def test_a_node_server_that_crashes_on_a_request_is_healed_and_the_repair_can_be_undone_and_redone() -> None:
    """Crash, remedy, proof, apply, probation, verified; rolled back byte for byte; applied again."""
    with Running(files=NODE_SHOP, command=[NODE, "server.js"], tables=FAST) as running:
        running.until_healthy()
        before = running.tree()
        assert running.get("/stock").crashed
        running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/stock").json == [{"name": "cup", "left": 3}]
        (repair,) = running.repairs()
        assert (repair["state"], repair["mode"], repair["verdict"]["outcome"]) == ("verified", "remedy", "proven")
        assert running.incidents()[0]["closed_by"] == repair["id"]
        assert running.ctl("rollback", repair["id"]).code == 0
        assert running.tree() == before
        assert running.ctl("approve", repair["id"]).code == 0
        running.until_healthy()
        assert running.get("/stock").status == 200


def test_a_python_server_that_crashes_on_a_request_is_healed() -> None:
    """The same for Python: the misspelt name is put right in its own file, and nothing else is touched."""
    with Running(files=PYTHON_DESK, command=[PYTHON, "app.py"], tables=FAST) as running:
        running.until_healthy()
        assert running.get("/average").crashed
        running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/average").body == b"2.0"
        assert running.tree()["app.py"] == PYTHON_DESK["app.py"].replace("totl", "total").encode()
