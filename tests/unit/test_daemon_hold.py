# SPDX-License-Identifier: MIT
from pathlib import Path

import pytest

from wolverined.daemon.hold import LONGEST_S, Hold


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.label = 5_000_000.0

    def monotonic(self) -> float:
        """What decides."""
        return self.now

    def wall(self) -> float:
        """What labels."""
        return self.label

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.label += seconds


def test_a_hold_ends_after_its_time(tmp_path: Path) -> None:
    """It is in the future while it lasts and in the past afterwards."""
    clock = HandClock()
    hold = Hold(tmp_path / "hold", clock=clock)
    assert hold.until() <= clock.wall()
    hold.set(60)
    clock.go(59)
    assert hold.until() > clock.wall()
    clock.go(2)
    assert hold.until() <= clock.wall()


def test_a_restart_does_not_forget_a_hold(tmp_path: Path) -> None:
    """A deploy is not healed into because wolverined was restarted in the middle of it."""
    clock = HandClock()
    Hold(tmp_path / "hold", clock=clock).set(60)
    clock.go(10)
    clock.now = 3.0  # another boot
    assert Hold(tmp_path / "hold", clock=clock).until() == pytest.approx(clock.wall() + 50, abs=0.01)


def test_a_clock_set_back_does_not_stretch_a_hold(tmp_path: Path) -> None:
    """The monotonic clock measures it."""
    clock = HandClock()
    hold = Hold(tmp_path / "hold", clock=clock)
    hold.set(60)
    clock.label -= 86400
    clock.now += 61
    assert hold.until() <= clock.wall()


def test_lifting_a_hold_forgets_it(tmp_path: Path) -> None:
    """`--for 0` is remembered as well."""
    clock = HandClock()
    hold = Hold(tmp_path / "hold", clock=clock)
    hold.set(60)
    hold.set(0)
    assert hold.until() <= clock.wall()
    assert Hold(tmp_path / "hold", clock=clock).until() <= clock.wall()


@pytest.mark.parametrize("text", ["", "nan", "inf", "soon", f"{5_000_000 + LONGEST_S * 2}", "\x00"])
def test_a_damaged_note_holds_nothing(tmp_path: Path, text: str) -> None:
    """A file that no hold can have written is as good as none."""
    clock = HandClock()
    (tmp_path / "hold").write_text(text)
    assert Hold(tmp_path / "hold", clock=clock).until() <= clock.wall()


def test_a_place_that_cannot_be_written_still_holds(tmp_path: Path) -> None:
    """A full disk must not turn an operator's word into nothing."""
    clock = HandClock()
    hold = Hold(tmp_path / "missing" / "hold", clock=clock)
    hold.set(60)
    assert hold.until() > clock.wall()
