# SPDX-License-Identifier: MIT
"""A caught 500 in a web framework, from the reporter in it to the repair: Fastify and Flask under real wolverined."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.daemons import NODE, Running
from support.node_reports import frameworks as node_frameworks
from support.places import eventually
from support.python_reports import frameworks as python_frameworks

FASTIFY = {
    "server.js": """
const fastify = require("fastify")({ logger: false });
const stock = require("./stock");
fastify.get("/health", async () => "ok");
fastify.get("/names", async () => stock.names());
fastify.get("/items/:id", async (request) => stock.shw(request.params.id));
fastify.post("/items", async (request) => ({ got: request.body.name }));
fastify.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
""",
    "stock.js": """
const goods = { 1: "cup", 2: "pot" };
function names() { return Object.values(goods); }
function show(id) { return { id, name: goods[id] }; }
module.exports = { names, show };
""",
}

FLASK = {
    "app.py": """
import os
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

import stock

app = Flask(__name__)

@app.get("/health")
def health():
    return "ok"

@app.get("/names")
def names():
    return jsonify(stock.names())

@app.get("/items/<int:number>")
def item(number):
    return jsonify(stock.show(number))

@app.post("/items")
def add():
    return jsonify(got=request.get_json()["name"])

make_server("127.0.0.1", int(os.environ["PORT"]), app, threaded=True).serve_forever()
""",
    "stock.py": """
goods = {1: "cup", 2: "pot"}

def names():
    return list(goods.values())

def show(number):
    return {"id": number, "name": gods[number]}
""",
}

FAST = "[heal]\nprobation_s = 1\n"


def fastify(tables: str) -> Running:
    """The Fastify server; skips the test where there is none."""
    installed = node_frameworks()
    if installed is None:
        pytest.skip("the web frameworks are not installed (packaging/test sets WOLVERINE_NODE_FRAMEWORKS)")
    running = Running(files=FASTIFY, command=[NODE, "server.js"], tables=tables)
    (running.app / "node_modules").mkdir()
    (running.app / "node_modules" / "fastify").symlink_to(installed / "node_modules" / "fastify5")
    return running


def flask(tables: str) -> Running:
    """The Flask server; skips the test where there is none."""
    return Running(files=FLASK, command=[python_frameworks(), "app.py"], tables=tables)


SERVERS = pytest.mark.parametrize("server", [fastify, flask])


@contextmanager
def asking(running: Running, path: str) -> Iterator[list[int]]:
    """Ask for a path again and again meanwhile; gives the statuses, 0 where there was no answer."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            statuses.append(running.get(path).status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


@SERVERS
def test_a_caught_500_is_healed_while_other_routes_go_on_answering(server: Any) -> None:
    """One error, one incident, one repair by a remedy; all the others were answered but for one restart."""
    with server(FAST) as running:
        running.until_healthy()
        with asking(running, "/names") as statuses:
            assert running.get("/items/1").status == 500
            running.until_event("repair.verified")
        running.until_healthy()
        assert running.get("/items/1").json["name"] == "cup"
        assert set(statuses) <= {200, 0}
        assert statuses.count(200) > statuses.count(0)
        (incident,) = running.incidents()
        (repair,) = running.repairs()
        assert (incident["kind"], incident["count"], incident["closed_by"]) == ("http5xx", 1, repair["id"])
        assert incident["route"] in {"GET /items/:id", "GET /items/:number"}
        assert (repair["mode"], repair["verdict"]["outcome"]) == ("remedy", "proven")


@SERVERS
def test_a_storm_of_client_errors_heals_nothing(server: Any) -> None:
    """No such page, malformed JSON, a wrong method: the client's affair, whoever sees it."""
    with server(FAST) as running:
        running.until_healthy()
        pid = running.status()["pid"]
        for number in range(15):
            assert running.get(f"/nothing/{number}").status == 404
            answer = running.request("POST", "/items", body=b'{"name": ', headers={"content-type": "application/json"})
            assert answer.status == 400
            assert running.request("DELETE", "/names").status in (404, 405)
        assert running.get("/items/1").status == 500  # told behind all of these
        running.until_event("incident.opened")
        eventually(lambda: running.status()["reports"]["caught"] == 1)
        assert len(running.incidents()) == 1
        assert running.status()["pid"] == pid or running.repairs()
