# SPDX-License-Identifier: MIT
"""Errors that an application without a reporter prints and lives on after, through the real daemon."""

from __future__ import annotations

from support.daemons import NODE, PYTHON, Running
from support.places import eventually

# `-I`: it ignores PYTHONPATH, so no reporter of ours is in it.
PYTHON_APP = """
import logging, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s")
items = {"1": {"name": "cup"}}

def price(item):
    return items[item]["price"]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status = 200
        try:
            if self.path == "/price":
                price("1")
            if self.path == "/other":
                len(None)
            if self.path == "/warn":
                raise ValueError("tried again")
            if self.path == "/die":
                import os, threading, traceback
                try:
                    price("1")
                except KeyError:
                    traceback.print_exc()
                    os._exit(3)
        except KeyError:
            logging.exception("Exception on %s [GET]", self.path)
            status = 500
        except TypeError:
            logging.exception("Exception on %s [GET]", self.path)
            status = 500
        except ValueError:
            logging.warning("a hitch", exc_info=True)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *told):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

NODE_APP = """
const http = require("node:http");
function total(cart) { return cart.items.length; }
http.createServer((request, response) => {
  try {
    if (request.url === "/cart") total({});
    response.end("ok");
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    response.end("no");
  }
}).listen(process.env.PORT, "127.0.0.1");
"""
OBSERVE = '[heal]\npolicy = "off"\n'


def running_python() -> Running:
    """The Python application, told its port by its command line."""
    running = Running(files={"app.py": PYTHON_APP}, command=[PYTHON, "-I", "app.py", "PORT"], tables=OBSERVE)
    running.config.write_text(running.config.read_text().replace('"PORT"', f'"{running.port}"'))
    return running


def test_a_logged_traceback_is_one_incident_of_its_route() -> None:
    """The first 500 opens it, more of it are counted, a warning is none, and the app is never restarted."""
    with running_python() as running:
        running.until_healthy()
        assert running.get("/warn").status == 200
        for _ in range(3):
            assert running.get("/price").status == 500
        running.until_event("incident.opened")
        (incident,) = running.incidents()
        assert (incident["kind"], incident["error"]) == ("http5xx", "KeyError")
        assert incident["route"] == "GET /price"
        assert running.status()["generation"] == 1


def test_the_last_words_of_a_process_are_its_crash_alone() -> None:
    """A trace that is printed right before the end makes no incident besides that of the exit."""
    with running_python() as running:
        running.until_healthy()
        assert running.get("/die").crashed
        running.until_event("incident.opened")
        running.until_healthy()
        assert running.get("/price").status == 500
        eventually(lambda: len(running.incidents()) == 2, within_s=20)
        assert sorted(one["kind"] for one in running.incidents()) == ["crash", "http5xx"]


def test_what_a_reporter_of_ones_own_tells_is_not_told_again() -> None:
    """The documented example beside a logged traceback: one incident that counts each error once."""
    tell = """
import json, os, socket, traceback
def tell(error, path):
    report = {"type": "route_error", "path": path, "method": "GET", "statusCode": 500, "name": type(error).__name__,
              "message": str(error), "stack": traceback.format_exc(), "route": "/price"}
    with socket.socket(socket.AF_UNIX) as sender:
        sender.connect(os.environ["WOLVERINE_REPORT_SOCKET"])
        sender.sendall(json.dumps(report).encode() + b"\\n")
"""
    source = PYTHON_APP.replace(
        "except KeyError:\n            logging", "except KeyError as error:\n            logging"
    )
    source = tell + source.replace("            status = 500", "            status = 500; tell(error, self.path)", 1)
    running = running_python()
    running.write({"app.py": source})
    with running:
        running.until_healthy()
        assert running.get("/price").status == 500
        running.until_event("incident.opened")
        assert running.get("/price").status == 500
        # When this one is told, whatever had been printed before it has been decided on.
        assert running.get("/other").status == 500
        running.until_event("incident.opened", count=2)
        eventually(lambda: running.incidents()[-1]["count"] >= 2, within_s=20)
        assert [(one["error"], one["count"]) for one in running.incidents()] == [("TypeError", 1), ("KeyError", 2)]


def test_a_printed_stack_of_node_is_an_incident() -> None:
    """`console.error(error)` of an application that no reporter watches; nothing to replay is made up."""
    with Running(
        files={"app.js": NODE_APP}, command=["/usr/bin/env", "-u", "NODE_OPTIONS", NODE, "app.js"], tables=OBSERVE
    ) as running:
        running.until_healthy()
        assert running.get("/cart").status == 500
        running.until_event("incident.opened")
        (incident,) = running.incidents()
        assert (incident["kind"], incident["error"], incident["route"]) == ("http5xx", "TypeError", "")
        shown = running.ctl("--json", "incidents", "show", incident["id"]).json
        assert not shown.get("request")
