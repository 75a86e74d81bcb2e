# SPDX-License-Identifier: MIT
# ruff: noqa: ANN001, ANN201, ANN202, D103, T201 - an application as applications are; its port is printed
"""The troubles in Flask."""

from __future__ import annotations

from flask import Flask, abort, jsonify, request
from trouble import fail

app = Flask(__name__)


class Known(Exception):
    """An error that the application answers itself."""


class Worse(Exception):
    """An error whose handler fails."""


@app.errorhandler(Known)
def known(error):
    return jsonify(error=str(error)), 503


@app.errorhandler(Worse)
def worse(error):
    raise OSError("the handler failed") from error


@app.get("/ok/<int:number>")
def ok(number):
    return jsonify(number=number)


@app.route("/fail/<kind>", methods=["GET", "POST"])
def failing(kind):
    request.get_data()
    fail(kind)


@app.get("/known")
def answered():
    raise Known("known")


@app.get("/worse")
def unanswered():
    raise Worse("first")


@app.get("/caught")
def caught():
    try:
        fail("plain")
    except KeyError as error:
        return jsonify(error=str(error)), 500


@app.get("/stream")
def stream():
    def parts():
        yield b"begun"
        fail("plain")

    return parts()


@app.get("/abort/<int:status>")
def aborting(status):
    abort(status)


@app.get("/deliberate")
def deliberate():
    return "down", 503


@app.post("/json")
def parsed():
    return jsonify(request.get_json())


if __name__ == "__main__":
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()
