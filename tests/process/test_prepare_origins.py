# SPDX-License-Identifier: MIT
"""Where what is bound into a trial lies, as the app's user finds it; what only root can reach is not bound."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.places import IS_ROOT, public_tmp

from wolverined.config.schema import AppTable, Config, HealTable, TrialTable
from wolverined.heal.trial.bound import Bound, decode, strange
from wolverined.linux.credentials import Credentials
from wolverined.linux.mountinfo import Mount, located, mounts
from wolverined.prepare.origins import Origins
from wolverined.prepare.trial import walls

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="needs root, as prepare does")

APP, VICTIM = "games", "mail"


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory of root's with the app's in it, and a victim's home that nobody enters."""
    with public_tmp() as path:
        for name, user, mode in (("app", APP, 0o755), ("victim", VICTIM, 0o700), ("victim/private", VICTIM, 0o755)):
            own(path / name, user, mode)
        (path / "victim" / "private" / "pyvenv.cfg").touch()
        yield path


def own(path: Path, user: str = APP, mode: int = 0o755) -> Path:
    """A directory of that user's."""
    path.mkdir()
    os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    path.chmod(mode)
    return path


def bounds_of(
    directory: Path, *, command: str = "sleep", read_only: tuple[str, ...] = (), path: str = "/bin"
) -> dict[str, Bound]:
    """What prepare says was bound, by the name below the directory, or the whole path."""
    config = Config(
        app=AppTable(command=(command,), directory=directory, environment={"PATH": path}),
        heal=HealTable(trial=TrialTable(read_only=read_only)),
    )
    found = walls("shop", config, app=Credentials.of_user(APP))
    assert not found.trouble
    text = found.dropins[0].text
    said = next(line for line in text.splitlines() if line.startswith("Environment="))
    told = decode(said.partition("BOUND=")[2][:-1].replace('\\"', '"').replace("%%", "%"))
    assert all(f'BindReadOnlyPaths=-"{bound.point}"' in text for bound in told)
    assert sum(line.startswith("BindReadOnlyPaths=") for line in text.splitlines()) == len(told)
    return {bound.point.removeprefix(f"{directory}/"): bound for bound in told}


def as_pid_1_would(path: Path) -> Mount:
    """The mount that a bind of this path is: what its links lead to, found with root's rights."""
    device, where = located(os.path.realpath(path), mounts())
    return Mount(device=device, root=where, point=str(path), kind="ext4", readonly=True)


def test_what_became_a_link_since_is_not_what_was_prepared(root: Path) -> None:
    """A virtual environment, node_modules, and what the operator named; before and after."""
    app = root / "app"
    for name in ("env", "node_modules", "models"):
        own(app / name)
    (app / "env" / "pyvenv.cfg").touch()
    told = bounds_of(app, read_only=("models",))
    assert set(told) == {"env", "node_modules", "models"}
    before = [as_pid_1_would(app / name) for name in told]
    assert list(strange(tuple(told.values()), before, top=str(app))) == []
    for name in told:
        (app / name).rename(app / f"{name}.old")
        (app / name).symlink_to(root / "victim" / "private")
    after = [as_pid_1_would(app / name) for name in told]
    assert set(strange(tuple(told.values()), after, top=str(app))) == {mount.point for mount in after}


def test_what_only_root_can_reach_is_not_bound(root: Path) -> None:
    """A link that was there before, where the operator's key names it."""
    (root / "app" / "models").symlink_to(root / "victim" / "private")
    assert bounds_of(root / "app", read_only=("models",)) == {}


def test_no_link_of_a_program_leads_among_live_things(root: Path) -> None:
    """Sockets and devices; a program that was installed there is called by its own path."""
    (root / "app" / "bin").symlink_to("/dev")
    (root / "app" / "lib").symlink_to("/usr/lib")
    origins = Origins(str(root / "app"))
    assert not origins.reached(f"{root}/app/bin/null")
    assert origins.reached(f"{root}/app/lib")
    assert origins.reached("/dev/null")


def test_a_link_of_the_operators_leads_where_it_led(root: Path) -> None:
    """Wherever the app's user can go; what is still to come is expected at its own path."""
    own(root / "data")
    (root / "app" / "models").symlink_to("../data")
    told = bounds_of(root / "app", read_only=("models", "later"))
    assert told["models"].root.endswith("/data")
    assert told["later"].root.endswith("/app/later")


@pytest.mark.parametrize(("owner", "right"), [(APP, True), (VICTIM, False)])
def test_the_next_release_needs_no_new_preparation(root: Path, owner: str, right: bool) -> None:
    """The link of a deploy tool, set anew to what stands beside; only among releases of one owner."""
    releases = own(root / "releases", owner)
    for number in ("7", "8"):
        own(own(releases / number) / "node_modules")
    current = root / "app" / "current"
    current.symlink_to(releases / "7")
    told = tuple(bounds_of(current).values())
    current.unlink()
    current.symlink_to(releases / "8")
    found = list(strange(told, [as_pid_1_would(current / "node_modules")], top=str(current)))
    assert (not found) is right
    current.unlink()
    current.symlink_to(root / "victim")
    (root / "victim" / "node_modules").mkdir()
    assert list(strange(told, [as_pid_1_would(current / "node_modules")], top=str(current)))


def test_what_may_not_be_looked_at_is_no_reason_for_no_walls(root: Path) -> None:
    """A virtual environment of a Python in a closed home, a program that leads there, a closed place in PATH."""
    hidden = root / "victim" / "python"
    for directory in (hidden, hidden / "bin"):
        directory.mkdir()
    (hidden / "bin" / "python").touch(mode=0o755)
    env = own(root / "app" / "env")
    (env / "bin").mkdir()
    (env / "bin" / "python").symlink_to(hidden / "bin" / "python")
    (env / "pyvenv.cfg").write_text(f"home = {hidden}/bin\n")
    assert set(bounds_of(root / "app", command="env/bin/python")) == {"env"}
    (env / "bin" / "python").unlink()
    (env / "bin" / "python").symlink_to("/bin/sh")
    assert set(bounds_of(root / "app", command="env/bin/python")) == {"env"}
    assert set(bounds_of(root / "app", path=f"{hidden}/bin:/bin")) == {"env"}


class Vanished:
    """An entry of a directory that went before it was looked at."""

    path = "/run/gone"

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        """It was one."""
        return not follow_symlinks

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        """It is none now."""
        return Path("/does/not/exist").stat(follow_symlinks=follow_symlinks)


def test_a_place_in_run_that_vanishes_is_no_reason_for_no_walls(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services come and go while prepare looks."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        return contextlib.nullcontext([Vanished()]) if path == "/run" else real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert bounds_of(root / "app") == {}


def test_the_group_of_a_package_is_told_and_not_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's user is in it, and gave node_modules to it; his own group is given."""
    modules = own(root / "app" / "node_modules")
    modules.chmod(0o750)
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, grp.getgrnam("irc").gr_gid])
    app = Credentials.of_user(APP)
    given = {}
    for group in ("games", "irc"):
        os.chown(modules, app.uid, grp.getgrnam(group).gr_gid)
        found = walls("shop", Config(app=AppTable(command=("sleep",), directory=root / "app")), app=app)
        given[group] = ("SupplementaryGroups=" in found.dropins[0].text, found.weaknesses)
    assert given["games"] == (True, ())
    assert given["irc"][0] is False
    assert "not given the group irc" in given["irc"][1][0]
