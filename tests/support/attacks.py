# SPDX-License-Identifier: MIT
"""An application that turns on its supervisor: what it does with the report socket and with its output.

python3 -I app.py PORT         serves; GET /attack/NAME?seconds starts an attack as a process of its own
"""

from __future__ import annotations

APP = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlsplit(self.path)
        if asked.path.startswith("/attack/"):
            argv = [sys.executable, "-I", "attack.py", asked.path.rpartition("/")[2], asked.query]
            subprocess.Popen(argv)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *told):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

ATTACK = r"""
import json, os, socket, sys, threading, time

WHERE = os.environ["WOLVERINE_REPORT_SOCKET"]
UNTIL = time.monotonic() + float(sys.argv[2])

def connected():
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(1)
    made.connect(WHERE)
    return made

def error(number=0, **about):
    told = {"type": "route_error", "path": "/a", "method": "GET", "statusCode": 500, "name": "KeyError", "message": "x",
            "stack": 'Traceback (most recent call last):\n  File "app.py", line 3, in f%d\n    x\nKeyError: x' % number}
    told.update(about)
    return json.dumps(told).encode() + b"\n"

def again_and_again(make):
    number = 0
    while time.monotonic() < UNTIL:
        try:
            with connected() as made:
                while time.monotonic() < UNTIL:
                    made.sendall(make(number))
                    number += 1
        except OSError:
            time.sleep(0.001)

def many(make, threads=4):
    running = [threading.Thread(target=again_and_again, args=(make,)) for _ in range(threads)]
    for each in running: each.start()
    for each in running: each.join()

def wrong(number):
    odd = [None, 0, -1, 1e308, True, [], {}, "x" * 5000, [[]] * 200, {"a": {"b": 1}}, "\u0000\u202e\ud800"]
    names = ["path", "method", "statusCode", "message", "name", "stack", "file", "line", "timestamp", "route", "chain",
             "request", "pid", "worker", "count", "errors", "histogram", "routes", "sample", "age_ms", "lag_ms", "type"]
    kinds = ["route_error", "requests", "pending", "loop", "crash"]
    told = {"type": kinds[number % 5], "path": "/a", "statusCode": 500, "count": 1, "age_ms": 1, "lag_ms": 1}
    told[names[number % len(names)]] = odd[number // len(names) % len(odd)]
    return json.dumps(told).encode() + b"\n"

def hold(count, begin=b""):
    kept = []
    while time.monotonic() < UNTIL:
        while len(kept) < count:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.setblocking(False)
            try:
                made.connect(WHERE)
                made.send(begin)
            except OSError:
                made.close()
                break
            kept.append(made)
        time.sleep(0.01)

def output():
    lines = error().decode() + 'Traceback (most recent call last):\n  File "app.py", line 3, in f\n    x\nKeyError: 1\n'
    lines += "Error: x\n    at f (%s/app.js:1:1)\n" % os.getcwd()
    while time.monotonic() < UNTIL:
        os.write(1, lines.encode() * 20)
        os.write(2, lines.encode() * 20)

ATTACKS = {
    "same": lambda: many(error),
    "distinct": lambda: many(lambda n: error(n, path="/p%d" % n, route="/p%d" % n, message="m%d" % n)),
    "malformed": lambda: many(lambda n: [b"{\n", b"\xff\xfe\n", b"[]\n", b"\n", b'{"type": 7}\n', b"null\n"][n % 6]),
    "deep": lambda: many(lambda n: b'{"type":"route_error","chain":' + b"[" * 30000 + b"]" * 30000 + b"}\n"),
    "huge": lambda: many(lambda n: b"x" * (1 << 20)),
    "whole": lambda: many(lambda n: error(n, stack="Error: x\n" + "    at f (/a.js:1:1)\n" * 2500)),
    "wrong": lambda: many(wrong),
    "crashes": lambda: many(lambda n: error(n, type="crash", stack="x" * 60000)),
    "halves": lambda: hold(64, b'{"type": "route_error", "path": "' + b"x" * 60000),
    "connections": lambda: hold(1000, b"{"),
    "output": output,
}
ATTACKS[sys.argv[1]]()
"""
NAMES = (
    "same",
    "distinct",
    "malformed",
    "deep",
    "huge",
    "whole",
    "wrong",
    "crashes",
    "halves",
    "connections",
    "output",
)
