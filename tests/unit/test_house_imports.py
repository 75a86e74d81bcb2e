# SPDX-License-Identifier: MIT
"""Who may import whom: the floors of the house, held against every import statement."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wolverined

ROOT = Path(wolverined.__file__).parent
GROUND = {"errors", "model", "redact", "clock"}
AGENT = {"config", "traces", "linux", "store", "control", "supervise", "sense", "heal", "alerts", "cli", "daemon"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "model": set(),
    "clock": set(),
    "redact": {"model"},
    "config": GROUND,
    "traces": GROUND,
    "linux": GROUND,
    "store": GROUND | {"config"},
    "control": GROUND | {"linux"},
    "supervise": GROUND | {"config", "linux"},
    "sense": GROUND | {"config", "traces", "linux"},
    "heal": GROUND | {"config", "traces", "linux", "store"},
    "alerts": GROUND | {"config", "linux"},
    "prepare": GROUND | {"lean", "config", "heal", "linux"},
    "cli": GROUND | {"config", "control", "linux"},
    "daemon": GROUND | AGENT - {"cli"},
    "hooks": set(),
    "lean": set(),
    "__main__": {"errors", "daemon", "lean"},
}
"""Room -> the rooms that it may import (beside itself). `daemon` alone knows all of them."""

LIGHT = {"openai", "httpx2", "pyroute2", "psutil", "tenacity", "tree_sitter", "ssl", "http.client", "urllib.request"}
"""What a supervisor that sits idle must not have in memory."""


def room_of(path: Path) -> str:
    """The room that a file belongs to: the first part of its path, or its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imports() -> Iterator[tuple[Path, str]]:
    """Every module that a file of ours imports, relative to nothing."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module
                if node.module == "wolverined":
                    yield from ((path, f"wolverined.{alias.name}") for alias in node.names)


OURS = sorted(
    {
        (room_of(path), module.split(".")[1])
        for path, module in imports()
        if module.startswith("wolverined.") and module.split(".")[1] != "__version__"
    }
)


@pytest.mark.parametrize(("room", "imported"), OURS)
def test_no_room_imports_a_room_above_it(room: str, imported: str) -> None:
    """An arrow goes down the floors or stays in its room, never up."""
    assert imported == room or imported in ALLOWED[room], f"{room} imports {imported}"


def test_every_room_has_a_floor() -> None:
    """A new room must say whom it may import before it may import anybody."""
    assert {room_of(path) for path in ROOT.rglob("*.py")} - {"__init__"} <= set(ALLOWED)


def test_only_the_adviser_imports_the_ai_sdk() -> None:
    """Who talks to a model holds no power: no other module may reach for `openai`."""
    users = {path.relative_to(ROOT).as_posix() for path, module in imports() if module.split(".")[0] == "openai"}
    assert users
    assert all(user.startswith("heal/adviser/") for user in users), users


def test_healing_knows_nothing_of_supervision() -> None:
    """The heal runs in a process of its own and shares no code with what it must not touch."""
    heal = {imported for room, imported in OURS if room == "heal"}
    assert not heal & {"supervise", "sense", "control", "daemon"}


def test_an_idle_supervisor_has_nothing_heavy_in_memory() -> None:
    """What `wolverined run` imports leaves out the AI SDK, TLS, HTTP clients, netlink and parsers."""
    code = (
        "import sys; sys.argv = ['wolverined', '--version']\n"
        "import wolverined.__main__ as m\n"
        "sys.modules.setdefault('ssl', None)\n"
        "import wolverined.daemon\n"
        "print('\\n'.join(name for name, module in sys.modules.items() if module is not None))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "wolverined.supervise.supervisor" in loaded
    assert not loaded & LIGHT
