# SPDX-License-Identifier: MIT
"""The letter that a unit has failed, from what PID 1 says to the notifier's socket."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wolverined.alerts import failure
from wolverined.alerts import letter as letters
from wolverined.alerts.letter import Letter, Receipt, Undelivered
from wolverined.linux.own import module_argv

UNITS = Path(__file__).parents[2] / "systemd"


def told(**said: str) -> Letter:
    """The letter when PID 1 says that."""
    return failure.letter_of("shop", {f"MONITOR_{key}": value for key, value in said.items()}, host="web1", at=5.0)


@contextmanager
def notifier(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A socket that takes one letter and answers."""
    got: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            got.append(b"".join(iter(lambda: connection.recv(65536), b"")))
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield got
        finally:
            thread.join()


def test_the_letter_says_what_failed_how_and_what_to_do() -> None:
    """The gravest there is: no supervisor is left."""
    letter = told(SERVICE_RESULT="exit-code", EXIT_CODE="exited", EXIT_STATUS="78")
    assert (letter.app, letter.host, letter.type, letter.severity) == ("shop", "web1", "human_needed", "critical")
    assert "(exit-code, exited 78: its configuration cannot be used)" in letter.message
    assert "journalctl -b -e -u wolverine@shop.service" in letter.message
    assert "systemctl restart wolverine@shop.service" in letter.message
    assert "(timeout, killed KILL)" in told(SERVICE_RESULT="timeout", EXIT_CODE="killed", EXIT_STATUS="KILL").message


@pytest.mark.parametrize("said", [{}, {"SERVICE_RESULT": "a b\n"}, {"EXIT_STATUS": "x" * 100}])
def test_what_pid_1_does_not_say_is_left_out(said: dict[str, str]) -> None:
    """Nor is anything told that is no word of its own."""
    assert "wolverine@shop.service has failed and is not" in told(**said).message


def test_the_program_hands_over_one_letter(tmp_path: Path) -> None:
    """As the unit runs it; whoever listens can read it."""
    with notifier(tmp_path / "sock", letters.encode(Receipt(sent=1))) as got:
        assert failure.main(["shop"], path=tmp_path / "sock") == 0
    assert letters.decode_letter(got[0]).event == "unit.failed"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (letters.encode(Receipt(error="no key")), "no key"),
        (letters.encode(Receipt(undelivered=(Undelivered(where="https://b", why="it answered 500"),))), "https://b"),
        (b"", "cannot be read"),
        (b"x" * 100_000, "cannot be read"),
    ],
)
def test_a_letter_that_does_not_arrive_is_in_the_journal(
    tmp_path: Path, answer: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an error of the unit, which fails."""
    with notifier(tmp_path / "sock", answer):
        assert failure.main(["shop"], path=tmp_path / "sock") == 1
    said = capsys.readouterr().err
    assert said.startswith("<3>")
    assert words in said


def test_without_a_notifier_it_fails_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No socket."""
    assert failure.main(["shop"], path=tmp_path / "none") == 1
    assert "wolverine-notifier.socket" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a/b"], ["a\nb"], [""]])
def test_it_is_for_one_application(words: list[str]) -> None:
    """Whatever somebody makes of the unit's instance."""
    done = subprocess.run(
        [*module_argv("wolverined.alerts.failure"), *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "with the NAME of an application" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_unit_waits_longer_than_the_program() -> None:
    """Else PID 1 would end it before it has said why."""
    unit = (UNITS / "wolverine-failure@.service").read_text()
    [limit] = re.findall(r"^TimeoutStartSec=(\d+)$", unit, flags=re.MULTILINE)
    assert float(limit) > failure.ANSWER_S


def test_the_unit_of_an_application_names_it_and_it_names_nobody() -> None:
    """A letter that cannot be handed over is no reason for another one."""
    assert "\nOnFailure=wolverine-failure@%i.service\n" in (UNITS / "wolverine@.service").read_text()
    assert "OnFailure=" not in (UNITS / "wolverine-failure@.service").read_text()
