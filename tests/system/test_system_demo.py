# SPDX-License-Identifier: MIT
"""The main job in a machine with nothing but Debian and the package: a server crashes and is healed without a key."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.lab import Machine

TOP = Path(__file__).resolve().parents[2]


class App(NamedTuple):
    """One of the demo's servers."""

    name: str
    command: str
    port: int
    trigger: str

    @property
    def directory(self) -> str:
        """Where it is installed."""
        return f"/srv/{self.name}"


NODE = App("node", '["node", "server.js"]', 3001, "/orders/7")
PYTHON = App("python", '["python3", "app.py"]', 3002, "/average/north")


def enrol(machine: Machine, app: App) -> None:
    """Install a server for a user of its own, write its file, start its unit."""
    machine.run(f"useradd --system --user-group --home-dir {app.directory} {app.name}-app")
    machine.push(TOP / "packaging/demo-apps" / app.name, app.directory, owner=f"{app.name}-app")
    # A source that changed a moment ago is left alone: this one is old.
    machine.run(f"find {app.directory} -exec touch -d '1 hour ago' {{}} +")
    machine.write(
        f"/etc/wolverine/{app.name}.toml",
        f"""[app]
command = {app.command}
directory = "{app.directory}"
port = {app.port}
[probe]
http = "/health"
[heal]
probation_s = 2
""",
    )
    machine.run(f"systemctl start wolverine@{app.name}")


def ctl(machine: Machine, *words: str) -> Any:
    """The JSON answer of one command."""
    return json.loads(machine.run(["wolverinectl", "--json", *words]).stdout)


def answer(machine: Machine, app: App, path: str) -> str:
    """The status of one request; 000: the server went away before it answered."""
    url = f"http://127.0.0.1:{app.port}{path}"
    return machine.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url], check=False).stdout


def tree(machine: Machine, app: App) -> str:
    """Name and digest of each file of the source."""
    found = f"find {app.directory} -type f -not -path '*/__pycache__/*' -exec sha256sum {{}} + | sort"
    return str(machine.run(found).stdout)


@pytest.fixture(scope="module", params=[NODE, PYTHON], ids=lambda app: app.name)
def healed(machine: Machine, request: pytest.FixtureRequest) -> Iterator[tuple[Machine, App, str]]:
    """An app that crashed once and was healed; and its tree before that."""
    app = request.param
    enrol(machine, app)
    machine.until(f"wolverinectl is-healthy {app.name}", within_s=20)
    before = tree(machine, app)
    assert answer(machine, app, app.trigger) == "000"
    machine.until(lambda: [one["state"] for one in ctl(machine, "repairs", app.name)] == ["verified"], within_s=60)
    yield machine, app, before
    machine.run(f"systemctl stop wolverine@{app.name}")


def test_a_crash_is_healed_under_systemd_without_a_key(healed: tuple[Machine, App, str]) -> None:
    """The route that killed the server answers; incident and repair say by what."""
    machine, app, _ = healed
    machine.until(f"wolverinectl is-healthy {app.name}", within_s=20)
    assert answer(machine, app, app.trigger) == "200"
    [repair] = ctl(machine, "repairs", app.name)
    assert (
        repair["mode"],
        repair["verdict"]["outcome"] if isinstance(repair["verdict"], dict) else repair["verdict"],
    ) == (
        "remedy",
        "proven",
    )
    [incident] = ctl(machine, "incidents", app.name)
    assert incident["state"] == "closed"


def test_the_journal_tells_the_story(healed: tuple[Machine, App, str]) -> None:
    """From the exit to the verified repair, by our fields, from our own uid."""
    machine, app, _ = healed
    uid = machine.run("id -u wolverine").stdout.strip()
    told = machine.journal(f"wolverine@{app.name}", f"_UID={uid}")
    names = [entry["WOLVERINE_EVENT"] for entry in told if "WOLVERINE_EVENT" in entry]
    story = ["app.ready", "app.exit", "incident.opened", "heal.started", "repair.applied", "repair.verified"]
    assert [name for name in story if name in names] == story
    assert sorted(story, key=names.index) == story


def test_the_patch_applies_and_the_rollback_is_exact(healed: tuple[Machine, App, str], tmp_path: Path) -> None:
    """`git apply` on the source as it was gives what runs; `rollback` gives the old one, byte for byte."""
    machine, app, before = healed
    new = tree(machine, app)
    assert new != before
    copy = tmp_path / app.name
    shutil.copytree(TOP / "packaging/demo-apps" / app.name, copy)
    patch = machine.run(["wolverinectl", "repairs", app.name, "show", "r1", "--patch"]).stdout
    subprocess.run(["git", "apply", "-"], cwd=copy, input=patch, text=True, check=True)
    applied = {file.relative_to(copy): file.read_text() for file in copy.rglob("*") if file.is_file()}
    assert {path: machine.read(f"{app.directory}/{path}") for path in applied} == applied
    machine.run(f"wolverinectl rollback {app.name} r1")
    assert tree(machine, app) == before
    machine.run(f"wolverinectl approve {app.name} r1")
    assert tree(machine, app) == new
