# SPDX-License-Identifier: MIT
"""How a Node project is started: what package.json says, or a file with the name of a server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from wolverined.config.projects.programs import start_of
from wolverined.config.projects.project import Project, Start, strings, table

DEFAULT_PORT = 3000
NAMES = (
    "server/index.js",
    "server.js",
    "index.js",
    "app.js",
    "bin/www",
    "src/server.js",
    "src/index.js",
    "src/app.js",
    "server.mjs",
    "index.mjs",
    "app.mjs",
    "dist/server.js",
    "dist/index.js",
    "dist/main.js",
)
_SERVES = re.compile(r"listen\s*\(|createServer|express|fastify|koa|hapi|http2?['\"]")

Way = tuple[str, Callable[[], Start]]


def declared(project: Project) -> Iterator[Way]:
    """What package.json says."""
    package = project.json("package.json")
    scripts = strings(table(package, "scripts"))
    known = {"PORT": str(DEFAULT_PORT)}
    for name in ("start", "start:prod", "serve"):
        if name in scripts:
            origin = f"scripts.{name} in package.json"
            yield (
                origin,
                partial(start_of, f"npm run {name}", project, origin=origin, known=known),
            )
    main = package.get("main")
    # Every package has a main; that of a library starts nothing.
    if isinstance(main, str) and re.fullmatch(r"[\w./-]{1,200}", main) and _serves(project, main):
        yield f"main in package.json ({main})", partial(_run, main, project)


def by_name(project: Project) -> Iterator[Way]:
    """Files whose name says that they are a server."""
    for name in NAMES:
        if project.has(name):
            yield name, partial(_run, name, project)


def _run(script: str, project: Project) -> Start:
    return start_of(f"node {script}", project, origin=script, known={})


def _serves(project: Project, main: str) -> bool:
    return any(_SERVES.search(project.text(name)) for name in (main, f"{main}.js", f"{main}/index.js"))
