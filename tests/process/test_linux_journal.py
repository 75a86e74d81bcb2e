# SPDX-License-Identifier: MIT
"""Journal entries and words to the service manager, against sockets that a test listens on."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.linux.journal import Journal, encode, field_name, stderr_is_journal
from wolverined.linux.notify import NullNotifier, SystemdNotifier, open_notifier


def parse(data: bytes) -> dict[str, bytes]:
    """Read an entry as journald does."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest.startswith(b"\n")
            rest = rest[1:]
        fields[name.decode()] = value
        data = rest
    return fields


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A datagram socket in the place of journald or the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal that sends to the listener."""
    made = Journal(tmp_path / "socket")
    yield made
    made.close()


def test_fields_arrive_as_they_were(journal: Journal, listener: socket.socket) -> None:
    """Text, numbers, bytes, newlines and equals signs all arrive unharmed."""
    assert journal.present
    assert journal.send(
        {"MESSAGE": "two\nlines", "PRIORITY": 3, "A": "b=c", "RAW": b"\0\xff", "EMPTY": "", "UNICODE": "Grüße \udcff"}
    )
    assert parse(listener.recv(65536)) == {
        "MESSAGE": b"two\nlines", "PRIORITY": b"3", "A": b"b=c", "RAW": b"\0\xff", "EMPTY": b"",
        "UNICODE": "Grüße ".encode() + b"\xff",
    }  # fmt: skip


def test_an_entry_that_fits_no_datagram_goes_as_a_sealed_file(journal: Journal, listener: socket.socket) -> None:
    """A message of megabytes arrives through a memfd that nobody can change any more."""
    text = "x" * 3_000_000 + "\n"
    assert journal.send({"MESSAGE": text, "PRIORITY": 6})
    data, ancillary, _, _ = listener.recvmsg(100, socket.CMSG_SPACE(4))
    assert data == b""
    (fd,) = array.array("i", ancillary[0][2])
    with os.fdopen(fd, "rb") as file:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_WRITE
        assert seals & fcntl.F_SEAL_SHRINK
        file.seek(0)
        assert parse(file.read()) == {"MESSAGE": text.encode(), "PRIORITY": b"6"}


def test_without_a_journal_nothing_is_sent(tmp_path: Path) -> None:
    """No journal is told by False and counted, and a journal that comes is found."""
    journal = Journal(tmp_path / "socket")
    assert not journal.present
    assert not journal.send({"MESSAGE": "x"})
    assert not journal.send({"MESSAGE": "x" * 3_000_000})
    assert journal.lost == 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "socket"))
        assert journal.send({"MESSAGE": "x"})
    (tmp_path / "socket").unlink()
    assert not journal.send({"MESSAGE": "x"})
    journal.close()
    journal.close()


@pytest.mark.usefixtures("listener")
def test_a_journal_that_reads_nothing_does_not_stop_us(journal: Journal) -> None:
    """When journald's queue is full a send returns at once, and the loss is counted."""
    results = [journal.send({"MESSAGE": "x" * 1000}) for _ in range(5000)]
    assert results[0]
    assert not results[-1]
    assert journal.lost == results.count(False)


@pytest.mark.parametrize("name", ["", "lower", "_TRUSTED", "1A", "A-B", "A" * 65, "A=B", "A\nB"])
def test_a_name_that_journald_drops_is_an_error(name: str) -> None:
    """Names that journald would silently drop, or that could forge a trusted field, are refused."""
    with pytest.raises(ValueError, match="journal field"):
        encode({name: "x"})


@given(st.text())
def test_any_key_has_a_field(key: str) -> None:
    """field_name makes something that encode takes out of anything."""
    assert encode({field_name(key): "x"})


@given(st.dictionaries(st.text(min_size=1).map(field_name), st.text() | st.binary() | st.integers(), max_size=5))
def test_what_is_encoded_is_read_back(fields: dict[str, str | bytes | int]) -> None:
    """No value, however hostile, changes another field."""
    expected = {
        name: value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        for name, value in fields.items()
    }
    assert parse(encode(fields)) == expected


@given(st.text(alphabet=st.characters()))
def test_no_text_is_too_strange(text: str) -> None:
    """Lone surrogates, which JSON can bring, are sent as well as they can be."""
    assert len(parse(encode({"MESSAGE": text, "PRIORITY": 6}))) == 2


def test_a_stream_to_journald_is_known(tmp_path: Path) -> None:
    """$JOURNAL_STREAM must name the very file that stderr is."""
    with (tmp_path / "stream").open("w") as file:
        found = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert stderr_is_journal(named, fd=file.fileno())
        for other in ("", "1:2", "x", f"{found.st_dev}:", ":"):
            assert not stderr_is_journal({"JOURNAL_STREAM": other}, fd=file.fileno())
        assert not stderr_is_journal({}, fd=file.fileno())
    assert not stderr_is_journal(named, fd=10**6)


def test_nobody_to_notify() -> None:
    """Without NOTIFY_SOCKET every word is swallowed by a null object."""
    notifier = open_notifier({})
    assert isinstance(notifier, NullNotifier)
    assert notifier.watchdog_s is None
    say_everything_to(notifier)
    notifier.close()


def say_everything_to(notifier: NullNotifier | SystemdNotifier) -> None:
    """Every word a notifier knows, once."""
    notifier.ready()
    notifier.status("all is well")
    notifier.watchdog()
    notifier.reloading()
    notifier.extend(1.5)
    notifier.stopping()


@pytest.fixture
def manager(tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A service manager that has started us."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    return listener


def test_a_service_manager_hears_every_word(manager: socket.socket) -> None:
    """The words of sd_notify(3), in order."""
    notifier = open_notifier()
    assert isinstance(notifier, SystemdNotifier)
    assert notifier.watchdog_s == 2.0
    say_everything_to(notifier)
    words = [manager.recv(4096).decode() for _ in range(6)]
    assert words[:3] == ["READY=1", "STATUS=all is well", "WATCHDOG=1"]
    assert words[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert words[4:] == ["EXTEND_TIMEOUT_USEC=1500000", "STOPPING=1"]
    notifier.close()


def test_a_status_is_one_ascii_line(manager: socket.socket) -> None:
    """A status cannot smuggle another word in, is not dropped for a letter, and is not endless."""
    notifier = open_notifier()
    for text in ("läuft\nREADY=1", "\udcff🦡", "x" * 10_000):
        notifier.status(text)
    first, second, third = (manager.recv(65536).decode("ascii") for _ in range(3))
    assert first == "STATUS=l?uft READY=1"
    assert second == "STATUS=??"
    assert len(third) < 500
    notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid"), [("2000000", "1"), ("x", None), ("0", None), ("", None), ("-5", None), ("1", "x")]
)
def test_another_process_is_watched(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None
) -> None:
    """A watchdog that is not for us, or makes no sense, is not fed."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    notifier = open_notifier()
    assert notifier.watchdog_s is None
    notifier.watchdog()
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    notifier.close()


def test_a_manager_that_has_gone_or_reads_nothing_stops_nobody(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full socket, a vanished one and one that never was are all silence, without waiting."""
    notifier = open_notifier()
    for _ in range(5000):
        notifier.status("x" * 100)
    manager.close()
    notifier.ready()
    notifier.close()
    notifier.ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "never"))
    gone = open_notifier()
    say_everything_to(gone)  # type: ignore[arg-type]
    gone.close()
