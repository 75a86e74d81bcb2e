# SPDX-License-Identifier: MIT
# ruff: noqa: ANN001, ANN002, ANN201, D102, T201 - an application as applications are; its port is printed
"""The troubles in `http.server`."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trouble import fail


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        place, _, rest = self.path.partition("?")[0].strip("/").partition("/")
        if place == "caught":
            try:
                fail("plain")
            except KeyError as error:
                self.answer(500, json.dumps({"error": str(error)}).encode())
        elif place == "fail":
            try:
                fail(rest)
            except Exception:
                self.send_error(500)
        elif place == "abort":
            self.send_error(int(rest))
        elif place == "deliberate":
            self.answer(503, b"down")
        elif place == "stream":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"begun")
            fail("plain")
        elif place == "unanswered":
            fail("plain")
        else:
            self.answer(200, b"{}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/json":
            try:
                self.answer(200, json.dumps(json.loads(body)).encode())
            except ValueError:
                self.answer(400, b"no JSON")
            return
        self.do_GET()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
