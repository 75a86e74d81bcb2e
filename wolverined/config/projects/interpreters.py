# SPDX-License-Identifier: MIT
"""The absolute interpreter of a project: of its virtual environment, of a version manager, of the system.

A service has no login shell, so what nvm, volta, asdf or pyenv put into PATH there is found by their
files here. Nothing is executed. Layouts: the managers' own documentation.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wolverined.config.projects.project import SYSTEM_PATH, Project, Refused, is_file, read_text, table

_VERSION = re.compile(r"v?(\d+(?:\.\d+){0,2})")

# Below the home directory: where each manager keeps version V of a language, and the program in it.
_NODES = {
    "nvm": (".nvm/versions/node", "bin/node"),
    "volta": (".volta/tools/image/node", "bin/node"),
    "asdf": (".asdf/installs/nodejs", "bin/node"),
    "mise": (".local/share/mise/installs/node", "bin/node"),
    "fnm": (".local/share/fnm/node-versions", "installation/bin/node"),
    "nodenv": (".nodenv/versions", "bin/node"),
}
_PYTHONS = {
    "pyenv": (".pyenv/versions", "bin/python"),
    "asdf": (".asdf/installs/python", "bin/python"),
    "mise": (".local/share/mise/installs/python", "bin/python"),
}
_SHIMS = ("/.pyenv/shims/", "/.asdf/shims/", "/.volta/bin/", "/mise/shims/", "/.nodenv/shims/")
VENVS = (".venv", "venv", "env", ".virtualenv")


class Interpreter(msgspec.Struct, frozen=True):
    """A program and where it comes from; `note` is what the operator should know."""

    path: str
    origin: str
    note: str = ""

    @property
    def of_system(self) -> bool:
        """Whether it lies where every program looks."""
        return str(Path(self.path).parent) in SYSTEM_PATH.split(":")


class _Installed(msgspec.Struct, frozen=True):
    manager: str
    version: str
    path: Path


def node(project: Project) -> Interpreter:
    """The Node that this project wants.

    Raises:
        Refused: There is none that its user may run.
    """
    installed = [each for each in _installed(project, _NODES) if project.may_run(each.path)]
    wanted, where = _wanted_node(project)
    note = ""
    if wanted:
        if chosen := _choose(installed, wanted, project):
            return Interpreter(str(chosen.path), f"{chosen.manager} {chosen.version}, as {where} wants")
        note = f"{where} wants Node {wanted}, which is not installed where user {project.user} could run it"
    if path := _in_path(project, ("node", "nodejs")):
        return Interpreter(path, "PATH", note)
    default = read_text(project.home / ".nvm/alias/default").strip() or _volta_default(project)
    if chosen := (_choose(installed, default, project) if default else None) or _newest(installed):
        return Interpreter(str(chosen.path), f"{chosen.manager} {chosen.version}", note)
    raise Refused(note or f"there is no Node that user {project.user} may run; install it")


def python(project: Project) -> Interpreter:
    """The Python that this project wants.

    Raises:
        Refused: There is none that its user may run.
    """
    for name in VENVS:
        if is_file(project.directory / name / "pyvenv.cfg"):
            own = project.directory / name / "bin/python"
            if project.may_run(own):
                return Interpreter(str(own), f"the virtual environment {name}")
            raise Refused(f"user {project.user} may not run {own}, the project's own Python")
    for place, origin in _environments_elsewhere(project):
        if project.may_run(place / "bin/python"):
            return Interpreter(str(place / "bin/python"), origin)
    installed = [each for each in _installed(project, _PYTHONS) if project.may_run(each.path)]
    wanted, where = _wanted_python(project)
    note = ""
    if wanted:
        if chosen := _choose(installed, wanted, project):
            return Interpreter(str(chosen.path), f"{chosen.manager} {chosen.version}, as {where} wants")
        note = f"{where} wants Python {wanted}, which is not installed where user {project.user} could run it"
    if path := _in_path(project, ("python3", "python")):
        return Interpreter(path, "PATH", note)
    default = read_text(project.home / ".pyenv/version").split()
    if chosen := (_choose(installed, default[0], project) if default else None) or _newest(installed):
        return Interpreter(str(chosen.path), f"{chosen.manager} {chosen.version}", note)
    raise Refused(note or f"there is no Python that user {project.user} may run; install it")


def _installed(project: Project, places: dict[str, tuple[str, str]]) -> Iterator[_Installed]:
    for manager, (below, program) in places.items():
        try:
            versions = sorted(os.listdir(project.home / below))  # noqa: PTH208  names are what is wanted
        except OSError:
            continue
        for version in versions:
            path = project.home / below / version / program
            if is_file(path):
                yield _Installed(manager, version, path)


def _choose(installed: list[_Installed], wanted: str, project: Project) -> _Installed | None:
    """The newest installed version that `wanted` allows: a version, a part of one, a name, an alias of nvm."""
    for _ in range(5):  # aliases of aliases
        if exact := [each for each in installed if each.version in {wanted, f"v{wanted}"}]:
            return exact[0]
        if wanted in {"node", "stable", "latest", "current"}:
            return _newest(installed)
        if found := _VERSION.fullmatch(wanted):
            parts = found[1].split(".")
            return _newest([each for each in installed if _parts(each.version)[: len(parts)] == [*map(int, parts)]])
        alias = "" if ".." in wanted else read_text(project.home / ".nvm/alias" / wanted).strip()
        if not alias:
            break
        wanted = alias
    if wanted.startswith("lts/"):  # the alias is not there: releases of even numbers become LTS
        return _newest([each for each in installed if (_parts(each.version) or [1])[0] % 2 == 0])
    return None


def _newest(installed: list[_Installed]) -> _Installed | None:
    return max(
        (each for each in installed if _parts(each.version)), key=lambda each: _parts(each.version), default=None
    )


def _parts(version: str) -> list[int]:
    found = _VERSION.fullmatch(version)
    return [int(part) for part in found[1].split(".")] if found else []


def _wanted_node(project: Project) -> tuple[str, str]:
    for name in (".nvmrc", ".node-version"):
        for line in project.text(name).splitlines():
            if word := line.partition("#")[0].strip():
                return word[:64], name
    if version := _tool_version(project, "nodejs", "node"):
        return version, ".tool-versions"
    pinned = table(project.json("package.json"), "volta").get("node")
    return (pinned[:64], "volta in package.json") if isinstance(pinned, str) else ("", "")


def _wanted_python(project: Project) -> tuple[str, str]:
    for line in project.text(".python-version").splitlines():
        if word := line.partition("#")[0].strip():
            return word[:64], ".python-version"
    version = _tool_version(project, "python")
    return (version, ".tool-versions") if version else ("", "")


def _tool_version(project: Project, *names: str) -> str:
    for line in project.text(".tool-versions").splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and words[0] in names:
            return words[1][:64]
    return ""


def _volta_default(project: Project) -> str:
    found = re.search(r'"runtime"\s*:\s*"([\d.]+)"', read_text(project.home / ".volta/tools/user/platform.json"))
    return found[1] if found else ""


def _in_path(project: Project, names: tuple[str, ...]) -> str:
    """The first program in PATH that is neither a manager's shim nor wolverined's own interpreter."""
    own = os.path.join(sys.prefix, "bin")  # noqa: PTH118  compared as text
    for directory in (*project.environ.get("PATH", "").split(":"), *SYSTEM_PATH.split(":")):
        for name in names:
            if not directory.startswith("/") or (directory == own and sys.prefix != sys.base_prefix):
                continue
            path = f"{directory}/{name}"
            if not any(shim in path for shim in _SHIMS) and project.may_run(Path(path)):
                return path
    return ""


def _environments_elsewhere(project: Project) -> Iterator[tuple[Path, str]]:
    """Virtual environments that poetry and pipenv keep in the user's home, and the one that is activated."""
    declared = project.toml("pyproject.toml")
    name = table(declared, "tool", "poetry").get("name") or table(declared, "project").get("name")
    if isinstance(name, str) and (table(declared, "tool", "poetry") or project.has("poetry.lock")):
        yield from ((place, "poetry") for place in _poetry(project, name))
    if project.has("Pipfile"):
        digest = urlsafe_b64encode(hashlib.sha256(str(project.directory / "Pipfile").encode()).digest())[:8].decode()
        yield project.home / f".local/share/virtualenvs/{project.directory.name}-{digest}", "pipenv"
    active = project.environ.get("VIRTUAL_ENV", "")
    if active.startswith("/") and Path(active) != Path(sys.prefix):
        yield Path(active), "the active virtual environment"


def _poetry(project: Project, name: str) -> list[Path]:
    """Poetry names an environment after the project and a hash of its directory."""
    clean = re.sub(r'[ $`!*@"\\\r\n\t]', "_", name.lower())[:42]
    digest = hashlib.sha256(os.path.realpath(project.directory).encode("utf-8", "surrogateescape")).digest()
    wanted = f"{clean}-{urlsafe_b64encode(digest).decode()[:8]}-py"
    try:
        below = project.home / ".cache/pypoetry/virtualenvs"
        return sorted((place for place in below.iterdir() if place.name.startswith(wanted)), reverse=True)
    except OSError:
        return []


def beside(interpreter: Interpreter, name: str) -> str:
    """A program in the same directory as the interpreter, such as a virtual environment's gunicorn; "" without."""
    path = Path(interpreter.path).parent / name
    return str(path) if is_file(path) and os.access(path, os.X_OK) else ""


def of_system(project: Project, name: str) -> str:
    """A program that every user has; "" when there is none."""
    found = shutil.which(name, path=SYSTEM_PATH)
    return found if found and project.may_run(Path(found)) else ""
