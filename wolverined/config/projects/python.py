# SPDX-License-Identifier: MIT
"""How a Python project is started: what pyproject.toml says, Django's manage.py, or a module that holds an app.

Modules are parsed, never imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from wolverined.config.projects import interpreters
from wolverined.config.projects.programs import port_in, start_of
from wolverined.config.projects.project import Project, Refused, Start, table

DEFAULT_PORT = 8000
FLASK_PORT = 5000
NAMES = ("asgi.py", "wsgi.py", "app.py", "main.py", "server.py", "run.py", "src/app.py", "src/main.py", "app/main.py")
_ASGI = {"FastAPI", "Starlette", "Litestar", "Quart", "Sanic", "BlackSheep", "get_asgi_application"}
_WSGI = {"Flask", "Bottle", "Falcon", "Pyramid", "get_wsgi_application", "make_wsgi_app"}
_TASKS = ("start", "serve", "web", "server", "prod", "run")

Way = tuple[str, Callable[[], Start]]


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """What a module offers: the variable that holds an app, its kind, and whether running the file serves."""

    variable: str = ""
    kind: str = ""  # "asgi", "wsgi", or the empty text
    maker: str = ""
    runs: bool = False
    debug: bool = False


def is_python(line: str) -> bool:
    """Whether a command line is of the Python world (for the port that its servers take by default)."""
    return bool(
        re.search(r"\b(?:python[0-9.]*|gunicorn|uvicorn|hypercorn|daphne|waitress-serve|flask|fastapi)\b", line)
    )


def declared(project: Project) -> Iterator[Way]:
    """What pyproject.toml says, and Django's own program."""
    declared = project.toml("pyproject.toml")
    for path in (("pdm", "scripts"), ("poe", "tasks"), ("taskipy", "tasks"), ("hatch", "envs", "default", "scripts")):
        tasks = table(declared, "tool", *path)
        for name in _TASKS:
            task = tasks.get(name)
            command = task.get("cmd") if isinstance(task, dict) else task
            if isinstance(command, str):
                origin = f"tool.{'.'.join(path)}.{name} in pyproject.toml"
                yield origin, partial(_line, command, project, origin)
    scripts = {**table(declared, "tool", "poetry", "scripts"), **table(declared, "project", "scripts")}
    own = table(declared, "project").get("name") or table(declared, "tool", "poetry").get("name")
    for script in [each for each in (*_TASKS, own, *(scripts if len(scripts) == 1 else ())) if each in scripts][:1]:
        yield f"the script {script} of pyproject.toml", partial(_script, str(script), project)
    if project.has("manage.py"):
        yield "manage.py", partial(_django, project)


def by_name(project: Project) -> Iterator[Way]:
    """Modules whose name says that they are a server."""
    for name in NAMES:
        if project.has(name):
            yield name, partial(_module, name, project)


def _line(line: str, project: Project, origin: str) -> Start:
    return start_of(line, project, origin=origin, known={"PORT": str(DEFAULT_PORT)})


def _script(name: str, project: Project) -> Start:
    if not re.fullmatch(r"[\w.-]{1,100}", name):
        raise Refused("has no name that a program can have")
    path = interpreters.beside(interpreters.python(project), name)
    if not path:
        raise Refused("is not installed; install the project into its virtual environment (pip install -e .)")
    return Start(command=(path,), language="python")


def _django(project: Project) -> Start:
    """A real server when one is installed, else Django's own, which says itself that it is for development."""
    settings = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]{1,100})", project.text("manage.py"))
    package = settings[1].partition(".")[0] if settings else ""
    python = interpreters.python(project)
    for kind, program, options in (
        ("wsgi", "gunicorn", ("--bind", f"127.0.0.1:{DEFAULT_PORT}")),
        ("asgi", "uvicorn", ("--host", "127.0.0.1", "--port", str(DEFAULT_PORT))),
    ):
        path = interpreters.beside(python, program)
        if path and package and project.has(f"{package}/{kind}.py"):
            target = f"{package}.{kind}:application"
            return _served((path, target, *options), entry=f"{package}/{kind}.py", note=python.note)
    command = (python.path, "manage.py", "runserver", "--noreload", f"127.0.0.1:{DEFAULT_PORT}")
    note = "runserver is for development; install gunicorn into the virtual environment and run init again"
    return _served(command, entry="manage.py", note=note)


def _module(name: str, project: Project) -> Start:
    module = parse(project.text(name))
    python = interpreters.python(project)
    if module.runs:
        note = (
            "debug or reload in it starts the server as a child that hides crashes: switch it off"
            if module.debug
            else ""
        )
        return Start(
            command=(python.path, name), language="python", entry=name, notes=tuple(filter(None, (note, python.note)))
        )
    if not module.kind:
        raise Refused("neither starts a server when it is run nor holds an app of a framework known here")
    folder, _, file = name.rpartition("/")
    target = f"{file.removesuffix('.py')}:{module.variable}"
    above = ("--app-dir", folder) if folder else ()
    if module.kind == "asgi" and (uvicorn := interpreters.beside(python, "uvicorn")):
        address = ("--host", "127.0.0.1", "--port", str(DEFAULT_PORT))
        return _served((uvicorn, target, *above, *address), entry=name, note=python.note)
    gunicorn = interpreters.beside(python, "gunicorn")
    if module.kind == "wsgi" and gunicorn:
        above = ("--chdir", folder) if folder else ()
        return _served((gunicorn, target, *above, "--bind", f"127.0.0.1:{DEFAULT_PORT}"), entry=name, note=python.note)
    if module.maker == "Flask" and interpreters.beside(python, "flask"):
        command = (python.path, "-m", "flask", "--app", name, "run", "--port", str(FLASK_PORT))
        return _served(command, entry=name, note="flask run is for development; install gunicorn and run init again")
    server = "uvicorn" if module.kind == "asgi" else "gunicorn"
    raise Refused(f"holds {module.variable} = {module.maker}(...), and no server for it is installed ({server}, say)")


def _served(command: tuple[str, ...], *, entry: str, note: str) -> Start:
    notes = (note,) if note else ()
    return Start(
        command=command,
        language="python",
        entry=entry,
        port=port_in(command),
        port_origin="the command line",
        notes=notes,
    )


def parse(text: str) -> Module:
    """What the source of a module offers."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # MemoryError: nested too deeply for the parser
        return Module()
    variable = kind = maker = ""
    for statement in tree.body:
        name, called = _assigned(statement)
        if called in _ASGI | _WSGI and name and not variable:
            variable, maker, kind = name, called, "asgi" if called in _ASGI else "wsgi"
    runs = any(_serves(statement) for statement in tree.body)
    debug = bool(re.search(r"\b(?:debug|reload|use_reloader)\s*=\s*True", text))
    return Module(variable=variable, kind=kind, maker=maker, runs=runs, debug=debug and runs)


def _assigned(statement: ast.stmt) -> tuple[str, str]:
    """`name = Maker(...)` -> ("name", "Maker")."""
    if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)):
        return "", ""
    target, called = statement.targets[0], statement.value.func
    name = target.id if isinstance(target, ast.Name) else ""
    return name, called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _serves(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, or a call at the top level that does not return, such as serve_forever()."""
    if isinstance(statement, ast.If):
        return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        return isinstance(called, ast.Attribute) and called.attr in {"run", "serve_forever", "run_app", "serve"}
    return isinstance(statement, ast.With) and any(_serves(inner) for inner in statement.body)
