# SPDX-License-Identifier: MIT
"""A real surgeon reads a whole directory for a trial that cannot see it."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.places import IS_ROOT, public_tmp, unused_user
from support.surgeons import plant, surgeon
from support.trials import in_loop

from wolverined.config.schema import AppTable, Config
from wolverined.errors import SandboxUnavailable, SurgeryAborted
from wolverined.heal import whole
from wolverined.heal.cargo import kept_back, read_whole
from wolverined.heal.job import Job, Task
from wolverined.heal.surgeon import pack
from wolverined.heal.surgeon.steps import PackArgs
from wolverined.heal.surgeon.tree import Tree
from wolverined.heal.whole import Kind, Whole

SECRET = b"API_KEY=sk-real-4711-Zq8\n"
FAKE = b"API_KEY=xx-xxxx-0000-Xx0\n"


def files_of(found: Whole) -> dict[str, bytes]:
    """Path -> content of the files."""
    paths = [entry.path for entry in found.entries if entry.kind is Kind.FILE]
    return dict(zip(paths, found.contents, strict=True))


async def packed(root: Path, *, setup: Callable[[], None] = lambda: None, **given: Any) -> Whole:
    """What a fresh surgeon gives."""
    async with surgeon(root, setup=setup) as client:
        await client.open()
        return await client.pack(**{"without": (), **given})


@in_loop
async def test_everything_travels_but_dependencies_caches_and_logs(tmp_path: Path) -> None:
    """Binary assets, denied files, small databases, empty directories, links and modes."""
    kept = {
        "server.js": b"1",
        "public/a.png": b"\0\1",
        "package-lock.json": b"{}",
        "test/a.test.js": b"2",
        "d/a.db": b"3",
    }
    gone = {"node_modules/x/i.js": b"", ".git/HEAD": b"", "logs/a.log": b"", "py/pyvenv.cfg": b"", ".cache/x": b""}
    plant(tmp_path, {**kept, **gone})
    (tmp_path / "empty").mkdir(mode=0o750)
    (tmp_path / "run.sh").write_bytes(b"x")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    found = await packed(tmp_path)
    assert files_of(found) == {**kept, "run.sh": b"x"}
    entries = {entry.path: entry for entry in found.entries}
    assert entries["run.sh"].mode == 0o755
    assert (entries["link"].kind, entries["link"].target) == (Kind.LINK, "/etc")
    assert entries["empty"].kind is Kind.DIRECTORY
    assert "logs" in entries
    assert set(found.absent) == {"node_modules", "py"}


@in_loop
async def test_settings_arrive_with_fakes(tmp_path: Path) -> None:
    """At the top, below, by a link, linked to, and the one that the configuration names."""
    inside = {".env": SECRET, "api/.env.local": SECRET, "shared/settings": SECRET, "my.conf": SECRET, "a.js": SECRET}
    plant(tmp_path, inside)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".env").symlink_to("../shared/settings")
    found = await packed(tmp_path, fakes=("my.conf",))
    told = files_of(found)
    assert told.pop("a.js") == SECRET
    assert told == dict.fromkeys((".env", "api/.env.local", "linked/.env", "my.conf", "shared/settings"), FAKE)


@in_loop
async def test_what_the_trial_has_or_must_not_have_stays(tmp_path: Path) -> None:
    """Bound directories at any depth are no loss; neither is what is kept back."""
    plant(tmp_path, {"node_modules/x": b"", "a/node_modules/x": b"", "state/db": b"", "b": b"B"})
    found = await packed(tmp_path, without=("node_modules", "a/node_modules", "state"))
    assert files_of(found) == {"b": b"B"}
    assert found.absent == {}


@in_loop
async def test_what_is_too_big_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file, or data of many; the rest travels."""
    monkeypatch.setattr(whole, "MAX_FILE", 100)
    monkeypatch.setattr(whole, "MAX_DATA", 10)
    plant(tmp_path, {"a.bin": bytes(101), "b.bin": bytes(100), "c.db": bytes(8), "d.db": bytes(8)})
    found = await packed(tmp_path)
    assert set(files_of(found)) == {"b.bin", "c.db"}
    assert set(found.absent) == {"a.bin", "d.db"}


@pytest.mark.parametrize("limit", ["MAX_TOTAL", "MAX_ENTRIES"])
@in_loop
async def test_a_source_that_is_too_much_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """By bytes or by number; the words name the key that helps."""
    monkeypatch.setattr(whole, limit, 3)
    plant(tmp_path, {f"f{number}": b"xx" for number in range(6)})
    with pytest.raises(SurgeryAborted, match="too much to be copied") as told:
        await packed(tmp_path)
    assert "heal.trial.read_only" in told.value.hint


def test_a_directory_without_end_is_left_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not listed to its end first, which would take the memory of as many names."""
    plant(tmp_path, {f"f{number}": b"" for number in range(30)})
    monkeypatch.setattr(pack, "MAX_WALKED", 10)
    looked: list[str] = []
    real = os.scandir

    @contextlib.contextmanager
    def scandir(fd: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        with real(fd) as found:
            yield (entry for entry in found if not looked.append(entry.name))  # type: ignore[func-returns-value]

    monkeypatch.setattr(os, "scandir", scandir)
    with Tree(str(tmp_path)) as tree, pytest.raises(SurgeryAborted, match="more than 10 entries"):
        pack.Pack(tree, PackArgs())
    assert len(looked) == 11


@in_loop
async def test_many_batches_make_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or doubled where a message ends."""
    monkeypatch.setattr(whole, "BATCH_BYTES", 10)
    monkeypatch.setattr(whole, "BATCH_ENTRIES", 3)
    files = {f"d{number % 3}/f{number}": bytes([number]) * number for number in range(20)}
    plant(tmp_path, files)
    assert files_of(await packed(tmp_path)) == files


@pytest.mark.skipif(not IS_ROOT, reason="needs root to be somebody else")
@in_loop
async def test_what_its_owner_cannot_read_is_named() -> None:
    """Files that the app wrote as another user."""
    user = unused_user()

    def become() -> None:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)

    with public_tmp() as root:
        plant(root, {"a": b"A", "uploads/b": b"", "c": b""})
        (root / "uploads").chmod(0o700)
        (root / "c").chmod(0o600)
        found = await packed(root, setup=become)
    assert files_of(found) == {"a": b"A"}
    assert set(found.absent) == {"uploads", "c"}


@pytest.mark.skipif(not IS_ROOT, reason="needs root to read what others cannot")
@in_loop
async def test_what_the_app_cannot_read_is_no_trials_to_read() -> None:
    """The owner of the source reads more than the app: files of its own, in closed directories, behind links."""
    app = pwd.getpwnam("games")
    with public_tmp() as root:
        names = ("open", "mine", "group", "shut", "closed/in", "listed/in", "shared/in", "a/.env", "real")
        plant(root, dict.fromkeys(names, SECRET))
        (root / ".env").symlink_to("real")
        for name, uid, gid, mode in (
            ("mine", app.pw_uid, 0, 0o400),
            ("group", 0, app.pw_gid, 0o640),
            ("shut", 0, 0, 0o640),
            ("closed", 0, 0, 0o750),
            ("shared", 0, app.pw_gid, 0o750),
            ("a/.env", 0, 0, 0o600),
            ("real", 0, 0, 0o600),
        ):
            os.chown(root / name, uid, gid)
            (root / name).chmod(mode)
        found = await packed(root, reader="games")
        assert set(files_of(found)) == {"open", "mine", "group", "shared/in", "listed/in"}
        assert set(found.absent) == {"shut", "closed", "a/.env", "real", ".env"}
        assert found.absent["shut"] == "not for games to read, as whom the app runs"
        assert set(files_of(await packed(root, reader="root"))) == {*names, ".env"}
        with pytest.raises(SurgeryAborted, match="no user 'nobody-of-that-name'"):
            await packed(root, reader="nobody-of-that-name")


def job(root: Path, **given: Any) -> Job:
    """A heal of an app in that directory."""
    app = AppTable(command=("node",), directory=root, environment_file=root / "conf" / "app.settings")
    return Job(task=Task.HEAL, name="app", state_dir="/x", config=Config(app=app), **given)


def test_homes_and_hidden_directories_are_kept_back(tmp_path: Path) -> None:
    """An app may live in a home that holds keys, and our own state may lie beside it; also behind a link."""
    real = tmp_path / "real"
    asked = job(tmp_path / "link", environment={"HOME": str(real)}, hide=(f"{tmp_path}/link/state", "/elsewhere"))
    kept = kept_back(asked, root=str(real))
    assert {"state", ".ssh", ".aws"} <= set(kept.without)
    assert not any(path.startswith("/") for path in kept.without)
    assert kept.fakes == ("conf/app.settings",)


@in_loop
async def test_a_directory_that_cannot_be_packed_makes_it_unprovable(tmp_path: Path) -> None:
    """Not the patch's fault, and not the end of the heal."""
    async with surgeon(tmp_path) as client:
        with pytest.raises(SandboxUnavailable, match="no source root"):
            await read_whole(client, job(tmp_path / "none"), ())
        plant(tmp_path, {"conf/app.settings": SECRET})
        assert files_of(await read_whole(client, job(tmp_path), ())) == {"conf/app.settings": FAKE}


@pytest.mark.skipif(not IS_ROOT, reason="needs root to read what others cannot")
@in_loop
async def test_the_apps_user_is_the_one_of_the_configuration() -> None:
    """Which a heal hands on; the surgeon here is another."""
    with public_tmp() as root:
        plant(root, {"shut": b"", "open": b""})
        (root / "shut").chmod(0o600)
        asked = job(root)
        app = msgspec.structs.replace(asked.config.app, user="games")
        asked = msgspec.structs.replace(asked, config=msgspec.structs.replace(asked.config, app=app))
        async with surgeon(root) as client:
            assert set(files_of(await read_whole(client, asked, ()))) == {"open"}
