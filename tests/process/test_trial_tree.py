# SPDX-License-Identifier: MIT
"""The tree that a candidate sees: its files over the app's own directory, whatever lies where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import IS_ROOT, public_python, public_tmp
from support.trials import change, command, in_loop, make_app, needs_sandbox, plan, run

from wolverined.errors import EditRejected, SandboxUnavailable

pytestmark = needs_sandbox


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the trial's user may enter, below /tmp, which is hidden in the sandbox."""
    with public_tmp() as path:
        yield path


@in_loop
async def test_removed_files_are_gone_and_new_directories_there(place: Path) -> None:
    """A patch may remove a file and add one in a directory that does not exist yet."""
    code = (
        "import os; print(sorted(os.listdir('.')), os.listdir('new/deep'),"
        " os.access('new/deep/run.sh', os.X_OK), oct(os.stat('lib').st_mode))"
    )
    app = make_app(place, {"main.py": code, "gone.py": "x", "lib/a.py": "a", "lib/b.py": "b"})
    (app / "lib").chmod(0o750)
    changes = [
        change("gone.py", "x", None),
        change("lib/a.py", "a", None),
        change("new/deep/run.sh", None, "#!/bin/sh\n", 0o755),
    ]
    _, boot = await run(plan(app, public_python(), "main.py"), changes)
    assert boot.tail == ("['lib', 'main.py', 'new'] ['run.sh'] True 0o40750",)
    assert sorted(path.name for path in app.iterdir()) == ["gone.py", "lib", "main.py"]


@pytest.mark.parametrize("path", ["../out", "/etc/x", "a/../../x", "a//b", "", "a/\0b", "link/x"])
@in_loop
async def test_a_path_that_leaves_the_directory_is_no_trial(place: Path, path: str) -> None:
    """Whatever heal sends, a changed file lands in the candidate's directory or nowhere."""
    app = make_app(place, {"main.py": ""})
    (app / "link").symlink_to("/var")
    with pytest.raises((SandboxUnavailable, EditRejected)):
        await run(plan(app, public_python(), "main.py"), [change(path, None, "x")])


@pytest.mark.parametrize("directory", ["/", "/dev/shm", "/proc/1", "/tmp"])
@in_loop
async def test_no_trial_where_the_app_cannot_be_told_from_the_system(place: Path, directory: str) -> None:
    """An overlay over / or a special file system is no sandbox."""
    with pytest.raises(SandboxUnavailable):
        await run(plan(Path(directory), public_python(), "-c", ""))


@in_loop
async def test_hidden_means_hidden_wherever_it_lies(place: Path) -> None:
    """Hidden paths inside the app's directory, and inside the interpreter's tree, are empty too."""
    tree = make_app(
        place,
        {
            "main.py": "import os; print(os.listdir('state'), os.listdir(os.environ['ENV'] + '/state'))",
            "state/secret": "x",
        },
    )
    env = place / "env"
    (env / "bin").mkdir(parents=True)
    (env / "state").mkdir()
    (env / "state" / "secret").write_text("x")
    (env / "bin" / "python").write_text(f'#!/bin/sh\nexec {public_python()} "$@"\n')
    (env / "bin" / "python").chmod(0o755)
    what = plan(
        tree,
        str(env / "bin" / "python"),
        "main.py",
        environment={"PATH": "/usr/bin:/bin", "ENV": str(env)},
        hide=(str(tree / "state"), str(env / "state"), str(place / "absent")),
    )
    _, boot = await run(what)
    assert boot.tail == ("[] []",)


@in_loop
async def test_a_virtual_environment_below_tmp_works(place: Path) -> None:
    """The interpreter's tree stays visible where /tmp is private, read-only."""
    app = make_app(place, {"main.py": "import sys, helper; print(sys.prefix, helper.here)"})
    for prefix in (app / "venv", place / "outside"):
        command(public_python(), "-m", "venv", "--without-pip", str(prefix))
        found = next((prefix / "lib").glob("python*")) / "site-packages"
        (found / "helper.py").write_text("here = 'helper'")
        _, boot = await run(plan(app, str(prefix / "bin" / "python"), "main.py"))
        assert boot.tail == (f"{prefix} helper",)


@in_loop
async def test_a_mount_inside_the_directory_falls_back_to_binds(place: Path) -> None:
    """Where the kernel refuses the overlay, every entry is bound around the changed file, and it is said."""
    if not IS_ROOT:
        pytest.skip("needs root to mount something inside an app's directory")
    code = (
        "import os; print(open('lib/a.py').read(), open('lib/b.py').read(), open('data/file').read(),"
        " os.readlink('to'), sorted(os.listdir('.')))"
    )
    app = make_app(place, {"main.py": code, "lib/a.py": "old", "lib/b.py": "b", "data/x": ""})
    (app / "to").symlink_to("lib")
    command("mount", "-t", "tmpfs", "tmpfs", str(app / "data"))
    try:
        (app / "data" / "file").write_text("mounted")
        prepared, boot = await run(plan(app, public_python(), "main.py"), [change("lib/a.py", "old", "new")])
    finally:
        command("umount", str(app / "data"))
    assert prepared.sandbox == "binds"
    assert prepared.weaknesses
    assert boot.tail == ("new b mounted lib ['data', 'lib', 'main.py', 'to']",)
    assert (app / "lib" / "a.py").read_text() == "old"
