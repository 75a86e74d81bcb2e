# SPDX-License-Identifier: MIT
"""From the words of a start line to argv: script runners are followed, programs become absolute paths.

`npm start` and its like are resolved to what they would run, since a wrapper between supervisor and
server swallows signals and exit codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wolverined.config.projects import interpreters
from wolverined.config.projects.project import Project, Refused, Start, is_file, read_text, strings, table
from wolverined.config.projects.shellline import Line, take_apart
from wolverined.redact import looks_secret

_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*")
_RESTARTERS = {"nodemon", "node-dev", "forever", "supervisor", "pm2", "pm2-runtime", "wolverine", "wolverine-ai"}
_DEVELOPMENT = {
    "react-scripts": "start", "webpack-dev-server": "", "webpack": "serve", "ng": "serve", "vue-cli-service": "serve",
    "vite": "", "parcel": "",
}  # fmt: skip
_NODE_VALUED = {"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file"}
_PORT = re.compile(r"(?:--port|--http-port|-p|-l)(?:=|\s+)(\d{2,5})\b|(?:--bind|--listen|-b)(?:=|\s+)\S*?:(\d{2,5})\b")
_SECRET_FLAG = re.compile(r"--[A-Za-z]")
_MAX_DEPTH = 5


def start_of(line: str, project: Project, *, origin: str, known: Mapping[str, str], depth: int = 0) -> Start:
    """How `line` starts the project.

    Args:
        line: A command line written for a shell.
        project: Where it would run.
        origin: Where the line stands, for the operator.
        known: Values of variables that the line may use.
        depth: How many script runners led here.

    Raises:
        Refused: It cannot be told, with the reason.
    """
    if depth > _MAX_DEPTH:
        raise Refused("runs in a circle")
    taken = take_apart(line, known=known)
    words = list(taken.words)
    inner = msgspec.structs.replace(project, directory=project.directory / taken.directory)
    script = _script_name(words)
    if script is not None:
        followed = _follow(script, words, inner, known={**known, **taken.environment}, depth=depth)
        return _merged(followed, taken, project)
    if flag := next((word for word in words if _SECRET_FLAG.match(word) and looks_secret(word.partition("=")[0])), ""):
        raise Refused(
            f"passes a secret on the command line ({flag.partition('=')[0]}), where every user of the machine sees it; "
            "move it into a file of variables"
        )
    argv, language, entry, note = _argv(words, inner)
    port = port_in(argv)
    start = Start(
        command=tuple(argv),
        origin=origin,
        language=language,
        entry=entry,
        port=port,
        port_origin=f"the command line ({origin})" if port else "",
        notes=(note,) if note else (),
    )
    return _merged(start, taken, project)


def port_in(argv: list[str] | tuple[str, ...]) -> int | None:
    """The port that a command line names."""
    found = _PORT.search(" ".join(argv))
    if found:
        return int(found[1] or found[2])
    if "runserver" in argv and (bare := re.fullmatch(r"(?:\S*:)?(\d{2,5})", argv[-1])):
        return int(bare[1])
    return None


def _merged(start: Start, line: Line, project: Project) -> Start:
    """`start` with what stood around its program."""
    environment = {**line.environment, **start.environment}
    port, port_origin = start.port, start.port_origin
    if port is None and environment.get("PORT", "").isdecimal():
        port, port_origin = int(environment["PORT"]), "PORT in the start line"
    environment.pop("PORT", None)
    directory = start.directory or (project.directory / line.directory if line.directory else None)
    file = start.environment_file
    if file is None and line.environment_file:
        file = (directory or project.directory) / line.environment_file
    return msgspec.structs.replace(
        start,
        environment=environment,
        environment_file=file,
        directory=directory,
        port=port,
        port_origin=port_origin,
        notes=(*line.notes, *start.notes),
    )


def _script_name(words: list[str]) -> str | None:
    """The script of package.json that these words run; None when they run none."""
    match words:
        case ["npm" | "yarn" | "pnpm" | "bun", "start", *_]:
            return "start"
        case ["npm" | "pnpm" | "yarn" | "bun", "run" | "run-script", name, *_]:
            return name
        case ["yarn" | "pnpm", name, *_] if not name.startswith("-"):
            return name
        case ["npm" | "yarn" | "pnpm" | "bun", *_]:
            raise Refused(f"uses {' '.join(words[:2])}, whose script is not told by its words")
    return None


def _follow(script: str, words: list[str], project: Project, *, known: Mapping[str, str], depth: int) -> Start:
    scripts = strings(table(project.json("package.json"), "scripts"))
    if script not in scripts:
        if script == "start" and project.has("server.js"):
            return start_of("node server.js", project, origin="server.js", known=known, depth=depth + 1)
        raise Refused(f"runs the script {script!r}, which package.json does not have")
    rest = words[words.index(script) + 1 :]
    if rest[:1] == ["--"]:
        rest = rest[1:]
    line = " ".join([scripts[script], *(f"'{word}'" if " " in word else word for word in rest)])
    found = start_of(line, project, origin=f"scripts.{script} in package.json", known=known, depth=depth + 1)
    if f"pre{script}" in scripts:
        said = f"`{scripts[f'pre{script}']}` (pre{script}) is not run at each start: run it when you deploy"
        found = msgspec.structs.replace(found, notes=(*found.notes, said))
    return found


def _argv(words: list[str], project: Project) -> tuple[list[str], str, str, str]:
    """Argv with an absolute program, its language, its first source file, and a note."""
    first, *rest = words
    note = ""
    if Path(first).name in _RESTARTERS:
        first, rest, note = "node", *_without_restarter(Path(first).name, rest, project)
    if first in {"node", "nodejs"}:
        script = _first_file(rest, valued=_NODE_VALUED)
        if Path(script).name == "wolverine.js":  # the predecessor's own starter
            rest, note = _without_restarter("wolverine", rest[rest.index(script) + 1 :], project)
            script = rest[0]
        node = interpreters.node(project)
        return [node.path, *rest], "node", _entry(script, project), note or node.note
    if _PYTHON.fullmatch(first):
        python = interpreters.python(project)
        script = "" if "-m" in rest or "-c" in rest else _first_file(rest, valued={"-W", "-X"})
        return [python.path, *rest], "python", _entry(script, project), note or python.note
    return _other(first, rest, project)


def _other(first: str, rest: list[str], project: Project) -> tuple[list[str], str, str, str]:
    """A program that is neither `node` nor `python` by name."""
    if first in _DEVELOPMENT and _DEVELOPMENT[first] in {"", *rest[:1]} and "preview" not in rest[:1]:
        raise Refused(f"starts {first}, a server for development, not for production")
    if "/" in first:
        if not is_file(project.directory / first):
            raise Refused(f"starts {first}, which does not exist")
        return [first, *rest], "", "", ""
    tool = project.directory / "node_modules/.bin" / first
    if is_file(tool):
        if "node" in read_text(tool).partition("\n")[0]:
            node = interpreters.node(project)
            return [node.path, f"node_modules/.bin/{first}", *rest], "node", "", node.note
        return [str(tool), *rest], "node", "", ""
    try:
        python = interpreters.python(project)
        path = interpreters.beside(python, first)
    except Refused:
        path = ""
    if path:
        return [path, *rest], "python", "", ""
    if path := interpreters.of_system(project, first):
        return [path, *rest], "", "", ""
    raise Refused(f"starts {first}, which is not installed where the project could use it")


def _without_restarter(name: str, rest: list[str], project: Project) -> tuple[list[str], str]:
    """The script that nodemon and its like would keep running: wolverined does that itself."""
    words = [word for word in rest if word not in {"start", "--no-daemon"}] if name != "nodemon" else rest
    if any(word in {"--exec", "-x", "--interpreter"} for word in words):
        raise Refused(f"uses {name} with another interpreter; write that command yourself")
    valued = {"-w", "--watch", "-e", "--ext", "-i", "--ignore", "--delay", "-d", "--name", "-n", "-c", "--config"}
    script = _first_file(words, valued=valued)
    if not script and name.startswith("wolverine"):
        script = "server/index.js"
    if not script.endswith((".js", ".mjs", ".cjs")) or script.startswith("ecosystem.") or not project.has(script):
        raise Refused(f"uses {name}, and the script that it runs is not told by its words")
    after = words[words.index(script) + 1 :] if script in words else []
    return [
        script,
        *(word for word in after if word != "--"),
    ], f"{name} is left out: wolverined restarts the server itself"


def _first_file(words: list[str], *, valued: set[str]) -> str:
    """The first word that is no option and no option's value."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in valued:
            skip = True
        elif not word.startswith("-"):
            return word
    return ""


def _entry(script: str, project: Project) -> str:
    """The source file that a script's name means; Node adds `.js` and `index.js` by itself."""
    if not script or script.startswith("/"):
        return ""
    for name in (script, f"{script}.js", f"{script}/index.js"):
        if project.has(name):
            return name
    raise Refused(f"starts {script}, which does not exist (is it built first?)")
