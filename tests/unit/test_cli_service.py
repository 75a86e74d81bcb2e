# SPDX-License-Identifier: MIT
"""What doctor says of an installation and of a service, on machines made up for it."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.places import IS_ROOT

from wolverined.cli import enrolled, installation, units
from wolverined.cli.findings import BAD, OK, WEAK, Finding
from wolverined.cli.units import Unit
from wolverined.config import facts
from wolverined.config.facts import Facts

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can have files of root")
KEY = "sk-a-key-that-nobody-may-see"
HEADER = struct.Struct(">IB")


def unit(**fields: object) -> Unit:
    """A unit that runs and starts at boot, but for what the test says."""
    found = units.parse(
        "Id=wolverine@shop.service\nActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\n"
    )["shop"]
    return found._replace(**fields)


def levels(findings: Iterator[Finding]) -> list[str]:
    """How bad each of them is; whatever is not well says how to mend it."""
    found = list(findings)
    assert all(bool(each.mend) == (each.level != OK) for each in found), found
    return [each.level for each in found]


@pytest.mark.parametrize(
    ("version", "level"),
    [("systemd 252 (252.39-1~deb12u1)\n+PAM", OK), ("systemd 257", OK), ("systemd 247 (247.3)", WEAK), ("", WEAK)],
)
def test_systemd(version: str, level: str) -> None:
    """An old one is weak, and so is one that does not tell."""
    assert installation.systemd(version).level == level


def test_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing ones are bad; one of the administrator's that hides ours is weak; a drop-in hides nothing."""
    lib, etc = tmp_path / "lib", tmp_path / "etc"
    for place in (lib, etc):
        place.mkdir()
    monkeypatch.setattr(installation, "PACKAGED", (str(lib),))
    monkeypatch.setattr(installation, "HIDING", (str(etc),))
    assert levels(installation.files()) == [BAD]
    for name in installation.UNITS:
        (lib / name).touch()
    (etc / "wolverine@.service.d").mkdir()
    assert levels(installation.files()) == [OK]
    (etc / "wolverine@.service").touch()
    assert levels(installation.files()) == [WEAK]


@needs_root
def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, too open, of somebody else, a link: each is bad."""
    place = tmp_path / "keys"
    monkeypatch.setattr(installation, "DIRECTORIES", ((str(place), 0o700),))
    assert levels(installation.directories()) == [BAD]
    place.mkdir(0o700)
    assert levels(installation.directories()) == [OK]
    place.chmod(0o711)
    assert levels(installation.directories()) == [BAD]
    place.chmod(0o700)
    os.chown(place, 65534, 65534)
    assert levels(installation.directories()) == [BAD]
    place.rmdir()
    place.symlink_to(tmp_path)
    assert levels(installation.directories()) == [BAD]


def test_controllers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without those for memory and processes no limit holds; without any file there are none."""
    file = tmp_path / "cgroup.controllers"
    monkeypatch.setattr(installation, "CONTROLLERS", (str(file),))
    assert installation.controllers().level == WEAK
    file.write_text("cpu pids\n")
    assert "memory" in installation.controllers().what
    file.write_text("cpuset cpu io memory pids\n")
    assert installation.controllers().level == OK


def test_the_journal(tmp_path: Path) -> None:
    """In memory it is weak, and so is one that takes few entries."""
    assert levels(installation.journal(tmp_path)) == [WEAK]
    (tmp_path / "var/log/journal/0123").mkdir(parents=True)
    assert levels(installation.journal(tmp_path)) == [WEAK]
    (tmp_path / "var/log/journal/0123/system.journal").touch()
    assert levels(installation.journal(tmp_path)) == [OK]
    (tmp_path / "etc/systemd").mkdir(parents=True)
    (tmp_path / "etc/systemd/journald.conf").write_text("[Journal]\nRateLimitBurst=100\n")
    assert levels(installation.journal(tmp_path)) == [OK, WEAK]
    (tmp_path / "etc/systemd/journald.conf").write_text("[Journal]\nRateLimitBurst=0\n")
    assert levels(installation.journal(tmp_path)) == [OK]


@needs_root
def test_the_key_of_a_model(tmp_path: Path) -> None:
    """Open to others, broken, empty, right: told without a letter of the key; the app's own file comes first."""
    common, own = tmp_path / "default.toml", tmp_path / "shop.toml"

    def told(name: str = "shop") -> Finding:
        found = installation.adviser(name, directory=tmp_path)
        assert KEY not in f"{found.what}{found.mend}"
        return found

    assert told().level == WEAK
    common.write_text(f'key = "{KEY}"\n')
    common.chmod(0o644)
    assert (told().level, told("").level) == (BAD, BAD)
    common.chmod(0o600)
    assert told().level == OK
    own.touch(0o600)
    assert "has no key" in told().what
    assert told("").level == OK
    for text in (f"key = {KEY}", f"{KEY} = 1", "base_url = 3", "\0", "[" * 5000):
        own.write_text(text)
        assert told().level == BAD
    own.unlink()
    own.symlink_to("/nonexistent")
    assert told().level == BAD


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [OK, OK]),
        ({"enabled": "disabled"}, [OK, WEAK]),
        ({"active": "inactive"}, [WEAK, OK]),
        ({"active": "failed", "code": "exited", "status": 78}, [BAD, OK]),
        ({"stale": True}, [OK, OK, WEAK]),
        ({"enabled": "masked", "active": "inactive"}, [WEAK, WEAK]),
    ],
)
def test_the_state_of_a_unit(fields: dict[str, object], expected: list[str]) -> None:
    """Failed is bad; stopped, not enabled and changed are weak."""
    assert levels(enrolled.state(unit(**fields), "shop")) == expected
    assert levels(enrolled.state(None, "shop")) == [WEAK]


MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /srv rw - ext4 /dev/vdb rw
31 22 0:31 / /srv/my\\040app ro,relatime - ext4 /dev/vdc rw
32 22 0:32 / /srv rw,nosuid - tmpfs tmpfs rw
broken line
"""


def test_the_mount_of_a_path() -> None:
    """The longest place that holds it counts, of two at one place the later."""
    assert enrolled.mount_of("/srv/my app/x", MOUNTS) == ("/srv/my app", "ro,relatime")
    assert enrolled.mount_of("/srv/other", MOUNTS) == ("/srv", "rw,nosuid")
    assert enrolled.mount_of("/srvother", MOUNTS) == ("/", "rw,relatime")
    assert enrolled.mount_of("/x", "") == ("/", "")


@needs_root
def test_what_root_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file, no trial, weaknesses, and facts that cannot be read are told; none before the first start."""
    real = facts.read
    monkeypatch.setattr(facts, "directory_of", lambda name, **_: tmp_path / name)
    monkeypatch.setattr(facts, "read", lambda name: real(name, prepared=tmp_path))
    file = tmp_path / "shop.toml"
    file.write_text("a")
    assert levels(enrolled.prepared("shop", file)) == []
    (tmp_path / "shop").mkdir()
    assert levels(enrolled.prepared("shop", file)) == [BAD]
    same = facts.digest_of(b"a")
    facts.write("shop", Facts(config_digest=same), prepared=tmp_path)
    assert levels(enrolled.prepared("shop", file)) == []
    told = Facts(config_digest=same, trial="no user namespaces", weaknesses=("x is closed: chmod x", "odd"))
    facts.write("shop", told, prepared=tmp_path)
    assert [each.mend for each in enrolled.prepared("shop", file)][1:] == ["chmod x", "see wolverined(8)"]
    file.write_text("b")
    assert levels(enrolled.prepared("shop", file)) == [WEAK, WEAK, WEAK, WEAK]
    file.unlink()
    assert levels(enrolled.prepared("shop", file)) == []


def frame(message: object, *, kind: int = 0) -> bytes:
    """One frame of a role's stream."""
    data = json.dumps(message).encode()
    return HEADER.pack(len(data), kind) + data


HELLO = frame({"v": 1, "hello": {"role": "trial", "deadline_s": 9}})


@needs_root
@pytest.mark.parametrize(
    ("answers", "level", "words"),
    [
        ([HELLO, frame({"id": 1, "result": {}})], OK, "behind its walls"),
        ([HELLO, frame("", kind=1) + frame({"id": 1, "result": {}})], OK, "behind its walls"),
        ([HELLO, frame({"id": 1, "error": {"kind": "x", "message": "no such app"}})], WEAK, "no such app"),
        ([frame({"v": 1, "hello": {"role": "adviser", "deadline_s": 9}})], WEAK, "is no trial"),
        ([b""], WEAK, "before it answered"),
        ([HELLO, b""], WEAK, "before it answered"),
        ([frame([1])], WEAK, "cannot be read"),
        ([HEADER.pack(1 << 30, 0)], WEAK, "too long"),
        ([HEADER.pack(3, 0) + b"{x}"], WEAK, "no trial can be started"),
    ],
)
def test_a_trial_is_greeted(
    answers: list[bytes], level: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real conversation; whatever is said there beside the contract is no trial, and hangs nobody."""
    monkeypatch.setattr(enrolled, "SOCKETS", tmp_path)

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            for answer in answers:
                length, _ = HEADER.unpack(peer.recv(HEADER.size, socket.MSG_WAITALL))
                peer.recv(length, socket.MSG_WAITALL)
                peer.sendall(answer)

    found = _with_server(tmp_path, serve)
    assert (found.level, words in found.what) == (level, True), found


def _with_server(place: Path, serve: Callable[[socket.socket], None]) -> Finding:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "trial-shop:candidate.sock"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            return enrolled.trial("shop", "/srv/shop")
        finally:
            thread.join()


@needs_root
def test_a_trial_that_is_silent_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, and a missing socket is told."""
    monkeypatch.setattr(enrolled, "SOCKETS", tmp_path)
    monkeypatch.setattr(enrolled, "HELLO_S", 0.05)
    assert "no trial can be started" in enrolled.trial("shop", "/srv/shop").what
    assert "under way" in _with_server(tmp_path, lambda _listener: None).what


@needs_root
def test_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each must be a socket of the supervisor's user with its very mode."""
    monkeypatch.setattr(enrolled, "SOCKETS", tmp_path)
    monkeypatch.setattr(enrolled, "RUN", tmp_path)
    monkeypatch.setattr(enrolled, "OWN", "root")
    assert levels(enrolled.sockets("shop")) == [BAD] * 4
    (tmp_path / "shop").mkdir()
    names = ("shop/control.sock", "adviser-shop.sock", "trial-shop:baseline.sock", "trial-shop:candidate.sock")
    for name in names:
        os.mknod(tmp_path / name, stat.S_IFSOCK | 0o600)
        (tmp_path / name).chmod(0o666 if "control" in name else 0o600)
    assert levels(enrolled.sockets("shop")) == [OK]
    (tmp_path / names[1]).chmod(0o666)
    assert levels(enrolled.sockets("shop")) == [BAD]
