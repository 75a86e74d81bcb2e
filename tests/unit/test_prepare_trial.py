# SPDX-License-Identifier: MIT
"""What the drop-ins of a trial say, and what they never say whatever a path is called."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.errors import WolverineError
from wolverined.heal.trial.bound import Bound, decode
from wolverined.linux.credentials import Credentials
from wolverined.prepare.dependencies import on_the_way
from wolverined.prepare.trial import DYNAMIC_UIDS, Settings, drop_in, impossible, may_have, narrowed, passwd_of, path_in

APP = Credentials(uid=1000, gid=1000, name="shop", home="/home/shop", shell="/bin/bash")
KEYS = {
    "BindReadOnlyPaths",
    "Environment",
    "InaccessiblePaths",
    "MemoryMax",
    "RestrictAddressFamilies",
    "SupplementaryGroups",
    "TemporaryFileSystem",
    "User",
}


def lines_of(**given: object) -> list[str]:
    """The lines of a drop-in of side "wvt-1"."""
    return drop_in(Settings(**{"directory": "/srv/shop", **given}), user="wvt-1").splitlines()  # type: ignore[arg-type]


def test_a_plain_app_gets_an_empty_tree_and_a_user_of_its_own() -> None:
    """What every drop-in has."""
    assert lines_of() == [
        "[Service]",
        "User=wvt-1",
        'TemporaryFileSystem="/srv/shop:mode=0777,size=512M"',
        'Environment="WOLVERINE_TRIAL_BOUND=[]"',
    ]


def test_everything_that_differs_from_app_to_app_is_in_the_drop_in() -> None:
    """Binds inside and outside, an empty home, closed files, groups, memory, datagrams, a user database."""
    told = lines_of(
        inside=("node_modules",),
        outside=("/home/shop/.nvm",),
        empty=("/home/shop",),
        closed=("/srv/shop.env",),
        groups=(1000, 33),
        memory_mb=2048,
        datagrams=True,
        passwd="/run/wolverine-prepared/shop/passwd",
    )
    assert told[3:] == [
        'TemporaryFileSystem="/home/shop:mode=0777,size=64M"',
        'BindReadOnlyPaths=-"/srv/shop/node_modules"',
        'BindReadOnlyPaths=-"/home/shop/.nvm"',
        'BindReadOnlyPaths=-"/run/wolverine-prepared/shop/passwd":/etc/passwd',
        'Environment="WOLVERINE_TRIAL_BOUND=[]"',
        'InaccessiblePaths=-"/srv/shop.env"',
        "SupplementaryGroups=1000 33",
        "MemoryMax=2048M",
        "RestrictAddressFamilies=AF_UNIX",
    ]


def test_directories_on_the_way_to_a_bind_are_empty_trees_too() -> None:
    """PID 1 would make them root's, and the trial could put no source there."""
    told = lines_of(inside=("a/b/node_modules", "node_modules"))
    assert [line for line in told if "size=512M" in line] == [
        'TemporaryFileSystem="/srv/shop:mode=0777,size=512M"',
        'TemporaryFileSystem="/srv/shop/a:mode=0777,size=512M"',
        'TemporaryFileSystem="/srv/shop/a/b:mode=0777,size=512M"',
    ]


def test_no_directory_on_the_way_is_itself_bound() -> None:
    """A bind inside a bind needs no empty tree over the outer one."""
    assert on_the_way(["a", "a/b/c"]) == ("a/b",)


@pytest.mark.parametrize("name", ["a\nUser=root", "a\rb", "a\0b", "\x1b[2J", "a\u2028b", 'a"b', "a'b", "a:b", "a\\b"])
@pytest.mark.parametrize("where", ["directory", "inside", "outside", "empty", "closed"])
def test_a_path_that_no_unit_file_can_hold_is_refused(name: str, where: str) -> None:
    """A line break would begin a directive of somebody's choice; some characters do not survive systemd itself."""
    with pytest.raises(WolverineError):
        lines_of(**{where: f"/srv/{name}" if where == "directory" else (f"/x/{name}" if where != "inside" else name,)})


@given(st.lists(st.text(min_size=1).filter(lambda text: "/" not in text), max_size=4))
def test_a_path_stays_one_value_whatever_is_in_it(names: list[str]) -> None:
    """Only known keys, one for each line; what is quoted comes back as it was, or the whole is refused."""
    try:
        told = lines_of(inside=tuple(names), outside=tuple(f"/opt/{name}" for name in names))
    except WolverineError:
        return
    assert {line.partition("=")[0] for line in told[1:]} <= KEYS
    binds = [line.partition("=")[2] for line in told if line.startswith("BindReadOnlyPaths=")]
    paths = [shlex.split(bind.removeprefix("-"))[0].replace("%%", "%") for bind in binds]
    assert paths == [f"/srv/shop/{name}" for name in names] + [f"/opt/{name}" for name in names]


@pytest.mark.parametrize(
    "directory",
    ["/", "/usr", "/etc", "/home", "/var", "/tmp", "/run", "/var/log/app", "/var/spool/x", "/etc/wolverine/x"],
)
def test_a_directory_that_the_system_needs_or_closes_has_no_trial(directory: str) -> None:
    """An empty tree there would take the system from the trial, or PID 1 opens nothing below it."""
    assert impossible(directory)


@pytest.mark.parametrize("directory", ["/srv/app", "/home/u/app", "/opt/app", "/var/www/app", "/usr/local/app", "/app"])
def test_a_directory_of_its_own_has_a_trial(directory: str) -> None:
    """Wherever people put applications."""
    assert impossible(directory) == ""


@pytest.mark.parametrize(
    ("path", "bound"),
    [
        ("/home/u/.nvm/versions/node/v20", ["/home/u/.nvm"]),
        ("/home/u/.pyenv/shims/python", ["/home/u/.pyenv"]),
        ("/home/u/opt/node", ["/home/u/opt/node"]),
        ("/home/u", ["/home/u/bin", "/home/u/lib"]),
        ("/home/u/.local", ["/home/u/.local/bin", "/home/u/.local/lib"]),
        ("/home", ["/home/bin", "/home/lib"]),
        ("/home/u/app", ["/home/u/app/bin", "/home/u/app/lib"]),
        ("/home/u/app/.venv", ["/home/u/app/.venv"]),
        ("/root/.ssh/../.nvm/x", ["/root/.nvm/x"]),
    ],
)
def test_a_program_brings_its_own_place_never_a_whole_home(path: str, bound: list[str]) -> None:
    """A home holds keys; a version manager may need all of its own tree."""
    assert narrowed(path, home="/home/u", directory="/home/u/app") == bound


@pytest.mark.parametrize(
    ("gid", "name", "has"),
    [
        (990, "shop", True),  # its own
        (1000, "alice", True),
        (59999, "deploy", True),
        (1_400_000_513, "domain users", True),
        (33, "www-data", False),
        (111, "ssl-cert", False),
        (999, "a package's of tomorrow", False),
        (61184, "a dynamic user's", False),
        (65534, "nogroup", False),
        (1001, "docker", False),
        (1002, "incus-admin", False),
        (1003, "wolverine-admin", False),
        (0, "root", False),
    ],
)
def test_a_trial_has_the_apps_own_group_and_those_of_people(gid: int, name: str, has: bool) -> None:
    """No group of a package, known or not: an app's user in one could hand it to every candidate by a chgrp."""
    assert may_have(gid, name, own=990) is has


@pytest.mark.parametrize("name", ["root", "adm", "disk", "shadow", "backup", "libvirt", "systemd-journal", "wolverine"])
def test_no_trial_has_a_powerful_group(name: str) -> None:
    """Not even when it is the app's own."""
    assert not may_have(990, name, own=990)


def test_every_user_that_a_trial_may_be_is_called_as_the_app_is() -> None:
    """Programs that ask who they are get the answer that they get in service; the machine's own entries stay first."""
    told = passwd_of(b"root:x:0:0:root:/root:/bin/bash", APP).decode().splitlines()
    assert told[0] == "root:x:0:0:root:/root:/bin/bash"
    assert told[1] == "shop:x:61184:61184::/home/shop:/bin/bash"
    assert len(told) == 1 + len(DYNAMIC_UIDS)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"", ""),
        (b"A=1\nPATH=/a:/b\n", "/a:/b"),
        (b"export PATH='/a'\n", "/a"),
        (b'PATH=/a\nPATH="/b"\r\n', "/b"),
        (b"MY_PATH=/a\n#PATH=/b\n", ""),
        (b"PATH=\xff\n", "\ufffd"),
    ],
)
def test_the_path_of_an_environment_file_finds_interpreters(data: bytes, path: str) -> None:
    """Only where programs are looked for is read of it; a wrong guess binds nothing that is not there."""
    assert path_in(data) == path


def test_where_everything_lay_is_said_as_it_is() -> None:
    """Quotes, percent signs and other scripts come back whole; a unit has no room for endless ones."""
    bound = Bound(point="/srv/shop/100% é", device="8:1", root='/data/"x" \\ %i')
    (line,) = (line for line in lines_of(bounds=(bound,)) if line.startswith("Environment="))
    (word,) = shlex.split(line.partition("=")[2])
    assert decode(word.replace("%%", "%").partition("=")[2]) == (bound,)
    with pytest.raises(WolverineError, match="too many"):
        lines_of(bounds=tuple(Bound(point=f"/{number}", device="8:1", root="/x" * 1000) for number in range(64)))
