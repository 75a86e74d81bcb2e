# SPDX-License-Identifier: MIT
"""A candidate sees no real secret: settings files hold fakes, a home's credentials are gone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import IS_ROOT, public_python, public_tmp
from support.trials import change, in_loop, make_app, needs_sandbox, plan, run

pytestmark = needs_sandbox

REAL = "sk-real-4711-Zq8"
READ = """
import json, os, sys
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
print(json.dumps({path: read(path) for path in sys.argv[1:]}))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where every user may look."""
    with public_tmp() as path:
        yield path


@in_loop
async def test_settings_files_hold_fakes_in_a_trial(place: Path) -> None:
    """At the top, below, by a link, linked to: same names and shape, another value; the real ones stay as they are."""
    text = f"PORT=3000\nAPI_KEY={REAL}\n"
    app = make_app(place, {"main.py": READ, ".env": text, "api/.env.local": text, "prod.env": text, "a.py": "old"})
    shared = place / "shared"
    shared.mkdir()
    (shared / "env").write_text(text)
    (app / "linked").mkdir()
    (app / "linked" / ".env").symlink_to(shared / "env")
    (app / "venv.env").mkdir()
    (app / ".env").chmod(0o640)
    inside = [".env", "api/.env.local", "prod.env", "linked/.env"]
    what = plan(app, public_python(), "main.py", *inside, str(shared / "env"), "a.py")
    prepared, boot = await run(what, [change("a.py", "old", "new")])
    seen = json.loads(boot.tail[-1])
    assert {seen[path] for path in inside} == {"PORT=3000\nAPI_KEY=xx-xxxx-0000-Xx0\n"}
    assert seen[str(shared / "env")] == ("FileNotFoundError" if str(place).startswith("/tmp") else "")
    assert seen["a.py"] == "new"
    assert prepared.sandbox == "full"
    assert {(app / path).read_text() for path in inside} == {text}


@in_loop
async def test_a_file_that_the_app_cannot_read_stays_unreadable(place: Path) -> None:
    """Somebody else's settings are neither shown nor faked; one's own without permission cannot be opened up."""
    if not IS_ROOT:
        pytest.skip("needs root to make a file that is another user's")
    app = make_app(
        place, {"main.py": "import os; os.chmod('.env', 0o600) if os.access('own', 0) else 0\n" + READ, ".env": REAL}
    )
    (app / "own").write_text("")
    (app / ".env").chmod(0)
    (app / "root.env").write_text(REAL)
    (app / "root.env").chmod(0o600)
    _, boot = await run(plan(app, public_python(), "main.py", ".env", "root.env"))
    assert json.loads(boot.tail[-1]) == {".env": "", "root.env": "PermissionError"}


@in_loop
async def test_a_homes_credentials_are_gone(place: Path) -> None:
    """Keys of ssh, clouds and registries, whether directory, file or link; the rest of a home stays."""
    home = place / "home"
    hidden = [".ssh/id", ".aws/credentials", ".config/gcloud/key", ".netrc", ".npmrc", ".kube/config"]
    app = make_app(home, {"main.py": READ})
    for name in (*hidden, "notes", "elsewhere/key"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(REAL)
    (home / ".docker").symlink_to("elsewhere")
    paths = [str(home / name) for name in (*hidden, "elsewhere/key", "notes")]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    # Outside of the app's directory nothing of /tmp is seen at all: so the home is made the app's own.
    what = plan(home, public_python(), str(app / "main.py"), *paths, environment=environment)
    _, boot = await run(what)
    seen = json.loads(boot.tail[-1])
    assert seen.pop(str(home / "notes")) == REAL
    assert REAL not in seen.values()
    assert seen[str(home / ".netrc")] == ""


@in_loop
async def test_a_hidden_file_is_empty_or_fake(place: Path) -> None:
    """The environment file of the configuration: inside of the directory with fakes, outside empty."""
    app = make_app(place, {"main.py": READ, "settings": f"API_KEY={REAL}\n", "x": ""})
    outside = Path("/var/lib") if IS_ROOT and os.access("/var/lib", os.W_OK) else None
    paths = [str(app / "settings")]
    if outside is not None:
        (outside / "wolverine-test.env").write_text(REAL)
        paths.append(str(outside / "wolverine-test.env"))
    try:
        _, boot = await run(plan(app, public_python(), "main.py", *paths, hide=tuple(paths)))
    finally:
        if outside is not None:
            (outside / "wolverine-test.env").unlink()
    seen = json.loads(boot.tail[-1])
    assert seen.pop(paths[0]) == "API_KEY=xx-xxxx-0000-Xx0\n"
    assert set(seen.values()) <= {""}


@in_loop
async def test_an_interpreter_below_a_hidden_place_works(place: Path) -> None:
    """Version managers keep theirs in ~/.config: it comes back, what lies beside it does not."""
    home = place / "home"
    app = make_app(home, {"main.py": READ})
    tools = home / ".config" / "tools" / "bin"
    tools.mkdir(parents=True)
    (home / ".config" / "key").write_text(REAL)
    (tools / "python").write_text(f'#!/bin/sh\nexec {public_python()} "$@"\n')
    (tools / "python").chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    what = plan(app, str(tools / "python"), "main.py", str(home / ".config" / "key"), environment=environment)
    _, boot = await run(what)
    assert json.loads(boot.tail[-1]) == {str(home / ".config" / "key"): "FileNotFoundError"}
