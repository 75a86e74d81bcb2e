# SPDX-License-Identifier: MIT
"""Projects on disk that tests look at: files, interpreters that are only names, a home directory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from support.configs import USER

from wolverined.config.projects.detect import Detected, detect
from wolverined.config.projects.project import Project, Start


class Sketch:
    """A project under construction below a directory; `home` is its user's."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "app"
        self.home = place / "home"
        self.bin = place / "bin"
        for path in (self.directory, self.home, self.bin):
            path.mkdir()
        self.node = self.program("bin/node")
        self.python = self.program("bin/python3")

    def file(self, name: str, text: str | dict[str, Any] = "") -> Path:
        """A file of the project."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(text) if isinstance(text, dict) else text)
        return path

    def scripts(self, **scripts: str) -> None:
        """A package.json with these scripts."""
        self.file("package.json", {"scripts": {name.replace("_", ":"): line for name, line in scripts.items()}})

    def program(self, name: str, text: str = "#!/bin/sh\n") -> str:
        """An executable below the place of all, such as home/.nvm/versions/node/v20.1.0/bin/node; its path."""
        path = self.directory.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def venv(self, name: str = ".venv", *programs: str) -> str:
        """A virtual environment of the project with programs; its Python."""
        self.file(f"{name}/pyvenv.cfg", "home = /usr/bin\n")
        for program in programs:
            self.program(f"app/{name}/bin/{program}")
        return self.program(f"app/{name}/bin/python")

    def project(self, **environ: str) -> Project:
        """The project as `init` sees it, whose PATH knows the two interpreters."""
        return Project(
            directory=self.directory,
            user=USER,
            uid=os.geteuid(),
            gids=frozenset({os.getegid()}),
            home=self.home,
            environ={"PATH": str(self.bin), **environ},
        )

    def detected(self, **environ: str) -> Detected:
        """What is found in it."""
        return detect(self.project(**environ))

    def best(self, **environ: str) -> Start:
        """The start that would be written."""
        found = self.detected(**environ)
        assert found.starts, found.refused
        return found.starts[0]

    def refusals(self) -> str:
        """Why nothing was found."""
        found = self.detected()
        assert not found.starts, found.starts
        return "; ".join(found.refused)

    def tree(self) -> dict[str, tuple[int, bytes]]:
        """Every file with mode and content, to see that nothing is touched."""
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return {str(path): (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) for path in files}
