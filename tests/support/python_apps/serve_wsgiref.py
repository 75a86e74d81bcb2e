# SPDX-License-Identifier: MIT
# ruff: noqa: ANN002, ANN201, D102, T201 - an application as applications are; its port is printed
"""Serves a WSGI application with what the standard library has."""

from __future__ import annotations

import importlib
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    server = make_server("127.0.0.1", 0, getattr(importlib.import_module(module), name), handler_class=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()
