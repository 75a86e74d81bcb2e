# SPDX-License-Identifier: MIT
"""Flask, for gunicorn to serve."""

from flask import Flask

app = Flask(__name__)


@app.get("/items/<int:number>")
def item(number: int) -> str:
    """Answer as little as can be."""
    return f"{number}\n"
