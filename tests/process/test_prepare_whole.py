# SPDX-License-Identifier: MIT
"""All of `prepare`, on directories of a test, with everything written as if by an enemy who wants root."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import IS_ROOT, public_tmp

from wolverined.config import facts
from wolverined.config.facts import Facts
from wolverined.config.load import load
from wolverined.errors import SpawnError, WolverineError
from wolverined.prepare import __main__ as command
from wolverined.prepare import look
from wolverined.prepare import prepare as room
from wolverined.prepare.__main__ import main
from wolverined.prepare.prepare import Places, forget, prepare

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="needs root, as prepare does")

APP, OTHER, OWN, SPOOL = "games", "mail", "daemon", "news"
"""Users and a group of every Debian that run nothing: the app's, a stranger, and in place of wolverine's own."""

KEY = "sk-test-5f0d8a61c2"


class World:
    """A root of its own for one test: configurations, an app, and what prepare leaves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reloads = 0
        self.etc, self.app = root / "etc", root / "srv" / "shop"
        for path in (self.etc, self.etc / "ai", root / "prepared", root / "spool", root / "units", root / "srv"):
            path.mkdir()
        (self.etc / "ai").chmod(0o700)
        self.own(self.app)
        self.file(self.app / "server", "#!/bin/sh\n", mode=0o755)
        self.places = Places(
            etc=self.etc,
            prepared=root / "prepared",
            spool=root / "spool",
            units=root / "units",
            reload=self._reload,
            own=OWN,
            spool_group=SPOOL,
        )
        self.config()

    def _reload(self) -> None:
        self.reloads += 1

    def own(self, path: Path, user: str = APP, mode: int = 0o750) -> Path:
        """A directory of that user's."""
        path.mkdir()
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        path.chmod(mode)
        return path

    def file(self, path: Path, text: str, user: str = APP, mode: int = 0o640) -> Path:
        """A file of that user's."""
        path.write_text(text)
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        path.chmod(mode)
        return path

    def config(self, more: str = "", *, name: str = "shop", directory: Path | None = None) -> Path:
        """Write a configuration; `more` begins in [app]."""
        path = self.etc / f"{name}.toml"
        path.write_text(f'[app]\ncommand = ["./server"]\ndirectory = "{directory or self.app}"\n{more}')
        path.chmod(0o644)
        return path

    def key(self, text: str, *, name: str = "shop", mode: int = 0o600) -> Path:
        """Write the file of an AI endpoint."""
        return self.file(self.etc / "ai" / f"{name}.toml", text, "root", mode)

    def prepare(self, name: str = "shop") -> Facts:
        """Prepare; what is returned is what can be read."""
        told = prepare(name, self.places)
        assert facts.read(name, prepared=self.places.prepared) == told
        return told

    def dropin(self, name: str = "shop") -> str:
        """The text of the adviser's drop-in."""
        return (self.places.units / f"wolverine-adviser@{name}.service.d" / "50-wolverine.conf").read_text()

    def tree(self) -> dict[str, str]:
        """Every drop-in."""
        return {str(file): file.read_text() for file in self.places.units.rglob("*") if file.is_file()}

    @property
    def copy(self) -> Path:
        """Where the copy of the environment file lies."""
        return self.places.prepared / "shop" / "environment"


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh world."""
    with public_tmp() as root:
        yield World(root)


def test_a_plain_application_is_prepared(world: World) -> None:
    """Users are found, the spool is made, the supervisor can load the configuration with the facts."""
    told = world.prepare()
    assert (told.refused, told.user, told.apply_as, told.directory_owner) == ("", APP, APP, APP)
    assert (told.ai, told.ai_base_url, told.ai_file, told.environment) == (False, "", "", "")
    spool = (world.places.spool / "shop").stat()
    assert (stat.S_IMODE(spool.st_mode), spool.st_uid) == (0o2770, pwd.getpwnam(OWN).pw_uid)
    assert spool.st_gid == grp.getgrnam(SPOOL).gr_gid
    made = (world.places.prepared / "shop").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_uid, made.st_gid) == (0o750, 0, pwd.getpwnam(OWN).pw_gid)
    assert load(world.etc / "shop.toml", facts=told).config.app.user == APP


# -- the configuration


def test_a_directory_for_facts_that_somebody_removed_is_made_anew(world: World) -> None:
    """Else no application would start until the next boot; strangers may pass through it as before."""
    world.places.prepared.rmdir()
    assert world.prepare().refused == ""
    found = world.places.prepared.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o755, 0, 0)


def test_every_problem_is_told_at_once_and_nothing_else_is_touched(world: World) -> None:
    """What was prepared for the configuration in force stays, for it may still be in force."""
    world.file(world.app / "env", "A=1\n")
    world.config(f'environment_file = "{world.app}/env"\n')
    world.prepare()
    world.config(f'port = 80\nenvironment_file = "{world.app}/none"\n[heal]\nmax_lines = 0\nnonsense = 1\n')
    told = world.prepare()
    for word in ("shop.toml:4", "shop.toml:5", "shop.toml:7", "shop.toml:8", "4 problems", "hint:"):
        assert word in told.refused
    assert world.copy.read_text() == "A=1\n"


@pytest.mark.parametrize("how", ["missing", "no toml", "not utf-8", "huge", "a pipe", "a directory", "a circle"])
def test_whatever_lies_there_in_place_of_a_configuration_is_told(world: World, how: str) -> None:
    """Without waiting, and without reading more than a bound."""
    file = world.etc / "shop.toml"
    file.unlink()
    if how == "no toml":
        file.write_text("[app\n")
    elif how == "not utf-8":
        file.write_bytes(b"[app]\n\xff")
    elif how == "huge":
        with file.open("wb") as big:
            big.truncate(1 << 40)
    elif how == "a pipe":
        os.mkfifo(file, 0o644)
    elif how == "a directory":
        file.mkdir()
    elif how == "a circle":
        file.symlink_to(file)
    assert str(file) in world.prepare().refused


def test_a_configuration_that_others_may_write_is_refused(world: World) -> None:
    """Whoever writes it decides as whom programs run."""
    file = world.config()
    file.chmod(0o664)
    os.chown(file, 0, grp.getgrnam(SPOOL).gr_gid)
    assert "chmod go-w" in world.prepare().refused
    os.chown(file, pwd.getpwnam(APP).pw_uid, 0)
    file.chmod(0o644)
    assert "chown root" in world.prepare().refused


def test_a_configuration_in_the_applications_own_directory_is_refused(world: World) -> None:
    """A link to where somebody else writes is no way around that."""
    file = world.config()
    own = world.file(world.app / "wolverine.toml", file.read_text(), "root", 0o644)
    file.unlink()
    file.symlink_to(own)
    assert "others than root" in world.prepare().refused


# -- whose it is


def test_root_is_nobodys_default(world: World) -> None:
    """An app in a directory of root's needs a user."""
    os.chown(world.app, 0, 0)
    assert "belongs to root" in world.prepare().refused


def test_the_supervisors_own_user_runs_no_application(world: World) -> None:
    """Nor writes files: neither by name nor by being in its group."""
    os.chown(world.app, pwd.getpwnam(OWN).pw_uid, 0)
    told = world.prepare()
    assert "wolverined's alone" in told.refused
    os.chown(world.app, pwd.getpwnam(APP).pw_uid, 0)
    world.config(f'[heal]\napply_as = "{OWN}"\n')
    assert "heal.apply_as" in world.prepare().refused


def test_a_stranger_cannot_choose_by_a_link_as_whom_the_application_runs(world: World) -> None:
    """The owner of the link's directory could name anybody's."""
    victim = world.own(world.root / "srv" / "victim", OTHER)
    world.file(victim / "server", "#!/bin/sh\n", OTHER, 0o755)
    home = world.own(world.root / "home", APP, 0o755)
    (home / "app").symlink_to(victim)
    world.config(directory=home / "app")
    told = world.prepare()
    assert f"belongs to {OTHER}, but {APP} can put another" in told.refused
    assert f'write user = "{OTHER}"' in told.refused


def test_a_stranger_cannot_choose_as_whom_repairs_are_written(world: World) -> None:
    """A source directory that was swapped for a link to somebody else's."""
    victim = world.own(world.root / "srv" / "victim", OTHER, 0o755)
    (world.app / "src").symlink_to(victim)
    world.config('[heal]\nsource = "src"\n')
    assert f'write apply_as = "{OTHER}"' in world.prepare().refused
    world.config(f'[heal]\nsource = "src"\napply_as = "{OTHER}"\n')
    assert world.prepare().apply_as == OTHER


def test_the_usual_link_of_a_deploy_tool_is_fine(world: World) -> None:
    """`current` and what it leads to belong to the same user."""
    home = world.own(world.root / "deploy", APP, 0o755)
    world.own(home / "releases", APP)
    world.own(home / "releases" / "7", APP)
    world.file(home / "releases" / "7" / "server", "#!/bin/sh\n", mode=0o755)
    (home / "current").symlink_to("releases/7")
    world.config(directory=home / "current")
    told = world.prepare()
    assert (told.refused, told.user) == ("", APP)


def test_a_directory_that_the_apps_user_cannot_enter_is_told(world: World) -> None:
    """Before the app is started there in vain."""
    world.config(f'user = "{OTHER}"\n')
    told = world.prepare()
    assert f"cannot be entered by {OTHER}" in told.refused
    assert f"let {OTHER} enter it" in told.refused


def test_a_program_that_only_root_sees_is_not_found(world: World) -> None:
    """The command is looked for with the rights of the app's user."""
    hidden = world.own(world.root / "hidden", "root", 0o700)
    world.file(hidden / "server", "#!/bin/sh\n", "root", 0o755)
    path = world.config()
    path.write_text(path.read_text().replace("./server", str(hidden / "server")))
    assert "not found or not executable" in world.prepare().refused


def test_a_program_that_the_apps_user_may_not_execute_is_not_found(world: World) -> None:
    """Root may execute what anybody may; the question is whether the app's user may."""
    world.file(world.app / "server", "#!/bin/sh\n", "root", 0o744)
    assert "not found or not executable" in world.prepare().refused


def test_a_program_is_looked_for_in_the_path_of_the_environment_file(world: World) -> None:
    """A version manager's PATH is often written there; the app is started with it. [app.environment] comes first."""
    world.own(world.app / "bin")
    world.file(world.app / "bin" / "serve", "#!/bin/sh\n", mode=0o755)
    world.file(world.app / "env", f"PATH='{world.app}/bin:/usr/bin'\n")
    path = world.config(f'environment_file = "{world.app}/env"\n')
    path.write_text(path.read_text().replace("./server", "serve"))
    assert world.prepare().refused == ""
    path.write_text(path.read_text() + '[app.environment]\nPATH = "/usr/bin"\n')
    assert "not found or not executable" in world.prepare().refused


# -- the environment file


def test_roots_own_environment_file_is_copied_for_the_supervisor(world: World) -> None:
    """0600 of root's is enough."""
    world.file(world.etc / "shop.env", "TOKEN=abc\n", "root", 0o600)
    world.config('environment_file = "shop.env"\n')
    told = world.prepare()
    assert told.environment == str(world.copy)
    assert world.copy.read_text() == "TOKEN=abc\n"
    found = world.copy.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 0, pwd.getpwnam(OWN).pw_gid)


def test_a_copy_goes_when_the_configuration_no_longer_asks_for_it(world: World) -> None:
    """No secret lies about longer than it is used."""
    world.file(world.app / "env", "A=1\n")
    world.config(f'environment_file = "{world.app}/env"\n')
    world.prepare()
    world.config()
    assert world.prepare().environment == ""
    assert not world.copy.exists()


@pytest.mark.parametrize("how", ["link", "relative link", "link above", "pipe", "device", "huge", "directory"])
def test_an_environment_file_of_the_apps_is_read_with_the_apps_rights(world: World, how: str) -> None:
    """Whatever its owner puts there, no file of root's is copied, and nothing waits."""
    shadow = world.file(world.root / "shadow", "ROOTS=secret\n", "root", 0o600)
    env = world.app / "env"
    if how == "link":
        env.symlink_to(shadow)
    elif how == "relative link":
        env.symlink_to("../../shadow")
    elif how == "link above":
        (world.app / "dir").symlink_to(world.root)
        env = world.app / "dir" / "shadow"
    elif how == "pipe":
        os.mkfifo(env, 0o666)
    elif how == "device":
        env.symlink_to("/dev/zero")
    elif how == "huge":
        with env.open("wb") as big:
            big.truncate(1 << 40)
    else:
        env.mkdir()
    world.config(f'environment_file = "{env}"\n')
    assert "app.environment_file" in world.prepare().refused or str(env) in world.prepare().refused
    assert not world.copy.exists()


def test_a_reload_gives_the_app_of_one_user_nothing_of_another_s(world: World) -> None:
    """The supervisor that runs takes no other user: so nothing is laid down for him, until it is started again."""
    theirs = world.own(world.root / "srv" / "other", OTHER, 0o755)
    world.file(theirs / "server", "#!/bin/sh\n", OTHER, 0o755)
    world.file(theirs / "env", "TOKEN=theirs\n", OTHER)
    world.file(world.app / "env", "TOKEN=ours\n")
    world.config(f'environment_file = "{world.app}/env"\n')
    world.prepare()
    walls = world.tree()
    world.config(f'environment_file = "{theirs}/env"\n', directory=theirs)
    for _ in range(2):
        told = prepare("shop", world.places, starts=False)
        assert f"app.user is now '{OTHER}', and '{APP}' is in force" in told.refused
        assert world.copy.read_text() == "TOKEN=ours\n"
        assert world.tree() == walls
    world.config(f'nonsense = 1\nenvironment_file = "{theirs}/env"\n', directory=theirs)
    assert "nonsense" in prepare("shop", world.places, starts=False).refused
    world.config(f'environment_file = "{theirs}/env"\n', directory=theirs)
    assert "is in force" in prepare("shop", world.places, starts=False).refused
    world.config(f'environment_file = "{world.app}/env"\n')
    told = prepare("shop", world.places, starts=False)
    assert (told.refused, told.user) == ("", APP)
    world.config(f'environment_file = "{theirs}/env"\n', directory=theirs)
    assert world.prepare().user == OTHER
    assert world.copy.read_text() == "TOKEN=theirs\n"


@pytest.mark.parametrize(
    ("said", "starts"),
    [
        ({"SYSTEMD_EXEC_PID": "ours"}, True),
        ({"SYSTEMD_EXEC_PID": "ours", "MAINPID": "4711"}, False),
        ({"SYSTEMD_EXEC_PID": "1"}, False),
        ({}, False),
    ],
)
def test_only_before_a_start_another_user_is_prepared(
    world: World, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], starts: bool
) -> None:
    """Not by ExecReload=, nor by hand or by an upgrade, below whatever unit that runs."""
    theirs = world.own(world.root / "srv" / "other", OTHER, 0o755)
    world.file(theirs / "server", "#!/bin/sh\n", OTHER, 0o755)
    world.prepare()
    world.config(directory=theirs)
    for name in ("SYSTEMD_EXEC_PID", "MAINPID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, str(os.getpid()) if value == "ours" else value)
    assert main(["shop"], places=world.places) == 0
    told = facts.read("shop", prepared=world.places.prepared)
    assert (told.refused == "", told.user) == (starts, OTHER if starts else APP)


# -- the adviser


def test_a_key_is_given_to_the_adviser_and_told_without_itself(world: World) -> None:
    """The facts say that there is one and where source goes; the drop-in names the file."""
    file = world.key(f'key = "{KEY}"\nbase_url = "https://ai.example/v1"\n')
    told = world.prepare()
    assert (told.ai, told.ai_base_url, told.ai_file) == (True, "https://ai.example/v1", str(file))
    assert f"LoadCredential=ai:{file}\n" in world.dropin()
    left = "".join(path.read_text() for path in world.root.rglob("*") if path.is_file() and path != file)
    assert KEY not in left


def test_one_file_serves_all_applications_but_those_with_their_own(world: World) -> None:
    """An own file without a key means: no model for this one."""
    world.key(f'key = "{KEY}"\n', name="default")
    assert world.prepare().ai_file.endswith("default.toml")
    world.key("# none\n")
    told = world.prepare()
    assert not told.ai
    assert "LoadCredential" not in world.dropin()


@pytest.mark.parametrize(
    ("text", "said"),
    [(f"key = {KEY}", "shop.toml:1"), (f'key = "{KEY}"\nmodel = "x"', "shop.toml:2"), ("#" * 70_000, "64 KiB")],
)
def test_a_wrong_ai_file_weakens_heals_and_stops_no_app(world: World, text: str, said: str) -> None:
    """File, line and what to write; never the key."""
    world.key(text)
    told = world.prepare()
    assert told.refused == ""
    assert not told.ai
    assert any("no model is asked" in weakness and said in weakness for weakness in told.weaknesses)
    assert KEY not in repr(told)


def test_an_ai_file_that_others_may_read_or_write_is_told(world: World) -> None:
    """Readable: it is used, and the mode to give is said. Writable: it is not used."""
    world.key(f'key = "{KEY}"', mode=0o644)
    assert any("chmod 600" in weakness for weakness in world.prepare().weaknesses)
    world.key(f'key = "{KEY}"', mode=0o622)
    told = world.prepare()
    assert not told.ai
    assert any("is not used" in weakness for weakness in told.weaknesses)


def test_keys_of_the_configuration_without_effect_are_told(world: World) -> None:
    """[ai] base_url, models and prices belong to root's file under systemd; the budget stays."""
    world.config('[ai]\nbase_url = "https://x.example/v1"\nmodels = {fast = "m"}\nbudget = {usd_per_day = 1.0}\n')
    weak = [line for line in world.prepare().weaknesses if "no effect under systemd" in line]
    assert [line.split()[1] for line in weak] == ["base_url", "models"]
    assert all("/etc/wolverine/ai/shop.toml" in line for line in weak)


# -- PID 1


def test_pid_1_is_told_only_of_changes(world: World) -> None:
    """A second start writes no drop-in and reloads nothing; a new key does."""
    world.prepare()
    assert world.reloads == 1
    world.prepare()
    assert world.reloads == 1
    world.key(f'key = "{KEY}"')
    world.prepare()
    assert world.reloads == 2


def test_whoever_was_killed_before_the_reload_is_made_up_for(world: World) -> None:
    """Drop-ins that PID 1 may not know yet are told at the next start."""
    world.prepare()
    (world.places.prepared / "shop" / "walls").unlink()
    world.prepare()
    assert world.reloads == 2


def test_a_reload_that_fails_weakens_heals_and_stops_no_app(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is tried again at the next start."""

    def fails() -> None:
        raise WolverineError("PID 1 says no")

    broken = Places(**{**{key: getattr(world.places, key) for key in world.places.__struct_fields__}, "reload": fails})
    told = prepare("shop", broken)
    assert told.refused == ""
    assert "PID 1 says no" in told.trial
    assert any("daemon-reload" in weakness for weakness in told.weaknesses)
    assert "PID 1 says no" not in world.prepare().trial
    assert world.reloads == 1


def test_five_instances_that_start_at_once_do_not_disturb_each_other(world: World) -> None:
    """Each has its facts and its drop-in; PID 1 reads units at least once after the last was written."""
    names = [f"shop{number}" for number in range(5)]
    for name in names:
        world.config(name=name)
        world.key(f'key = "{KEY}-{name}"', name=name)
    failed: list[BaseException] = []

    def one(name: str) -> None:
        # Processes in earnest, since as_user changes the ids of one: here each is.
        done = subprocess.run(
            [sys.executable, "-c", _ONE, str(world.root), name, OWN, SPOOL], capture_output=True, text=True, check=False
        )
        if done.returncode:
            failed.append(AssertionError(done.stderr))

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for name in names:
        assert facts.read(name, prepared=world.places.prepared).ai
        assert f"ai/{name}.toml" in world.dropin(name)
    reloads = (world.root / "reloads").read_text().splitlines()
    assert 1 <= len(reloads) <= 5
    assert reloads[-1] == "5"


_ONE = """
import sys
from pathlib import Path
from wolverined.prepare.prepare import Places, prepare
root = Path(sys.argv[1])
def reload():
    with (root / "reloads").open("a") as file:
        file.write(f"{len(list((root / 'units').glob('wolverine-adviser@*/*.conf')))}\\n")
prepare(sys.argv[2], Places(etc=root / "etc", prepared=root / "prepared", spool=root / "spool",
                            units=root / "units", reload=reload, own=sys.argv[3], spool_group=sys.argv[4]))
"""


def test_everything_of_an_application_can_be_forgotten(world: World) -> None:
    """Facts, copy and drop-ins go; a spool with something in it stays; other apps are left alone."""
    world.config(name="other")
    world.prepare()
    world.prepare("other")
    (world.places.spool / "shop" / "waiting").write_text("x")
    forget("shop", world.places)
    assert not (world.places.prepared / "shop").exists()
    assert not list(world.places.units.glob("*@shop*"))
    assert (world.places.spool / "shop" / "waiting").exists()
    assert facts.read("other", prepared=world.places.prepared).user == APP
    forget("other", world.places)
    assert not (world.places.spool / "other").exists()
    forget("other", world.places)


# -- places


def test_links_where_our_directories_should_be_are_not_followed(world: World) -> None:
    """A spool that somebody replaced is a weakness; what it leads to is untouched."""
    victim = world.own(world.root / "victim", "root", 0o700)
    (world.places.spool / "shop").symlink_to(victim)
    assert any("heartbeats" in weakness for weakness in world.prepare().weaknesses)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o700


def test_a_spool_with_wrong_owner_and_mode_is_mended(world: World) -> None:
    """Also one of an earlier version."""
    world.own(world.places.spool / "shop", OTHER, 0o755)
    assert world.prepare().refused == ""
    found = (world.places.spool / "shop").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o2770, pwd.getpwnam(OWN).pw_uid)


# -- the command


def test_the_command_ends_well_also_when_the_configuration_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon says 78, which PID 1 does not answer with another start; the journal has each line as an error."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    world.config("port = 80\n")
    assert main(["shop"], places=world.places) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("<3>") for line in lines)


class Trouble:
    """What is done to the machine: calls that fail, and rests that are noted instead of taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rests: list[float] = []
        self._patch = monkeypatch
        monkeypatch.setattr(command.time, "sleep", self.rests.append)
        monkeypatch.delenv("MAINPID", raising=False)

    def make(self, place: object, name: str, error: BaseException) -> None:
        """Have a call fail."""

        def broken(*_: object, **__: object) -> None:
            raise error

        self._patch.setattr(place, name, broken)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """A machine about to have trouble."""
    return Trouble(monkeypatch)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/run/x"),
            "/run/x: No space left on device; hint: make",
        ),
        (MemoryError(), "MemoryError"),
        (RuntimeError("a bug"), "RuntimeError: a bug"),
        (
            SpawnError("there is no user 'wolverine'", hint="systemd-sysusers"),
            "hint: systemd-sysusers; it is tried",
        ),
    ],
)
def test_what_may_pass_is_no_word_about_the_configuration(
    world: World, trouble: Trouble, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    """It fails after a rest, and without 78, so that PID 1 tries again; the facts that are there refuse nothing."""
    before = world.prepare()
    trouble.make(room, "_spool", error)
    assert main(["shop"], places=world.places) not in {0, 78}
    assert trouble.rests == [1.0]
    said = capsys.readouterr().err
    assert "shop could not be prepared" in said
    assert words in said
    assert facts.read("shop", prepared=world.places.prepared) == before


def test_without_room_for_facts_the_start_is_tried_again(world: World, trouble: Trouble) -> None:
    """A first start in a full /run: there are no facts, and that is not what the supervisor ends with."""
    trouble.make(facts, "write", OSError(errno.ENOSPC, "No space left on device"))
    assert main(["shop"], places=world.places) not in {0, 78}
    assert trouble.rests == [1.0]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ETIMEDOUT])
def test_a_disk_or_a_file_server_that_does_not_answer_refuses_nothing(world: World, number: int) -> None:
    """The directory, the environment file or the configuration itself cannot be seen now; in a moment they may be."""
    world.file(world.app / "env", "A=1\n")
    world.config(f'environment_file = "{world.app}/env"\n')
    for place, call in ((look, "way_to"), (look, "read_bounded"), (look, "read_of_root")):
        with pytest.MonkeyPatch.context() as patch:
            Trouble(patch).make(place, call, OSError(number, os.strerror(number)))
            with pytest.raises(OSError, match=os.strerror(number)):
                prepare("shop", world.places)
    assert not (world.places.prepared / "shop" / "facts.json").exists()


def test_a_reload_that_cannot_be_prepared_fails_at_once(
    world: World, trouble: Trouble, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody waits for it, and nobody tries it again; the old configuration stays, and the words say so."""
    before = world.prepare()
    monkeypatch.setenv("MAINPID", "4711")
    trouble.make(room, "_spool", OSError(errno.EIO, "Input/output error"))
    assert main(["shop"], places=world.places) != 0
    assert trouble.rests == []
    assert "the old configuration stays" in capsys.readouterr().err
    assert facts.read("shop", prepared=world.places.prepared) == before


@pytest.mark.parametrize("words", [[], ["../x"], ["a/b"], ["a", "b"], ["--remove"], ["-x"], ["a\n"], ["a%i"], [""]])
def test_what_is_no_name_is_refused(world: World, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A name becomes part of paths and units."""
    with contextlib.suppress(SystemExit):
        assert main(words, places=world.places) != 0
    assert "error: " in capsys.readouterr().err
    assert list(world.places.prepared.iterdir()) == []


def test_a_unit_for_what_is_no_name_is_not_started_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """PID 1 answers a preparation that failed with another start; so the daemon, which ends with 78, has the word."""
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    assert main(["my:app"], places=world.places) == 0
    assert list(world.places.prepared.iterdir()) == []


def test_no_application_is_called_as_the_file_of_all_is(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ai/default.toml would be its own, and everybody's; under systemd the daemon has the word, as with any name."""
    world.config(name="default")
    assert main(["default"], places=world.places) == 2
    assert "ai/default.toml is for all" in capsys.readouterr().err
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    assert main(["default"], places=world.places) == 0
    assert list(world.places.prepared.iterdir()) == []
    assert main(["--remove", "default"], places=world.places) == 0


def test_the_command_forgets(world: World) -> None:
    """As the package does when an application is purged."""
    assert main(["shop"], places=world.places) == 0
    assert main(["--remove", "shop"], places=world.places) == 0
    assert not (world.places.prepared / "shop").exists()
