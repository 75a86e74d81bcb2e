# SPDX-License-Identifier: MIT
# ruff: noqa: T201 - an application as applications are; its port is printed
"""Serves an ASGI application under uvicorn, on a socket whose port is printed first."""

from __future__ import annotations

import importlib
import socket
import sys

import uvicorn

if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    loop = sys.argv[2] if len(sys.argv) > 2 else "asyncio"
    config = uvicorn.Config(getattr(importlib.import_module(module), name), loop=loop, log_level="critical")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])
