# SPDX-License-Identifier: MIT
"""FastAPI, for uvicorn to serve."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/items/{number}")
async def item(number: int) -> int:
    """Answer as little as can be."""
    return number
