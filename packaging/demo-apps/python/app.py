# SPDX-License-Identifier: MIT
"""A small weather desk. It fails fast: an error in a handler ends the process, as its author wanted."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import readings


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.reply(200, {"status": "ok"})
        elif self.path.startswith("/average/"):
            station = self.path.rsplit("/", 1)[1]
            values = readings.for_station(station)
            if values is None:
                self.reply(404, {"error": "no such station"})
            else:
                self.reply(200, {"station": station, "average": readings.average(values)})
        else:
            self.reply(404, {"error": "not found", "path": self.path})

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class FailFast(HTTPServer):
    def handle_error(self, request, client_address):
        raise


if __name__ == "__main__":
    print("weather desk listens on", os.environ["PORT"], flush=True)
    FailFast(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
