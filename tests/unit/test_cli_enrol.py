# SPDX-License-Identifier: MIT
"""Whoever enrols a service hears what would surprise, each with the command that prevents it."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from support.places import IS_ROOT

from wolverined.cli import enrol, units
from wolverined.config.projects import rivals, unit
from wolverined.config.projects.draft import Draft
from wolverined.config.projects.project import Start
from wolverined.config.projects.rivals import Rival

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's directory of units."""
    place = tmp_path / "etc/systemd/system"
    (place / "multi-user.target.wants").mkdir(parents=True)
    monkeypatch.setattr(unit, "PLACES", (str(place),))
    return place


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application's directory."""
    place = tmp_path / "srv/shop"
    place.mkdir(parents=True)
    return place


def draft(directory: Path, command: str = "/usr/bin/node") -> Draft:
    """What `init` found."""
    start = Start(command=(command, "server.js"), origin="a test")
    return Draft(name="shop", start=start, directory=directory, user=ME, user_origin="")


def install(system: Path, name: str, *lines: str, enabled: bool = True) -> None:
    """A unit of the machine."""
    (system / name).write_text("\n".join(("[Service]", *lines)))
    if enabled:
        (system / "multi-user.target.wants" / name).symlink_to(system / name)


def found(app: Path, system: Path, home: Path = Path("/nonexistent")) -> list[Rival]:
    """Who else starts the application."""
    return rivals.rivals(app, home=home, user="shop", places=(str(system),))


@pytest.mark.parametrize(
    "lines",
    [
        ["WorkingDirectory={app}", "ExecStart=/usr/bin/node server.js"],
        ["ExecStart=-/usr/bin/node {app}/server.js"],
        ["WorkingDirectory=-{app}/inner", "ExecStart=/x"],
    ],
)
def test_an_enabled_unit_of_the_app_is_a_rival(app: Path, system: Path, lines: list[str]) -> None:
    """By its directory or by a path in its command; the command that ends it for good is told."""
    install(system, "old.service", *(line.format(app=app) for line in lines))
    (rival,) = found(app, system)
    assert rival.command == "systemctl disable --now old.service"


def test_other_units_are_none(app: Path, system: Path) -> None:
    """Of other directories, not enabled, broken, or ours."""
    install(system, "other.service", f"WorkingDirectory={app}-other", "ExecStart=/usr/bin/node server.js")
    install(system, "off.service", f"WorkingDirectory={app}", enabled=False)
    install(system, "bad.service", "ExecStart='")
    install(system, "wolverine@shop.service", f"WorkingDirectory={app}")
    (system / "multi-user.target.wants" / "gone.service").symlink_to(system / "nowhere")
    assert found(app, system) == []


def test_what_pm2_keeps_is_a_rival(app: Path, system: Path, tmp_path: Path) -> None:
    """pm2 starts again what it saved; odd dumps are passed over."""
    (tmp_path / ".pm2").mkdir()
    dump = tmp_path / ".pm2/dump.pm2"
    dump.write_text(json.dumps([{"name": "my app", "pm_cwd": str(app)}, {"name": "x", "pm_cwd": "/srv/x"}, 7]))
    (rival,) = found(app, system, home=tmp_path)
    assert rival.command.startswith("su - shop -c ")
    assert "my app" in rival.command
    for text in ("", "{", "{}", "[null]", '[{"pm_cwd": 3}]', "[" * 99999):
        dump.write_text(text)
        assert found(app, system, home=tmp_path) == []


def test_a_protected_place_gets_its_drop_in(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app below /usr is told the very command that makes it writable, before the first start."""
    monkeypatch.setattr(rivals, "rivals", lambda *_a, **_k: [])
    advice = enrol.advise("shop", draft(Path("/usr/local/shop")), Path("/etc/wolverine/shop.toml"))
    assert any("read-only in the unit" in note for note in advice.notes)
    assert any("ReadWritePaths=/usr/local/shop" in step.command for step in advice.steps)


@pytest.mark.skipif(not IS_ROOT, reason="only root can have files of root")
def test_files_of_root_are_told(app: Path) -> None:
    """A deploy by root leaves files that no repair can change; dependencies do not count."""
    os.chown(app, 65534, 65534)
    (app / "node_modules").mkdir()
    (app / "node_modules/x.js").touch()
    os.chown(app / "node_modules", 65534, 65534)
    assert enrol.of_root(app) == ""
    (app / "server.js").touch()
    assert enrol.of_root(app) == f"{app}/server.js belongs to root"
    (app / "lib.js").touch()
    assert "and 1 more" in enrol.of_root(app)
    os.chown(app, 0, 0)
    assert enrol.of_root(app) == ""


@pytest.mark.parametrize(("mode", "told"), [(0o700, True), (0o750, False), (0o755, False), (0o710, True)])
def test_dependencies_that_a_trial_cannot_read_are_told(app: Path, mode: int, told: bool) -> None:
    """A trial reads them by their group or as everybody; one level below counts as well."""
    for place in (app / "node_modules", app / "node_modules/express"):
        place.mkdir(exist_ok=True)
        (app / "node_modules").chmod(0o755)
        place.chmod(mode)
        assert enrol.closed(draft(app)) == ([app / "node_modules"] if told else [])
        place.chmod(0o755)


def test_the_interpreter_of_a_version_manager_counts(app: Path, tmp_path: Path) -> None:
    """What runs the app has to be readable for a trial as well, wherever a manager put it."""
    version = tmp_path / ".nvm/versions/node/v22.0.0"
    (version / "bin").mkdir(parents=True)
    (version / "bin/node").touch()
    version.chmod(0o700)
    assert enrol.closed(draft(app, str(version / "bin/node"))) == [version]
    version.chmod(0o755)
    assert enrol.closed(draft(app, str(version / "bin/node"))) == []


def test_the_next_commands(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, look, and who may do what; without systemd the terminal."""
    file = Path("/etc/wolverine/shop.toml")
    monkeypatch.setattr(units, "booted", lambda: False)
    (step,) = enrol.advise("shop", draft(app), file).steps
    assert step.command == f"wolverined run --config {file}"
    monkeypatch.setattr(units, "booted", lambda: True)
    monkeypatch.setattr(units, "installed", lambda: True)
    monkeypatch.setattr(enrol, "group_id", lambda _name: 7)
    monkeypatch.setenv("SUDO_USER", "ann")
    commands = [step.command for step in enrol.advise("shop", draft(app), file).steps]
    assert commands[:2] == ["systemctl enable --now wolverine@shop", "wolverinectl status shop"]
    assert all("ann" in command for command in commands[2:])
    assert [command for command in commands if "wolverine-admin" in command]
    monkeypatch.setenv("SUDO_USER", "root")
    assert len(enrol.advise("shop", draft(app), file).steps) == 2
