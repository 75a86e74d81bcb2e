# SPDX-License-Identifier: MIT
"""The schedule of restarts: exact waits, jitter within its bounds, and what clears the record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.schema import RestartTable
from wolverined.supervise.backoff import CLEAR, Backoff, Wait, failed

EXACT = RestartTable(jitter=0.0)


def schedule(count: int, *, ready: bool, table: RestartTable = EXACT) -> list[Wait]:
    """The waits after that many failures in a row."""
    record, waits = CLEAR, []
    for _ in range(count):
        record, wait = failed(record, ready=ready, chance=0.5, table=table)
        waits.append(wait)
    return waits


def test_a_program_that_never_gets_ready_waits_longer_each_time() -> None:
    """The waits double from 0.1 s up to 30 s."""
    delays = [wait.delay_s for wait in schedule(10, ready=False)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]


def test_a_failure_after_the_cap_is_a_crash_loop_for_ever() -> None:
    """Once 30 s did not help, each further failure waits crash_loop_s and says so."""
    waits = schedule(200, ready=False)
    assert not any(wait.loop for wait in waits[:10])
    assert waits[10:] == [Wait(delay_s=300.0, loop=True)] * 190


def test_the_first_restart_after_a_ready_generation_is_immediate() -> None:
    """A ready program that dies with a clear record is back at once; the second time it waits."""
    delays = [wait.delay_s for wait in schedule(4, ready=True)]
    assert delays == [0.0, 0.1, 0.2, 0.4]


def test_being_ready_for_a_moment_does_not_end_a_crash_loop() -> None:
    """A program that reaches ready and dies again and again still ends in a crash loop."""
    assert schedule(12, ready=True)[-1].loop


def test_a_boot_failure_is_never_immediate() -> None:
    """What was never ready always waits, the first time too."""
    assert schedule(1, ready=False)[0].delay_s > 0


def test_factor_one_neither_grows_nor_overflows() -> None:
    """A constant schedule stays constant, however long it goes on."""
    waits = schedule(5_000, ready=False, table=RestartTable(jitter=0.0, factor=1.0))
    assert {wait.delay_s for wait in waits} == {0.1}


def test_an_exponent_beyond_all_floats_is_the_cap() -> None:
    """A record with absurdly many waits gives the cap, not an OverflowError."""
    _, wait = failed(Backoff(failures=9, waits=10**6), ready=False, chance=0.5, table=EXACT)
    assert wait.delay_s == EXACT.max_s


tables = st.builds(
    RestartTable,
    initial_s=st.floats(0.001, 10),
    factor=st.floats(1, 10),
    max_s=st.floats(0.001, 100),
    jitter=st.floats(0, 1),
    crash_loop_s=st.floats(1, 1000),
)


@given(tables, st.lists(st.tuples(st.booleans(), st.floats(0, 1, exclude_max=True)), max_size=40))
def test_every_wait_stays_within_its_jitter(table: RestartTable, failures: list[tuple[bool, float]]) -> None:
    """No wait is negative or longer than its cap plus jitter, and a loop never un-loops by itself."""
    record, looped = CLEAR, False
    for ready, chance in failures:
        record, wait = failed(record, ready=ready, chance=chance, table=table)
        cap = table.crash_loop_s if wait.loop else table.max_s
        assert 0 <= wait.delay_s <= cap * (1 + table.jitter) + 1e-9
        assert wait.loop or not looped
        looped = wait.loop


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_is_symmetric_around_what_was_written(chance: float) -> None:
    """The first wait lies within ±10 % of 0.1 s."""
    _, wait = failed(CLEAR, ready=False, chance=chance, table=RestartTable())
    assert 0.09 - 1e-9 <= wait.delay_s <= 0.11 + 1e-9
