# SPDX-License-Identifier: MIT
"""The counting of probe results: what makes ready, what makes a hang, and what says nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import ProbeTable
from wolverined.sense.notices import Notice, parse_notice
from wolverined.sense.probes import FIRST_S, Count, Result, Told, count, pause_s

TABLE = ProbeTable(failures=3, startup_s=10)
OK, ANSWERS, FAILED, ERROR = Result.OK, Result.ANSWERS, Result.FAILED, Result.ERROR


def told(*results: Result, ready: bool = False, step_s: float = 1.0) -> list[Told | None]:
    """What each of these results leads to, one probe a second."""
    state, found = Count(ready=ready), []
    for number, result in enumerate(results):
        state, tell = count(state, result, elapsed_s=number * step_s, table=TABLE)
        found.append(tell)
    return found


def test_the_first_success_makes_ready() -> None:
    """However many failures came before, within the grace."""
    assert told(FAILED, FAILED, FAILED, FAILED, OK, OK) == [None, None, None, None, Told.READY, None]


def test_liveness_is_gated_by_startup() -> None:
    """No number of failures before the first success is a hang."""
    assert Told.HUNG not in told(*[FAILED] * 100)


def test_the_grace_is_told_once_and_ready_may_still_come() -> None:
    """A slow start is told when its grace is over, and is welcome later."""
    found = told(*[FAILED] * 15, OK)
    assert found.count(Told.UNREADY) == 1
    assert found[10] is Told.UNREADY
    assert found[-1] is Told.READY


def test_failures_must_be_consecutive() -> None:
    """Two failures and a success, again and again, are no hang."""
    assert set(told(*[FAILED, FAILED, OK] * 20, ready=True)) == {None}


def test_enough_failures_in_a_row_are_a_hang_and_then_nothing_is_told() -> None:
    """After the verdict the prober is on hold: the app is killed once."""
    assert told(OK, FAILED, FAILED, FAILED, FAILED, OK, FAILED, ready=True) == [
        None, None, None, Told.HUNG, None, None, None,
    ]  # fmt: skip


def test_an_error_of_the_prober_says_nothing() -> None:
    """It neither adds to the failures nor breaks their row."""
    assert told(FAILED, ERROR, FAILED, ERROR, ERROR, FAILED, ready=True)[-1] is Told.HUNG
    assert set(told(*[ERROR] * 50, ready=True)) == {None}
    assert Told.READY not in told(*[ERROR] * 5)


def test_an_answer_that_is_no_success_keeps_alive_but_never_makes_ready() -> None:
    """A 404 never kills, and a server without its health page is not ready."""
    assert Told.READY not in told(*[ANSWERS] * 5)
    assert set(told(FAILED, FAILED, ANSWERS, FAILED, FAILED, ANSWERS, ready=True)) == {None}


def test_pauses_while_starting_are_a_share_of_the_time_so_far() -> None:
    """Probing begins quickly and thins out; ready is never seen more than a fifth late."""
    for elapsed_s, expected in ((0.0, FIRST_S), (0.05, FIRST_S), (0.5, 0.1), (5.0, 1.0), (100.0, 3.0)):
        pause = pause_s(Count(), elapsed_s=elapsed_s, took_s=0, floor_s=FIRST_S, table=TABLE)
        assert pause == pytest.approx(expected)


def test_pauses_of_liveness_run_from_start_to_start_and_are_shorter_in_doubt() -> None:
    """interval_s between probes, half of it after a failure, nothing when the probe took that long."""
    well, doubt = Count(ready=True), Count(ready=True, failures=1)
    assert pause_s(well, elapsed_s=9, took_s=0.5, floor_s=FIRST_S, table=TABLE) == pytest.approx(2.5)
    assert pause_s(doubt, elapsed_s=9, took_s=0.5, floor_s=FIRST_S, table=TABLE) == pytest.approx(1.0)
    assert pause_s(doubt, elapsed_s=9, took_s=2.0, floor_s=FIRST_S, table=TABLE) == 0


@given(st.lists(st.sampled_from(Result)), st.booleans())
def test_each_thing_is_told_at_most_once(results: list[Result], ready: bool) -> None:
    """Ready once, the grace once, a hang once; and a hang only after ready."""
    found = [tell for tell in told(*results, ready=ready) if tell is not None]
    assert len(found) == len(set(found))
    if Told.HUNG in found and not ready:
        assert found.index(Told.READY) < found.index(Told.HUNG)
    if Told.UNREADY in found and Told.READY in found:
        assert found.index(Told.UNREADY) < found.index(Told.READY)


@pytest.mark.parametrize(
    ("data", "notice"),
    [
        (b"READY=1", Notice(ready=True)),
        (b"READY=1\nSTATUS=serving\nMAINPID=1", Notice(ready=True, status="serving")),
        (b"READY=0", Notice()),
        (b"STATUS=", Notice(status="")),
        (b"WATCHDOG=1", Notice(watchdog="1")),
        (b"WATCHDOG=trigger", Notice(watchdog="trigger")),
        (b"", Notice()),
        (b"\xff\xfe=\x00\n\n=", Notice()),
        (b"STATUS=a\x1b[31mb\x07", Notice(status="a[31mb")),
        (b"STATUS=" + b"x" * 5000, Notice(status="x" * 200)),
    ],
)
def test_notices_are_read_and_nonsense_is_skipped(data: bytes, notice: Notice) -> None:
    """READY, STATUS (one short printable line) and WATCHDOG count; nothing else does."""
    assert parse_notice(data) == notice


@given(st.binary(max_size=300))
def test_no_datagram_breaks_the_reader(data: bytes) -> None:
    """Whatever an app sends, the answer is a notice."""
    assert msgspec.structs.astuple(parse_notice(data)) is not None
