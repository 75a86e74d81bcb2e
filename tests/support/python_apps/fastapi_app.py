# SPDX-License-Identifier: MIT
# ruff: noqa: ANN001, ANN201, ANN202, D103 - an application as applications are; its port is printed
"""The troubles in FastAPI, with a middleware of the kind that runs the application in a task of its own."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from trouble import fail

app = FastAPI()


class Known(Exception):
    """An error that the application answers itself."""


class Worse(Exception):
    """An error whose handler fails."""


@app.exception_handler(Known)
def known(_request, error):
    return JSONResponse({"error": str(error)}, status_code=503)


@app.exception_handler(Worse)
async def worse(_request, error):
    raise OSError("the handler failed") from error


@app.middleware("http")
async def passed(request, call_next):
    return await call_next(request)


@app.get("/ok/{number}")
async def ok(number: int):
    return {"number": number}


@app.api_route("/fail/{kind}", methods=["GET", "POST"])
async def failing(kind: str, request: Request):
    await request.body()
    fail(kind)


@app.get("/threaded/{kind}")
def threaded(kind: str):
    fail(kind)


@app.get("/known")
def answered():
    raise Known("known")


@app.get("/worse")
async def unanswered():
    raise Worse("first")


@app.get("/caught")
async def caught():
    try:
        fail("plain")
    except KeyError as error:
        return JSONResponse({"error": str(error)}, status_code=500)


@app.get("/stream")
async def stream():
    async def parts():
        yield b"begun"
        fail("plain")

    return StreamingResponse(parts())


@app.get("/abort/{status}")
async def aborting(status: int):
    raise HTTPException(status)


@app.get("/deliberate")
async def deliberate():
    return JSONResponse("down", status_code=503)


@app.post("/json")
async def parsed(told: dict):
    return told
