# SPDX-License-Identifier: MIT
"""What the kernel refused is read out of the real messages of runtimes and programs, and of nothing else."""

from __future__ import annotations

import stat
import subprocess
import tempfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.linux.protection import PROTECTED, dropin_command, protected, writable_line
from wolverined.sense.refusals import Part, Refusal, Whom, absolute, hint, refusal

SHOP = Whom(
    name="shop",
    user="shop",
    uid=1001,
    gids=frozenset({1001, 33}),
    directory="/srv/shop",
    unit="wolverine@shop.service",
)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("Error: EROFS: read-only file system, open '/usr/app/x'", "/usr/app/x"),
        ("    at EROFS: read-only file system, mkdir '/usr/a b/y' {", "/usr/a b/y"),
        ("EROFS: read-only file system, rename '/usr/f' -> '/usr/g'", "/usr/g"),
        ("EROFS: read-only file system, symlink 'a' -> '/usr/g'", "/usr/g"),
        ("Error: listen EROFS: read-only file system /usr/s.sock", "/usr/s.sock"),
        ("OSError: [Errno 30] Read-only file system: '/usr/x'", "/usr/x"),
        ("OSError: [Errno 30] Read-only file system: '/usr/f' -> '/usr/g'", "/usr/g"),
        ("OSError: [Errno 30] Read-only file system: b'/usr/x'", "/usr/x"),
        ('OSError: [Errno 30] Read-only file system: "/usr/it\'s"', "/usr/it's"),
        ("OSError: [Errno 30] Read-only file system: 'data/x.json'", "data/x.json"),
        ("panic: open /usr/share/x/data: read-only file system", "/usr/share/x/data"),
        ("2024/01/02 15:04:05 mkdir /usr/x: read-only file system", "/usr/x"),
        ("rename /usr/a /usr/b: read-only file system", "/usr/b"),
        ('nginx: [emerg] open() "/usr/log/error.log" failed (30: Read-only file system)', "/usr/log/error.log"),
        ("java.io.FileNotFoundException: /usr/x (Read-only file system)", "/usr/x"),
        ("java.nio.file.FileSystemException: /usr/y: Read-only file system", "/usr/y"),
        ("java.nio.file.FileSystemException: /usr/f -> /usr/g: Read-only file system", "/usr/g"),
        ("Read-only file system @ rb_sysopen - /usr/x (Errno::EROFS)", "/usr/x"),
        ("sh: 1: cannot create /usr/q: Read-only file system", "/usr/q"),
        ("bash: /usr/q: Read-only file system", "/usr/q"),
        ("touch: cannot touch '/usr/z': Read-only file system", "/usr/z"),
        ("mkdir: cannot create directory \u2018/usr/ü\u2019: Read-only file system", "/usr/ü"),
        ('{"level":"error","msg":"open /usr/x: read-only file system"}', "/usr/x"),
    ],
)
def test_a_read_only_path_is_found(line: str, path: str) -> None:
    """Node, Python, Go, nginx, Java, Ruby, shells: each says EROFS in its own way."""
    assert refusal(line) == Refusal(read_only=True, path=path)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("Error: EACCES: permission denied, open '/srv/x'", "/srv/x"),
        ("EACCES: permission denied, copyfile '/etc/passwd' -> '/srv/g'", "/srv/g"),
        ("Error: listen EACCES: permission denied /srv/s.sock", "/srv/s.sock"),
        ("PermissionError: [Errno 13] Permission denied: '/srv/x'", "/srv/x"),
        ("PermissionError: [Errno 13] Permission denied: '/srv/f' -> '/srv/g'", "/srv/g"),
        ("open /srv/x: permission denied", "/srv/x"),
        ("listen unix /srv/x.sock: bind: permission denied", "/srv/x.sock"),
        ('2024/01/01 00:00:00 [emerg] 1#1: mkdir() "/srv/body" failed (13: Permission denied)', "/srv/body"),
        ('rename() "/srv/a" to "/srv/b" failed (13: Permission denied)', "/srv/b"),
        ("bind() to unix:/srv/x.sock failed (13: Permission denied)", "/srv/x.sock"),
        ("java.nio.file.AccessDeniedException: /srv/y", "/srv/y"),
        ("java.nio.file.AccessDeniedException: /srv/f -> /srv/g", "/srv/g"),
        ("Caused by: java.io.FileNotFoundException: /srv/x (Permission denied)", "/srv/x"),
        ("Permission denied @ dir_s_mkdir - /srv/x (Errno::EACCES)", "/srv/x"),
        ("Warning: file_put_contents(/srv/x): Failed to open stream: Permission denied in /srv/i.php", "/srv/x"),
        ("/srv/x: Permission denied at -e line 1.", "/srv/x"),
        ("touch: cannot touch '/srv/q': Permission denied", "/srv/q"),
    ],
)
def test_a_denied_path_is_found(line: str, path: str) -> None:
    """The same runtimes say EACCES."""
    assert refusal(line) == Refusal(path=path)


@pytest.mark.parametrize(
    "line",
    [
        "Error: spawn /srv/f EACCES",
        'java.io.IOException: Cannot run program "/srv/f": error=13, Permission denied',
        "fork/exec /srv/f: permission denied",
    ],
)
def test_a_program_that_cannot_be_run_is_told_apart(line: str) -> None:
    """A file without x is mended otherwise than one that is not ours."""
    assert refusal(line) == Refusal(path="/srv/f", program=True)


@pytest.mark.parametrize(
    "line",
    [
        "Error: listen EACCES: permission denied 0.0.0.0:80",
        "Error: listen EACCES: permission denied :::80",
        "listen tcp :80: bind: permission denied",
        "listen tcp 0.0.0.0:80: bind: permission denied",
        "nginx: [emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)",
    ],
)
def test_a_privileged_port_is_found(line: str) -> None:
    """A port below 1024 is refused in the same words, and mended by a reverse proxy."""
    assert refusal(line) == Refusal(port=80)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "GET /x 200",
        "Permission denied (publickey).",
        "PermissionError: [Errno 13] Permission denied",
        "java.net.BindException: Permission denied",
        "java.io.IOException: Read-only file system",
        "  code: 'EACCES',",
        "user bob: permission denied for table orders",
        "listen tcp :8080: bind: permission denied",
        "EACCES: permission denied, open ''",
        "open /a\x1b[2J: permission denied",
        "the EROFS word alone",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    """Without a path, or with one that no terminal should see, there is nothing to say."""
    assert refusal(line) is None


@given(st.text(max_size=200), st.sampled_from(["EACCES", "EROFS: read-only file system, ", ": Permission denied"]))
def test_no_line_is_too_odd(text: str, sign: str) -> None:
    """Whatever the app prints is read or passed over."""
    for line in (text + sign, sign + text, f"/{text}{sign}"):
        found = refusal(line)
        if found is not None and found.path:
            assert found.path.isprintable()
            told = hint(found, SHOP)
            assert "\n" not in str(told)


@pytest.mark.parametrize("unit", ["/", "/a ", "spawn /", "listen x ", 'open() "/', "Exception: /", "EACCES: ", "'"])
def test_a_hostile_line_costs_little(unit: str) -> None:
    """64 KiB made to mislead every pattern are given up in time that nobody notices."""
    line = unit * (65536 // len(unit)) + "ermission denied"
    begun = time.process_time()
    for _ in range(10):
        refusal(line)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/usr/share/x/cache/a.db", "ReadWritePaths=/usr/share/x/cache"),
        ("/etc/shop.conf", "ReadWritePaths=/etc/shop.conf"),
        ("/usr/a b/x", 'ReadWritePaths="/usr/a b"'),
        ("/usr/50%/x", "ReadWritePaths=/usr/50%%"),
    ],
)
def test_the_line_to_add(path: str, line: str) -> None:
    """It opens the directory of the file, never all of /etc, and is written as a unit file takes it."""
    assert writable_line(path, "/srv/shop") == line


def test_the_line_for_the_apps_own_directory() -> None:
    """An app below /usr gets all of its own directory, for it will want the next file, too."""
    assert writable_line("/usr/local/shop/data/x", "/usr/local/shop") == "ReadWritePaths=/usr/local/shop"


def test_the_command_that_opens_a_place() -> None:
    """What a shell makes of it is a drop-in as systemd reads it, whatever characters the path has."""
    for path in ("/usr/local/shop", '/usr/it\'s 50% \\ "x"'):
        command = dropin_command("shop", path, path).replace("/etc/systemd/system", "$0")
        script = command.replace("systemctl daemon-reload", 'cat "$0"/wolverine@shop.service.d/writable.conf')
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run(["/bin/sh", "-ec", script, place], capture_output=True, text=True, check=True)
        assert done.stdout == f"[Service]\n{writable_line(path, path)}\n"


def test_protected_places() -> None:
    """/usr, /etc and /boot are read-only in our unit, and nothing that only begins like them."""
    assert all(protected(f"{place}/x") for place in PROTECTED)
    assert protected("/etc")
    assert not any(map(protected, ("/etcetera/x", "/srv/usr/x", "/var/x", "/home/etc")))


def test_a_hint_for_a_protected_place() -> None:
    """It names the unit, the command and the line."""
    told = str(hint(Refusal(read_only=True, path="/usr/share/x/a.db"), SHOP))
    assert "systemctl edit wolverine@shop.service" in told
    assert "ReadWritePaths=/usr/share/x" in told


def test_a_hint_for_what_is_mounted_read_only() -> None:
    """Outside of what our unit protects, and in a terminal, it is the mount that is looked at."""
    for path, whom in (("/data/x", SHOP), ("/usr/x", Whom(**{**_fields(SHOP), "unit": ""}))):
        told = str(hint(Refusal(read_only=True, path=path), whom))
        assert f"findmnt -T {path}" in told
        assert "ReadWritePaths" not in told


def _fields(whom: Whom) -> dict[str, object]:
    return {name: getattr(whom, name) for name in whom.__struct_fields__}


def directory(path: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0, owner: str = "root") -> Part:
    """A directory on the way."""
    return Part(path=path, uid=uid, gid=gid, mode=stat.S_IFDIR | mode, owner=owner)


def test_the_directory_that_keeps_it_out_is_named() -> None:
    """Of the whole way the first part that the app's user may not pass is told, with owner and mode."""
    way = [directory("/"), directory("/home"), directory("/home/ann", 0o700, uid=1000, owner="ann")]
    told = hint(Refusal(path="/home/ann/data/x"), SHOP, way)
    assert "/home/ann belongs to ann (mode 0700)" in told.message
    assert "chown" not in told.mend


def test_a_file_of_root_in_the_apps_directory_is_to_be_given() -> None:
    """Inside its own directory the app's user should own what it writes."""
    mine = directory("/srv/shop", uid=1001, owner="shop")
    file = Part(path="/srv/shop/x", uid=0, gid=0, mode=stat.S_IFREG | 0o644, owner="root")
    told = hint(Refusal(path="x"), SHOP, [directory("/"), directory("/srv"), mine, file])
    assert told.message == (
        "it may not open or make /srv/shop/x, as user shop: /srv/shop/x belongs to root (mode 0644)"
    )
    assert told.mend == "if it should: chown shop: /srv/shop/x"


def test_a_directory_where_nothing_can_be_made_is_named() -> None:
    """What is missing could not be made in the last directory that is there."""
    way = [directory("/"), directory("/srv"), directory("/srv/shop"), directory("/srv/shop/data", gid=33)]
    told = hint(Refusal(path="/srv/shop/data/x"), SHOP, way)
    assert "/srv/shop/data belongs to root" in told.message
    assert told.mend.endswith("chown shop: /srv/shop/data")
    may = [*way[:3], directory("/srv/shop/data", 0o775, gid=33)]
    assert "namei -l" in hint(Refusal(path="/srv/shop/data/x"), SHOP, may).mend


def test_a_foreign_file_is_never_given_away() -> None:
    """A line may be made by whoever sent a request: nobody is told to hand out what lies elsewhere."""
    file = Part(path="/etc/shadow", uid=0, gid=42, mode=stat.S_IFREG | 0o640, owner="root")
    told = hint(Refusal(path="/etc/shadow"), SHOP, [directory("/"), directory("/etc"), file])
    assert "chown" not in str(told)
    assert "chmod" not in str(told)


def test_what_cannot_be_seen_is_left_to_root() -> None:
    """Where the way could not be looked at, the command is told that shows it."""
    assert "namei -l '/srv/a b'" in hint(Refusal(path="/srv/a b"), SHOP).mend
    way = [directory("/"), directory("/srv"), directory("/srv/shop", 0o750, gid=33)]
    assert "namei -l" in hint(Refusal(path="/srv/shop/data/x"), SHOP, way, to_the_end=False).mend


def test_a_program_without_x() -> None:
    """A program that is there is made executable."""
    file = Part(path="/srv/shop/run", uid=1001, gid=1001, mode=stat.S_IFREG | 0o644, owner="shop")
    told = hint(Refusal(path="/srv/shop/run", program=True), SHOP, [directory("/srv/shop", uid=1001), file])
    assert told.mend == "chmod +x /srv/shop/run"


def test_a_port_goes_behind_a_proxy() -> None:
    """The app never gets a capability for it."""
    assert "reverse proxy" in hint(Refusal(port=80), SHOP).mend


def test_paths_are_made_whole() -> None:
    """A relative path is the app's, and no dots climb out of the root."""
    assert absolute("data/../x", "/srv/shop") == "/srv/shop/x"
    assert absolute("/../../etc/x", "/srv/shop") == "/etc/x"
