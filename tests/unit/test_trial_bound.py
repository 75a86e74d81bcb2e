# SPDX-License-Identifier: MIT
"""Whether what PID 1 bound into a trial is what was prepared, whatever was put in its place since."""

from __future__ import annotations

from pathlib import Path

import pytest

from wolverined.errors import SandboxUnavailable
from wolverined.heal.trial import ground
from wolverined.heal.trial.bound import VARIABLE, Bound, decode, encode, strange
from wolverined.linux.mountinfo import Mount

TOP = "/srv/shop"
MODULES = Bound(point=f"{TOP}/node_modules", device="8:1", root=f"{TOP}/node_modules")
VENV = Bound(point=f"{TOP}/env", device="8:1", root=f"{TOP}/env")
NVM = Bound(point="/home/shop/.nvm", device="8:2", root="/shop/.nvm")


def seen(point: str, root: str, *, device: str = "8:1", readonly: bool = True, kind: str = "ext4") -> Mount:
    """One mount of a trial."""
    return Mount(device=device, root=root, point=point, kind=kind, readonly=readonly)


def found(*known: Mount, bounds: tuple[Bound, ...] = (MODULES, VENV, NVM)) -> list[str]:
    """The strange places."""
    return list(strange(bounds, known, top=TOP))


def test_what_was_prepared_is_not_strange() -> None:
    """Itself, not there at all, and what root has mounted below it; other mounts are none of ours."""
    own = [seen(bound.point, bound.root, device=bound.device) for bound in (MODULES, VENV, NVM)]
    assert found(*own) == found() == []
    assert found(*own, seen(f"{TOP}/node_modules/cache", "/", device="8:9"), seen("/usr", "/usr")) == []
    assert found(seen(TOP, "/", readonly=False, kind="tmpfs"), seen(f"{TOP}/a", "/", readonly=False)) == []


@pytest.mark.parametrize(
    "mount",
    [
        seen(f"{TOP}/env", "/home/victim/private"),
        seen(f"{TOP}/env", f"{TOP}/env", device="8:2"),
        seen(f"{TOP}/node_modules", "/home/victim/srv/shop/node_modules"),
        seen("/home/shop/.nvm", "/victim/private", device="8:2"),
        seen("/home/shop/.nvm", "/", device="0:25", kind="tmpfs"),
        seen(f"{TOP}/env", "/home/victim", readonly=False),
        seen(f"{TOP}/other", f"{TOP}/other"),
    ],
)
def test_what_stands_in_another_place_is_strange(mount: Mount) -> None:
    """Any name, inside the directory and outside, another file system with the same path, live sockets."""
    assert found(mount) == [mount.point]


@pytest.mark.parametrize(
    ("root", "right"),
    [
        ("/srv/releases/7/node_modules", True),
        ("/srv/releases/8/node_modules", True),
        ("/srv/releases/8/x/node_modules", False),
        ("/srv/releases/8", False),
        ("/srv/releases/node_modules", False),
        ("/srv/releases//node_modules", False),
        ("/srv/releases2/8/node_modules", False),
        ("/home/victim/node_modules", False),
    ],
)
def test_the_release_beside_it_is_right(root: str, right: bool) -> None:
    """A deploy tool sets its link to the next one; it leads nowhere else."""
    bound = Bound(
        point=f"{TOP}/node_modules", device="8:1", root="/srv/releases/7/node_modules", releases="/srv/releases"
    )
    assert (found(seen(bound.point, root), bounds=(bound,)) == []) is right


def test_a_unit_that_does_not_say_what_was_prepared_tries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another version, or broken: said with what to do."""
    known = [seen(TOP, "/", readonly=False, kind="tmpfs")]
    monkeypatch.setattr(ground, "mounts", lambda: known)
    for text in (None, "", "[", "{}", '[{"point": 1}]'):
        monkeypatch.delenv(VARIABLE, raising=False)
        if text is not None:
            monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(SandboxUnavailable, match="does not say") as told:
            ground.standing(TOP)
        assert "systemctl reload wolverine@NAME" in told.value.hint


def test_a_place_behind_a_link_is_compared_where_it_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PID 1 follows links also to where it mounts; the trial looks there, too, and refuses what is another's."""
    (tmp_path / "real" / "models").mkdir(parents=True)
    (tmp_path / "models").symlink_to("real/models")
    bound = Bound(point=f"{tmp_path}/models", device="8:1", root="/data/models")
    monkeypatch.setenv(VARIABLE, encode((bound, MODULES)))
    known = [seen(TOP, "/", readonly=False, kind="tmpfs"), seen(MODULES.point, MODULES.root)]
    monkeypatch.setattr(ground, "mounts", lambda: [*known, seen(f"{tmp_path}/real/models", "/data/models")])
    assert ground.standing(TOP).bound == ("node_modules",)
    monkeypatch.setattr(ground, "mounts", lambda: [*known, seen(f"{tmp_path}/real/models", "/home/victim")])
    with pytest.raises(SandboxUnavailable, match="real/models is not what it was"):
        ground.standing(TOP)


def test_what_is_said_comes_back() -> None:
    """Without what is not said of it."""
    assert decode(encode((MODULES, NVM))) == (MODULES, NVM)
    assert "releases" not in encode((MODULES,))
