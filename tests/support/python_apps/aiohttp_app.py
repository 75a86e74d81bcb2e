# SPDX-License-Identifier: MIT
# ruff: noqa: ANN001, ANN201, ANN202, D103, T201 - an application as applications are; its port is printed
"""The troubles in aiohttp.web."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web
from trouble import fail


class Known(Exception):
    """An error that the application answers itself."""


class Worse(Exception):
    """An error whose handler fails."""


@web.middleware
async def answering(request, handler):
    try:
        return await handler(request)
    except Known as error:
        return web.json_response({"error": str(error)}, status=503)
    except Worse as error:
        raise OSError("the handler failed") from error


async def ok(request):
    return web.json_response({"number": int(request.match_info["number"])})


async def failing(request):
    await request.read()
    fail(request.match_info["kind"])


async def answered(_request):
    raise Known("known")


async def unanswered(_request):
    raise Worse("first")


async def caught(_request):
    try:
        fail("plain")
    except KeyError as error:
        return web.json_response({"error": str(error)}, status=500)


async def stream(request):
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"begun")
    fail("plain")


async def aborting(request):
    status = int(request.match_info["status"])
    raise {403: web.HTTPForbidden, 404: web.HTTPNotFound, 409: web.HTTPConflict, 418: web.HTTPBadRequest}[status]


async def deliberate(_request):
    return web.Response(text="down", status=503)


async def parsed(request):
    try:
        return web.json_response(await request.json())
    except json.JSONDecodeError as error:
        raise web.HTTPBadRequest(text="no JSON") from error


async def timer(_request):
    def ring():
        fail("plain")

    asyncio.get_running_loop().call_later(0.01, ring)
    return web.Response(text="set")


async def main():
    app = web.Application(middlewares=[answering])
    app.add_routes(
        [
            web.get("/ok/{number}", ok),
            web.route("*", "/fail/{kind}", failing),
            web.get("/known", answered),
            web.get("/worse", unanswered),
            web.get("/caught", caught),
            web.get("/stream", stream),
            web.get("/abort/{status}", aborting),
            web.get("/deliberate", deliberate),
            web.post("/json", parsed),
            web.get("/timer", timer),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
