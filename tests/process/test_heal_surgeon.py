# SPDX-License-Identifier: MIT
"""The surgeon: what it reads, what it refuses, and that nothing leads it out of the tree."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from support.places import IS_ROOT, public_tmp, unused_user
from support.surgeons import plant, surgeon, tree_of

from wolverined.config.schema import DENY
from wolverined.errors import NotFound, StreamError, SurgeryAborted, UsageError
from wolverined.heal.source import sha256_of
from wolverined.heal.stream import Channel
from wolverined.heal.surgeon import rename
from wolverined.heal.surgeon.client import SurgeonClient, Taken
from wolverined.heal.surgeon.steps import Step

T = TypeVar("T")
OLD, NEW = b"old\n", b"new\n"


def ask(root: Path, what: Callable[[SurgeonClient], Awaitable[T]], *, setup: Callable[[], None] = lambda: None) -> T:
    """Ask a fresh surgeon for `root` one thing."""

    async def run() -> T:
        async with surgeon(root, setup=setup) as client:
            return await what(client)

    return asyncio.run(run())


def take(root: Path, *, setup: Callable[[], None] = lambda: None, **limits: int) -> Taken:
    """A snapshot with the usual rules."""
    return ask(root, lambda client: client.snapshot(allow=("**",), deny=DENY, **limits), setup=setup)


def step(path: str, **fields: object) -> Step:
    """Replace OLD by NEW at a path."""
    usual = {"temp": ".wolverine-0123456789abcdef-0.tmp", "old": sha256_of(OLD), "new": sha256_of(NEW)}
    return Step(path=path, **{**usual, **fields})  # type: ignore[arg-type]


async def replace(client: SurgeonClient, *steps: Step) -> None:
    """Stage and swap, NEW for every step."""
    await client.stage(steps, make_dirs=(), contents={number: NEW for number, one in enumerate(steps) if one.new})
    await client.swap(steps)


# --- snapshot ------------------------------------------------------------------------------------


def test_a_snapshot_is_source_only(tmp_path: Path) -> None:
    """Dependencies, secrets, data, binaries and oversized files stay where they are; the last two are counted."""
    source = {"server.js": b"1", "lib/a.js": b"2", "public/index.html": b"3"}
    other = {
        ".env": b"SECRET=1",
        ".git/HEAD": b"x",
        "node_modules/x/index.js": b"x",
        "myenv/pyvenv.cfg": b"x",
        "myenv/lib.py": b"x",
        "app.log": b"x",
        "data/app.db": b"x",
        "uploads/a.js": b"x",
        "logo.png": b"\x89PNG\x00",
        "big.js": b"x" * 101,
    }
    plant(tmp_path, {**source, **other})
    (tmp_path / "server.js").chmod(0o755)
    os.utime(tmp_path / "lib" / "a.js", (0, 2_000_000_000))
    os.utime(tmp_path / ".env", (0, 2_100_000_000))
    taken = take(tmp_path, max_file=100)
    assert {path: file.data for path, file in taken.snapshot.files.items()} == source
    assert taken.snapshot.files["server.js"].mode == 0o755
    assert taken.newest_mtime == 2_000_000_000
    assert taken.snapshot.skipped == 2
    assert set(taken.examples) == {"logo.png", "big.js"}
    assert taken.snapshot.root == str(tmp_path)
    assert take(tmp_path, max_file=100).snapshot.tree_hash == taken.snapshot.tree_hash


def test_a_snapshot_follows_no_link_and_waits_for_no_pipe(tmp_path: Path) -> None:
    """Links out of the tree, links within it, FIFOs, sockets and second hard links are no source."""
    root, outside = tmp_path / "app", tmp_path / "outside"
    plant(outside, {"secret.js": b"secret"})
    plant(root, {"a.js": b"a", "twin.js": b"t"})
    (root / "link.js").symlink_to(outside / "secret.js")
    (root / "dir").symlink_to(outside)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.js")
    os.link(root / "twin.js", root / "twin2.js")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "s.js"))
        taken = take(root)
    assert set(taken.snapshot.files) == {"a.js"}
    assert taken.snapshot.skipped >= 5


def test_a_snapshot_survives_names_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are skipped and told; a newline is a name like any other."""
    plant(tmp_path, {"a\nb.js": b"a"})
    (tmp_path / os.fsdecode(b"caf\xe9.js")).write_bytes(b"x")
    taken = take(tmp_path)
    assert set(taken.snapshot.files) == {"a\nb.js"}
    assert taken.snapshot.skipped == 1


def test_a_source_beyond_the_limits_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """Not truncated: half a source would prove nothing."""
    plant(tmp_path, {f"{number}.js": b"x" * 50 for number in range(10)})
    with pytest.raises(SurgeryAborted, match="bigger") as caught:
        take(tmp_path, max_total=499)
    assert "heal.source" in caught.value.hint
    assert len(take(tmp_path, max_total=500).snapshot.files) == 10


def test_a_tree_deeper_than_sense_does_not_end_the_surgeon(tmp_path: Path) -> None:
    """Deeper files are not source."""
    place = tmp_path
    for _ in range(200):
        place /= "d"
        place.mkdir()
    (place / "deep.js").touch()
    (tmp_path / "a.js").touch()
    assert set(take(tmp_path).snapshot.files) == {"a.js"}


@pytest.mark.skipif(not IS_ROOT, reason="another user is needed")
def test_what_the_owner_cannot_read_is_skipped() -> None:
    """The surgeon has the rights of the source's owner and no more."""
    user = unused_user()
    with public_tmp() as root:
        plant(root, {"a.js": b"a", "b.js": b"b", "private/c.js": b"c"})
        (root / "b.js").chmod(0o600)
        (root / "private").chmod(0o700)
        taken = take(root, setup=lambda: os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid))
    assert set(taken.snapshot.files) == {"a.js"}
    assert taken.snapshot.skipped == 2


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["../outside.js", "/etc/passwd", "a/../../outside.js", "", ".", "a//b", "a/./b", "a\0b", "x" * 300, "\ud800"],
)
def test_a_path_that_leaves_the_tree_is_refused(tmp_path: Path, path: str) -> None:
    """Whatever heal says; it may have been talked into it."""
    root = tmp_path / "app"
    plant(root, {"a/a.js": OLD})
    (tmp_path / "outside.js").write_bytes(OLD)
    with pytest.raises((SurgeryAborted, StreamError)):
        ask(root, lambda client: client.read(path))
    with pytest.raises((SurgeryAborted, StreamError)):
        ask(root, lambda client: replace(client, step(path)))
    assert (tmp_path / "outside.js").read_bytes() == OLD


def _symlink(root: Path) -> None:
    (root / "a.js").rename(root / "real.js")
    (root / "a.js").symlink_to("real.js")


def _linked_directory(root: Path) -> None:
    (root / "lib").rename(root.parent / "elsewhere")
    (root / "lib").symlink_to(root.parent / "elsewhere")


def _hard_link(root: Path) -> None:
    os.link(root / "a.js", root / "twin.js")


def _fifo(root: Path) -> None:
    (root / "a.js").unlink()
    os.mkfifo(root / "a.js")


def _directory(root: Path) -> None:
    (root / "a.js").unlink()
    (root / "a.js").mkdir()


def _setuid(root: Path) -> None:
    (root / "a.js").chmod(0o4755)


@pytest.mark.parametrize(
    ("trap", "path"),
    [
        (_symlink, "a.js"),
        (_linked_directory, "lib/b.js"),
        (_hard_link, "a.js"),
        (_fifo, "a.js"),
        (_directory, "a.js"),
        (_setuid, "a.js"),
    ],
)
def test_what_is_no_plain_file_is_never_replaced(tmp_path: Path, trap: Callable[[Path], None], path: str) -> None:
    """A link, a pipe, a directory, a second name, special bits: refused, and nothing is left behind."""
    root = tmp_path / "app"
    plant(root, {"a.js": OLD, "lib/b.js": OLD})
    trap(root)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SurgeryAborted):
        ask(root, lambda client: client.look([path]))
    with pytest.raises(SurgeryAborted):
        ask(root, lambda client: replace(client, step(path)))
    assert sorted(tmp_path.rglob("*")) == before
    assert not [found for found in tmp_path.rglob("*") if found.is_file() and found.read_bytes() == NEW]


def test_a_link_put_in_place_between_stage_and_swap_is_not_followed(tmp_path: Path) -> None:
    """The classic race: check a file, write through a link."""
    root = tmp_path / "app"
    plant(root, {"lib/a.js": OLD})
    plant(tmp_path, {"elsewhere/a.js": OLD})

    async def race(client: SurgeonClient) -> None:
        await client.stage([step("lib/a.js")], make_dirs=(), contents={0: NEW})
        (root / "lib").rename(root / "lib2")
        (root / "lib").symlink_to(tmp_path / "elsewhere")
        await client.swap([step("lib/a.js")])

    with pytest.raises(SurgeryAborted):
        ask(root, race)
    assert (tmp_path / "elsewhere" / "a.js").read_bytes() == OLD


@pytest.mark.skipif(not IS_ROOT, reason="another user is needed")
def test_a_file_of_another_user_is_not_replaced() -> None:
    """A new file would be the surgeon's own: the owner would change."""
    user = unused_user()
    with public_tmp(mode=0o777) as root:
        plant(root, {"a.js": OLD})
        with pytest.raises(SurgeryAborted, match="another user"):
            ask(
                root,
                lambda client: replace(client, step("a.js")),
                setup=lambda: os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid),
            )
        assert tree_of(root) == {"a.js": (OLD, 0o644)}


@pytest.mark.parametrize(
    "fields",
    [
        {"temp": "b.js"},
        {"temp": "../.wolverine-0123456789abcdef-0.tmp"},
        {"temp": ".wolverine-0123456789abcdef-0.tmp\n"},
        {"new": sha256_of(OLD)},
        {"old": None, "mode": 0o4755},
    ],
)
def test_a_step_that_makes_no_sense_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    """In particular no name but a temporary one of ours is ever removed."""
    plant(tmp_path, {"a.js": OLD, "b.js": b"b"})
    if "old" in fields:
        (tmp_path / "a.js").unlink()
    before = tree_of(tmp_path)
    bad = step("a.js", **fields)
    for call in (
        lambda client: replace(client, bad),
        lambda client: client.unstage([bad], drop_dirs=()),
        lambda client: client.undo([bad], make_dirs=(), contents={}),
    ):
        with pytest.raises(SurgeryAborted):
            ask(tmp_path, call)
    assert tree_of(tmp_path) == before


def test_content_that_does_not_arrive_whole_is_not_written(tmp_path: Path) -> None:
    """The hash in the step is the one that counts."""
    plant(tmp_path, {"a.js": OLD})

    async def lie(client: SurgeonClient) -> None:
        await client.stage([step("a.js")], make_dirs=(), contents={0: b"evil\n"})

    with pytest.raises(SurgeryAborted, match="whole"):
        ask(tmp_path, lie)
    assert tree_of(tmp_path) == {"a.js": (OLD, 0o644)}


def test_two_surgeons_never_operate_at_once(tmp_path: Path) -> None:
    """The second waits for the first one's end; here it comes."""
    plant(tmp_path, {"a.js": OLD})

    async def run() -> None:
        async with surgeon(tmp_path) as second:
            async with surgeon(tmp_path) as first:
                await first.stage([step("a.js")], make_dirs=(), contents={0: NEW})
                waiting = asyncio.create_task(second.undo([step("a.js")], make_dirs=(), contents={0: OLD}))
                done, _ = await asyncio.wait([waiting], timeout=0.1)
                assert not done
                await first.swap([step("a.js")])
            assert await waiting == ()

    asyncio.run(run())
    assert tree_of(tmp_path) == {"a.js": (OLD, 0o644)}


# --- what a replaced file keeps ------------------------------------------------------------------


def test_a_replaced_file_keeps_mode_group_and_attributes(tmp_path: Path) -> None:
    """And it gets a modification time in another second, or Python would run the old bytecode."""
    path = tmp_path / "a.py"
    path.write_bytes(OLD)
    path.chmod(0o754)
    if IS_ROOT:
        os.chown(path, 0, 7)
    try:
        os.setxattr(path, "user.note", b"kept")
        attributes = True
    except OSError:
        attributes = False
    before = path.stat()
    ask(tmp_path, lambda client: replace(client, step("a.py")))
    after = path.stat()
    assert path.read_bytes() == NEW
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o754, before.st_uid, before.st_gid)
    assert int(after.st_mtime) != int(before.st_mtime)
    if attributes:
        assert os.getxattr(path, "user.note") == b"kept"


@pytest.mark.skipif(not IS_ROOT, reason="another user is needed")
@pytest.mark.parametrize(
    ("mode", "done"), [(0o644, True), (0o755, True), (0o600, True), (0o640, False), (0o664, False)]
)
def test_a_group_that_the_owner_is_not_in_is_given_up_only_where_it_means_nothing(mode: int, done: bool) -> None:
    """Members who may what all may lose nothing; else it is said by name, with the way out, before anything."""
    with public_tmp() as root:
        user = unused_user()
        os.chown(root, user.pw_uid, user.pw_gid)
        plant(root, {"a.js": OLD})
        os.chown(root / "a.js", user.pw_uid, 7)
        (root / "a.js").chmod(mode)

        def become() -> None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)

        async def both(client: SurgeonClient) -> None:
            await client.look(["a.js"])
            await replace(client, step("a.js"))

        if done:
            ask(root, both, setup=become)
            assert (root / "a.js").read_bytes() == NEW
            assert (root / "a.js").stat().st_gid == user.pw_gid
            assert stat.S_IMODE((root / "a.js").stat().st_mode) == mode
        else:
            with pytest.raises(
                SurgeryAborted, match=r"a\.js belongs to the group lp, which nobody is not in"
            ) as refused:
                ask(root, lambda client: client.look(["a.js"]), setup=become)
            assert refused.value.hint.startswith("chgrp nogroup a.js")
            with pytest.raises(SurgeryAborted, match="the group lp"):
                ask(root, lambda client: client.stage([step("a.js")], make_dirs=(), contents={0: NEW}), setup=become)
            assert tree_of(root) == {"a.js": (OLD, mode)}


@pytest.mark.skipif(not IS_ROOT, reason="another user is needed")
def test_a_directory_that_hands_its_group_down_is_no_obstacle() -> None:
    """setgid: a new file is born with the group, whoever makes it."""
    with public_tmp() as root:
        user = unused_user()
        plant(root, {"a.js": OLD})
        for path in (root, root / "a.js"):
            os.chown(path, user.pw_uid, 7)
        root.chmod(0o2775)
        (root / "a.js").chmod(0o664)

        def become() -> None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)

        ask(root, lambda client: replace(client, step("a.js")), setup=become)
        assert (root / "a.js").stat().st_gid == 7
        assert (root / "a.js").read_bytes() == NEW


def test_python_runs_the_repaired_source_even_within_the_same_second(tmp_path: Path) -> None:
    """Same size, same second: a .pyc keyed by mtime and size would still be taken for current."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import m; print(m.X)"
    (tmp_path / "m.py").write_bytes(b"X = 1\n")
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"1\n"
    old, new = sha256_of(b"X = 1\n"), sha256_of(b"X = 2\n")

    async def repair(client: SurgeonClient) -> None:
        one = step("m.py", old=old, new=new)
        await client.stage([one], make_dirs=(), contents={0: b"X = 2\n"})
        await client.swap([one])

    ask(tmp_path, repair)
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"2\n"


def test_a_file_system_without_exchange_is_served_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain rename and link: the old content then comes from the backup."""
    monkeypatch.setattr(rename, "_libc", object())
    plant(tmp_path, {"a.js": OLD, "gone.js": OLD})
    steps = [
        step("a.js"),
        step("new.js", old=None, temp=".wolverine-0123456789abcdef-1.tmp"),
        step("gone.js", new=None, temp=".wolverine-0123456789abcdef-2.tmp"),
    ]

    async def there_and_back(client: SurgeonClient) -> tuple[str, ...]:
        await replace(client, *steps)
        assert (tmp_path / "a.js").read_bytes() == (tmp_path / "new.js").read_bytes() == NEW
        assert not (tmp_path / "gone.js").exists()
        return await client.undo(steps, make_dirs=(), contents={0: OLD, 2: OLD})

    assert ask(tmp_path, there_and_back) == ()
    assert tree_of(tmp_path) == {"a.js": (OLD, 0o644), "gone.js": (OLD, 0o644)}


# --- the calls -----------------------------------------------------------------------------------


def test_hashes_tell_missing_from_strange(tmp_path: Path) -> None:
    """A link is neither a file nor nothing."""
    plant(tmp_path, {"a.js": OLD})
    (tmp_path / "link.js").symlink_to("a.js")
    found = ask(tmp_path, lambda client: client.hash(["a.js", "none.js", "no/where.js", "link.js", "link.js/x"]))
    assert list(found.values()) == [sha256_of(OLD), "", "", "strange", "strange"]


def test_a_look_names_the_directories_that_a_new_file_lacks(tmp_path: Path) -> None:
    """Outermost first."""
    plant(tmp_path, {"lib/a.js": OLD})
    there, new = ask(tmp_path, lambda client: client.look(["lib/a.js", "lib/x/y/n.js"]))
    assert (there.sha256, there.mode, there.missing) == (sha256_of(OLD), 0o644, ())
    assert (new.sha256, new.missing) == (None, ("lib/x", "lib/x/y"))


@pytest.mark.parametrize(("root", "error"), [("/nonexistent/app", NotFound), ("/etc/passwd", SurgeryAborted)])
def test_a_root_that_is_none_is_said(root: str, error: type[Exception]) -> None:
    """With what to look at."""
    with pytest.raises(error):
        ask(Path(root), lambda client: client.hash(["a"]))


def test_calls_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """The surgeon treats heal as hostile, and lives on."""

    async def run() -> None:
        async with surgeon(tmp_path) as client:
            channel = client._channel
            assert isinstance(channel, Channel)
            for name, args in [
                ("hash", {"paths": ["a"]}),
                ("open", {"root": 7}),
                ("open", {"root": "relative"}),
                ("open", {}),
                ("launch", {}),
                ("stage", {"steps": [{"path": "a"}]}),
                ("stage", {"steps": [], "blobs": [1]}),
                ("snapshot", {"allow": "x"}),
            ]:
                with pytest.raises((UsageError, SurgeryAborted)):
                    await channel.call(name, args)
            assert await client.hash(["a"]) == {"a": ""}

    asyncio.run(run())


def test_the_real_process_serves_and_ends_with_its_stream(tmp_path: Path) -> None:
    """Started as the supervisor starts it."""
    plant(tmp_path, {"a.js": OLD})

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "wolverined.heal.surgeon", str(theirs.fileno()), pass_fds=[theirs.fileno()]
            )
        channel = Channel(ours, role="heal", deadline_s=30.0, peer_role="surgeon")
        await channel.start()
        client = SurgeonClient(channel, root=tmp_path)
        await replace(client, step("a.js"))
        await channel.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0

    asyncio.run(run())
    assert (tmp_path / "a.js").read_bytes() == NEW


def test_the_real_process_refuses_to_be_started_by_hand() -> None:
    """It says who starts it."""
    command = [sys.executable, "-I", "-m", "wolverined.heal.surgeon"]
    for arguments in ([], ["0x"], ["99"]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("surgeon: ")
